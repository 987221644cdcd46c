//! HTTP/1 as RFC 9110 and RFC 9112 want it, over plain sockets: hosts, targets, message bodies, refusals.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, Place, Server, raw};

fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(bytes).expect("written");
    stream
}

/// All until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok();
    String::from_utf8_lossy(&text).into_owned()
}

/// The next answer, whose content has a length.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&text).into_owned();
        }
        text.push(byte[0]);
        if text.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut content = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut content).expect("the content");
            text.extend_from_slice(&content);
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

/// A refusal of the edge: a fault with its code and a request id, and the connection ends.
fn assert_refused(what: &str, to: SocketAddr, bytes: &[u8], status: u16) {
    let reply = raw(to, bytes).unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!(reply.status, status, "{what}: {}", reply.text);
    assert_eq!(reply.json()[reply.top()]["code"], status, "{what}: {}", reply.text);
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    assert_eq!(reply.header("connection"), Some("close"), "{what}: {:?}", reply.headers);
    let id = reply.header("x-compute-request-id").unwrap_or_default();
    assert!(id.starts_with("req-"), "{what}: {:?}", reply.headers);
}

#[test]
fn the_target_says_the_host_or_the_header_does() {
    let place = Place::quick(1);
    let server = place.serve();
    let here = format!("http://{}/v2/", server.api);
    // What it shows, the request's line and header without the last line's end, a status, the link.
    let fine = [
        ("the header", "GET / HTTP/1.1\r\nHost: header", 200, "http://header/v2/"),
        ("with a port", "GET / HTTP/1.1\r\nHost: header:8774", 200, "http://header:8774/v2/"),
        ("an address", "GET / HTTP/1.1\r\nHost: [::1]:8774", 200, "http://[::1]:8774/v2/"),
        ("the target", "GET http://target/ HTTP/1.1\r\nHost: header", 200, "http://target/v2/"),
        ("with a port", "GET http://target:1/ HTTP/1.1\r\nHost: target", 200, "http://target:1/v2/"),
        ("without a path", "GET http://target HTTP/1.1\r\nHost: target", 200, "http://target/v2/"),
        ("the connection's scheme", "GET https://target/ HTTP/1.1\r\nHost: target", 200, "http://target/v2/"),
        ("HTTP/1.0 and a header", "GET / HTTP/1.0\r\nHost: header", 200, "http://header/v2/"),
        ("HTTP/1.0 and a target", "GET http://target/ HTTP/1.0", 200, "http://target/v2/"),
        ("HTTP/1.0 without a host", "GET / HTTP/1.0", 200, here.as_str()),
        ("the server as a whole", "OPTIONS * HTTP/1.1\r\nHost: header", 200, ""),
        ("a tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a:1", 405, ""),
    ];
    for (what, head, status, link) in fine {
        let bytes = format!("{head}\r\nConnection: close\r\n\r\n");
        let reply = raw(server.api, bytes.as_bytes()).unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        if !link.is_empty() {
            assert_eq!(reply.json()["versions"][0]["links"][0]["href"], link, "{what}");
        }
    }
    // The API's own links, where the answer may be a document that was written for another host before.
    for host in ["one", "two"] {
        let target = format!("http://{host}/v2/default/clouds/local");
        let bytes = format!(
            "GET {target} HTTP/1.1\r\nHost: header\r\nX-Auth-Token: {}\r\nConnection: close\r\n\r\n",
            server.token
        );
        let reply = raw(server.api, bytes.as_bytes()).expect("an answer");
        assert_eq!(reply.json()["cloud"]["links"][0]["href"], target, "{}", reply.text);
    }
    let refused = [
        ("no host", "GET / HTTP/1.1"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a"),
        ("two hosts in one", "GET / HTTP/1.1\r\nHost: a, b"),
        ("two hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a"),
        ("an empty host", "GET / HTTP/1.1\r\nHost:"),
        ("an empty host with a port", "GET / HTTP/1.1\r\nHost: :80"),
        ("a port that is none", "GET / HTTP/1.1\r\nHost: a:b"),
        ("a port that is too large", "GET / HTTP/1.1\r\nHost: a:65536"),
        ("a user", "GET / HTTP/1.1\r\nHost: u@a"),
        ("a path", "GET / HTTP/1.1\r\nHost: a/b"),
        ("a bad header beside a target", "GET http://target/ HTTP/1.1\r\nHost: a:b"),
        ("no header beside a target", "GET http://target/ HTTP/1.1"),
        ("a user in the target", "GET http://u@target/ HTTP/1.1\r\nHost: target"),
        ("a port that is none in the target", "GET http://target:b/ HTTP/1.1\r\nHost: target"),
        ("another scheme", "GET ftp://target/ HTTP/1.1\r\nHost: target"),
        ("a tunnel's target", "GET other:80 HTTP/1.1\r\nHost: other:80"),
        ("a name as target", "GET other HTTP/1.1\r\nHost: other"),
        ("the server as a whole", "GET * HTTP/1.1\r\nHost: a"),
        ("the same by POST", "POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 0"),
        ("two tokens", "GET / HTTP/1.1\r\nHost: a\r\nX-Auth-Token: t\r\nx-auth-token: t"),
        (
            "two authorizations",
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b",
        ),
    ];
    for (what, head) in refused {
        for port in [server.api, server.info, server.admin] {
            assert_refused(what, port, format!("{head}\r\n\r\n").as_bytes(), 400);
        }
    }
    let twice = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(server.api, twice.as_bytes()).map(|reply| reply.status), Some(200));
}

/// The end of a body is known, or the connection is closed.
#[test]
fn a_body_has_one_length() {
    let place = Place::quick(1);
    let server = place.serve();
    let next = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        ("another coding", "1.1", "Transfer-Encoding: gzip, chunked", 501),
        ("in two lines", "1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
        ("none", "1.1", "Transfer-Encoding: identity, chunked", 501),
        ("twice", "1.1", "Transfer-Encoding: chunked, chunked", 400),
        ("twice in two lines", "1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: Chunked", 400),
        ("empty members", "1.1", "Transfer-Encoding: , chunked", 400),
        ("not at the end", "1.1", "Transfer-Encoding: chunked, gzip", 400),
        ("not at the end, in two lines", "1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", 400),
        ("not at all", "1.1", "Transfer-Encoding: gzip", 400),
        ("a parameter", "1.1", "Transfer-Encoding: chunked;a=b", 400),
        ("in HTTP/1.0", "1.0", "Transfer-Encoding: chunked", 400),
        ("a length before it", "1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("a length after it", "1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (
            "a length on both sides",
            "1.1",
            "content-length: 5\r\nTRANSFER-ENCODING: chunked\r\nContent-Length: 5",
            400,
        ),
        ("two lengths", "1.1", "Content-Length: 5\r\nContent-Length: 6", 400),
        ("two lengths in one", "1.1", "Content-Length: 5, 6", 400),
        ("a signed length", "1.1", "Content-Length: +5", 400),
    ];
    for (what, version, field, status) in cases {
        for port in [server.api, server.admin] {
            let head =
                format!("POST /v2/default/jobs HTTP/{version}\r\nHost: localhost\r\n{field}\r\n\r\n{next}");
            assert_refused(what, port, head.as_bytes(), status);
            // One byte after the other, and behind another request.
            let mut stream = connect(port, b"");
            stream.set_nodelay(true).expect("no delay");
            for part in head.as_bytes().chunks(20) {
                if stream.write_all(part).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let said = rest(&mut stream);
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{what}, in parts: {said}");
            assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{what}, in parts: {said}");
            let first = "GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let said = rest(&mut connect(port, format!("{first}{head}").as_bytes()));
            let statuses: Vec<_> =
                said.match_indices("HTTP/1.1 ").map(|(at, _)| &said[at + 9..at + 12]).collect();
            assert_eq!(statuses.len(), 2, "{what}, behind another: {said}");
            assert_eq!(statuses[1], status.to_string(), "{what}, behind another: {said}");
            // In one piece with the end of a body that is waited for.
            let length = "Content-Length: 3\r\n";
            let mut stream = connect(port, post(&server, &server.token, length).as_bytes());
            std::thread::sleep(Duration::from_millis(20));
            let (now, then) = head.split_at(head.len() / 2 - 30);
            stream.write_all(format!("{{}}\n{now}").as_bytes()).expect("written");
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(then.as_bytes()).ok();
            let said = rest(&mut stream);
            let last = said.rsplit("HTTP/1.1 ").next().unwrap_or_default();
            assert!(last.starts_with(&status.to_string()), "{what}, behind a body: {said}");
        }
    }
    let chunked = format!(
        "POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {}\r\nTransfer-Encoding: Chunked\r\n\
         Connection: close\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
        server.token
    );
    let reply = raw(server.api, chunked.as_bytes()).expect("an answer");
    assert!(reply.text.contains("one key `job`"), "read as a body: {}", reply.text);
}

/// What hyper refuses by itself is a fault as well.
#[test]
fn every_refusal_of_a_head_is_a_fault() {
    let place = Place::quick(1);
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let limits = "[server.api]\nmax_target_bytes = 100\nmax_header_bytes = 8192\nmax_headers = 20";
    place.write("api-paste.toml", &paste.replacen("[server.api]", limits, 1));
    let server = place.serve();
    let get = |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    let many = |count: usize| "X: y\r\n".repeat(count);
    let cases = [
        ("nothing of HTTP", "\0\u{1}\r\n\r\n".to_owned(), 400),
        ("a broken line", "GET\r\n\r\n".into(), 400),
        ("another version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n".into(), 400),
        ("a blank in a name", get("/", "X y: z\r\n"), 400),
        ("a folded field", get("/", "X: y\r\n z\r\n"), 400),
        ("a target with a blank", get("/a b", ""), 400),
        ("a long target", get(&path(101), ""), 414),
        ("with its query", get(&format!("/?{}", path(99)), ""), 414),
        ("with its host", get(&format!("http://a{}", path(100)), ""), 414),
        ("longer than the header may be", get(&path(10_000), ""), 414),
        ("longer than hyper takes", get(&path(70_000), ""), 414),
        ("a large field", get("/", &format!("X: {}\r\n", path(10_000))), 431),
        ("many fields", get("/", &many(20)), 431),
    ];
    for (what, bytes, status) in cases {
        assert_refused(what, server.api, bytes.as_bytes(), status);
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut stream = connect(server.api, first.as_bytes());
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200"));
        stream.write_all(bytes.as_bytes()).ok();
        let said = rest(&mut stream);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{what}, behind another: {said}");
        assert!(said.contains(&format!("\"code\":{status}")), "{what}, behind another: {said}");
    }
    for bytes in [get(&path(100), "Connection: close\r\n"), get("/", &(many(18) + "Connection: close\r\n"))] {
        let reply = raw(server.api, bytes.as_bytes()).expect("an answer");
        assert!([200, 300].contains(&reply.status), "{}", reply.text);
    }
    let metrics = server.info("/metrics").text;
    for status in [400, 414, 431] {
        let line =
            metrics.lines().find(|line| line.contains("\"api\"") && line.contains(&format!("\"{status}\"")));
        assert!(line.is_some(), "{status} is counted: {metrics}");
    }
}

/// A place whose API asks for the token before it reads a body.
fn authenticated_first() -> Place {
    let place = Place::quick(1);
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    place.write("api-paste.toml", &paste.replace(r#""sizelimit", "tokens""#, r#""tokens", "sizelimit""#));
    place
}

fn post(server: &Server<'_>, token: &str, more: &str) -> String {
    format!("POST /v2/default/jobs HTTP/1.1\r\nHost: {}\r\nX-Auth-Token: {token}\r\n{more}\r\n", server.api)
}

/// A refusal needs nothing of the body: the client gets it without a 100, before it has sent any.
#[test]
fn a_refusal_does_not_wait_for_the_body() {
    let place = authenticated_first();
    let server = place.serve();
    let token = server.token.clone();
    let expects = "Expect: 100-continue\r\n";
    let length = |bytes: u64| format!("Content-Length: {bytes}\r\n");
    let cases = [
        ("too large", post(&server, &token, &(length(200_000) + expects)), 413),
        ("too large, and no Expect", post(&server, &token, &length(200_000)), 413),
        ("a bad token", post(&server, "nope", &(length(50_000) + expects)), 401),
        ("a bad token and no Expect", post(&server, "nope", &length(50_000)), 401),
        ("in chunks", post(&server, "nope", &format!("Transfer-Encoding: chunked\r\n{expects}")), 401),
        ("no host", format!("POST / HTTP/1.1\r\n{}{expects}\r\n", length(9)), 400),
    ];
    for (what, head, status) in cases {
        let mut stream = connect(server.api, head.as_bytes());
        let said = answer(&mut stream);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {said}");
        // Nothing more comes, and the connection ends by itself.
        let start = Instant::now();
        assert_eq!(rest(&mut stream), "", "{what}");
        assert!(start.elapsed() < PATIENCE / 2, "{what}");
    }
    // One that is welcome is told so, once.
    let body = r#"{"job": {}}"#;
    let mut stream =
        connect(server.api, post(&server, &token, &(length(body.len() as u64) + expects)).as_bytes());
    assert_eq!(answer(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("written");
    assert!(answer(&mut stream).starts_with("HTTP/1.1 400 "));
}

/// The rest of a refused request is thrown away: a short one keeps its connection, and the client of a long one
/// can read the answer.
#[test]
fn a_refused_body_does_not_break_the_answer() {
    let place = authenticated_first();
    let server = place.serve();
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.api);
    // Length of the body, whether it is sent after the answer was read, whether the connection is kept.
    for (length, late, kept) in [
        (0, false, true),
        (100, false, true),
        (100, true, true),
        (60_000, true, true),
        (200_000, false, false),
        (200_000, true, false),
    ] {
        let what = format!("{length} bytes, late: {late}");
        let body = "x".repeat(length);
        let mut stream =
            connect(server.api, post(&server, "nope", &format!("Content-Length: {length}\r\n")).as_bytes());
        if !late {
            stream.write_all(body.as_bytes()).ok();
        }
        let said = answer(&mut stream);
        assert!(said.starts_with("HTTP/1.1 401 ") && said.contains("\"code\":401"), "{what}: {said}");
        assert_eq!(said.contains("connection: close"), !kept, "{what}: {said}");
        if late {
            stream.write_all(body.as_bytes()).ok();
        }
        stream.write_all(get.as_bytes()).ok();
        let said = answer(&mut stream);
        assert_eq!(said.starts_with("HTTP/1.1 200 "), kept, "{what}: {said}");
    }
    // One that never comes.
    let mut stream = connect(server.api, post(&server, "nope", "Content-Length: 9\r\n").as_bytes());
    assert!(rest(&mut stream).starts_with("HTTP/1.1 401 "));
}
