//! Requests that are rejected before a byte of their body is read: no `100 Continue`, and no wait for the body.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::support::{PATIENCE, Place, Server, send};

const JOB: &str = r#"{"job": {"command": ["true"], "memory_mib": 64}}"#;

/// Sends the head of a `POST` that waits for `100 Continue`, and the body once it is asked for. Returns the statuses
/// of all answers.
fn post(to: SocketAddr, headers: &[&str], body: &str) -> Vec<u16> {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let path = "/v2/default/jobs";
    let mut head =
        format!("POST {path} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n");
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        head += &format!("Host: {to}\r\n");
    }
    for header in headers {
        head += &format!("{header}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).expect("a connection");
    let mut statuses = Vec::new();
    loop {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&answer));
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        statuses.push(status);
        if status != 100 {
            return statuses;
        }
        stream.write_all(body.as_bytes()).expect("a connection");
    }
}

/// A place whose shipped pipelines have other limits.
fn place(changes: &[(&str, &str)]) -> Place {
    let place = Place::quick(1);
    let mut paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    for (from, to) in changes {
        assert!(paste.contains(from), "{from}");
        paste = paste.replace(from, to);
    }
    place.write("api-paste.toml", &paste);
    place
}

fn token(server: &Server<'_>) -> String {
    format!("X-Auth-Token: {}", server.token)
}

#[test]
fn what_is_wrong_without_the_body_is_answered_without_it() {
    let posts = "{ verb = \"POST\", uri = \"*\", regex = \".*\", value = 120, unit = \"minute\" }";
    let place = place(&[(posts, &posts.replace("120, unit = \"minute\"", "2, unit = \"day\""))]);
    let server = place.serve();
    let (good, length) = (token(&server), format!("Content-Length: {}", JOB.len()));
    let large = "Content-Length: 114689";
    let cases: [(&str, &[&str], &[u16]); 9] = [
        ("no token", &[&length], &[401]),
        ("a wrong token", &["X-Auth-Token: x", &length], &[401]),
        ("a wrong token, and a large body", &["X-Auth-Token: x", large], &[401]),
        (
            "a wrong token, and a body of unknown length",
            &["X-Auth-Token: x", "Transfer-Encoding: chunked"],
            &[401],
        ),
        ("another scheme", &["Authorization: Basic YTpi", &length], &[401]),
        ("all is well", &[&good, &length], &[100, 202]),
        ("a large body", &[&good, large], &[413]),
        ("the limit of the user", &[&good, &length], &[429]),
        ("the limit of the user, and a large body", &[&good, large], &[429]),
    ];
    for (what, headers, statuses) in cases {
        assert_eq!(post(server.api, headers, JOB), statuses, "{what}");
    }
}

#[test]
fn an_address_that_guesses_is_refused_before_its_token_is_looked_at() {
    let place = place(&[("value = 60, unit = \"minute\"", "value = 3, unit = \"day\"")]);
    let server = place.serve();
    let (good, length) = (token(&server), format!("Content-Length: {}", JOB.len()));
    let clouds = |headers: &[&str]| send(server.api, "GET", "/v2/default/clouds", headers, "");
    // What is no failed authentication is free.
    for _ in 0..4 {
        assert_eq!(clouds(&[&good]).status, 200);
        assert_eq!(send(server.api, "GET", "/v2/default/clouds/nope", &[&good], "").status, 404);
        assert_eq!(send(server.api, "GET", "/v2/other/clouds", &[&good], "").status, 400);
    }
    let wrong = clouds(&["X-Auth-Token: x"]);
    assert_eq!((wrong.status, wrong.header("ratelimit-policy")), (401, Some("\"ANY * day\";q=3;w=86400")));
    assert_eq!(post(server.api, &["X-Auth-Token: x", &length], JOB), [401]);
    assert_eq!(clouds(&[]).status, 401);
    for headers in [&[&*good][..], &["X-Auth-Token: x"], &[]] {
        let refused = clouds(headers);
        assert_eq!((refused.status, refused.top().as_str()), (429, "overLimit"), "{}", refused.text);
        assert_eq!(refused.header("retry-after"), Some("28800"));
    }
    assert_eq!(post(server.api, &[&good, &length], JOB), [429]);
    // Other pipelines have no authenticator, and no such limit.
    assert_eq!(send(server.api, "GET", "/", &[], "").status, 200);
    assert_eq!(send(server.api, "GET", "/healthcheck", &[], "").status, 200);
    assert_eq!(server.info("/vms").status, 200);
}

#[test]
fn a_web_page_runs_no_command_without_a_token() {
    let place = Place::quick(1);
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    place.write("pileus.toml", &format!("auth_strategy = \"noauth\"\n{config}"));
    let server = place.serve();
    let (length, port) = (format!("Content-Length: {}", JOB.len()), server.api.port());
    let own = format!("Host: localhost:{port}");
    let origin = format!("Origin: http://localhost:{port}");
    let cases: [(&str, &[&str], &[u16]); 8] = [
        (
            "DNS rebinding",
            &["Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin"],
            &[403],
        ),
        ("DNS rebinding, an old browser", &["Host: evil.example"], &[403]),
        (
            "DNS rebinding, with a port",
            &["Host: evil.example:8774", "Origin: http://evil.example:8774"],
            &[403],
        ),
        ("a foreign page", &[&own, "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"], &[403]),
        (
            "a page of another port",
            &[&own, "Origin: http://localhost:1", "Sec-Fetch-Site: same-site"],
            &[403],
        ),
        ("a page of a file", &[&own, "Origin: null"], &[403]),
        ("a page of this port", &[&own, &origin, "Sec-Fetch-Site: same-origin"], &[100, 202]),
        ("a program", &[&own], &[100, 202]),
    ];
    let mut made = 0;
    for (what, headers, statuses) in cases {
        let headers = [headers, &["X-Auth-Token: admin:default", &length]].concat();
        assert_eq!(post(server.api, &headers, JOB), statuses, "{what}");
        made += usize::from(statuses.contains(&202));
        let jobs = send(server.api, "GET", "/v2/default/jobs", &["X-Auth-Token: admin:default"], "");
        assert_eq!(jobs.json()["jobs"].as_array().map(Vec::len), Some(made), "{what}: {}", jobs.text);
    }
}
