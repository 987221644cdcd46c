//! TLS: a listener with a certificate, seen by OpenSSL's own client.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    certificates::{authority, certificate},
    support::{Place, QUICK, Server, await_some, free_address, raw},
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
