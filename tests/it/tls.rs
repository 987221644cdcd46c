//! TLS: a listener with a certificate, seen by OpenSSL's own client.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use tokio_rustls::rustls::{
    ALL_VERSIONS, HandshakeKind,
    version::{TLS12, TLS13},
};

use crate::{
    certificates::{authority, certificate, expired, revocations},
    support::{Place, QUICK, Reply, Server, await_some, free_address, raw, raw_on, tls_client, tls_config},
};

/// What comes back to one request through TLS; an empty text where there is no agreement.
fn ask(folder: &Path, to: SocketAddr, more: &str, request: &str) -> String {
    let args = format!("s_client -quiet -verify_return_error -servername localhost -connect {to} {more}");
    let mut client = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut stdin = client.stdin.take().expect("stdin");
    stdin.write_all(request.as_bytes()).ok();
    let mut answer = String::new();
    client.stdout.take().expect("stdout").read_to_string(&mut answer).ok();
    drop(stdin);
    client.wait().expect("its end");
    answer
}

fn reload(server: &Server<'_>) -> u16 {
    server.post("/v2/default/service/action", r#"{"reload": null}"#).status
}

#[test]
fn a_listener_speaks_tls_and_renews_its_certificate() {
    let place = Place::new(QUICK);
    let folder = place.path();
    authority(folder, "ca");
    certificate(folder, "ca", "server", "DNS:localhost");
    certificate(folder, "ca", "renewed", "DNS:localhost");
    authority(folder, "clients");
    certificate(folder, "clients", "ada", "DNS:localhost");
    let server = place.serve();
    let to = free_address();
    let paste = fs::read_to_string(folder.join("api-paste.toml")).expect("the file");
    let section = |tls: &str| {
        let tls = tls.replace("HERE", "${here}");
        place.write(
            "api-paste.toml",
            &format!("{paste}\n[server.tls]\nlisten = \"{to}\"\napp = \"api\"\ntls = {{ {tls} }}\n"),
        );
    };
    // A mistake is found before anything is changed, and stands in the file that says it.
    for (tls, says) in [
        ("certificate = \"HERE/none.pem\", key = \"HERE/server.key\"", "none.pem"),
        ("certificate = \"HERE/server.pem\", key = \"HERE/renewed.key\"", "is not the key of"),
        ("certificate = \"HERE/server.key\", key = \"HERE/server.key\"", "holds no certificate"),
        ("certificate = \"HERE/server.pem\"", "missing field `key`"),
    ] {
        section(tls);
        let (status, _, stderr) = place.run(&["check"]);
        assert_eq!(status.code(), Some(78), "{tls}");
        assert!(stderr.contains(says) && stderr.contains("api-paste.toml:"), "{tls}: {stderr}");
        assert_eq!(reload(&server), 409);
    }
    section("certificate = \"HERE/server.pem\", key = \"HERE/server.key\"");
    assert_eq!(reload(&server), 200);
    let get = format!(
        "GET /v2/default/clouds HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {}\r\nConnection: close\r\n\r\n",
        server.token
    );
    let answer = ask(folder, to, "-CAfile ca.pem", &get);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("https://localhost/v2/default/clouds/local"),
        "{answer}"
    );
    assert_eq!(ask(folder, to, "-CAfile clients.pem", &get), "", "of an authority that nobody trusts");
    // Who speaks no TLS gets no answer from any app, and holds nobody up.
    assert!(raw(to, get.as_bytes()).is_none_or(|reply| reply.status != 200));
    let _silent = TcpStream::connect(to).expect("a connection");
    assert!(ask(folder, to, "-CAfile ca.pem", &get).starts_with("HTTP/1.1 200"));
    // The file is another one: it is seen by itself.
    let shown = |to| {
        let show = format!("s_client -connect {to} -servername localhost");
        let output = Command::new("openssl")
            .args(show.split(' '))
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(shown(to).contains("CN = server") || shown(to).contains("CN=server"));
    for part in ["pem", "key"] {
        fs::copy(folder.join(format!("renewed.{part}")), folder.join(format!("server.{part}")))
            .expect("a copy");
    }
    await_some("the new certificate", || {
        let shown = shown(to);
        if shown.contains("CN = renewed") || shown.contains("CN=renewed") { Ok(()) } else { Err(shown) }
    });
    // Only those whose authority is known.
    section("certificate = \"HERE/server.pem\", key = \"HERE/server.key\", client_ca = \"HERE/clients.pem\"");
    assert_eq!(reload(&server), 200);
    assert_eq!(ask(folder, to, "-CAfile ca.pem", &get), "");
    let known = ask(folder, to, "-CAfile ca.pem -cert ada.pem -key ada.key", &get);
    assert!(known.starts_with("HTTP/1.1 200"), "{known}");
    assert_eq!(
        server.get("/v2/default/service").json()["service"]["reloads"]["last"]["problem"],
        json!(null)
    );
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The shipped pipelines, and besides a server of TLS.
fn mutual(more: &str) -> (Place, SocketAddr) {
    let place = Place::new(QUICK);
    let folder = place.path();
    for name in ["ca", "clients", "strangers"] {
        authority(folder, name);
    }
    certificate(folder, "ca", "server", "DNS:localhost");
    for name in ["ada", "bob"] {
        certificate(folder, "clients", name, "DNS:localhost");
    }
    certificate(folder, "strangers", "eve", "DNS:localhost");
    expired(folder, "clients", "late", "DNS:localhost");
    revocations(folder, "clients", "list", &["bob"], "-crldays 2");
    let to = free_address();
    let paste = fs::read_to_string(folder.join("api-paste.toml")).expect("the file");
    let files = format!("certificate = \"${{here}}/server.pem\", key = \"${{here}}/server.key\"{more}");
    let section = format!("[server.tls]\nlisten = \"{to}\"\napp = \"api\"\ntls = {{ {files} }}\n");
    place.write("api-paste.toml", &format!("{paste}\n{section}"));
    (place, to)
}

const CLIENTS: &str = ", client_ca = \"${here}/clients.pem\"";
const LIST: &str = ", crl = \"${here}/list.crl\"";

#[test]
fn only_clients_whose_certificate_is_good_are_let_in() {
    let (place, to) = mutual(&(CLIENTS.to_owned() + LIST));
    let server = place.serve();
    let status = |name: Option<&str>, version| {
        let config = tls_config(place.path(), name, &[version]);
        raw_on(tls_client(&config, to), GET).map(|it: Reply| it.status)
    };
    for version in [&TLS12, &TLS13] {
        let cases = [
            (Some("ada"), Some(200)),
            (Some("bob"), None),
            (Some("late"), None),
            (Some("eve"), None),
            (None, None),
        ];
        for (name, expected) in cases {
            assert_eq!(status(name, version), expected, "{name:?} {version:?}");
        }
    }
    // Another list is seen by itself.
    revocations(place.path(), "clients", "list", &["ada"], "-crldays 2");
    await_some("the new list", || match (status(Some("ada"), &TLS13), status(Some("bob"), &TLS12)) {
        (None, Some(200)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // One that has ended may lack what was revoked since.
    let ended = "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z";
    revocations(place.path(), "clients", "list", &[], ended);
    let (code, _, said) = place.run(&["check"]);
    assert_eq!(code.code(), Some(0), "{said}");
    assert!(said.contains("warning: [server.tls] `crl`: ") && said.contains("CN=clients expired"), "{said}");
    await_some("the ended list", || match status(Some("bob"), &TLS13) {
        None => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(server);
}

/// A certificate that ends is looked at in every handshake: none is shortened by a session from before.
#[test]
fn sessions_of_clients_with_certificates_are_not_resumed() {
    for (files, name, resumed) in
        [("", None, HandshakeKind::Resumed), (CLIENTS, Some("ada"), HandshakeKind::Full)]
    {
        let (place, to) = mutual(files);
        let server = place.serve();
        for version in ALL_VERSIONS {
            let config = tls_config(place.path(), name, &[version]);
            let kinds = [(); 3].map(|()| {
                let mut client = tls_client(&config, to);
                assert_eq!(raw_on(&mut client, GET).map(|it| it.status), Some(200), "{version:?}");
                client.conn.handshake_kind()
            });
            let expected = [HandshakeKind::Full, resumed, resumed].map(Some);
            assert_eq!(kinds, expected, "{files} {version:?}");
        }
        drop(server);
    }
}

/// Every secret that the files name or a command reads: what others may read is an error with its remedy.
#[test]
fn secrets_that_others_may_read_are_refused() {
    let (place, to) = mutual("");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("the file");
    let keystone = |more: &str| {
        format!(
            "{paste}\n[filter.authtoken]\nfactory = \"authtoken\"\nauth_url = \"https://localhost:1/v3\"\n\
             username = \"svc\"\nproject_name = \"service\"\n{more}"
        )
    };
    let password = keystone("password_file = \"secret\"\n");
    let client =
        keystone("password = \"p\"\ncafile = \"ca.pem\"\ncertfile = \"ada.pem\"\nkeyfile = \"secret\"\n");
    let rules = "[policy]\nremote_ssl_ca_crt_file = \"ca.pem\"\nremote_ssl_client_crt_file = \"ada.pem\"\nremote_ssl_client_key_file = \"secret\"\n";
    let url = format!("http://{to}");
    let explain = ["explain", "--time", "GET", "/v2/default/clouds", "--url", &url, "--token-file", "secret"];
    // What the secret is a copy of, pileus.toml, api-paste.toml, the command, its exit code, the place of the error.
    let by_keystone = format!("auth_strategy = \"keystone\"\n{config}");
    type Case<'a> = (&'a str, &'a str, String, &'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 5] = [
        ("server.key", &config, paste.replace("server.key", "secret"), &["check"], 78, "api-paste.toml:"),
        ("password", &by_keystone, password, &["check"], 78, "api-paste.toml:"),
        ("ada.key", &by_keystone, client, &["check"], 78, "api-paste.toml:"),
        ("ada.key", &format!("{config}\n{rules}"), paste.clone(), &["check"], 78, "pileus.toml:"),
        ("password", &config, paste.clone(), &explain, 69, "secret"),
    ];
    place.write("password", "s3cret");
    for (source, config, paste, command, code, at) in cases {
        place.write("pileus.toml", config);
        place.write("api-paste.toml", &paste);
        fs::copy(place.path().join(source), place.path().join("secret")).expect("a copy");
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(place.path().join("secret"), PermissionsExt::from_mode(mode))
                .expect("a mode");
            let (status, _, said) = place.run(command);
            let refused = said.contains(&format!("can be read by others (mode {mode:04o})"));
            assert_eq!(refused, open, "{source} {mode:o} {command:?}: {said}");
            assert!(!said.contains("s3cret"), "{said}");
            if open {
                assert_eq!(status.code(), Some(code), "{source} {mode:o}: {said}");
                assert!(said.contains(at) && said.contains("help: run `chmod 600 "), "{said}");
            } else if command[0] == "check" {
                assert_eq!(status.code(), Some(0), "{source} {mode:o}: {said}");
            }
        }
    }
}

/// What works, and is most likely a mistake: a warning with its place.
#[test]
fn doubtful_files_have_warnings() {
    let (place, _) = mutual("");
    expired(place.path(), "ca", "old", "DNS:localhost");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("the file");
    let keystone = |url: &str| {
        format!(
            "{paste}\n[filter.authtoken]\nfactory = \"authtoken\"\nauth_url = {url}\n\
             username = \"svc\"\npassword = \"p\"\nproject_name = \"service\"\n"
        )
    };
    let clients = |name: &str| {
        paste.replace("server.key\"", &format!("server.key\", client_ca = \"${{here}}/{name}\""))
    };
    let cases = [
        (paste.clone(), None),
        (paste.replace("/server.", "/old."), Some("`certificate`: ")),
        (clients("clients.pem"), None),
        (clients("ada.pem"), Some("CN=ada is no authority")),
        (keystone("\"http://localhost:5000/v3\""), None),
        (keystone("\"http://127.0.0.1:5000/v3\""), None),
        (keystone("\"http://[::1]:5000/v3\""), None),
        (
            keystone("\"http://keystone.example:5000/v3\""),
            Some("http://keystone.example:5000/v3 without TLS"),
        ),
        (
            keystone("[\"http://localhost:1\", \"http://192.0.2.1:5000\"]"),
            Some("http://192.0.2.1:5000/v3 without TLS"),
        ),
    ];
    place.write("pileus.toml", &format!("auth_strategy = \"keystone\"\n{config}"));
    for (text, expected) in cases {
        let text = if text.contains("\n[filter.authtoken]\n") {
            text
        } else {
            text + "\n" + &keystone("\"http://localhost\"")[paste.len()..]
        };
        place.write("api-paste.toml", &text);
        let (status, _, said) = place.run(&["check"]);
        assert_eq!(status.code(), Some(0), "{said}");
        let found = said.contains("warning: ");
        assert_eq!(found, expected.is_some(), "{said}");
        assert!(said.contains(expected.unwrap_or_default()), "{expected:?}: {said}");
        assert!(!found || said.contains("--> api-paste.toml:"), "{said}");
    }
}
