//! Unix sockets: who may call, what becomes of their files, and HTTP on them.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
};

use crate::support::{PATIENCE, Place, QUICK, Reply, await_some, raw_on};

/// The shipped pipelines, and besides a server on `api.sock` in the same folder.
fn place(more: &str) -> Place {
    let place = Place::new(QUICK);
    listen(&place, "api.sock", more);
    place
}

fn listen(place: &Place, path: &str, more: &str) {
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let paste = paste.split("\n[server.local]").next().expect("its beginning");
    let section = format!("\n[server.local]\nlisten = \"unix:{path}\"\napp = \"api\"\n{more}\n");
    place.write("api-paste.toml", &(paste.to_owned() + &section));
}

fn ask(path: &Path, token: &str) -> Reply {
    let stream = UnixStream::connect(path).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let request = format!(
        "GET /v2/default/clouds HTTP/1.1\r\nHost: localhost\r\nX-Auth-Token: {token}\r\nConnection: close\r\n\r\n"
    );
    raw_on(stream, request.as_bytes()).expect("an answer")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn a_unix_socket_serves_and_goes_with_its_server() {
    let place = place("");
    let socket = place.path().join("api.sock");
    let server = place.serve();
    assert!(server.banner.iter().any(|line| line.trim() == format!("local  unix:{}", socket.display())));
    assert_eq!(mode(&socket), 0o600, "nobody else");
    assert_eq!(ask(&socket, &server.token).status, 200);
    assert_eq!(ask(&socket, "x").status, 401, "a token is asked for as everywhere");

    // HTTP/2: preface, settings, and a GET of `/`; the answer to the stream 1 has headers.
    let mut stream = UnixStream::connect(&socket).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut bytes =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0e\x01\x05\0\0\0\x01".to_vec();
    bytes.extend_from_slice(b"\x82\x84\x86\x41\x09localhost");
    stream.write_all(&bytes).expect("sent");
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).expect("its rest");
        assert!(matches!(head[3], 1 | 4 | 6 | 8), "a frame of the kind {}", head[3]);
        if head[3] == 1 {
            break;
        }
    }
    drop(stream);

    let uid = fs::metadata(place.path()).expect("the folder").uid();
    let (status, log) = server.stop();
    assert!(status.success() && log.contains(&format!("unix:uid={uid}")), "{log}");
    assert!(!socket.exists(), "it goes with its server");
}

#[test]
fn what_lies_at_the_path_is_removed_only_when_it_is_dead() {
    let place = place("socket_mode = \"0620\"");
    let socket = place.path().join("api.sock");
    place.serve().kill();
    assert!(socket.exists(), "a killed one leaves it");
    let server = place.serve();
    assert_eq!((ask(&socket, &server.token).status, mode(&socket)), (200, 0o620));
    // Who put another one there keeps it.
    fs::remove_file(&socket).expect("removed");
    let other = UnixListener::bind(&socket).expect("a socket");
    server.stop();
    assert!(socket.exists(), "it is not ours");

    let refused = |what: &str, why: &str| {
        let (status, _, stderr) = place.run(&["serve"]);
        assert_eq!(status.code(), Some(69), "{what}: {stderr}");
        assert!(
            stderr.contains("[server.local] cannot listen on unix:/") && stderr.contains(why),
            "{stderr}"
        );
        assert!(socket.exists(), "{what} stays");
    };
    refused("one that somebody answers on", "somebody answers there");
    drop(other);
    fs::remove_file(&socket).expect("removed");
    let datagrams = UnixDatagram::bind(&socket).expect("a socket");
    refused("a socket of another kind", "api.sock");
    drop(datagrams);
    fs::remove_file(&socket).expect("removed");
    place.write("api.sock", "a text");
    refused("a file", "a file that is no socket");
    fs::remove_file(&socket).expect("removed");
    std::os::unix::fs::symlink("/etc/hostname", &socket).expect("a link");
    let (status, _, stderr) = place.run(&["serve"]);
    assert!(status.code() == Some(69) && stderr.contains("no socket"), "{stderr}");
    fs::remove_file(&socket).expect("removed");

    // One that cannot start leaves nothing behind.
    listen(&place, "nowhere/api.sock", "\n[server.zzz]\nlisten = \"unix:first.sock\"\napp = \"api\"");
    let (status, _, stderr) = place.run(&["serve"]);
    assert!(status.code() == Some(69) && stderr.contains("No such file or directory"), "{stderr}");
    assert!(!place.path().join("first.sock").exists());
}

#[test]
fn mistakes_are_found_before_anything_is_opened() {
    let long = "x".repeat(108);
    let cases = [
        ("a.sock", "socket_mode = \"0999\"", "`0999` is no mode of a file"),
        ("a.sock", "socket_group = \"no such group\"", "this host has no group `no such group`"),
        ("a.sock", "tls = { certificate = \"a\", key = \"b\" }", "no TLS on a Unix socket"),
        ("a.sock", "[server.zzz]\nlisten = \"unix:a.sock\"\napp = \"api\"", "both listen on unix:/"),
        (&*long, "", "has at most 107 bytes"),
        ("@a", "", "an abstract socket is open to everybody"),
        ("", "", "`unix:` without a path"),
    ];
    let place = place("");
    for (path, more, expected) in cases {
        listen(&place, path, more);
        let (status, _, stderr) = place.run(&["check"]);
        assert!(status.code() == Some(78) && stderr.contains(expected), "{path} {more}: {stderr}");
        assert!(stderr.contains("--> api-paste.toml:"), "{stderr}");
    }
    // What asks nobody who he is may be called by this host.
    listen(&place, "a.sock", "[server.zzz]\nlisten = \"unix:b.sock\"\napp = \"info\"");
    let (status, shown, stderr) = place.run(&["pipeline"]);
    assert!(status.success() && shown.contains("server zzz on unix:/"), "{stderr}");
    listen(&place, "a.sock", "[server.zzz]\nlisten = \"systemd:b\"\napp = \"info\"");
    let (status, _, stderr) = place.run(&["check"]);
    assert!(status.code() == Some(78) && stderr.contains("[server.zzz] may be reached by other hosts"));
}

#[test]
fn a_reload_keeps_opens_and_closes_unix_sockets() {
    let place = place("");
    let (old, new) = (place.path().join("api.sock"), place.path().join("new.sock"));
    let server = place.serve();
    let reload = || server.post("/v2/default/service/action", r#"{"reload": null}"#);
    let before = fs::symlink_metadata(&old).expect("a socket").ino();
    // A connection that was there before is served after.
    let kept = UnixStream::connect(&old).expect("a connection");
    kept.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    listen(&place, "api.sock", "socket_mode = \"0660\"\nmax_connections = 99");
    assert_eq!(reload().status, 200);
    await_some("its mode", || if mode(&old) == 0o660 { Ok(()) } else { Err(mode(&old)) });
    assert_eq!(fs::symlink_metadata(&old).expect("a socket").ino(), before, "the same one");
    let request = b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(raw_on(kept, request).expect("an answer").status, 200);

    // One that cannot be had: nothing is changed.
    place.write("new.sock", "a text");
    listen(&place, "new.sock", "");
    let refused = reload();
    assert!(refused.status == 409 && refused.text.contains("[server.local]"), "{}", refused.text);
    assert_eq!(ask(&old, &server.token).status, 200);
    fs::remove_file(&new).expect("removed");
    assert_eq!(reload().status, 200);
    assert_eq!(ask(&new, &server.token).status, 200);
    await_some("the old one to go", || if old.exists() { Err("it is there") } else { Ok(()) });
    assert!(fs::symlink_metadata(&new).expect("a socket").file_type().is_socket());
}

#[test]
fn other_users_neither_redirect_a_mode_nor_prevent_a_start() {
    let place = place("");
    let socket = place.path().join("api.sock");
    let victim = place.secret("victim", "s3cret");
    // Any user who can read the folder can lock it.
    let folder = fs::File::open(place.path()).expect("the folder");
    folder.lock().expect("a lock");
    let server = place.serve();
    fs::remove_file(&socket).expect("removed");
    std::os::unix::fs::symlink(&victim, &socket).expect("a link");
    listen(&place, "api.sock", "socket_mode = \"0666\"");
    assert_eq!(server.post("/v2/default/service/action", r#"{"reload": null}"#).status, 200);
    let (_, log) = server.stop();
    assert!(log.contains("another file is in the place of the socket"), "{log}");
    assert_eq!(mode(&victim), 0o600);
    assert!(fs::symlink_metadata(&socket).expect("the link").is_symlink(), "it is not ours");

    // A folder that others may write has a warning, at a check and at a start.
    fs::remove_file(&socket).expect("removed");
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).expect("a mode");
    let warning = "(mode 0777), and may replace the socket";
    let (status, _, said) = place.run(&["check"]);
    assert!(status.success() && said.contains(warning) && said.contains("--> api-paste.toml:"), "{said}");
    let (_, log) = place.serve().stop();
    assert!(log.contains(warning), "{log}");
}
