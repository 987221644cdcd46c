//! A POST that is sent twice is done once: over real sockets, and over `kill -9`.

use serde_json::{Value, json};

use crate::support::{Place, Reply, Server, raw, send};

const JOB: &str = r#"{"job": {"command": ["sleep", "60"], "memory_mib": 64}}"#;

fn keyed(server: &Server<'_>, token: &str, path: &str, key: &str, body: &str) -> Reply {
    let (token, key) = (format!("X-Auth-Token: {token}"), format!("Idempotency-Key: {key}"));
    send(server.api, "POST", path, &[&token, &key, "Content-Type: application/json"], body)
}

fn replayed(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == Some("true")
}

fn jobs(server: &Server<'_>) -> usize {
    server.get("/v2/default/jobs").json()["jobs"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_repeated_post_is_answered_as_the_first_time() {
    let place = Place::quick(30);
    let server = place.serve();
    let admin = server.token.clone();
    let post = |key: &str, body: &str| keyed(&server, &admin, "/v2/default/jobs", key, body);
    let first = post("a key", JOB);
    assert_eq!((first.status, replayed(&first)), (202, false), "{}", first.text);
    let again = post("a key", JOB);
    assert_eq!((again.status, replayed(&again)), (202, true), "{}", again.text);
    assert_eq!(again.text, first.text, "to the byte");
    for header in ["content-type", "location"] {
        assert_eq!(again.header(header), first.header(header));
    }
    assert_ne!(again.header("x-openstack-request-id"), first.header("x-openstack-request-id"));
    let other = post("a key", r#"{"job": {"command": ["sleep", "61"], "memory_mib": 64}}"#);
    assert_eq!((other.status, other.top()), (422, "unprocessableEntity".into()), "{}", other.text);
    let other = keyed(&server, &admin, "/v2/default/jobs?a=1", "a key", JOB);
    assert_eq!(other.status, 422, "another path is another request: {}", other.text);
    assert_eq!(jobs(&server), 1);
    assert_eq!(post("another", JOB).status, 202);
    assert_eq!(jobs(&server), 2);

    // A key in quotes is the same key, and links begin as the repeated request called.
    let (token, key) = (format!("X-Auth-Token: {admin}"), "Idempotency-Key: \"a key\"");
    let length = format!("Content-Length: {}", JOB.len());
    let headers =
        [&token, key, &length, "Content-Type: application/json", "Host: localhost:1", "Connection: close"];
    let sent = format!("POST /v2/default/jobs HTTP/1.1\r\n{}\r\n\r\n{JOB}", headers.join("\r\n"));
    let again = raw(server.api, sent.as_bytes()).expect("an answer");
    assert_eq!((again.status, replayed(&again)), (202, true), "{}", again.text);
    let id = first.json()["job"]["id"].as_str().expect("an id").to_owned();
    let link = format!("http://localhost:1/v2/default/jobs/{id}");
    assert_eq!(again.header("location"), Some(&*link));
    assert_eq!(again.json()["job"]["links"][0]["href"], json!(link), "{}", again.text);

    // A refusal uses no key.
    let wrong = r#"{"job": {"command": []}}"#;
    assert_eq!(post("refused", wrong).status, 400);
    let right = post("refused", JOB);
    assert_eq!((right.status, replayed(&right)), (202, false), "{}", right.text);

    // Another caller's key is another key; and a token's secret is nowhere kept.
    let token = r#"{"token": {"name": "t", "user": "ada", "project": "default", "roles": ["member"]}}"#;
    let made = keyed(&server, &admin, "/v2/default/tokens", "token", token);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let ada = made.json()["token"]["secret"].as_str().expect("a secret").to_owned();
    let again = keyed(&server, &admin, "/v2/default/tokens", "token", token);
    assert_eq!((again.status, again.text.contains(&ada)), (409, false), "{}", again.text);
    let hers = keyed(&server, &ada, "/v2/default/jobs", "a key", JOB);
    assert_eq!((hers.status, replayed(&hers)), (202, false), "{}", hers.text);
    let events = server.get("/v2/default/events?all_projects=1&limit=1000").text;
    assert!(events.contains("key_answered") && !events.contains(&ada), "{events}");
}

#[test]
fn every_sort_of_post_is_done_once() {
    let place = Place::quick(30);
    let server = place.serve();
    let cloud =
        r#"{"cloud": {"name": "a/b", "driver": "local", "vm_slots": 0, "cpu_cores": 1, "memory_mib": 64}}"#;
    let alias = r#"{"cloud_alias": {"name": "West", "clouds": ["local"]}}"#;
    let cases = [
        ("/v2/default/clouds", cloud, 201),
        ("/v2/default/clouds/a%2Fb/action", r#"{"disable": null}"#, 202),
        ("/v2/default/cloud-aliases", alias, 201),
        ("/v2/default/vms/action", r#"{"shutdown": {"cloud": "local"}}"#, 200),
        ("/v2/default/service/action", r#"{"quick_shutdown": null}"#, 200),
        ("/v2/default/clouds/local/action", r#"{"set_slots": {"vm_slots": 3}}"#, 202),
    ];
    for (path, body, status) in cases {
        let [first, again] = [0, 1].map(|_| keyed(&server, &server.token, path, path, body));
        assert_eq!((first.status, replayed(&first)), (status, false), "{path}: {}", first.text);
        assert_eq!((again.status, replayed(&again)), (status, true), "{path}: {}", again.text);
        assert_eq!(again.text, first.text, "{path}");
    }
    let shown = server.get("/v2/default/service").json();
    assert_eq!(shown["service"]["quick_shutdown"], json!(true), "turned over once");
}

#[test]
fn a_key_outlives_a_kill() {
    let place = Place::quick(30);
    let server = place.serve();
    let post = |server: &Server<'_>, key: &str| keyed(server, &server.token, "/v2/default/jobs", key, JOB);
    let first = post(&server, "k");
    let id = |reply: &Reply| -> Value { reply.json()["job"]["id"].clone() };
    server.kill();
    let server = place.serve();
    let again = post(&server, "k");
    assert_eq!((again.status, replayed(&again)), (202, true), "{}", again.text);
    assert_eq!(id(&again), id(&first));
    assert_eq!(jobs(&server), 1);
}
