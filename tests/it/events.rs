//! Who changed what, when and why: as a list, live, over a restart, and at the end of a server.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Place, Server, await_some, send};

/// The events of a page, and whether they go on.
fn events(server: &Server<'_>, query: &str) -> Vec<Value> {
    let reply = server.get(&format!("/v2/default/events{query}"));
    assert_eq!(reply.status, 200, "{query}: {}", reply.text);
    reply.json()["events"].as_array().expect("a list").clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().expect("a kind")).collect()
}

/// A stream of events that is being read.
struct Live(BufReader<TcpStream>);

impl Live {
    fn follow(server: &Server<'_>, token: &str, path: &str, headers: &str) -> Self {
        Self::open(server, path, &format!("X-Auth-Token: {token}\r\n{headers}"))
    }

    fn open(server: &Server<'_>, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.api).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let host = server.api;
        // The end of the stream is then the end of the connection.
        let headers = format!("Connection: close\r\n{headers}");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("a request");
        let mut live = Self(BufReader::new(stream));
        assert!(live.line().expect("a status").contains(" 200 "));
        let mut said = String::new();
        while let Some(line) = live.line().filter(|line| !line.is_empty()) {
            said += &line.to_ascii_lowercase();
        }
        assert!(said.contains("text/event-stream") && said.contains("no-cache"), "{said}");
        live
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("what was said in time");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event, and its id; `None` at the end of the stream.
    fn next(&mut self) -> Option<(u64, Value)> {
        let mut id = None;
        loop {
            let line = self.line()?;
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.parse().ok();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((id?, serde_json::from_str(data).expect("JSON")));
            }
        }
    }

    /// Reads on to an event of this kind.
    fn until(&mut self, kind: &str) -> (u64, Value) {
        loop {
            let (id, event) = self.next().expect("more");
            assert_eq!(event["seq"], json!(id));
            if event["kind"] == kind {
                return (id, event);
            }
        }
    }
}

#[test]
fn everything_that_happens_to_a_job_can_be_read_and_followed() {
    let place = Place::quick(1);
    let server = place.serve();
    let mut live = Live::follow(&server, &server.token, "/v2/default/events?follow=1", "");
    let id = server.submit("echo done");
    let (at, submitted) = live.until("job_submitted");
    assert_eq!((&submitted["data"]["job"], &submitted["project_id"]), (&json!(id), &json!("default")));
    assert_eq!(submitted["by"]["user"], json!("admin"), "{submitted}");
    let (_, finished) = live.until("job_finished");
    let data = &finished["data"];
    assert_eq!((&data["job"], &data["exit"]), (&json!(id), &json!({ "code": 0 })), "{data}");
    assert!(data["started"].is_string() && data["finished"].is_string(), "{data}");
    // Cut off: the client says what it saw last, and misses nothing.
    drop(live);
    let headers = format!("Accept: text/event-stream\r\nLast-Event-ID: {at}\r\n");
    let mut live = Live::follow(&server, &server.token, "/v2/default/events?since=999999", &headers);
    assert_eq!(live.next().expect("an event").0, at + 1);
    live.until("job_finished");
    // Only what was asked for.
    let path = "/v2/default/events?follow=1&since=0&kind=job_started,job_submitted";
    let mut few = Live::follow(&server, &server.token, path, "");
    assert_eq!(few.next().expect("an event").1["kind"], json!("job_submitted"));
    assert_eq!(few.next().expect("an event").1["kind"], json!("job_started"));
    let all = events(&server, "?since=0");
    let wanted =
        ["job_submitted", "vm_requested", "job_scheduled", "vm_registered", "job_started", "job_finished"];
    for kind in wanted {
        assert!(kinds(&all).contains(&kind), "{kind}: {:?}", kinds(&all));
    }
    // A page goes on where the one before ended.
    let first = server.get("/v2/default/events?limit=2").json();
    let next = first["events_links"][0]["href"].as_str().expect("a next page").to_owned();
    let next = next.split_once("/v2/").expect("a link").1;
    let second = server.get(&format!("/v2/{next}")).json();
    assert_eq!([&first["events"], &second["events"]], [&json!(all[..2]), &json!(all[2..4])]);
    // The same after a kill: from the store.
    server.kill();
    let server = place.serve();
    assert_eq!(events(&server, "?limit=1000")[..all.len()], all[..]);
}

#[test]
fn a_comment_is_kept_with_what_it_is_about() {
    let place = Place::quick(1);
    let server = place.serve();
    let since = events(&server, "").last().expect("an event")["seq"].clone();
    let token = format!("X-Auth-Token: {}", server.token);
    let action = |headers: &[&str]| {
        let mut all = vec![token.as_str(), "Content-Type: application/json"];
        all.extend(headers);
        send(server.api, "POST", "/v2/default/clouds/local/action", &all, r#"{"disable": null}"#)
    };
    assert_eq!(action(&["X-Pileus-Comment: the roof leaks, für immer"]).status, 202);
    assert_eq!(server.admin("PUT", "/clouds/local?action=enable", "comment=dry+again").status, 200);
    assert_eq!(server.admin("PUT", "/clouds/local?allocations=5&comment=", "").status, 200);
    let long = format!("X-Pileus-Comment: {}", "x".repeat(1025));
    let refused = action(&[&long]);
    assert_eq!((refused.status, refused.top().as_str()), (400, "badRequest"), "{}", refused.text);
    let seen =
        |event: &Value| (event["kind"].clone(), event["by"]["user"].clone(), event["by"]["comment"].clone());
    let all = events(&server, &format!("?since={since}&kind=cloud_enabled,cloud_slots"));
    assert_eq!(
        all.iter().map(seen).collect::<Vec<_>>(),
        [
            (json!("cloud_enabled"), json!("admin"), json!("the roof leaks, für immer")),
            (json!("cloud_enabled"), json!("operator"), json!("dry again")),
            (json!("cloud_slots"), json!("operator"), Value::Null),
        ]
    );
}

#[test]
fn a_project_reads_nothing_of_another_one() {
    let place = Place::quick(1);
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    place.write("pileus.toml", &format!("auth_strategy = \"noauth\"\n{config}"));
    let server = place.serve();
    let by = |who: &str, method: &str, path: &str, body: &str| {
        let token = format!("X-Auth-Token: {who}");
        send(server.api, method, path, &[&token, "Content-Type: application/json"], body)
    };
    let mut east = Live::follow(&server, "bob:east", "/v2/east/events?follow=1&since=0", "");
    let submit = |who: &str, secret: &str| {
        let (_, project) = who.split_once(':').expect("a project");
        let job = json!({ "job": { "command": ["echo", secret], "memory_mib": 64 } }).to_string();
        let made = by(who, "POST", &format!("/v2/{project}/jobs"), &job);
        assert_eq!(made.status, 202, "{}", made.text);
        made.json()["job"]["id"].as_str().expect("an id").to_owned()
    };
    let west = submit("ann:west", "west-secret");
    let token = json!({ "token": { "name": "t", "user": "eve", "project": "west-tokens" } }).to_string();
    let made = by("admin:ops", "POST", "/v2/ops/tokens", &token);
    assert_eq!(made.status, 201, "{}", made.text);
    let secret = made.json()["token"]["secret"].as_str().expect("a secret").to_owned();
    let limit = r#"{"user": {"vm_limit": 7}}"#;
    assert_eq!(by("admin:ops", "PUT", "/v2/ops/users/west-user", limit).status, 200);
    await_some("the job of west to end and to be deleted", || {
        let reply = by("ann:west", "DELETE", &format!("/v2/west/jobs/{west}"), "");
        let gone = by("ann:west", "GET", &format!("/v2/west/jobs/{west}"), "");
        if gone.status == 404 { Ok(()) } else { Err(reply.text) }
    });
    let own = submit("bob:east", "east-secret");
    // All that east can hear: live up to its own job, and as a list.
    let mut heard = String::new();
    loop {
        let (_, event) = east.next().expect("more");
        heard += &event.to_string();
        if event["kind"] == "job_submitted" {
            assert_eq!(event["data"]["job"], json!(own));
            break;
        }
    }
    heard += &by("bob:east", "GET", "/v2/east/events", "").text;
    assert!(heard.contains("east-secret") && heard.contains("cloud_set"), "{heard}");
    for secret in ["west", "token", "user_limit", &west, &secret] {
        assert!(!heard.contains(secret), "{secret} in {heard}");
    }
    assert_eq!(by("bob:east", "GET", "/v2/east/events?all_projects=1", "").status, 403);
    // An administrator sees who does what; hashes nobody sees.
    let all = by("admin:ops", "GET", "/v2/ops/events?all_projects=1", "").text;
    for there in ["west-secret", "east-secret", "token_created", "west-user", "jobs_forgotten"] {
        assert!(all.contains(there), "{there} in {all}");
    }
    assert!(!all.contains("sha256") && !all.contains(&secret), "{all}");
}

/// A stream ends with the grounds on which it was opened, and no other one with it.
#[test]
fn a_stream_ends_when_its_token_or_its_right_is_taken_away() {
    let place = Place::quick(1);
    let server = place.serve();
    let made = |name: &str, more: Value| {
        let mut token = json!({ "name": name, "user": name, "project": "default" });
        if let (Value::Object(token), Value::Object(more)) = (&mut token, more) {
            token.extend(more);
        }
        let made = server.post("/v2/default/tokens", &json!({ "token": token }).to_string());
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["token"]["secret"].as_str().expect("a secret").to_owned()
    };
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let revoked = made("revoked", json!({}));
    let bearer = made("bearer", json!({}));
    let expiring = made("expiring", json!({ "expires_at": soon.to_string() }));
    let path = "/v2/default/events?follow=1";
    let follow = |token: &str| Live::follow(&server, token, path, "");
    let mut stays = follow(&server.token);
    let mut of_bearer = Live::open(&server, path, &format!("Authorization: Bearer {bearer}\r\n"));
    for (name, mut live, revoke) in
        [("revoked", follow(&revoked), true), ("expiring", follow(&expiring), false)]
    {
        if revoke {
            assert_eq!(server.call("DELETE", &format!("/v2/default/tokens/{name}"), "").status, 204);
        }
        let began = Instant::now();
        while live.next().is_some() {}
        assert!(began.elapsed() < PATIENCE / 3, "{name}: {:?}", began.elapsed());
    }
    let id = server.submit("true");
    for live in [&mut stays, &mut of_bearer] {
        assert_eq!(live.until("job_submitted").1["data"]["job"], json!(id), "it goes on");
    }
    assert_eq!(server.call("DELETE", "/v2/default/tokens/bearer", "").status, 204);
    while of_bearer.next().is_some() {}
    // A reload that leaves the right, one that takes it.
    let rules = |rule: &str| {
        let mut rules: Value = serde_json::from_str(include_str!("../../policy.json")).expect("JSON");
        rules["events:index"] = json!(rule);
        place.write("policy.json", &rules.to_string());
        assert_eq!(server.post("/v2/default/service/action", r#"{"reload": null}"#).status, 200);
    };
    let all = "/v2/default/events?follow=1&all_projects=1";
    let of_all = Live::follow(&server, &server.token, all, "");
    rules("rule:member or role:nobody");
    let id = server.submit("true");
    assert_eq!(stays.until("job_submitted").1["data"]["job"], json!(id), "it goes on");
    rules("!");
    for mut live in [stays, of_all] {
        while live.next().is_some() {}
    }
    // Other pipelines: whoever follows has to pass through them.
    rules("rule:member");
    let mut live = follow(&server.token);
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("the file");
    place.write("api-paste.toml", &paste.replace("body_timeout_s        = 30", "body_timeout_s = 29"));
    assert_eq!(server.post("/v2/default/service/action", r#"{"reload": null}"#).status, 200);
    while live.next().is_some() {}
}

#[test]
fn a_stream_ends_when_the_server_drains() {
    let place = Place::quick(1);
    let server = place.serve();
    let mut live = Live::follow(&server, &server.token, "/v2/default/events?follow=1", "");
    let id = server.submit("true");
    server.await_job(&id, "complete");
    let began = Instant::now();
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("drain time-out"), "{log}");
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    while live.next().is_some() {}
}

/// Who does not read costs the server nothing, and keeps nobody from reading.
#[test]
fn a_slow_reader_costs_no_memory() {
    let place = Place::quick(1);
    let server = place.serve();
    assert_eq!(server.admin("PUT", "/clouds/local?action=disable", "").status, 200);
    let resident = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    // 6 MiB of events; for each of twenty readers it would be 120.
    let body = json!({ "job": { "command": ["echo", "x".repeat(100_000)] } }).to_string();
    let load = || {
        let mut quick = Live::follow(&server, &server.token, "/v2/default/events?follow=1", "");
        let made: Vec<_> = (0..60).map(|_| server.post("/v2/default/jobs", &body).status).collect();
        assert!(made.iter().all(|status| *status == 202), "{made:?}");
        for _ in 0..60 {
            quick.until("job_submitted");
        }
    };
    // What the allocator keeps for the next time is not what a reader costs: so once without any.
    load();
    let before = resident();
    let slow: Vec<_> = (0..20)
        .map(|_| Live::follow(&server, &server.token, "/v2/default/events?follow=1&since=0", ""))
        .collect();
    load();
    let grown = resident().saturating_sub(before);
    assert!(grown < 60 * 1024, "{grown} KiB more");
    drop(slow);
}
