//! Reload: by request, by signal, by a file that changed; all or nothing, and under load.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Place, QUICK, Reply, Server, await_some, free_address, send};

const RELOAD: &str = r#"{"reload": null}"#;

fn reload(server: &Server<'_>) -> Reply {
    server.post("/v2/default/service/action", RELOAD)
}

fn reloads(server: &Server<'_>) -> Value {
    server.get("/v2/default/service").json()["service"]["reloads"].clone()
}

/// Changes a file of the place, which has to hold `old`.
fn edit(place: &Place, name: &str, old: &str, new: &str) {
    let text = fs::read_to_string(place.path().join(name)).expect("the file");
    assert!(text.contains(old), "{name} has no {old}");
    place.write(name, &text.replace(old, new));
}

#[test]
fn what_the_files_say_holds_after_a_reload_and_not_before() {
    let place = Place::new(QUICK);
    let server = place.serve();
    let ask = |path: &str| server.get(path).status;
    assert_eq!(reloads(&server)["files"].as_array().map(Vec::len), Some(3));

    // A rule.
    edit(&place, "policy.json", r#""clouds:index": "rule:member""#, r#""clouds:index": "!""#);
    assert_eq!(ask("/v2/default/clouds"), 200, "not before");
    let reply = reload(&server);
    assert_eq!(
        (reply.status, reply.json()["reload"]["by"].clone()),
        (200, json!("a request")),
        "{}",
        reply.text
    );
    assert_eq!(ask("/v2/default/clouds"), 403);
    edit(&place, "policy.json", r#""clouds:index": "!""#, r#""clouds:index": "rule:member""#);

    // A limit: what has been used of it outlives a reload that leaves it alone.
    let limit =
        "limits = [\n    { verb = \"GET\", uri = \"*\", regex = \"^/clouds\", value = 2, unit = \"day\" },";
    edit(&place, "api-paste.toml", "limits = [", limit);
    // A cloud, and a server.
    edit(
        &place,
        "pileus.toml",
        "[clouds.local]",
        "[clouds.second]\ndriver = \"local\"\nvm_slots = 7\n\n[clouds.local]",
    );
    let more = "\n[server.more]\nlisten = \"127.0.0.1:0\"\napp = \"info\"\n";
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    place.write("api-paste.toml", &(paste + more));
    assert_eq!(reload(&server).status, 200);
    assert_eq!([0; 3].map(|_| ask("/v2/default/clouds")), [200, 200, 429]);
    assert_eq!(server.get("/v2/default/vms").status, 200);
    assert!(server.info("/clusters").text.contains("second"));
    edit(&place, "pileus.toml", "vm_slots = 7", "vm_slots = 8");
    assert_eq!(reload(&server).status, 200);
    assert_eq!(ask("/v2/default/clouds"), 429, "nobody gets a new start by a reload");
    assert!(server.info("/clusters.json").text.contains("\"vm_slots\": 8"));

    // What can be settled at a start only is said.
    edit(&place, "pileus.toml", "scheduler_interval_s = 1", "scheduler_interval_s = 2");
    let notes = reload(&server).json()["reload"]["notes"].clone();
    assert_eq!(notes, json!(["[scheduler] of pileus.toml holds from the next start on"]));

    // A mistake anywhere: everything stays, and it is said where.
    edit(&place, "pileus.toml", "vm_slots = 8", "vm_slots = 9");
    edit(&place, "policy.json", r#""clouds:index": "rule:member""#, r#""clouds:index": "rule:member and""#);
    let refused = reload(&server);
    assert_eq!(refused.status, 409);
    assert!(
        refused.text.contains("policy.json:") && refused.text.contains("clouds:index"),
        "{}",
        refused.text
    );
    assert!(server.info("/clusters.json").text.contains("\"vm_slots\": 8"), "nothing of it holds");
    let seen = reloads(&server);
    assert_eq!((&seen["done"], &seen["failed"]), (&json!(4), &json!(1)));
    assert!(seen["last"]["problem"].as_str().is_some_and(|it| it.contains("policy.json:")), "{seen}");

    // Put right, it is seen by itself.
    edit(&place, "policy.json", r#""clouds:index": "rule:member and""#, r#""clouds:index": "rule:member""#);
    await_some("the files to be looked at", || {
        let seen = reloads(&server);
        if seen["done"] == 5 { Ok(()) } else { Err(seen) }
    });
    let seen = reloads(&server);
    assert_eq!((&seen["last"]["by"], &seen["last"]["problem"]), (&json!("a changed file"), &Value::Null));
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("not reloaded"), "{log}");
}

#[test]
fn listeners_come_and_go() {
    let place = Place::new(QUICK);
    let server = place.serve();
    let free = free_address();
    let section = format!("\n[server.more]\nlisten = \"{free}\"\napp = \"info\"\n");
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    let asked = || send(free, "GET", "/clusters", &[], "").status;
    place.write("api-paste.toml", &(paste.clone() + &section));
    let done = reload(&server);
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(asked(), 200);
    // One whose connection is open is served on, though its limits and its name are others.
    let mut kept = TcpStream::connect(free).expect("a connection");
    let other =
        section.replace("server.more", "server.other") + "max_connections = 1\nrequest_timeout_s = 9\n";
    place.write("api-paste.toml", &(paste.clone() + &other));
    assert_eq!(reload(&server).status, 200);
    kept.write_all(b"GET /clusters HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    kept.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(asked(), 200);
    // A port that is taken: nothing is changed.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = section.replace(&free.to_string(), &taken.local_addr().expect("its address").to_string());
    place.write("api-paste.toml", &(paste.clone() + &busy));
    let refused = reload(&server);
    assert!(refused.status == 409 && refused.text.contains("[server.more]"), "{}", refused.text);
    assert_eq!(asked(), 200);
    place.write("api-paste.toml", &paste);
    assert_eq!(reload(&server).status, 200);
    await_some("the port to be closed", || match TcpStream::connect(free) {
        Err(_) => Ok(()),
        Ok(_) => Err("it still listens"),
    });
    assert_eq!(server.get("/v2/default/clouds").status, 200);
}

#[test]
fn no_request_is_lost_over_fifty_reloads() {
    let place = Place::new(QUICK);
    let server = place.serve();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let policy = fs::read_to_string(place.path().join("policy.json")).expect("the file");
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let stream = TcpStream::connect(server.api).expect("a connection");
                let mut answers = BufReader::new(stream.try_clone().expect("the same"));
                let mut stream = stream;
                let ask = format!(
                    "GET /v2/default/clouds/local HTTP/1.1\r\nHost: {}\r\nX-Auth-Token: {}\r\n\r\n",
                    server.api, server.token
                );
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(ask.as_bytes()).expect("the connection stays");
                    let (mut line, mut length) = (String::new(), 0);
                    answers.read_line(&mut line).expect("an answer");
                    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
                    loop {
                        let mut header = String::new();
                        answers.read_line(&mut header).expect("a header");
                        if let Some(bytes) = header.to_lowercase().strip_prefix("content-length:") {
                            length = bytes.trim().parse().expect("a length");
                        }
                        if header == "\r\n" {
                            break;
                        }
                    }
                    answers.read_exact(&mut vec![0; length]).expect("the body");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..50 {
            let before = answered.load(Ordering::Relaxed);
            let broken = round % 2 == 1;
            place.write("policy.json", if broken { "{\"clouds:show\": 7" } else { &policy });
            if round % 10 == 0 {
                let done = reloads(&server)["done"].as_u64().expect("a number");
                let pid = server.pid().to_string();
                Command::new("kill").args(["-HUP", &pid]).status().expect("kill runs");
                await_some("the signal", || {
                    let seen = reloads(&server);
                    if seen["done"].as_u64() > Some(done) { Ok(()) } else { Err(seen) }
                });
            } else {
                assert_eq!(reload(&server).status, if broken { 409 } else { 200 }, "round {round}");
            }
            await_some("requests meanwhile", || {
                let now = answered.load(Ordering::Relaxed);
                if now >= before + 20 { Ok(()) } else { Err(now) }
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = reloads(&server);
    // A file that is seen to have changed may be read once more by itself.
    assert!(seen["done"].as_u64() >= Some(25) && seen["failed"].as_u64() >= Some(25), "{seen}");
    assert!(answered.load(Ordering::Relaxed) >= 1000);
}
