//! What caches may keep. Source: RFC 9111 §3, §5.2.2; RFC 9110 §15.5.5, §15.5.6.
//!
//! The test with Varnish is skipped without the Debian package `varnish`, and says so; with `PILEUS_REAL=1` that is
//! a failure.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::support::{PATIENCE, Place, Server, await_some, free_address, raw, send};

/// The head of an answer that never ends.
fn head(to: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("written");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1);
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

#[test]
fn no_cache_keeps_what_is_not_for_everybody() {
    let place = Place::quick(1);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let cors = "\n[filter.cors]\nallowed_origin = [\"https://a.example\"]\n";
    let paste = paste.replacen("\"trace\", \"faultwrap\"", "\"trace\", \"cors\", \"faultwrap\"", 1);
    place.write("api-paste.toml", &(paste + cors));
    let server = place.serve();
    let (api, info, admin) = (server.api, server.info, server.admin);
    let token = format!("X-Auth-Token: {}", server.token);
    let ours: &[&str] = &[&token, "Content-Type: application/json"];
    let alias = r#"{"cloud_alias": {"name": "west", "clouds": ["local"]}}"#;
    let made = json!({ "token": { "name": "t", "user": "ada", "project": "default" } }).to_string();
    let large = "x".repeat(120_000);
    let wide = format!("/v2/default/clouds/{}", "x".repeat(9_000));
    let preflight = ["Origin: https://a.example", "Access-Control-Request-Method: GET"];
    let v2 = "/v2/default";
    type Case<'a> = (&'a str, SocketAddr, &'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);
    let cases: &[Case<'_>] = &[
        ("a list", api, "GET", "/clouds", ours, "", 200, "no-store"),
        ("a head", api, "HEAD", "/clouds", ours, "", 200, "no-store"),
        ("a document", api, "GET", "/clouds/local", ours, "", 200, "no-store"),
        ("the same, remembered", api, "GET", "/clouds/local", ours, "", 200, "no-store"),
        ("a list of events", api, "GET", "/events", ours, "", 200, "no-store"),
        ("tokens", api, "GET", "/tokens", ours, "", 200, "no-store"),
        ("a token", api, "POST", "/tokens", ours, &made, 201, "no-store"),
        ("a creation", api, "POST", "/cloud-aliases", ours, alias, 201, "no-store"),
        ("a conflict", api, "POST", "/cloud-aliases", ours, alias, 409, "no-store"),
        ("a deletion", api, "DELETE", "/cloud-aliases/west", ours, "", 204, "no-store"),
        ("options", api, "OPTIONS", "/clouds", ours, "", 204, "no-store"),
        ("a preflight", api, "OPTIONS", "/clouds", &preflight, "", 204, "no-store"),
        ("no token", api, "GET", "/clouds", &[], "", 401, "no-store"),
        ("a wrong token", api, "GET", "/clouds", &["X-Auth-Token: x"], "", 401, "no-store"),
        ("no such thing", api, "GET", "/clouds/nope", ours, "", 404, "no-store"),
        ("no such path", api, "GET", "/nope", ours, "", 404, "no-store"),
        ("no such method", api, "PATCH", "/clouds", ours, "", 405, "no-store"),
        ("a bad body", api, "POST", "/jobs", ours, "{", 400, "no-store"),
        ("a large body", api, "POST", "/jobs", ours, &large, 413, "no-store"),
        ("a long target", api, "GET", &wide, ours, "", 414, "no-store"),
        ("a bad path", api, "GET", "/clouds/..", ours, "", 400, "no-store"),
        ("versions", api, "GET", "//", &[], "", 200, "no-cache"),
        ("versions in XML", api, "GET", "//", &["Accept: application/xml"], "", 200, "no-cache"),
        ("choices", api, "GET", "//images", &[], "", 300, "no-cache"),
        ("health", api, "GET", "//healthcheck", &[], "", 200, "no-store"),
        ("the old info port", info, "GET", "//vms", &[], "", 404, "no-store"),
        ("an old list", info, "GET", "/", &[], "", 200, "no-store"),
        ("an old document", info, "GET", "/clusters.json", &[], "", 200, "no-store"),
        ("metrics", info, "GET", "/metrics", &[], "", 200, "no-store"),
        ("the old admin port", admin, "PUT", "/clouds/local?action=enable", &[], "", 200, "no-store"),
        ("nothing there", admin, "GET", "/nope", &[], "", 404, "no-store"),
    ];
    for (what, to, method, path, headers, body, status, expected) in cases {
        // Paths of the API stand below the project; what begins with `//` does not.
        let path = match path.strip_prefix("//").filter(|_| *to == api) {
            Some(rest) => format!("/{rest}"),
            None if *to == api && !path.starts_with("/v2") => format!("{v2}{path}"),
            None => (*path).to_owned(),
        };
        let reply = send(*to, method, &path, headers, body);
        assert_eq!(reply.status, *status, "{what}: {}", reply.text);
        let found: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "cache-control").collect();
        assert!(found.len() == 1 && found[0].1 == *expected, "{what}: {} {:?}", reply.status, reply.headers);
        if *expected == "no-cache" {
            assert_eq!(reply.header("vary"), Some("accept"), "{what}");
        }
    }
    for (what, request) in [
        ("no host", "GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n"),
        ("a head that cannot be read", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("too many headers", &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))),
        ("a tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    ] {
        let reply = raw(api, request.as_bytes()).expect("an answer");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}: {:?}", reply.headers);
    }
    let stream =
        head(api, &format!("GET /v2/default/events?follow=1 HTTP/1.1\r\nHost: a\r\n{token}\r\n\r\n"));
    assert!(
        stream.starts_with("HTTP/1.1 200") && stream.contains("cache-control: no-cache, no-store\r\n"),
        "{stream}"
    );
}

/// A cache as it is out of the box. Dropping it ends it.
struct Varnish {
    child: Child,
    address: SocketAddr,
}

impl Varnish {
    /// `None` where it is not installed.
    fn start(folder: &Path, server: &Server<'_>) -> Option<Self> {
        let program =
            ["/usr/sbin/varnishd", "/usr/local/sbin/varnishd"].into_iter().find(|it| Path::new(it).is_file());
        let Some(program) = program else {
            let real = std::env::var("PILEUS_REAL").is_ok_and(|it| it == "1");
            assert!(!real, "PILEUS_REAL=1, and varnishd is not installed");
            eprintln!("skipped: varnishd is not installed (Debian: apt-get install varnish)");
            return None;
        };
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["-F", "-j", "none", "-s", "malloc,16m"]).arg("-n").arg(folder.join("varnish"));
        command.args(["-a", &address.to_string(), "-b", &server.api.to_string()]);
        let log = fs::File::create(folder.join("varnish.log")).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let mut it = Self { child: command.spawn().expect("varnishd runs"), address };
        await_some("Varnish", || {
            if let Ok(Some(status)) = it.child.try_wait() {
                panic!("{status}: {}", fs::read_to_string(folder.join("varnish.log")).unwrap_or_default());
            }
            TcpStream::connect(address)
        });
        Some(it)
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // It ends its own child.
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_shared_cache_gives_nobody_the_answers_of_others() {
    for filters in ["", "\"compress\", \"conditional\", "] {
        let place = Place::quick(1);
        if !filters.is_empty() {
            let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
            let line = paste.lines().find(|line| line.starts_with("token ")).expect("a pipeline");
            let more = line.replacen("\"policy\"", &format!("{filters}\"policy\""), 1);
            assert_ne!(line, more);
            place.write("api-paste.toml", &paste.replacen(line, &more, 1));
        }
        let server = place.serve();
        let Some(varnish) = Varnish::start(place.path(), &server) else { return };
        let call = |method: &str, path: &str, token: &str| {
            let token = format!("X-Auth-Token: {token}");
            let headers: &[&str] = if token.ends_with(' ') { &[] } else { &[&token] };
            send(varnish.address, method, path, headers, "")
        };
        let make = |name: &str, project: &str| {
            let token =
                json!({ "token": { "name": name, "user": name, "project": project, "roles": ["member"] } });
            let made = server.post("/v2/default/tokens", &token.to_string());
            made.json()["token"]["secret"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned()
        };
        let (ada, bob) = (make("ada", "default"), make("bob", "b"));
        let id = server.submit("sleep 60");
        let job = format!("/v2/default/jobs/{id}");
        let of_others = format!("/v2/b/jobs/{id}");
        // In this order: method, path, token, status.
        let admin = server.token.as_str();
        let rows = [
            ("GET", "/v2/default/tokens", admin, 200),
            ("GET", "/v2/default/tokens", "", 401),
            ("GET", "/v2/default/tokens", &ada, 403),
            ("GET", "/v2/default/tokens", admin, 200),
            // A refusal is none of the next caller's.
            ("GET", &job, "", 401),
            ("GET", &job, &bob, 400),
            ("GET", &of_others, &bob, 404),
            ("GET", &job, admin, 200),
            ("GET", &job, &bob, 400),
            ("HEAD", &job, "", 401),
            ("GET", "/v2/default/clouds", &ada, 200),
            ("GET", "/v2/default/clouds", "", 401),
            ("PATCH", "/v2/default/clouds", &ada, 405),
            ("GET", "/v2/default/cloud-aliases/west", &ada, 404),
            ("GET", "/", "", 200),
            ("GET", "/", "", 200),
        ];
        for (method, path, token, status) in rows {
            let reply = call(method, path, token);
            assert_eq!(reply.status, status, "{filters} {method} {path}: {} {:?}", reply.text, reply.headers);
            assert!(reply.header("x-varnish").is_some(), "{:?}", reply.headers);
        }
        // What was not there a moment ago is.
        let alias = r#"{"cloud_alias": {"name": "west", "clouds": ["local"]}}"#;
        assert_eq!(server.post("/v2/default/cloud-aliases", alias).status, 201);
        assert_eq!(call("GET", "/v2/default/cloud-aliases/west", &ada).status, 200);
        server.call("DELETE", &job, "");
    }
}
