//! `/v2/{project_id}/clouds` on the bench.

use pileus_ext_clouds::EXTENSION;
use pileus_sdk::{
    Value, header, json,
    model::{CloudSpec, Command, Origin, Refusal},
    testing::{Ask, Bench, delete, get, post, put, put_cloud, put_vm},
};

/// Clouds `zeta` and `alpha`, in this order, with a VM on `alpha`.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_cloud(view, "zeta", |cloud| cloud.origin = Origin::Api);
        put_cloud(view, "alpha", |_| ());
        put_vm(view, "alpha-1", "alpha", |_| ());
    });
    bench
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(bench().complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn lists_come_in_pages_in_the_configurations_order() {
    let bench = bench();
    let next = "http://api.example:8774/v2/p1/clouds?limit=1&marker=%5Bfalse%2C0%2C%22zeta%22%5D";
    let cases: &[(&str, &[&str], Option<&str>)] = &[
        ("/p1/clouds", &["zeta", "alpha"], None),
        ("/p1/clouds?limit=1", &["zeta"], Some(next)),
        ("/p1/clouds?limit=1&marker=zeta", &["alpha"], None),
        ("/p1/clouds?limit=2", &["zeta", "alpha"], None),
        ("/p1/clouds?limit=5000", &["zeta", "alpha"], None),
        ("/p1/clouds?marker=alpha", &[], None),
        ("/p1/clouds?limit=0", &[], None),
        ("/p1/clouds/detail?marker=zeta", &["alpha"], None),
        // The page after the place of a removed cloud. A name without a place leaves nothing out.
        ("/p1/clouds?marker=[false,0,%22zeta%22]", &["alpha"], None),
        ("/p1/clouds?marker=[false,0,%22zz%22]", &["alpha"], None),
        ("/p1/clouds?marker=nowhere", &["zeta", "alpha"], None),
        ("/p1/clouds?sort_dir=desc", &["alpha", "zeta"], None),
        ("/p1/clouds?sort_key=name", &["alpha", "zeta"], None),
        ("/p1/clouds?sort_key=name&marker=b", &["zeta"], None),
    ];
    for (uri, names, next) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!(reply.status, 200, "{uri}: {}", reply.text);
        let body = reply.json();
        let found: Vec<_> = body["clouds"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(found, *names, "{uri}");
        assert_eq!(body["clouds_links"][0]["href"].as_str(), *next, "{uri}");
        assert_eq!(body.get("clouds_links").is_some(), next.is_some(), "{uri}");
    }
}

const MALFORMED: &str = "marker param is malformed: it is the id of a member, or what a `next` link gives for the \
                         same sort keys";

#[tokio::test]
async fn bad_pages_are_400() {
    let bench = bench();
    let cases = [
        ("limit=x", "limit param must be an integer"),
        ("limit=", "limit param must be an integer"),
        ("limit=1.5", "limit param must be an integer"),
        ("limit=-1", "limit param must be positive"),
        ("marker=", MALFORMED),
        ("marker=[", MALFORMED),
        ("marker=[true,0]", MALFORMED),
        ("marker=[0,true,%22zeta%22]", MALFORMED),
    ];
    for (query, message) in cases {
        for uri in [format!("/p1/clouds?{query}"), format!("/p1/clouds/detail?{query}")] {
            let reply = bench.send(get(&uri)).await;
            let expected = json!({ "badRequest": { "code": 400, "message": message } });
            assert_eq!((reply.status, reply.json()), (400, expected), "{uri}");
        }
    }
}

#[tokio::test]
async fn a_cloud_is_shown_with_its_units() {
    let bench = bench();
    let expected = json!({
        "id": "alpha", "name": "alpha", "origin": "file", "retired": false,
        "enabled": true, "enabled_by_admin": null, "draining": false, "vm_slots": 10, "vm_slots_by_admin": null,
        "used": { "vm_slots": 1, "memory_mib": 1024, "storage_gib": 10 },
        "free": { "vm_slots": 9, "memory_mib": 18976, "storage_gib": 490 },
        "spec": {
            "driver": "local", "enabled": true, "vm_slots": 10, "cpu_cores": 4, "memory_mib": 20000,
            "storage_gib": 500, "priority": 0, "keep_alive_s": 0, "boot_timeout_s": null,
            "max_vm_memory_mib": null,
        },
        "links": [{ "rel": "self", "href": "http://api.example:8774/v2/p1/clouds/alpha" }],
    });
    for uri in ["/p1/clouds/alpha", "/p1/clouds/ALPHA", "/p1/clouds/%61lpha"] {
        assert_eq!(bench.send(get(uri)).await.json(), json!({ "cloud": expected }), "{uri}");
    }
    let detail = bench.send(get("/p1/clouds/detail?marker=zeta")).await.json();
    assert_eq!(detail, json!({ "clouds": [expected] }));

    bench.engine.edit(|view| {
        put_cloud(view, "alpha", |cloud| {
            cloud.enabled_by_admin = Some(false);
            cloud.vm_slots_by_admin = Some(2);
            cloud.retired = true;
        });
    });
    let shown = bench.send(get("/p1/clouds/alpha")).await.json()["cloud"].take();
    let keys = ["enabled", "enabled_by_admin", "vm_slots", "vm_slots_by_admin", "retired"];
    assert_eq!(
        keys.map(|key| shown[key].clone()),
        [json!(false), json!(false), json!(2), json!(2), json!(true)]
    );
}

#[tokio::test]
async fn links_hold_names_of_any_characters() {
    let bench = bench();
    bench.engine.edit(|view| put_cloud(view, "a b/c.json", |_| ()));
    let shown = bench.send(get("/p1/clouds/a%20b%2Fc%2Ejson")).await.json()["cloud"].take();
    assert_eq!(shown["name"], "a b/c.json");
    assert_eq!(shown["links"][0]["href"], "http://api.example:8774/v2/p1/clouds/a%20b%2Fc.json");
    let list = bench.send(get("/p1/clouds?marker=alpha&limit=1")).await.json();
    assert_eq!(list["clouds"][0]["name"], "a b/c.json");
    bench.engine.edit(|view| put_cloud(view, "last", |_| ()));
    let list = bench.send(get("/p1/clouds?marker=alpha&limit=1")).await.json();
    let next = "http://api.example:8774/v2/p1/clouds?limit=1&marker=%5Bfalse%2C2%2C%22a+b%2Fc.json%22%5D";
    assert_eq!(list["clouds_links"], json!([{ "rel": "next", "href": next }]));
    let without_host = get("/p1/clouds/alpha").header(header::HOST, "not a host");
    let shown = bench.send(without_host).await.json();
    assert_eq!(shown["cloud"]["links"][0]["href"], "/v2/p1/clouds/alpha");
}

fn spec() -> CloudSpec {
    CloudSpec {
        driver: "local".into(),
        enabled: true,
        vm_slots: 4,
        cpu_cores: 2,
        memory_mib: 1000,
        storage_gib: 0,
        priority: 0,
        keep_alive_s: 0,
        boot_timeout_s: None,
        max_vm_memory_mib: None,
    }
}

#[tokio::test]
async fn a_cloud_is_created_with_defaults_for_what_is_left_out() {
    let whole = r#", "enabled": false, "storage_gib": 5, "priority": -3, "keep_alive_s": 60,
                    "boot_timeout_s": 90, "max_vm_memory_mib": 500"#;
    let all = CloudSpec {
        enabled: false,
        storage_gib: 5,
        priority: -3,
        keep_alive_s: 60,
        boot_timeout_s: Some(90),
        max_vm_memory_mib: Some(500),
        ..spec()
    };
    for (more, spec) in [("", spec()), (whole, all)] {
        let bench = bench();
        bench.engine.react(|command, view| {
            let Command::CreateCloud { cloud, spec } = command else { return Err(Refusal::Unavailable) };
            put_cloud(view, cloud, |made| made.spec = spec.clone());
            Ok(cloud.to_string())
        });
        let body = format!(
            r#"{{"cloud": {{"name": "new one", "driver": "local", "vm_slots": 4, "cpu_cores": 2,
               "memory_mib": 1000{more}}}}}"#
        );
        let reply = bench.send(post("/p1/clouds", &body)).await;
        assert_eq!((reply.status, reply.top()), (201, "cloud".into()), "{}", reply.text);
        assert_eq!(reply.header(header::LOCATION), "http://api.example:8774/v2/p1/clouds/new%20one");
        assert_eq!(reply.json()["cloud"]["spec"]["boot_timeout_s"], json!(spec.boot_timeout_s));
        let (command, by) = bench.engine.commands_by().remove(0);
        assert_eq!(command, Command::CreateCloud { cloud: "new one".into(), spec });
        assert_eq!((&*by.user, &*by.project, &*by.request_id), ("ada", "p1", "req-test"));
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    // Nothing of it is a default.
    let old = CloudSpec {
        driver: "old".into(),
        enabled: false,
        vm_slots: 11,
        cpu_cores: 12,
        memory_mib: 13,
        storage_gib: 14,
        priority: 15,
        keep_alive_s: 16,
        boot_timeout_s: Some(17),
        max_vm_memory_mib: None,
    };
    let cases = [
        (json!({}), old.clone()),
        (json!({ "priority": 7 }), CloudSpec { priority: 7, ..old.clone() }),
        (json!({ "enabled": true }), CloudSpec { enabled: true, ..old.clone() }),
        (json!({ "max_vm_memory_mib": 18 }), CloudSpec { max_vm_memory_mib: Some(18), ..old.clone() }),
        (json!({ "boot_timeout_s": 5 }), CloudSpec { boot_timeout_s: Some(5), ..old.clone() }),
        (
            json!({ "driver": "other", "vm_slots": 1, "cpu_cores": 2, "memory_mib": 3, "storage_gib": 4,
                    "keep_alive_s": 5 }),
            CloudSpec {
                driver: "other".into(),
                vm_slots: 1,
                cpu_cores: 2,
                memory_mib: 3,
                storage_gib: 4,
                keep_alive_s: 5,
                ..old.clone()
            },
        ),
    ];
    let bench = bench();
    bench.engine.edit(|view| put_cloud(view, "zeta", |cloud| cloud.spec = old.clone()));
    for (body, spec) in cases {
        let reply = bench.send(put("/p1/clouds/Zeta", &json!({ "cloud": body }).to_string())).await;
        assert_eq!((reply.status, &reply.json()["cloud"]["name"]), (200, &json!("zeta")), "{body}");
        assert_eq!(bench.engine.commands(), [Command::UpdateCloud { cloud: "zeta".into(), spec }], "{body}");
    }
    // `null` takes a limit away.
    bench.send(put("/p1/clouds/zeta", r#"{"cloud": {"boot_timeout_s": null}}"#)).await;
    let spec = CloudSpec { boot_timeout_s: None, ..old };
    assert_eq!(bench.engine.commands(), [Command::UpdateCloud { cloud: "zeta".into(), spec }]);
}

#[tokio::test]
async fn verbs_and_deletion_become_commands() {
    let cloud = || "alpha".into();
    let cases = [
        (
            post("/p1/clouds/Alpha/action", r#"{"enable": null}"#),
            202,
            Command::EnableCloud { cloud: cloud(), enabled: true },
        ),
        (
            post("/p1/clouds/alpha/action", r#"{"disable": {}}"#),
            202,
            Command::EnableCloud { cloud: cloud(), enabled: false },
        ),
        (
            post("/p1/clouds/alpha/action", r#"{"set_slots": {"vm_slots": 0}}"#),
            202,
            Command::SetSlots { cloud: cloud(), vm_slots: 0 },
        ),
        (delete("/p1/clouds/ALPHA"), 204, Command::DeleteCloud { cloud: cloud() }),
    ];
    let bench = bench();
    for (ask, status, command) in cases {
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, ""), "{command:?}");
        assert_eq!(bench.engine.commands(), [command]);
    }
}

#[tokio::test]
async fn mistakes_name_their_place_and_change_nothing() {
    let new = |body: &str| post("/p1/clouds", body);
    let change = |body: &str| put("/p1/clouds/zeta", body);
    let act = |body: &str| post("/p1/clouds/zeta/action", body);
    let cases: Vec<(Ask, &str)> = vec![
        (new(""), "The body is empty: a JSON object with the one key `cloud` is needed."),
        (new("{"), "Malformed request body"),
        (new("[]"), "Malformed request body"),
        (new("{}"), "The body needs the one key `cloud`, and has none."),
        (new(r#"{"clowd": {}}"#), "The body needs the one key `cloud`, and has `clowd`."),
        (new(r#"{"cloud": null}"#), "field `cloud`: invalid type: null"),
        (new(r#"{"cloud": {"name": "x"}}"#), "missing field `driver`"),
        (new(r#"{"cloud": {"name": 5}}"#), "field `cloud.name`"),
        (new(r#"{"cloud": {"vm_slots": -1}}"#), "field `cloud.vm_slots`"),
        (new(r#"{"cloud": {"vm_slots": 4294967296}}"#), "field `cloud.vm_slots`"),
        (new(r#"{"cloud": {"colour": "red"}}"#), "unknown field `colour`"),
        (change(""), "the one key `cloud`"),
        (change(r#"{"cloud": {"name": "other"}}"#), "unknown field `name`"),
        (change(r#"{"cloud": {"boot_timeout_s": "soon"}}"#), "field `cloud.boot_timeout_s`"),
        (act(r#"{"enable": {"really": true}}"#), "field `enable"),
        (act(r#"{"disable": 1}"#), "field `disable`"),
        (act(r#"{"set_slots": null}"#), "field `set_slots`"),
        (act(r#"{"set_slots": {}}"#), "missing field `vm_slots`"),
        (act(r#"{"set_slots": {"vm_slots": "4"}}"#), "field `set_slots.vm_slots`"),
        (act(r#"{"explode": null}"#), "no such action"),
    ];
    let bench = bench();
    for (ask, message) in cases {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{what}: {}", reply.text);
        let said = reply.json()["badRequest"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(message), "{what}: {said}");
        assert_eq!(bench.engine.commands(), [], "{what}");
    }
}

#[tokio::test]
async fn unknown_clouds_are_404_everywhere() {
    let bench = bench();
    let asks = [
        get("/p1/clouds/nowhere"),
        put("/p1/clouds/nowhere", r#"{"cloud": {}}"#),
        delete("/p1/clouds/nowhere"),
        post("/p1/clouds/nowhere/action", r#"{"enable": null}"#),
        post("/p1/clouds/nowhere/action", r#"{"disable": null}"#),
        post("/p1/clouds/nowhere/action", r#"{"set_slots": {"vm_slots": 1}}"#),
    ];
    let message = "Cloud nowhere could not be found.";
    let expected = json!({ "itemNotFound": { "code": 404, "message": message } });
    for ask in asks {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.json()), (404, expected.clone()), "{what}");
    }
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn the_engines_refusals_are_faults() {
    let body =
        r#"{"cloud": {"name": "zeta", "driver": "x", "vm_slots": 1, "cpu_cores": 1, "memory_mib": 1}}"#;
    let conflict = Refusal::Conflict("Cloud zeta exists.".into());
    let invalid = Refusal::Invalid { field: "driver", problem: "there is no `x`".into() };
    let cases: Vec<(Ask, Refusal, u16, Value)> = vec![
        (post("/p1/clouds", body), conflict.clone(), 409, json!("Cloud zeta exists.")),
        (post("/p1/clouds", body), invalid, 400, json!("Invalid driver: there is no `x`")),
        (put("/p1/clouds/alpha", r#"{"cloud": {}}"#), conflict.clone(), 409, json!("Cloud zeta exists.")),
        (delete("/p1/clouds/alpha"), conflict, 409, json!("Cloud zeta exists.")),
        (delete("/p1/clouds/alpha"), Refusal::Full, 507, json!(Refusal::Full.to_string())),
        (
            post("/p1/clouds/alpha/action", r#"{"enable": null}"#),
            Refusal::Unavailable,
            503,
            json!(Refusal::Unavailable.to_string()),
        ),
    ];
    let bench = bench();
    for (ask, refusal, status, message) in cases {
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, status, "{refusal:?}");
        assert_eq!(reply.json()[reply.top()]["message"], message, "{refusal:?}");
    }
}

#[tokio::test]
async fn every_action_is_guarded_by_its_rule() {
    let asks = [
        ("clouds:index", get("/p1/clouds")),
        ("clouds:detail", get("/p1/clouds/detail")),
        ("clouds:show", get("/p1/clouds/alpha")),
        ("clouds:create", post("/p1/clouds", "{}")),
        ("clouds:update", put("/p1/clouds/alpha", "{}")),
        ("clouds:delete", delete("/p1/clouds/alpha")),
        ("clouds:enable", post("/p1/clouds/alpha/action", r#"{"enable": null}"#)),
        ("clouds:disable", post("/p1/clouds/alpha/action", r#"{"disable": null}"#)),
        ("clouds:drain", post("/p1/clouds/alpha/action", r#"{"drain": null}"#)),
        ("clouds:set_slots", post("/p1/clouds/alpha/action", r#"{"set_slots": {"vm_slots": 1}}"#)),
    ];
    for (rule, ask) in asks {
        let bench = bench();
        bench.deny(rule);
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (403, "forbidden".into()), "{rule}");
        assert_eq!(bench.engine.commands(), [], "{rule}");
    }
}
