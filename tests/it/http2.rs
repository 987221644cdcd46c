//! HTTP/2, frame by frame, and as real clients speak it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{
    certificates::{authority, certificate},
    support::{PATIENCE, Place, QUICK, free_address},
};

/// Frames: their types and flags (RFC 9113, §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PRIORITY_SIZED: u8 = 0x28;

const PROTOCOL_ERROR: u32 = 1;

/// Outcome of one request.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Its status and content.
    Answer(u16, String),
    /// The stream was reset, for this reason.
    Reset(u32),
    /// The connection was.
    Gone(Option<u32>),
}

/// A header block without compression: each field literal, none remembered (RFC 7541, §6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A length of 127 or more goes on in further bytes, of seven bits each.
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push(rest as u8 | 128);
                        rest >>= 7;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
    frame.extend_from_slice(payload);
    frame
}

/// The status that a header block begins with: one of the table, or three digits, perhaps in Huffman's code.
fn status(block: &[u8]) -> u16 {
    let rest = match block {
        [index @ 0x88..=0x8e, ..] => return [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        [0x20..=0x3f, rest @ ..] => return status(rest),
        [_, rest @ ..] => rest,
        [] => panic!("no status"),
    };
    let (length, text) = (usize::from(rest[0] & 127), &rest[1..]);
    if rest[0] & 128 == 0 {
        return std::str::from_utf8(&text[..length]).expect("digits").parse().expect("a number");
    }
    let bits: Vec<u8> =
        text[..length].iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let read = |size: usize| bits[at..at + size].iter().fold(0, |value, bit| value * 2 + u16::from(*bit));
        // 0, 1 and 2 have five bits, the other digits six.
        let (digit, size) = if read(5) < 3 { (read(5), 5) } else { (read(6) - 0b01_1001 + 3, 6) };
        (number, at) = (number * 10 + digit, at + size);
    }
    number
}

/// One request on a connection of its own, and how it ends.
fn ask(to: SocketAddr, fields: &[(&str, &str)]) -> Outcome {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields)));
    stream.write_all(&bytes).expect("written");
    let (mut found, mut content) = (None, Vec::new());
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Outcome::Gone(None);
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).expect("a whole frame");
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("a word"));
        match kind {
            HEADERS if found.is_none() => {
                assert_eq!(flags & PRIORITY_SIZED, 0);
                found = Some(status(&payload));
            }
            DATA => content.extend_from_slice(&payload),
            RESET => return Outcome::Reset(word(0)),
            GO_AWAY => return Outcome::Gone(Some(word(4))),
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).expect("written"),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Outcome::Answer(found.expect("a status"), String::from_utf8(content).expect("UTF-8"));
        }
    }
}

/// Method, path and authority of an ordinary request.
fn ordinary<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "a:8774")]
}

#[test]
fn a_head_has_no_content_on_any_route() {
    let place = Place::quick(1);
    let server = place.serve();
    let (api, info, admin) = (server.api, server.info, server.admin);
    let token = ("x-auth-token", server.token.as_str());
    let stream = ("accept", "text/event-stream");
    // Port, path, further header fields, the status that a GET has too.
    type Row<'a> = (SocketAddr, &'a str, &'a [(&'a str, &'a str)], u16);
    let cases: &[Row<'_>] = &[
        (api, "/", &[], 200),
        (api, "/nope", &[], 300),
        (api, "/v2/default/clouds", &[token], 200),
        (api, "/v2/default/clouds/local", &[token], 200),
        (api, "/v2/default/clouds/nope", &[token], 404),
        (api, "/v2/default/clouds", &[], 401),
        (api, "/v2/default/nopes", &[token], 404),
        (api, "/v2/default/jobs?limit=x", &[token], 400),
        (api, "/v2/default/events", &[token], 200),
        (api, "/v2/default/events?follow=1", &[token, stream], 200),
        (api, "/v2/default/extensions", &[token], 200),
        (api, "/healthcheck", &[], 204),
        (info, "/metrics", &[], 200),
        (info, "/clusters.json", &[], 200),
        (info, "/vms", &[], 200),
        (info, "/nope", &[], 404),
        (admin, "/nope", &[], 404),
    ];
    for (port, path, more, expected) in cases {
        let mut fields = ordinary("HEAD", path);
        // Legacy ports are called by this host's name.
        fields[3].1 = "localhost";
        fields.extend_from_slice(more);
        match ask(*port, &fields) {
            Outcome::Answer(status, content) => {
                assert_eq!(content, "", "{path}");
                assert_eq!(status, *expected, "{path}");
            }
            outcome => panic!("{path}: {outcome:?}"),
        }
        let more: Vec<String> = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head =
            format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", more.concat());
        let mut connection = TcpStream::connect(port).expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        connection.write_all(head.as_bytes()).expect("written");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an end");
        assert!(answer.ends_with("\r\n\r\n"), "HTTP/1.1 {path}: {answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "HTTP/1.1 {path}: {answer}");
    }
}

/// Malformed requests of RFC 9113, §8.1.1, and such that are well formed.
#[test]
fn a_malformed_request_resets_its_stream() {
    let place = Place::quick(1);
    let server = place.serve();
    let authority =
        |authority| vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", authority)];
    let with = |mut fields: Vec<(&'static str, &'static str)>, name, value| {
        fields.push((name, value));
        fields
    };
    let bare = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let many = |count: usize| {
        let mut fields = ordinary("GET", "/");
        fields.extend((0..count).map(|_| ("x-y", "z")));
        fields
    };
    let long: &'static str = Box::leak(format!("/{}", "x".repeat(8192)).into_boxed_str());
    let fits = &long[..8192];
    let fault = "\"code\":";
    // What it shows, fields, a status or `None` for a reset, part of the content.
    let cases = [
        ("an authority", authority("a"), Some(200), "http://a/v2/"),
        ("and a port", authority("a:8774"), Some(200), "http://a:8774/v2/"),
        ("the same Host", with(authority("a:8774"), "host", "a:8774"), Some(200), "http://a:8774/v2/"),
        ("without case", with(authority("a"), "host", "A"), Some(200), "http://a/v2/"),
        ("with the default port", with(authority("a"), "host", "a:80"), Some(200), "http://a/v2/"),
        ("a Host alone", with(bare.clone(), "host", "b:1"), Some(200), "http://b:1/v2/"),
        ("another Host", with(authority("a"), "host", "b"), None, ""),
        ("another port", with(authority("a"), "host", "a:81"), None, ""),
        ("two Hosts", with(with(authority("a"), "host", "a"), "host", "a"), None, ""),
        ("two Hosts alone", with(with(bare.clone(), "host", "a"), "host", "a"), None, ""),
        ("no host", bare.clone(), None, ""),
        ("an empty authority", authority(""), None, ""),
        ("an empty Host", with(bare.clone(), "host", ""), None, ""),
        ("a user", authority("u@a"), None, ""),
        ("a user in Host", with(bare.clone(), "host", "u@a"), None, ""),
        ("a port that is none", authority("a:b"), None, ""),
        ("a path in Host", with(bare.clone(), "host", "a/b"), None, ""),
        ("a star", ordinary("GET", "*"), None, ""),
        ("a star for OPTIONS", ordinary("OPTIONS", "*"), Some(200), ""),
        ("no slash", ordinary("GET", "x"), None, ""),
        ("no path", vec![(":method", "GET"), (":scheme", "http"), (":authority", "a")], None, ""),
        ("a transfer coding", with(authority("a"), "transfer-encoding", "chunked"), None, ""),
        ("another one", with(authority("a"), "transfer-encoding", "gzip"), None, ""),
        ("a connection's field", with(authority("a"), "connection", "close"), None, ""),
        (
            "the scheme of the client",
            vec![(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a")],
            Some(200),
            "http://a/v2/",
        ),
        ("100 fields", many(100), Some(200), "versions"),
        ("101 fields", many(101), Some(431), fault),
        ("150 fields", many(150), Some(431), fault),
        ("a long target", ordinary("GET", fits), Some(300), "choices"),
        ("one that is too long", ordinary("GET", long), Some(414), fault),
        (
            "two tokens",
            with(with(authority("a"), "x-auth-token", "t"), "x-auth-token", "t"),
            Some(400),
            fault,
        ),
        (
            "two authorizations",
            with(with(authority("a"), "authorization", "Basic a"), "authorization", "Basic b"),
            Some(400),
            fault,
        ),
        (
            "the same twice",
            with(with(authority("a"), "authorization", "Basic a"), "authorization", "Basic a"),
            Some(200),
            "versions",
        ),
        ("a tunnel", vec![(":method", "CONNECT"), (":authority", "a:1")], Some(405), fault),
    ];
    for (what, fields, expected, part) in cases {
        match (ask(server.api, &fields), expected) {
            (Outcome::Reset(PROTOCOL_ERROR), None) => {}
            (Outcome::Answer(status, content), Some(expected)) => {
                assert_eq!(status, expected, "{what}: {content}");
                assert!(content.contains(part), "{what}: {content}");
            }
            (outcome, _) => panic!("{what}: {outcome:?}"),
        }
    }
}

/// Runs what a client of hyper does, and ends its connections: a server that stops waits for them.
fn with_client(client: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(client);
}

/// Another reading of the same rules: a client that treats content after a `HEAD` as an error of the connection.
#[test]
fn hypers_client_heads_and_gets_on_one_connection() {
    let place = Place::quick(1);
    let server = place.serve();
    with_client(async {
        let stream = tokio::net::TcpStream::connect(server.api).await.expect("a connection");
        let connected =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut client, connection) = connected.expect("HTTP/2");
        tokio::spawn(connection);
        for (method, path) in ["/", "/v2/default/clouds", "/v2/default/nope", "/v2/default/events"]
            .into_iter()
            .flat_map(|path| [("HEAD", path), ("GET", path)])
        {
            let request = http::Request::builder()
                .method(method)
                .uri(format!("http://{}{path}", server.api))
                .header("x-auth-token", &server.token)
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            let response = client.send_request(request.expect("a request")).await.expect("an answer");
            assert!(response.headers().contains_key("content-length"), "{method} {path}");
            let content = response.into_body().collect().await.expect("its content").to_bytes();
            assert_eq!(content.is_empty(), method == "HEAD", "{method} {path}");
        }
    });
}

/// A refusal reaches a client that still sends its body, a short one as well as a long one.
#[test]
fn a_refused_body_does_not_break_the_answer() {
    let place = Place::quick(1);
    let server = place.serve();
    with_client(async {
        let stream = tokio::net::TcpStream::connect(server.api).await.expect("a connection");
        let connected =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut client, connection) = connected.expect("HTTP/2");
        tokio::spawn(connection);
        for length in [1, 60_000, 200_000, 2_000_000, 1] {
            let request = http::Request::post(format!("http://{}/v2/default/jobs", server.api))
                .header("x-auth-token", "nope")
                .body(http_body_util::Full::new(bytes::Bytes::from(vec![b'x'; length])));
            let response = client.send_request(request.expect("a request")).await.expect("an answer");
            assert_eq!(response.status(), 401, "{length}");
            let content = response.into_body().collect().await.expect("its content").to_bytes();
            assert!(content.starts_with(b"{\"unauthorized\""), "{length}");
        }
    });
}

/// `curl -I` over TLS, where HTTP/2 is agreed on by ALPN.
#[test]
fn curl_heads_over_tls() {
    let curl = Command::new("curl").arg("--version").output();
    let has = curl.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("HTTP2"));
    if !has {
        let real = std::env::var("PILEUS_REAL").is_ok_and(|it| it == "1");
        assert!(!real, "PILEUS_REAL=1, and there is no curl with HTTP/2");
        return eprintln!("skipped: no curl with HTTP/2 (Debian: apt-get install curl)");
    }
    let place = Place::new(QUICK);
    let folder = place.path();
    authority(folder, "ca");
    certificate(folder, "ca", "server", "DNS:localhost");
    let to = free_address();
    let paste = fs::read_to_string(folder.join("api-paste.toml")).expect("the file");
    let tls = "certificate = \"${here}/server.pem\", key = \"${here}/server.key\"";
    let section = format!("[server.tls]\nlisten = \"{to}\"\napp = \"api\"\ntls = {{ {tls} }}\n");
    place.write("api-paste.toml", &format!("{paste}\n{section}"));
    let server = place.serve();
    let token = format!("X-Auth-Token: {}", server.token);
    let port = to.port();
    for (path, status) in [
        ("/", "200"),
        ("/v2/default/clouds", "200"),
        ("/v2/default/jobs", "200"),
        ("/v2/default/nope", "404"),
        ("/v2/default/events?follow=1", "200"),
        ("/healthcheck", "204"),
    ] {
        let output = Command::new("curl")
            .args(["-sS", "-I", "--http2", "--max-time", "60", "--cacert", "ca.pem", "-H", &token])
            .args(["-H", "Accept: text/event-stream, application/json"])
            .arg(format!("https://localhost:{port}{path}"))
            .current_dir(folder)
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {said}");
        let head = String::from_utf8_lossy(&output.stdout);
        assert!(head.starts_with(&format!("HTTP/2 {status}")), "{path}: {head}");
    }
    // A reset behind the answer is an error for this client.
    for (length, status) in [(60_000, "401"), (100_000, "401"), (2_000_000, "401")] {
        place.write("body", &"x".repeat(length));
        let output = Command::new("curl")
            .args([
                "-sS",
                "-w",
                "%{http_code} %{http_version}",
                "--http2",
                "--max-time",
                "60",
                "--cacert",
                "ca.pem",
            ])
            .args(["-o", "answer", "--data-binary", "@body"])
            .arg(format!("https://localhost:{port}/v2/default/jobs"))
            .current_dir(folder)
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{length}: {said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{status} 2"), "{length}");
    }
}
