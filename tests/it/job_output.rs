//! Output of jobs: live, as bytes, its head and tail, of jobs that were removed, and over a lost server.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, Reply, Server, await_some, is_root, send};

fn path(job: &str, rest: &str) -> String {
    format!("/v2/default/jobs/{job}/output{rest}")
}

fn in_json(server: &Server<'_>, job: &str) -> Value {
    server.get(&path(job, "")).json()["output"].clone()
}

/// An answer to a request with another header.
fn with(server: &Server<'_>, method: &str, path: &str, header: &str) -> Reply {
    let token = format!("X-Auth-Token: {}", server.token);
    send(server.api, method, path, &[&token, header], "")
}

/// Follows an output; the stream stands right after the head of the answer.
fn follow(server: &Server<'_>, path: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server.api).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Auth-Token: {}\r\n\r\n",
        server.api, server.token
    );
    stream.write_all(head.as_bytes()).expect("a request");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
        head.extend(byte);
    }
    (stream, String::from_utf8(head).expect("a head").to_ascii_lowercase())
}

/// All that comes until the stream ends, chunk by chunk.
fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("its end");
    let text = String::from_utf8(all).expect("text");
    text.split("\r\n").skip(1).step_by(2).collect()
}

/// Places with a server of each kind that there can be here.
fn places() -> Vec<Place> {
    let mut places = vec![Place::quick(1)];
    if is_root() {
        places.push(Place::quick(1).without_root());
    }
    places
}

#[test]
fn output_is_read_while_a_job_runs() {
    for place in places() {
        let server = place.serve();
        let job = server.submit("echo one; echo oh >&2; sleep 2; echo two");
        // Before it runs there is nothing, and that is no mistake.
        assert_eq!(server.get(&path(&job, "/stdout")).status, 200);
        let (stream, head) = follow(&server, &path(&job, "/stdout?follow=1"));
        assert!(head.starts_with("http/1.1 200") && head.contains("x-accel-buffering: no"), "{head}");
        await_some("a line", || {
            let reply = server.get(&path(&job, "/stdout"));
            if reply.text == "one\n" { Ok(()) } else { Err(reply.text) }
        });
        assert_eq!(server.get(&format!("/v2/default/jobs/{job}")).json()["job"]["state"], json!("running"));
        assert_eq!(in_json(&server, &job)["stdout"], json!(""), "as always");
        for (rest, text) in [
            ("/stdout?offset=2", "e\n"),
            ("/stdout?offset=4", ""),
            ("/stdout?offset=99", ""),
            ("/stderr", "oh\n"),
        ] {
            let reply = server.get(&path(&job, rest));
            assert_eq!((reply.status, &*reply.text), (200, text), "{rest}");
            assert_eq!(reply.header("accept-ranges"), None, "{rest}");
        }
        // Streams that end with the job, from the start and from an offset.
        let (later, _) = follow(&server, &path(&job, "/stdout?follow=1&offset=3"));
        assert_eq!(rest(stream), "one\ntwo\n");
        assert_eq!(rest(later), "\ntwo\n");
        server.await_job(&job, "complete");
        let (ended, _) = follow(&server, &path(&job, "/stdout?follow=1&offset=4"));
        let mut all = String::new();
        (&ended).read_to_string(&mut all).expect("its end");
        assert_eq!(all, "two\n");
        for (rest, status) in [
            ("/stdout?offset=x", 400),
            ("/stdout?offset=-1", 400),
            ("/stdout?offset=1&offset=2", 400),
            ("/stdout?folow=1", 400),
            ("/stdin", 404),
        ] {
            assert_eq!(server.get(&path(&job, rest)).status, status, "{rest}");
        }
        assert_eq!(server.get(&path("unknown", "/stdout")).status, 404);
        assert_eq!(server.get(&format!("/v2/other/jobs/{job}/output/stdout")).status, 400);
    }
}

#[test]
fn output_is_bytes() {
    let place = Place::quick(1);
    let server = place.serve();
    let all: Vec<u8> = (0..=255).collect();
    let octal: String = all.iter().map(|byte| format!("\\\\{byte:03o}")).collect();
    let job = server.submit(&format!(
        "printf '{}'; head -c 3000 /dev/urandom > r; cat r r >&2",
        octal.replace("\\\\", "\\")
    ));
    server.await_job(&job, "complete");
    let stdout = server.get(&path(&job, "/stdout"));
    assert_eq!((stdout.status, &stdout.bytes), (200, &all));
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment"),
        ("content-security-policy", "sandbox"),
        ("cache-control", "no-store"),
        ("accept-ranges", "bytes"),
        ("content-length", "256"),
    ] {
        assert_eq!(stdout.header(name), Some(value), "{name}");
    }
    assert_eq!(stdout.header("pileus-output-gap"), None);
    let random = server.get(&path(&job, "/stderr")).bytes;
    assert_eq!(random.len(), 6000);
    assert!(random[..3000] == random[3000..], "the same bytes twice");
    let shown = in_json(&server, &job);
    assert_eq!((&shown["stdout_encoding"], &shown["stderr_encoding"]), (&json!("base64"), &json!("base64")));
    let decoded = BASE64_STANDARD.decode(shown["stderr"].as_str().expect("a text")).expect("base64");
    assert!(decoded == random);
    let text = |range: std::ops::Range<usize>| all[range].to_vec();
    let cases = [
        ("GET", "/stdout", "Range: bytes=10-19", 206, text(10..20), Some("bytes 10-19/256")),
        ("GET", "/stdout", "Range: bytes=250-", 206, text(250..256), Some("bytes 250-255/256")),
        ("GET", "/stdout", "Range: bytes=-3", 206, text(253..256), Some("bytes 253-255/256")),
        ("GET", "/stdout?offset=200", "Range: bytes=0-9", 206, text(200..210), Some("bytes 0-9/56")),
        ("GET", "/stdout", "Range: bytes=0-1,3-4", 200, all.clone(), None),
        ("GET", "/stdout", "Range: pages=1-2", 200, all.clone(), None),
        ("HEAD", "/stdout", "Range: bytes=10-19", 200, Vec::new(), None),
        ("HEAD", "/stdout", "Accept: */*", 200, Vec::new(), None),
    ];
    for (method, rest, header, status, bytes, range) in cases {
        let reply = with(&server, method, &path(&job, rest), header);
        assert_eq!((reply.status, &reply.bytes), (status, &bytes), "{method} {rest} {header}");
        assert_eq!(reply.header("content-range"), range, "{method} {rest} {header}");
        let length = if method == "HEAD" { 256 } else { bytes.len() };
        assert_eq!(reply.header("content-length"), Some(&*length.to_string()), "{method} {rest} {header}");
    }
    for (rest, header) in [("/stdout", "Range: bytes=256-"), ("/stdout?offset=256", "Range: bytes=0-")] {
        let reply = with(&server, "GET", &path(&job, rest), header);
        let length = if rest == "/stdout" { 256 } else { 0 };
        assert_eq!((reply.status, reply.header("content-range")), (416, Some(&*format!("bytes */{length}"))));
        assert_eq!(reply.top(), "computeFault", "a fault like others: {}", reply.text);
    }
}

#[test]
fn the_end_of_a_long_output_is_there() {
    let place = Place::quick(1);
    let server = place.serve();
    let job = server.submit("head -c 4000000 /dev/zero | tr '\\0' x; echo; echo the error");
    server.await_job(&job, "complete");
    let (half, total) = (1 << 20, 4_000_011);
    let tail = total - half;
    let gap = format!("{half}-{tail}");
    let shown = in_json(&server, &job);
    assert_eq!(
        (&shown["truncated"], &shown["stdout_gap"]),
        (&json!(true), &json!({ "from": half, "to": tail }))
    );
    assert!(
        shown["stdout"]
            .as_str()
            .is_some_and(|text| text.len() == 2 * half && text.ends_with("x\nthe error\n"))
    );
    // offset, range, bytes, whether the gap lies at or behind it
    let cases = [
        (0, None, 2 * half, true),
        (half - 1, None, half + 1, true),
        (half, None, half, true),
        (half + 1000, None, half, true),
        (tail - 1, None, half, true),
        (tail, None, half, false),
        (total - 10, None, 10, false),
        (total, None, 0, false),
        (0, Some("bytes=1048570-1048589"), 20, true),
        (0, Some("bytes=-10"), 10, true),
    ];
    for (offset, range, length, told) in cases {
        let header = range.map_or("Accept: */*".to_owned(), |range| format!("Range: {range}"));
        let reply = with(&server, "GET", &path(&job, &format!("/stdout?offset={offset}")), &header);
        assert_eq!(
            (reply.status, reply.bytes.len()),
            (if range.is_some() { 206 } else { 200 }, length),
            "{offset}"
        );
        assert_eq!(reply.header("pileus-output-gap"), told.then_some(&*gap), "{offset}");
        if range.is_none() && length > 0 {
            assert!(reply.text.ends_with("the error\n"), "{offset}");
        }
    }
    // A limit of the deployer's.
    drop(server);
    let place = Place::new("[scheduler]\njob_output_max_kib = 2\n[clouds.local]\ndriver = \"local\"\n");
    let server = place.serve();
    let job = server.submit("head -c 3000 /dev/zero; echo end");
    server.await_job(&job, "complete");
    assert_eq!(in_json(&server, &job)["stdout_gap"], json!({ "from": 1024, "to": 1980 }));
}

#[test]
fn what_a_removed_job_wrote_is_kept() {
    for place in places() {
        let server = place.serve();
        let job = server.submit("trap 'echo bye; exit' TERM; echo so far; while :; do sleep 0.1; done");
        await_some("a line", || {
            let reply = server.get(&path(&job, "/stdout"));
            if reply.text == "so far\n" { Ok(()) } else { Err(reply.text) }
        });
        let (stream, _) = follow(&server, &path(&job, "/stdout?follow=1"));
        assert_eq!(server.call("DELETE", &format!("/v2/default/jobs/{job}"), "").status, 204);
        assert_eq!(rest(stream), "so far\nbye\n", "whoever follows it sees its end");
        let shown = in_json(&server, &job);
        assert_eq!(
            (&shown["state"], &shown["stdout"]),
            (&json!("removed"), &json!("so far\nbye\n")),
            "{shown}"
        );
        server.await_no_vms();
        assert_eq!(server.get(&path(&job, "/stdout?offset=3")).text, "far\nbye\n");
    }
}

#[test]
fn sixteen_outputs_are_followed_at_a_time() {
    let place = Place::quick(1);
    let server = place.serve();
    let job = server.submit("echo begun; sleep 600");
    server.await_job(&job, "running");
    let follow = || follow(&server, &path(&job, "/stdout?follow=1"));
    let mut streams: Vec<_> = (0..16).map(|_| follow()).collect();
    assert!(streams.iter().all(|(_, head)| head.starts_with("http/1.1 200")));
    let (_, head) = follow();
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after"), "{head}");
    assert_eq!(server.get(&path(&job, "/stdout")).status, 200, "read it may be");
    streams.pop();
    await_some("room for one more", || {
        let (stream, head) = follow();
        if head.starts_with("http/1.1 200") { Ok(stream) } else { Err(head) }
    });
    // An end of the server ends all of them.
    assert!(server.stop().0.success());
    for (stream, _) in streams {
        assert_eq!(rest(stream), "begun\n");
    }
}

/// Clients that do not read cost the server nothing, whatever the job writes.
#[test]
fn a_slow_reader_costs_no_memory() {
    let place = Place::quick(1);
    let server = place.serve();
    let job = server.submit("yes 'a long line that is written again and again and again'");
    let total = |server: &Server<'_>| -> u64 {
        let reply = with(server, "HEAD", &path(&job, "/stdout"), "Accept: */*");
        let gap = reply.header("pileus-output-gap").and_then(|gap| gap.split_once('-'));
        gap.and_then(|(_, to)| to.parse().ok()).unwrap_or(0)
    };
    let written = |more: u64| {
        let from = total(&server);
        await_some("much output", || {
            let now = total(&server);
            if now > from + more { Ok(()) } else { Err(format!("{now} bytes")) }
        });
    };
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    written(10 << 20);
    let before = resident();
    let slow: Vec<_> = (0..16).map(|_| follow(&server, &path(&job, "/stdout?follow=1"))).collect();
    written(200 << 20);
    let grown = resident().saturating_sub(before);
    assert!(grown < 30 * 1024, "{grown} KiB more");
    drop(slow);
}

#[test]
fn a_job_that_ends_while_the_server_is_away_ended_then() {
    for place in places() {
        let server = place.serve();
        let job = server.submit("echo one; sleep 2; echo two; date +%s.%N");
        await_some("a line", || {
            let reply = server.get(&path(&job, "/stdout"));
            if reply.text == "one\n" { Ok(()) } else { Err(reply.text) }
        });
        let began = SystemTime::now();
        server.kill();
        await_some("time to pass", || {
            if began.elapsed().unwrap_or_default() > Duration::from_secs(6) { Ok(()) } else { Err("not yet") }
        });
        let server = place.serve();
        // A client that was cut off goes on where it was.
        let (stream, _) = follow(&server, &path(&job, "/stdout?follow=1&offset=4"));
        let done = server.await_job(&job, "complete");
        let mut more = String::new();
        (&stream).read_to_string(&mut more).expect("its end");
        assert!(more.contains("two\n") && !more.contains("one"), "{more}");
        let all = in_json(&server, &job)["stdout"].as_str().expect("a text").to_owned();
        let time = |name: &str| -> f64 {
            let time = done[name].as_str().expect("a time");
            let time: jiff::Timestamp = time.parse().expect("a time");
            time.as_millisecond() as f64 / 1000.0
        };
        let said: f64 = all.lines().last().expect("a line").parse().expect("seconds");
        assert!((time("finished") - said).abs() < 1.5, "{done} {said}");
        let ran = time("finished") - time("started");
        assert!((1.9..4.0).contains(&ran), "{ran} s: {done}");
    }
}
