//! `/v2/{project_id}/vms` and a cloud's VMs on the bench.

use pileus_ext_vms::EXTENSION;
use pileus_sdk::{
    Value, json,
    model::{Command, Override, Refusal, VmState},
    testing::{Ask, Bench, get, post, put_cloud, put_vm},
};

/// `a-1`, `a-2` and `b-1` of the project `p1`; `a-3` of `p2`.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |_| ());
        put_cloud(view, "beta", |_| ());
        put_vm(view, "a-1", "alpha", |_| ());
        put_vm(view, "a-2", "alpha", |vm| vm.state = VmState::Starting);
        put_vm(view, "a-3", "alpha", |vm| vm.project = "p2".into());
        put_vm(view, "b-1", "beta", |vm| vm.override_state = Some(Override::Retiring));
    });
    bench
}

fn ids(body: &Value) -> String {
    let vms = body["vms"].as_array().into_iter().flatten();
    vms.map(|vm| vm["id"].as_str().unwrap_or("?")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(bench().complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn a_project_sees_its_own_in_pages() {
    let bench = bench();
    let base = "http://api.example:8774/v2";
    let cases = [
        ("/p1/vms", "a-1 a-2 b-1", None),
        ("/p2/vms", "a-3", None),
        ("/p3/vms", "", None),
        ("/p1/vms?limit=3", "a-1 a-2 b-1", None),
        ("/p1/vms?limit=2", "a-1 a-2", Some("/p1/vms?limit=2&marker=a-2")),
        ("/p1/vms?limit=1&marker=a-1", "a-2", Some("/p1/vms?limit=1&marker=a-2")),
        ("/p1/vms?marker=a-2", "b-1", None),
        ("/p1/vms?all_projects=1", "a-1 a-2 a-3 b-1", None),
        ("/p1/vms?all_projects=0", "a-1 a-2 b-1", None),
        (
            "/p1/vms/detail?all_projects=true&limit=3",
            "a-1 a-2 a-3",
            Some("/p1/vms/detail?all_projects=true&limit=3&marker=a-3"),
        ),
        ("/p1/clouds/alpha/vms", "a-1 a-2", None),
        ("/p1/clouds/ALPHA/vms?all_projects=1", "a-1 a-2 a-3", None),
        ("/p1/clouds/alpha/vms?limit=1", "a-1", Some("/p1/clouds/alpha/vms?limit=1&marker=a-1")),
        ("/p1/clouds/beta/vms", "b-1", None),
        ("/p2/clouds/beta/vms", "", None),
        // A marker is a position, also where no VM, another project's or another cloud's has this id.
        ("/p1/vms?marker=a-3", "b-1", None),
        ("/p1/vms?marker=b", "b-1", None),
        ("/p1/clouds/alpha/vms?marker=a-10", "a-2", None),
        ("/p1/clouds/alpha/vms?marker=b-1&sort_dir=desc", "a-2 a-1", None),
        (
            "/p1/vms?sort_key=cloud&sort_dir=desc&limit=1",
            "b-1",
            Some("/p1/vms?sort_key=cloud&sort_dir=desc&limit=1&marker=%5B%22beta%22%2C%22b-1%22%5D"),
        ),
        ("/p1/vms?sort_key=cloud&sort_dir=desc&marker=b-1", "a-2 a-1", None),
        ("/p1/clouds/alpha/vms?sort_key=cpu_cores&sort_key=id&sort_dir=asc&sort_dir=desc", "a-2 a-1", None),
    ];
    for (uri, expected, next) in cases {
        let reply = bench.send(get(uri)).await;
        let body = reply.json();
        assert_eq!((reply.status, ids(&body)), (200, expected.to_owned()), "{uri}");
        let next = next.map(|next| format!("{base}{next}"));
        assert_eq!(body["vms_links"][0]["href"].as_str(), next.as_deref(), "{uri}");
    }
}

#[tokio::test]
async fn bad_pages_are_400() {
    let bench = bench();
    let cases = [
        ("/p1/vms?limit=x", "limit param must be an integer"),
        ("/p1/vms/detail?limit=-1", "limit param must be positive"),
        ("/p1/clouds/alpha/vms?limit=99999999999999999999999999999999999999999", "must be an integer"),
        ("/p1/vms?marker=", "marker param is malformed"),
        ("/p1/clouds/alpha/vms?marker=%00", "marker param is malformed"),
        ("/p1/vms?sort_key=cloud&marker=[%22alpha%22]", "marker param is malformed"),
        ("/p1/vms?user=ada", "and not `user`"),
        ("/p1/vms/a-1?user=ada", "accepts the query parameters all_projects, all_tenants, and not `user`"),
    ];
    for (uri, message) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{uri}");
        assert!(reply.text.contains(message), "{uri}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_vm_is_shown_with_its_units() {
    let bench = bench();
    let expected = json!({ "vm": {
        "id": "a-1", "cloud": "alpha", "project_id": "p1", "user": "ada", "vm_type": "vmt",
        "cpu_cores": 1, "memory_mib": 1024, "storage_gib": 10, "keep_alive_s": 60,
        "state": "Running", "polled_state": "Running", "override_state": null, "force_retire": false,
        "destroy_reason": null, "last_error": null, "error_count": 0,
        "created": "2026-01-31T11:00:00Z", "changed": "2026-01-31T11:00:20Z",
        "running": "2026-01-31T11:00:20Z", "registered": "2026-01-31T11:00:30Z",
        "idle_since": "2026-01-31T11:00:30Z", "job": null, "job_runs_s": [],
        "hostname": "host-a-1", "address": "10.0.0.1",
        "links": [{ "rel": "self", "href": "http://api.example:8774/v2/p1/vms/a-1" }],
    } });
    assert_eq!(bench.send(get("/p1/vms/a-1")).await.json(), expected);
    let detail = bench.send(get("/p1/vms/detail?limit=1")).await.json();
    assert_eq!(detail["vms"][0], expected["vm"]);
    let index = bench.send(get("/p1/vms?marker=a-2")).await.json();
    let links = [json!({ "rel": "self", "href": "http://api.example:8774/v2/p1/vms/b-1" })];
    assert_eq!(index["vms"], json!([{ "id": "b-1", "state": "Retiring", "links": links }]));

    bench.engine.edit(|view| {
        put_vm(view, "a-1", "alpha", |vm| {
            vm.override_state = Some(Override::Retiring);
            vm.registered = None;
            vm.destroy = Some("idle".into());
            vm.last_error = Some("no answer".into());
            vm.job = Some("j/1".into());
            vm.job_runs_s = vec![5, 7];
            vm.handle = "opaque".into();
        });
    });
    let vm = bench.send(get("/p1/vms/a-1")).await.json()["vm"].take();
    assert_eq!((&vm["state"], &vm["polled_state"]), (&json!("Retiring"), &json!("Running")));
    assert_eq!((&vm["destroy_reason"], &vm["last_error"]), (&json!("idle"), &json!("no answer")));
    assert_eq!((&vm["registered"], &vm["job"]), (&Value::Null, &json!("j/1")));
    assert_eq!((&vm["job_runs_s"], vm.get("handle")), (&json!([5, 7]), None));
}

const VERBS: [&str; 4] = ["shutdown", "force_retire", "remove", "reset_override_state"];

fn act(uri: &str, verb: &str) -> Ask {
    post(uri, &format!("{{\"{verb}\": null}}"))
}

/// The command of a verb for these VMs; resets are one each.
fn commands(verb: &str, vms: &[&str]) -> Vec<Command> {
    let list: Vec<_> = vms.iter().map(|&vm| vm.into()).collect();
    match verb {
        "shutdown" => vec![Command::ShutdownVms { vms: list, why: "shut down by ada".into() }],
        "force_retire" => vec![Command::RetireVms { vms: list }],
        "remove" => vec![Command::RemoveVms { vms: list }],
        _ => list.into_iter().map(|vm| Command::ResetVm { vm }).collect(),
    }
}

#[tokio::test]
async fn verbs_become_commands() {
    let bench = bench();
    for verb in VERBS {
        for (uri, vm) in [("/p1/vms/a-1/action", "a-1"), ("/p1/vms/a-3/action?all_projects=1", "a-3")] {
            let reply = bench.send(act(uri, verb)).await;
            assert_eq!((reply.status, reply.text.as_str()), (202, ""), "{uri} {verb}");
            let (sent, by): (Vec<_>, Vec<_>) = bench.engine.commands_by().into_iter().unzip();
            assert_eq!(sent, commands(verb, &[vm]));
            assert_eq!((&*by[0].user, &*by[0].project), ("ada", "p1"));
        }
        bench.engine.refuse(Refusal::Conflict("It is being destroyed.".into()));
        let reply = bench.send(act("/p1/vms/a-1/action", verb)).await;
        assert_eq!((reply.status, reply.top()), (409, "conflictingRequest".into()), "{verb}");
        bench.engine.commands();
    }
    let empty = post("/p1/vms/a-1/action", r#"{"remove": {}}"#);
    assert_eq!(bench.send(empty).await.status, 202);
}

#[tokio::test]
async fn what_a_project_does_not_see_is_404() {
    let bench = bench();
    let mut asks = vec![
        (get("/p1/vms/nowhere"), "VM nowhere"),
        (get("/p1/vms/a-3"), "VM a-3"),
        (get("/p2/vms/a-1"), "VM a-1"),
        (get("/p1/vms/A-1"), "VM A-1"),
        (get("/p1/clouds/nowhere/vms"), "Cloud nowhere"),
        (post("/p1/vms/action", r#"{"shutdown": {"cloud": "nowhere"}}"#), "Cloud nowhere"),
    ];
    for verb in VERBS {
        asks.push((act("/p1/vms/a-3/action", verb), "VM a-3"));
        asks.push((act("/p1/vms/nowhere/action?all_projects=1", verb), "VM nowhere"));
    }
    for (ask, what) in asks {
        let reply = bench.send(ask).await;
        let message = format!("{what} could not be found.");
        let expected = json!({ "itemNotFound": { "code": 404, "message": message } });
        assert_eq!((reply.status, reply.json()), (404, expected));
    }
    assert_eq!(bench.engine.commands(), []);
    assert_eq!(bench.send(get("/p1/vms/a-3?all_projects=1")).await.status, 200);
}

#[tokio::test]
async fn all_projects_is_a_rule_of_its_own() {
    let bench = bench();
    bench.deny("vms:index:all_projects");
    let bulk = r#"{"remove": {"vms": ["a-3"]}}"#;
    let asks = [
        get("/p1/vms?all_projects=1"),
        get("/p1/vms/detail?all_projects=1"),
        get("/p1/vms/a-1?all_projects=1"),
        get("/p1/clouds/alpha/vms?all_projects=1"),
        act("/p1/vms/a-3/action?all_projects=1", "shutdown"),
        post("/p1/vms/action?all_projects=1", bulk),
    ];
    for ask in asks {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        let message = "Policy doesn't allow vms:index:all_projects to be performed.";
        let expected = json!({ "forbidden": { "code": 403, "message": message } });
        assert_eq!((reply.status, reply.json()), (403, expected), "{what}");
    }
    assert_eq!(bench.engine.commands(), []);
    assert_eq!(bench.send(get("/p1/vms")).await.status, 200);
}

fn bulk(uri: &str, verb: &str, which: &Value) -> Ask {
    post(uri, &json!({ verb: which }).to_string())
}

fn result(id: &str, status: u16, message: &str) -> Value {
    json!({ "id": id, "status": status, "message": message })
}

#[tokio::test]
async fn bulk_verbs_have_a_result_for_each_vm() {
    let bench = bench();
    let ok = |id| result(id, 202, "accepted");
    let lost = |id: &str| result(id, 404, &format!("VM {id} could not be found."));
    let all = "/p1/vms/action?all_projects=1";
    for verb in VERBS {
        let cases = [
            (
                "/p1/vms/action",
                json!({ "vms": ["b-1", "a-1"] }),
                vec![ok("b-1"), ok("a-1")],
                vec!["b-1", "a-1"],
            ),
            (
                "/p1/vms/action",
                json!({ "vms": ["a-1", "nowhere", "a-3", "a-2", "a-1"] }),
                vec![ok("a-1"), lost("nowhere"), lost("a-3"), ok("a-2")],
                vec!["a-1", "a-2"],
            ),
            ("/p1/vms/action", json!({ "cloud": "Alpha" }), vec![ok("a-1"), ok("a-2")], vec!["a-1", "a-2"]),
            (
                all,
                json!({ "cloud": "alpha" }),
                vec![ok("a-1"), ok("a-2"), ok("a-3")],
                vec!["a-1", "a-2", "a-3"],
            ),
            ("/p1/vms/action", json!({ "cloud": "Alpha", "count": 1 }), vec![ok("a-1")], vec!["a-1"]),
            ("/p1/vms/action", json!({ "cloud": "Alpha", "count": 0 }), vec![], vec![]),
            ("/p2/vms/action", json!({ "cloud": "beta" }), vec![], vec![]),
            ("/p1/vms/action", json!({ "vms": [] }), vec![], vec![]),
            ("/p1/vms/action", json!({ "vms": ["nowhere"] }), vec![lost("nowhere")], vec![]),
        ];
        for (uri, which, results, vms) in cases {
            let reply = bench.send(bulk(uri, verb, &which)).await;
            assert_eq!((reply.status, reply.json()), (200, json!({ "results": results })), "{verb} {which}");
            let sent = if vms.is_empty() { Vec::new() } else { commands(verb, &vms) };
            assert_eq!(bench.engine.commands(), sent, "{verb} {which}");
        }
    }
}

/// The engine refuses a command whole: one VM that cannot does not keep the others from it.
#[tokio::test]
async fn a_refusal_in_bulk_is_told_of_its_vm_alone() {
    for verb in VERBS {
        let bench = bench();
        bench.engine.react(|command, _| {
            let named = format!("{command:?}");
            if named.contains("a-2") {
                return Err(Refusal::Conflict("It is being destroyed.".into()));
            }
            Ok(String::new())
        });
        let which = json!({ "vms": ["a-1", "a-2", "b-1"] });
        let reply = bench.send(bulk("/p1/vms/action", verb, &which)).await;
        let results = [
            result("a-1", 202, "accepted"),
            result("a-2", 409, "It is being destroyed."),
            result("b-1", 202, "accepted"),
        ];
        assert_eq!((reply.status, reply.json()), (200, json!({ "results": results })), "{verb}");
    }
}

#[tokio::test]
async fn mistakes_name_their_place_and_change_nothing() {
    let bench = bench();
    let cases = [
        ("/p1/vms/a-1/action", "", "no such action"),
        ("/p1/vms/a-1/action", r#"{"explode": null}"#, "no such action"),
        ("/p1/vms/a-1/action", r#"{"shutdown": null, "remove": null}"#, "no such action"),
        ("/p1/vms/a-1/action", r#"{"shutdown": {"now": true}}"#, "unknown field `now`"),
        ("/p1/vms/a-1/action", r#"{"remove": [1]}"#, "field `remove"),
        ("/p1/vms/action", r#"{"shutdown": null}"#, "field `shutdown`"),
        ("/p1/vms/action", r#"{"shutdown": {}}"#, "needs either `vms` or `cloud`"),
        ("/p1/vms/action", r#"{"remove": {"vms": ["a-1"], "cloud": "alpha"}}"#, "either `vms` or `cloud`"),
        ("/p1/vms/action", r#"{"remove": {"vms": ["a-1"], "count": 1}}"#, "`count` goes with `cloud`"),
        ("/p1/vms/action", r#"{"remove": {"cloud": "alpha", "count": -1}}"#, "field `remove.count`"),
        ("/p1/vms/action", r#"{"force_retire": {"vms": "a-1"}}"#, "field `force_retire.vms`"),
        ("/p1/vms/action", r#"{"force_retire": {"vms": ["a-1", 2]}}"#, "field `force_retire.vms[1]`"),
        ("/p1/vms/action", r#"{"reset_override_state": {"clouds": []}}"#, "unknown field `clouds`"),
    ];
    for (uri, body, message) in cases {
        let reply = bench.send(post(uri, body)).await;
        assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{body}: {}", reply.text);
        let said = reply.json()["badRequest"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(message), "{body}: {said}");
    }
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn every_action_is_guarded_by_its_rule() {
    let mut asks = vec![
        ("vms:index".to_owned(), get("/p1/vms")),
        ("vms:detail".to_owned(), get("/p1/vms/detail")),
        ("vms:show".to_owned(), get("/p1/vms/a-1")),
        ("clouds:vms".to_owned(), get("/p1/clouds/alpha/vms")),
    ];
    for verb in VERBS {
        asks.push((format!("vms:{verb}"), act("/p1/vms/a-1/action", verb)));
        asks.push((format!("vms:bulk_{verb}"), bulk("/p1/vms/action", verb, &json!({ "vms": ["a-1"] }))));
    }
    for (rule, ask) in asks {
        let bench = bench();
        bench.deny(&rule);
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (403, "forbidden".into()), "{rule}");
        assert_eq!(bench.engine.commands(), [], "{rule}");
    }
}
