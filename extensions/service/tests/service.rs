//! `/v2/{project_id}/service`.

use std::sync::Arc;

use pileus_ext_service::EXTENSION;
use pileus_sdk::{
    Host, Mount,
    host::CloudText,
    json,
    model::{
        Actor, Beat, BootFailure, BootFault, Command, Holding, ImageRecord, Refusal, Shares, Stray, Time,
        TypeShare,
    },
    testing::{Ask, Bench, cloud, get, post, put, put_cloud, put_job},
};

#[tokio::test]
async fn the_service_is_shown() {
    let bench = Bench::new(&EXTENSION);
    let beat = |name, error: Option<&str>| Beat {
        name,
        interval_s: 5,
        last: Time(1_769_860_800_000),
        error: error.map(str::to_owned),
    };
    bench.engine.put_beats(vec![beat("Scheduler", None), beat("VMPoller", Some("west: no answer"))]);
    bench.engine.put_holdings(vec![Holding { name: "VMPoller", lines: vec!["cloud west: 1 VMs".into()] }]);
    let shown = bench.send(get("/p1/service")).await.json();
    let service = &shown["service"];
    assert_eq!(service["version"], "0.0.0-test");
    assert_eq!((&service["log_level"], &service["log_filter"]), (&json!("INFO"), &json!("info")));
    assert_eq!(service["quick_shutdown"], false);
    let at = "2026-01-31T12:00:00Z";
    let expected = json!([
        { "name": "Scheduler", "interval_s": 5, "last": at, "error": null, "holds": [] },
        { "name": "VMPoller", "interval_s": 5, "last": at, "error": "west: no answer",
          "holds": ["cloud west: 1 VMs"] },
    ]);
    assert_eq!(service["reconcilers"], expected);
    assert_eq!(service["process"]["memory_resident_kib"], 20_480);
}

#[tokio::test]
async fn its_switches_are_thrown() {
    let bench = Bench::new(&EXTENSION);
    // What is asked, status, quick shutdown and level afterwards.
    let steps = [
        (r#"{"quick_shutdown": {"enabled": true}}"#, 200, true, "INFO"),
        (r#"{"quick_shutdown": null}"#, 200, false, "INFO"),
        (r#"{"quick_shutdown": {}}"#, 400, false, "INFO"),
        (r#"{"quick_shutdown": {"enabled": "on"}}"#, 400, false, "INFO"),
        (r#"{"set_log_level": {"level": "debug"}}"#, 200, false, "DEBUG"),
        (r#"{"set_log_level": {"level": "loud"}}"#, 400, false, "DEBUG"),
        (r#"{"set_log_level": null}"#, 400, false, "DEBUG"),
        (r#"{"stop": null}"#, 400, false, "DEBUG"),
    ];
    for (body, status, quick, level) in steps {
        let reply = bench.send(post("/p1/service/action", body)).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        let service = bench.send(get("/p1/service")).await.json()["service"].clone();
        assert_eq!(
            (&service["quick_shutdown"], &service["log_level"]),
            (&json!(quick), &json!(level)),
            "{body}"
        );
        assert!(status != 200 || reply.json()["service"] == service, "{body}: {}", reply.text);
    }
    let wrong = bench.send(post("/p1/service/action", r#"{"set_log_level": {"level": "loud"}}"#)).await;
    assert!(wrong.text.contains("VERBOSE, DEBUG, INFO, WARNING, ERROR, CRITICAL"), "{}", wrong.text);
}

#[tokio::test]
async fn actions_are_events_before_they_take_effect() {
    let v2 = |body: &str| post("/p1/service/action", body).by("root", "ops", &["admin"]);
    let old = |method: fn(&str, &str) -> Ask, form: &str| {
        method("/", form).form().on(Mount::CloudAdmin).by("operator", "default", &["admin"])
    };
    // Request, action and detail of its event, `true` if it takes effect where that cannot be written.
    type Case<'a> = (Box<dyn Fn() -> Ask + 'a>, &'a str, &'a str, bool);
    let cases: Vec<Case<'_>> = vec![
        (Box::new(|| v2(r#"{"quick_shutdown": {"enabled": true}}"#)), "quick_shutdown", "on", true),
        (Box::new(|| v2(r#"{"quick_shutdown": null}"#)), "quick_shutdown", "on", true),
        (Box::new(|| v2(r#"{"set_log_level": {"level": "error"}}"#)), "set_log_level", "ERROR", false),
        (Box::new(|| v2(r#"{"reload": null}"#)), "reload", "", true),
        (Box::new(|| old(post, "action=quick_shutdown")), "quick_shutdown", "on", true),
        (Box::new(|| old(post, "action=quick_shutdown&value=on")), "quick_shutdown", "on", true),
        (Box::new(|| old(put, "log_level=error")), "set_log_level", "ERROR", false),
    ];
    for (at, (ask, action, detail, anyhow)) in cases.iter().enumerate() {
        let event = Command::RecordServiceAction { action: (*action).into(), detail: (*detail).into() };
        let another = || Refusal::Conflict("another request".into());
        for refusal in [None, Some(Refusal::Full), Some(Refusal::Unavailable), Some(another())] {
            let bench = Bench::new(&EXTENSION);
            let host = bench.host.clone();
            let switches =
                move || (host.quick_shutdown(), host.logging().level, host.reloads().last.is_some());
            let before = switches();
            // The command sees the switches as they were.
            let seen = switches.clone();
            bench.engine.react(move |_, _| {
                assert_eq!(seen(), before, "before it takes effect");
                Ok(String::new())
            });
            let (status, effect) = match &refusal {
                None => (200, true),
                Some(Refusal::Full | Refusal::Unavailable) if *anyhow => (200, true),
                Some(Refusal::Full) => (507, false),
                Some(Refusal::Unavailable) => (503, false),
                Some(_) => (409, false),
            };
            let what = format!("{at}: {action} {refusal:?}");
            if let Some(refusal) = refusal {
                bench.engine.refuse(refusal);
            }
            let reply = bench.send(ask()).await;
            assert_eq!(reply.status, status, "{what}: {}", reply.text);
            assert_eq!(switches() != before, effect, "{what}");
            let commands = bench.engine.commands_by();
            let (user, project) = if at < 4 { ("root", "ops") } else { ("operator", "default") };
            let by = Actor {
                user: user.into(),
                project: project.into(),
                request_id: "req-test".into(),
                ..Actor::default()
            };
            assert_eq!(commands, [(event.clone(), by)], "{what}");
        }
    }
    // An invalid request is no event.
    let bench = Bench::new(&EXTENSION);
    for ask in [
        v2(r#"{"quick_shutdown": {}}"#),
        v2(r#"{"set_log_level": {"level": "loud"}}"#),
        v2(r#"{"reload": 1}"#),
        old(post, "action=quick_shutdown&value=maybe"),
        old(put, "log_level=loud"),
    ] {
        assert!(bench.send(ask).await.status >= 400);
        assert_eq!(bench.engine.commands(), []);
    }
}

#[tokio::test]
async fn clouds_are_read_again() {
    let bench = Bench::new(&EXTENSION);
    let ask = || post("/p1/service/action", r#"{"reconfig": null}"#);
    let clouds = vec![("a".to_owned(), cloud("a").spec)];
    bench.host.put_clouds(Ok(clouds.clone()));
    bench.engine.react(|_, view| {
        put_cloud(view, "a", |_| ());
        put_cloud(view, "old", |cloud| cloud.retired = true);
        Ok(String::new())
    });
    let reply = bench.send(ask()).await;
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!({ "reconfig": { "clouds": ["a"], "retired": ["old"] } }))
    );
    assert_eq!(bench.engine.commands(), [Command::Reconfigure { clouds }]);
    let broken = "error: what is that?\n --> pileus.toml:7:1";
    bench.host.put_clouds(Err(broken.into()));
    let reply = bench.send(ask()).await;
    assert_eq!((reply.status, reply.top()), (409, "conflictingRequest".to_owned()));
    assert_eq!(reply.json()["conflictingRequest"]["message"], broken);
    assert_eq!(bench.engine.commands(), []);
    bench.host.put_clouds(Ok(Vec::new()));
    bench.engine.refuse(Refusal::Unavailable);
    assert_eq!(bench.send(ask()).await.status, 503);
}

#[tokio::test]
async fn what_it_knows_is_told() {
    let bench = Bench::new(&EXTENSION);
    let failure = BootFailure {
        fault: BootFault::NotBooted,
        detail: "it did not boot within 60 s".into(),
        cloud: "west".into(),
        at: Time(0),
    };
    bench.engine.edit(|view| {
        put_job(view, "e#1.0", |job| {
            (job.reason, job.failures) = (Some("there is no room".into()), vec![failure.clone()]);
        });
        put_job(view, "2", |_| ());
        let record = ImageRecord { boots: vec![true, false], failure: Some(failure.clone()) };
        Arc::make_mut(view.images.entry("west".into()).or_default()).insert("debian".into(), record);
    });
    let share =
        |billionths| TypeShare { project: "p1".into(), user: "ada".into(), vm_type: "t".into(), billionths };
    bench.engine.put_strays(vec![Stray { machine: "slot1@lost".into(), driver: "local".into() }]);
    bench.engine.put_shares(Shares {
        diff: vec![share(-500_000_000)],
        current: Vec::new(),
        desired: vec![share(500_000_000)],
    });
    let options = vec![("vm_slots".to_owned(), "4".to_owned())];
    bench.host.put_texts(Ok(vec![CloudText { name: "West".into(), options }]));
    let shown = |share: f64| json!([{ "project_id": "p1", "user": "ada", "vm_type": "t", "share": share }]);
    let boot = json!({ "cloud": "west", "fault": "VM did not start in time",
                       "detail": "it did not boot within 60 s", "at": "1970-01-01T00:00:00Z" });
    let cases = [
        (
            "/p1/service/failures",
            json!({ "failures": {
                "jobs": [{ "id": "e#1.0", "project_id": "p1", "user": "ada", "state": "new",
                           "reason": "there is no room", "banned_until": null, "boots": [boot] }],
                "images": [{ "cloud": "west", "image": "debian", "boots": [true, false], "last": boot }],
            } }),
        ),
        ("/p1/service/strays", json!({ "strays": [{ "machine": "slot1@lost", "driver": "local" }] })),
        (
            "/p1/service/shares",
            json!({ "shares": { "diff": shown(-0.5), "current": [], "desired": shown(0.5) } }),
        ),
        (
            "/p1/service/config",
            json!({ "clouds": [{ "name": "West", "options": [{ "name": "vm_slots", "value": "4" }] }] }),
        ),
    ];
    for (uri, expected) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!((reply.status, reply.json()), (200, expected), "{uri}");
    }
    bench.host.put_texts(Err("pileus.toml:1: broken".into()));
    let reply = bench.send(get("/p1/service/config")).await;
    assert_eq!((reply.status, reply.top()), (409, "conflictingRequest".to_owned()));
}
