//! The server's edge: what comes over a socket before and around any controller.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::Duration,
};

use serde_json::json;

use crate::support::{PATIENCE, Place, await_some, raw, send};

/// What it shows, method, path, body, status, the one key at the top of the body.
#[test]
fn bad_requests_are_nova_faults_that_name_the_field() {
    let place = Place::quick(1);
    let server = place.serve();
    let jobs = "/v2/default/jobs";
    let large = format!(r#"{{"job": {{"command": ["{}"]}}}}"#, "x".repeat(120_000));
    let deep = "[".repeat(50_000);
    let cases = [
        ("no JSON", "POST", jobs, "hello", 400, "badRequest", "body"),
        ("cut JSON", "POST", jobs, r#"{"job": {"command": ["#, 400, "badRequest", "body"),
        ("deep JSON", "POST", jobs, deep.as_str(), 400, "badRequest", "body"),
        ("no body", "POST", jobs, "", 400, "badRequest", "job"),
        ("another key", "POST", jobs, r#"{"jobb": {}}"#, 400, "badRequest", "jobb"),
        ("a list", "POST", jobs, "[]", 400, "badRequest", "body"),
        (
            "an unknown field",
            "POST",
            jobs,
            r#"{"job": {"command": ["true"], "cpus": 1}}"#,
            400,
            "badRequest",
            "cpus",
        ),
        (
            "a wrong type",
            "POST",
            jobs,
            r#"{"job": {"command": ["true"], "cpu_cores": "one"}}"#,
            400,
            "badRequest",
            "job.cpu_cores",
        ),
        (
            "a negative number",
            "POST",
            jobs,
            r#"{"job": {"command": ["true"], "memory_mib": -1}}"#,
            400,
            "badRequest",
            "job.memory_mib",
        ),
        ("no command", "POST", jobs, r#"{"job": {}}"#, 400, "badRequest", "command"),
        ("an empty command", "POST", jobs, r#"{"job": {"command": []}}"#, 400, "badRequest", "command"),
        (
            "a wrong item",
            "POST",
            jobs,
            r#"{"job": {"command": ["a", 1]}}"#,
            400,
            "badRequest",
            "job.command[1]",
        ),
        ("too large", "POST", jobs, large.as_str(), 413, "overLimit", "large"),
        ("unknown job", "GET", "/v2/default/jobs/nope", "", 404, "itemNotFound", "nope"),
        ("unknown VM", "GET", "/v2/default/vms/nope", "", 404, "itemNotFound", "nope"),
        ("unknown cloud", "GET", "/v2/default/clouds/nope", "", 404, "itemNotFound", "nope"),
        ("a project that is no UTF-8", "GET", "/v2/%FF/clouds", "", 400, "badRequest", "Malformed"),
        ("no job's name", "DELETE", "/v2/default/jobs/%FF", "", 404, "itemNotFound", ""),
        ("unknown path", "GET", "/v2/default/nopes", "", 404, "itemNotFound", ""),
        ("no trailing slash", "GET", "/v2/default/jobs/", "", 404, "itemNotFound", ""),
        ("another method", "PATCH", jobs, "", 405, "badMethod", "PATCH"),
        (
            "unknown action",
            "POST",
            "/v2/default/clouds/local/action",
            r#"{"explode": null}"#,
            400,
            "badRequest",
            "explode",
        ),
        (
            "two actions",
            "POST",
            "/v2/default/clouds/local/action",
            r#"{"enable": null, "disable": null}"#,
            400,
            "badRequest",
            "one key",
        ),
        ("another project", "GET", "/v2/other/jobs", "", 400, "badRequest", "Malformed request url"),
        ("a bad limit", "GET", "/v2/default/jobs?limit=-1", "", 400, "badRequest", "limit"),
        ("a bad marker", "GET", "/v2/default/jobs?marker=", "", 400, "badRequest", "marker"),
        (
            "a name of any characters",
            "GET",
            "/v2/default/clouds/a%2Fb%23%3F%20%C3%BC",
            "",
            404,
            "itemNotFound",
            "a/b#? ü",
        ),
        ("a name that is no UTF-8", "GET", "/v2/default/clouds/%FF%FE", "", 404, "itemNotFound", ""),
    ];
    for (what, method, path, body, status, top, named) in cases {
        let reply = server.call(method, path, body);
        assert_eq!((reply.status, reply.top().as_str()), (status, top), "{what}: {}", reply.text);
        assert_eq!(reply.json()[top]["code"], json!(status), "{what}");
        let message = reply.json()[top]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(named), "{what}: `{named}` is not in `{message}`");
        let id = reply.header("x-compute-request-id").unwrap_or_default();
        assert!(id.starts_with("req-"), "{what}: every fault has a request id: {:?}", reply.headers);
        assert_eq!(reply.header("x-openstack-request-id"), Some(id), "{what}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    }
    let allow = server.call("PATCH", jobs, "");
    assert_eq!(allow.header("allow"), Some("GET, HEAD, POST, OPTIONS"));
    let options = server.call("OPTIONS", jobs, "");
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
    let head = server.call("HEAD", jobs, "");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let length = server.get(jobs).header("content-length").map(str::to_owned);
    assert_eq!(head.header("content-length"), length.as_deref());
}

#[test]
fn a_token_is_wanted_and_nothing_else_says_who_calls() {
    let place = Place::quick(1);
    let server = place.serve();
    let cases: &[(&str, &[&str], u16)] = &[
        ("no token", &[], 401),
        (
            "a wrong token",
            &["X-Auth-Token: 0000000000000000000000000000000000000000000000000000000000000000"],
            401,
        ),
        ("an empty token", &["X-Auth-Token:"], 401),
        ("a token that is no text", &["X-Auth-Token: \u{e9}"], 401),
        (
            "claimed roles",
            &["X-Roles: admin", "X-User-Id: admin", "X-Project-Id: default", "X-Identity-Status: Confirmed"],
            401,
        ),
        ("claimed roles, spelled otherwise", &["x_roles: admin", "X_USER_ID: admin"], 401),
        ("a basic password", &["Authorization: Basic YWRtaW46YWRtaW4="], 401),
    ];
    for (what, headers, status) in cases {
        for path in ["/v2/default/jobs", "/v2/other/jobs", "/v2/default/nopes"] {
            let reply = send(server.api, "GET", path, headers, "");
            assert_eq!(reply.status, *status, "{what}: {path}: {}", reply.text);
            assert!(reply.header("www-authenticate").is_some(), "{what}: {:?}", reply.headers);
        }
    }
    let bearer = format!("Authorization: Bearer {}", server.token);
    assert_eq!(send(server.api, "GET", "/v2/default/jobs", &[&bearer], "").status, 200);
    let token = server.token.clone();
    let (_, log) = server.stop();
    assert!(!log.contains(&token), "the token is in the log");
    assert!(log.contains("request answered") && log.contains("/v2/default/jobs"), "an access log: {log}");
}

/// What gets as far as a pipeline, and says that it wants no other answer.
fn answered_by_us(what: &str) -> bool {
    what == "a tunnel" || what.contains("host")
}

#[test]
fn garbage_on_the_socket_ends_that_connection_alone() {
    let place = Place::quick(1);
    let server = place.serve();
    let huge = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(2_000));
    let cases: &[(&str, &[u8], &[u16])] = &[
        ("nothing of HTTP", b"\x00\x01\x02\xff\r\n\r\n", &[400]),
        ("a broken request line", b"GET\r\n\r\n", &[400]),
        ("two lengths", b"POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", &[400]),
        ("a negative length", b"POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", &[400]),
        ("broken chunks", b"POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", &[400, 401, 403]),
        ("a huge header", huge.as_bytes(), &[400, 431]),
        ("many headers", many.as_bytes(), &[400, 431]),
        ("a tunnel", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[405]),
        ("no host", b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n", &[400]),
        ("two hosts", b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", &[400]),
        ("a host with a path", b"GET /v2/ HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", &[400]),
        ("a host with a user", b"GET /v2/ HTTP/1.1\r\nHost: u@b\r\nConnection: close\r\n\r\n", &[400]),
        ("a folded header", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", &[400]),
        ("a blank before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", &[400]),
        ("another coding than chunks", b"POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", &[400]),
        ("chunks in HTTP/1.0", b"POST /v2/default/jobs HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
        ("HTTP/2 without a preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage", &[]),
    ];
    for (what, bytes, statuses) in cases {
        for port in [server.api, server.info, server.admin] {
            let mut stream = TcpStream::connect(port).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            // The answer is lost where the server hung up on more than it wants to read.
            let cut = bytes.len() > 10_000;
            stream.write_all(bytes).ok();
            // A client that has hung up before its request was read may get no answer.
            if !answered_by_us(what) {
                stream.shutdown(std::net::Shutdown::Write).ok();
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|it| it.parse().ok());
            if answered_by_us(what) {
                let text = String::from_utf8_lossy(&answer);
                assert!(text.contains("\r\nx-compute-request-id: req-"), "{what}: {text}");
            }
            let fine = status.map_or(statuses.is_empty(), |status: u16| statuses.contains(&status));
            assert!(fine || (cut && status.is_none()), "{what}: {status:?}");
        }
        assert_eq!(server.get("/v2/default/jobs").status, 200, "{what}: the server goes on");
    }
}

#[test]
fn http_2_is_spoken_on_cleartext() {
    let place = Place::quick(1);
    let server = place.serve();
    let mut stream = TcpStream::connect(server.api).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // The preface, empty SETTINGS, and HEADERS on stream 1: GET / of authority `a`, all from the
    // static table or literal, as RFC 7541 writes them.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    let block = b"\x82\x84\x86\x41\x01a";
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(block);
    stream.write_all(&bytes).expect("written");
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    // `{"versions"` comes in a DATA frame.
    while !seen.windows(10).any(|it| it == b"\"versions\"") {
        let read = stream.read(&mut chunk).expect("an answer");
        assert!(read > 0, "the connection ended after {} bytes", seen.len());
        seen.extend_from_slice(&chunk[..read]);
    }
}

#[test]
fn slow_clients_are_cut_and_make_room() {
    let place = Place::quick(1);
    let paste = std::fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let limits = "[server.api]\nheader_timeout_s = 1\nidle_timeout_s = 1\nmax_connections = 2 #";
    assert!(paste.contains("[server.api]"));
    place.write("api-paste.toml", &paste.replacen("[server.api]", limits, 1));
    let server = place.serve();
    // Two connections fill the cap: one says nothing, the other never ends its head.
    let idle = TcpStream::connect(server.api).expect("a connection");
    let mut slow = TcpStream::connect(server.api).expect("a connection");
    slow.write_all(b"GET / HTTP/1.1\r\nHost").expect("written");
    // A third gets its answer once they are cut, and before that another one: it never waits.
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    await_some("room", || match raw(server.api, get).map(|it| it.status) {
        Some(200) => Ok(()),
        status => {
            assert_eq!(status, Some(503));
            Err("503")
        }
    });
    for mut stream in [idle, slow] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).expect("an end"), 0, "cut without a word");
    }
}

/// What comes after a request keeps its answer back in no case: old clients send a line end after a
/// body, others begin their next request.
#[test]
fn an_answer_waits_for_nothing_that_follows_its_request() {
    let place = Place::quick(1);
    let server = place.serve();
    let head = format!("Host: a\r\nX-Auth-Token: {}\r\n", server.token);
    for (what, request, status) in [
        (
            "a line end",
            format!("POST /v2/default/jobs HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}\r\n"),
            400,
        ),
        ("half a request", format!("GET /v2/default/jobs HTTP/1.1\r\n{head}\r\nGET / HT"), 200),
        ("garbage", format!("GET /v2/default/jobs HTTP/1.1\r\n{head}\r\n\0\0\0\0\r\n\r\n"), 200),
    ] {
        let mut stream = TcpStream::connect(server.api).expect("a connection");
        // Shorter than the server's own time-outs, which end such a connection without an answer.
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream.write_all(request.as_bytes()).expect("room");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{what}");
    }
}

/// Deployers send it to have files read again: it must not end the service, and may not be silent.
#[test]
fn a_hangup_ends_nothing_and_is_answered_in_the_log() {
    let place = Place::quick(1);
    let server = place.serve();
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    assert_eq!(server.get("/v2/default/clouds").status, 200);
    await_some("the files to be read again", || {
        let reloads = server.get("/v2/default/service").json()["service"]["reloads"].clone();
        if reloads["done"] == 1 { Ok(()) } else { Err(reloads) }
    });
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("SIGHUP"), "{log}");
}

#[test]
fn a_drain_waits_for_nobody_who_has_asked_nothing() {
    let place = Place::quick(1);
    let server = place.serve();
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.api).expect("a connection");
        stream.write_all(bytes).expect("written");
        stream
    };
    // Silent, in the midst of how HTTP/2 begins, and kept after an answer.
    let mut kept = connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(kept.read(&mut [0; 4096]).expect("an answer") > 0);
    let open = [connect(b""), connect(b"PRI * HT"), kept];
    thread::sleep(Duration::from_millis(200));
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("drain time-out"), "{log}");
    drop(open);
}

#[test]
fn a_drain_lets_a_running_request_finish() {
    let place = Place::quick(1);
    let server = place.serve();
    let mut stream = TcpStream::connect(server.api).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let body = r#"{"job": {"command": ["true"]}}"#;
    let head = format!(
        "POST /v2/default/jobs HTTP/1.1\r\nHost: a\r\nX-Auth-Token: {}\r\nContent-Length: {}\r\n\r\n",
        server.token,
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("written");
    stream.write_all(&body.as_bytes()[..10]).expect("written");
    // The request has begun; now the server is told to stop, and the rest comes.
    thread::sleep(Duration::from_millis(200));
    Command::new("kill").args(["-TERM", &server.pid().to_string()]).status().expect("kill runs");
    thread::sleep(Duration::from_millis(200));
    stream.write_all(&body.as_bytes()[10..]).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}
