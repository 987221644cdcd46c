//! Clients of HTTP/2 that keep a connection without taking an answer: pings are no progress.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{Place, Server};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Preface, and settings with the room that a stream has for its answer.
fn begin(window: u32) -> Vec<u8> {
    let setting = [&[0, 4], &window.to_be_bytes()[..]].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &setting)].concat()
}

/// GET of a path, in headers without Huffman's code and without a table.
fn get(server: &Server<'_>, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let method_and_scheme = b"\x82\x86".to_vec();
    let path = [b"\x04".to_vec(), text(path)].concat();
    let authority = [b"\x01".to_vec(), text("localhost")].concat();
    let token = [b"\x00".to_vec(), text("x-auth-token"), text(&server.token)].concat();
    [method_and_scheme, path, authority, token].concat()
}

/// Sends a ping five times a second; returns after how long the server has closed the connection, `None` if
/// not within `limit`.
fn closed_after(mut stream: TcpStream, pings: bool, limit: Duration) -> Option<Duration> {
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    let begin = Instant::now();
    while begin.elapsed() < limit {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return Some(begin.elapsed()),
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Some(begin.elapsed()),
        }
        if pings && stream.write_all(&frame(PING, 0, 0, &[7; 8])).is_err() {
            return Some(begin.elapsed());
        }
    }
    None
}

#[test]
fn pings_keep_no_connection_that_takes_no_answer() {
    let place = Place::quick(1);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let limits = "[server.api]\nheader_timeout_s = 1\nidle_timeout_s = 1\nwrite_timeout_s = 1\n#";
    place.write("api-paste.toml", &paste.replacen("[server.api]", limits, 1));
    let server = place.serve();
    let whole = frame(HEADERS, 5, 1, &get(&server, "/"));
    let stream = frame(HEADERS, 5, 1, &get(&server, "/v2/default/events?follow=1"));
    let half = frame(HEADERS, 1, 1, &get(&server, "/"));
    let room = 1 << 20;
    // Room, what is asked, pings, `true` if it is closed.
    let cases: [(&str, u32, &[u8], bool, bool); 8] = [
        ("nothing asked", room, b"", true, true),
        ("nothing asked, silent", room, b"", false, true),
        ("a whole answer, no room", 0, &whole, true, true),
        ("a whole answer, no room, silent", 0, &whole, false, true),
        ("a whole answer, little room", 10, &whole, true, true),
        ("a stream, no room", 0, &stream, true, true),
        ("half a head", room, &half, false, true),
        ("a stream that waits for its source", room, &stream, true, false),
    ];
    let clients = cases.map(|(what, window, asked, pings, closed)| {
        let mut client = TcpStream::connect(server.api).expect("a connection");
        client.write_all(&[&begin(window), asked].concat()).expect("sent");
        let limit = Duration::from_secs(if closed { 20 } else { 4 });
        (what, closed, std::thread::spawn(move || closed_after(client, pings, limit)))
    });
    for (what, closed, client) in clients {
        let after = client.join().expect("a client");
        assert_eq!(after.is_some(), closed, "{what}: {after:?}");
    }
}
