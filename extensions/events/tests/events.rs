//! Events, on a bench.

use pileus_ext_events::EXTENSION;
use pileus_sdk::{
    header, json,
    model::{Actor, Event, Kind, Owner, Time, VmState},
    testing::{Bench, cloud, get, job, vm},
};

fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    let project = |name: &str| Owner::Project(name.into());
    let of = |name: &str| Kind::JobSubmitted(job(name));
    let kinds = [
        (Owner::Shared, Kind::CloudSet(cloud("alpha"))),
        (project("p1"), of("one")),
        (project("p2"), of("other")),
        (project("p1"), Kind::VmRequested(vm("v", "alpha"))),
        (Owner::Service, Kind::UserLimit { user: "ada".into(), vms: Some(3) }),
        (project("p1"), Kind::VmState { vm: "v".into(), state: VmState::Running }),
    ];
    let event = |(seq, (owner, kind))| {
        let by = Actor { user: "ann".into(), project: "ops".into(), ..Actor::default() };
        Event { seq, time: Time(1_769_860_800_000), by, owner, kind }
    };
    bench.engine.happen((1..).zip(kinds).map(event).collect());
    bench
}

#[tokio::test]
async fn a_project_reads_of_its_own_and_of_what_is_everybodys() {
    let bench = bench();
    assert_eq!(bench.complaints(), Vec::<String>::new());
    // query, sequence numbers, the `since` of the next page
    let cases: &[(&str, &[u64], Option<&str>)] = &[
        ("", &[1, 2, 4, 6], None),
        ("?since=2", &[4, 6], None),
        ("?since=6", &[], None),
        ("?since=99", &[], None),
        ("?limit=2", &[1, 2], Some("since=2")),
        ("?since=1&limit=1", &[2], Some("since=2")),
        ("?limit=4", &[1, 2, 4, 6], None),
        ("?limit=0", &[], None),
        ("?kind=vm_state", &[6], None),
        ("?kind=vm_state,cloud_set&limit=1", &[1], Some("since=1")),
        ("?kind=token_created", &[], None),
        ("?all_projects=1", &[1, 2, 3, 4, 5, 6], None),
        ("?all_projects=1&kind=user_limit", &[5], None),
        ("?follow=0", &[1, 2, 4, 6], None),
        ("?marker=2", &[4, 6], None),
        ("?marker=3&limit=1", &[4], Some("marker=4")),
        ("?since=2&marker=1", &[4, 6], None),
        ("?sort_dir=desc", &[6, 4, 2, 1], None),
        ("?sort_key=seq&sort_dir=desc&limit=2", &[6, 4], Some("marker=4")),
        ("?sort_dir=desc&limit=2&marker=4", &[2, 1], None),
        ("?sort_dir=desc&marker=5", &[4, 2, 1], None),
        ("?sort_dir=desc&marker=1", &[], None),
        ("?sort_dir=desc&marker=0", &[], None),
        ("?sort_dir=desc&marker=99", &[6, 4, 2, 1], None),
        ("?sort_dir=desc&since=2&limit=1", &[6], Some("marker=6")),
        ("?sort_dir=desc&since=2&limit=1&marker=6", &[4], None),
        ("?sort_dir=desc&kind=job_submitted&limit=1", &[2], None),
        ("?sort_dir=desc&kind=job_submitted&all_tenants=1&limit=1", &[3], Some("marker=3")),
        ("?sort_dir=desc&limit=0", &[], None),
    ];
    for (query, wanted, next) in cases {
        let reply = bench.send(get(&format!("/p1/events{query}"))).await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        let json = reply.json();
        let events = json["events"].as_array().expect("a list");
        let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
        assert_eq!(seqs, *wanted, "{query}");
        let href = json["events_links"][0]["href"].as_str();
        assert_eq!(href.is_some(), next.is_some(), "{query}: {href:?}");
        if let (Some(href), Some(next)) = (href, next) {
            assert!(href.starts_with("http://api.example:8774/v2/p1/events?"), "{href}");
            assert!(href.ends_with(next) && href.matches(next).count() == 1, "{href}");
        }
    }
    let own = bench.send(get("/p1/events?since=1&limit=1")).await.json()["events"][0].clone();
    assert_eq!((&own["kind"], &own["project_id"]), (&json!("job_submitted"), &json!("p1")));
    assert_eq!(own["by"], json!({ "user": "ann", "project_id": null, "request_id": null, "comment": null }));
    assert_eq!((&own["data"]["job"], &own["data"]["command"]), (&json!("one"), &json!(["true"])));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let bench = bench();
    let last =
        |id: &str| get("/p1/events?follow=1").header(header::HeaderName::from_static("last-event-id"), id);
    let cases = [
        (get("/p1/events?since=-1"), 400, "since"),
        (get("/p1/events?since=x"), 400, "since"),
        (get("/p1/events?limit=x"), 400, "limit"),
        (get("/p1/events?marker=x"), 400, "marker param must be an integer in range, not `x`"),
        (get("/p1/events?marker=-1"), 400, "marker"),
        (get("/p1/events?sort_key=kind"), 400, "sort_key param must be one of seq, not `kind`"),
        (get("/p1/events?follow=maybe"), 400, "follow param must be one of 1, t, true"),
        (get("/p1/events?follow=1&sort_dir=desc"), 400, "in the order desc"),
        (get("/p1/events?kind=vm_gone,party"), 400, "`party`"),
        (last("x"), 400, "Last-Event-ID"),
        (last("7"), 200, ""),
        (get("/p1/events/1"), 404, ""),
    ];
    for (ask, status, names) in cases {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text);
        assert!(reply.text.contains(names), "{what}: {}", reply.text);
    }
    let stream = bench.send(get("/p1/events").header(header::ACCEPT, "text/event-stream;q=1, */*")).await;
    assert_eq!((stream.status, stream.header(header::CONTENT_TYPE)), (200, "text/event-stream"));
    assert_eq!(stream.header(header::CACHE_CONTROL), "no-cache");
    bench.deny("events:index:all_projects");
    assert_eq!(bench.send(get("/p1/events?all_projects=1")).await.status, 403);
    assert_eq!(bench.send(get("/p1/events?all_projects=1&follow=1")).await.status, 403);
}
