//! Connections above `max_connections` and `max_connections_per_address`: each is answered or closed, none waits.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::{ALL_VERSIONS, ClientConfig};

use crate::{
    certificates::{authority, certificate},
    support::{PATIENCE, Place, Reply, Server, await_some, free_address, raw_on, tls_client, tls_config},
};

/// A connection from an address of this host, `127.0.0.LAST`.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).expect("an address");
    socket.connect(&to.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

fn ask_from(last: u8, to: SocketAddr, request: &str) -> Option<Reply> {
    raw_on(connect_from(last, to), request.as_bytes())
}

fn place(limits: &str) -> Place {
    let place = Place::quick(1);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    place.write("api-paste.toml", &paste.replacen("[server.api]", &format!("[server.api]\n{limits}\n#"), 1));
    place
}

/// The number of a metric of the server `api`.
fn metric(server: &Server<'_>, name: &str) -> u64 {
    let page = server.info("/metrics").text;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

/// Waits until a connection was accepted: what comes next is above the limit.
fn await_open(server: &Server<'_>, number: u64) {
    await_some("connections", || {
        let open = metric(server, "pileus_connections_open{server=\"api\"}");
        if open >= number { Ok(()) } else { Err(open) }
    });
}

const HEAD: &str = "Host: a\r\nConnection: keep-alive\r\n";

#[test]
fn a_connection_above_the_limit_gets_one_answer() {
    let place = place("max_connections = 2\noverflow_connections = 40");
    let server = place.serve();
    let silent = [connect_from(2, server.api), connect_from(3, server.api)];
    await_open(&server, 2);
    let large = "x".repeat(50_000);
    let token = format!("X-Auth-Token: {}\r\n", server.token);
    // Request, status, the beginning of the body.
    let fault = "{\"serviceUnavailable\":{\"code\":503";
    let cases = [
        (format!("GET /healthcheck HTTP/1.1\r\n{HEAD}\r\n"), 200, "OK"),
        (format!("HEAD /healthcheck HTTP/1.1\r\n{HEAD}\r\n"), 204, ""),
        (format!("GET /healthcheck?a=b HTTP/1.1\r\n{HEAD}\r\n"), 200, "OK"),
        (
            format!("GET /healthcheck HTTP/1.1\r\n{HEAD}\r\nGET /healthcheck HTTP/1.1\r\n{HEAD}\r\n"),
            200,
            "OK",
        ),
        (format!("GET / HTTP/1.1\r\n{HEAD}\r\n"), 503, fault),
        (format!("GET /healthcheckx HTTP/1.1\r\n{HEAD}\r\n"), 503, fault),
        (format!("GET /v2/default/clouds HTTP/1.1\r\n{HEAD}{token}\r\n"), 503, fault),
        (
            format!("GET /v2/default/clouds HTTP/1.1\r\n{HEAD}Accept: application/xml\r\n\r\n"),
            503,
            "<serviceUnavailable",
        ),
        (format!("HEAD /v2/default/clouds HTTP/1.1\r\n{HEAD}{token}\r\n"), 503, ""),
        (format!("POST /healthcheck HTTP/1.1\r\n{HEAD}Content-Length: 50000\r\n\r\n{large}"), 503, fault),
        (
            format!("POST /v2/default/jobs HTTP/1.1\r\n{HEAD}{token}Content-Length: 50000\r\n\r\n{large}"),
            503,
            fault,
        ),
        (
            format!(
                "POST /v2/default/jobs HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            ),
            503,
            fault,
        ),
        ("GET /v2/default/clouds HTTP/1.0\r\n\r\n".to_owned(), 503, fault),
    ];
    for (request, status, body) in cases {
        let what = request.lines().next().unwrap_or_default().to_owned();
        let reply = ask_from(1, server.api, &request).unwrap_or_else(|| panic!("no answer to {what}"));
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        assert!(
            reply.text.starts_with(body) && (body.is_empty() == reply.text.is_empty()),
            "{what}: {}",
            reply.text
        );
        // HTTP/1.0 closes without a word.
        assert!(
            reply.header("connection") == Some("close") || what.ends_with("1.0"),
            "{what}: {:?}",
            reply.headers
        );
        let again = if status == 503 { Some("1") } else { None };
        assert_eq!(reply.header("retry-after"), again, "{what}: {:?}", reply.headers);
    }
    // HTTP/2: preface, settings, and GET of `/` on the streams 1 and 3; the connection ends after it.
    let mut stream = connect_from(1, server.api);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for id in [1, 3] {
        bytes.extend_from_slice(&[0, 0, 6, 1, 5, 0, 0, 0, id]);
        bytes.extend_from_slice(b"\x82\x84\x86\x41\x01a");
    }
    stream.write_all(&bytes).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(String::from_utf8_lossy(&answer).contains("serviceUnavailable"), "{answer:?}");
    // One that asks nothing, or not to the end, is closed soon.
    for part in ["", "GET / HTTP/1.1\r\nHost"] {
        let mut stream = connect_from(1, server.api);
        stream.write_all(part.as_bytes()).expect("sent");
        let begin = Instant::now();
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "{part}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{part}");
    }
    assert!(
        metric(&server, "pileus_connections_over_limit_total{server=\"api\",limit=\"max_connections\"}")
            >= 15
    );
    assert!(metric(&server, "pileus_requests_total{server=\"api\",code=\"503\"}") >= 9);
    assert_eq!(metric(&server, "pileus_connections_dropped_total{server=\"api\"}"), 0);
    drop(silent);
    await_some("room", || {
        let reply = ask_from(1, server.api, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        reply.filter(|it| it.status == 200).ok_or("503")
    });
}

#[test]
fn connections_above_the_overflow_are_closed_at_once() {
    // The setting, and how many are answered of a single address.
    for (overflow, answered) in [(0, 0), (1, 1), (4, 2)] {
        let place = place(&format!("max_connections = 1\noverflow_connections = {overflow}"));
        let server = place.serve();
        let _silent = connect_from(2, server.api);
        await_open(&server, 1);
        let mut streams: Vec<_> = (0..6).map(|_| connect_from(1, server.api)).collect();
        for stream in &mut streams {
            stream.write_all(b"GET /healthcheck HTTP/1.1\r\n").ok();
        }
        await_some("closed connections", || {
            let closed = metric(&server, "pileus_connections_dropped_total{server=\"api\"}");
            if closed == 6 - answered { Ok(()) } else { Err(closed) }
        });
    }
}

#[test]
fn one_address_does_not_lock_out_the_others() {
    let place = place("max_connections = 50");
    let server = place.serve();
    let silent: Vec<_> = (0..50).map(|_| connect_from(2, server.api)).collect();
    let limited = "pileus_connections_over_limit_total{server=\"api\",limit=\"max_connections_per_address\"}";
    await_some("connections above the limit", || {
        let count = metric(&server, limited);
        if count == 25 { Ok(()) } else { Err(count) }
    });
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // Address, path, status.
    for (last, path, status) in [(1, "/", 200), (3, "/", 200), (2, "/", 503), (2, "/healthcheck", 200)] {
        let reply = ask_from(last, server.api, &get(path)).map(|it| it.status);
        assert_eq!(reply, Some(status), "127.0.0.{last} {path}");
    }
    drop(silent);
    await_some("room", || ask_from(2, server.api, &get("/")).filter(|it| it.status == 200).ok_or("503"));
}

#[test]
fn a_proxy_may_have_all_connections() {
    let place = place("max_connections = 4\nmax_connections_per_address = 4");
    let server = place.serve();
    let _silent: Vec<_> = (0..3).map(|_| connect_from(2, server.api)).collect();
    await_open(&server, 3);
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(ask_from(2, server.api, get).map(|it| it.status), Some(200));
}

#[test]
fn a_tls_connection_above_the_limit_gets_one_answer() {
    let place = Place::quick(1);
    authority(place.path(), "ca");
    certificate(place.path(), "ca", "server", "DNS:localhost");
    let to = free_address();
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let tls = "tls = { certificate = \"${here}/server.pem\", key = \"${here}/server.key\" }";
    let section = format!("[server.tls]\nlisten = \"{to}\"\napp = \"api\"\nmax_connections = 1\n{tls}\n");
    place.write("api-paste.toml", &format!("{paste}\n{section}"));
    let server = place.serve();
    let config = tls_config(place.path(), None, ALL_VERSIONS);
    let ask = |path: &str| ask_tls(&config, to, path);
    assert_eq!(ask("/").map(|it| it.status), Some(200));
    // One that never begins its handshake has the slot, and those after it some of the overflow's handshakes.
    let _silent = connect_from(2, to);
    let _more: Vec<_> = (0..20).map(|_| connect_from(3, to)).collect();
    await_some("no room", || ask("/").filter(|it| it.status == 503).ok_or("200"));
    let refused = ask("/").expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(ask("/healthcheck").map(|it| it.status), Some(200));
    drop(server);
}

fn ask_tls(config: &Arc<ClientConfig>, to: SocketAddr, path: &str) -> Option<Reply> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    raw_on(tls_client(config, to), request.as_bytes())
}
