//! The service's own switches, thrown over real sockets: log level, quick shutdown, reconfig.

use std::process::Command;

use serde_json::json;

use crate::support::{Place, QUICK, await_some};

#[test]
fn the_log_level_changes_while_it_runs() {
    let place = Place::quick(30);
    let server = place.serve();
    let level = |server: &crate::support::Server<'_>| {
        server.get("/v2/default/service").json()["service"]["log_level"].clone()
    };
    assert_eq!(level(&server), "INFO");
    assert_eq!(server.admin("PUT", "/", "log_level=error").status, 200);
    server.info("/clusters/said-at-error");
    assert_eq!(level(&server), "ERROR");
    let reply = server.post("/v2/default/service/action", r#"{"set_log_level": {"level": "verbose"}}"#);
    assert_eq!((reply.status, &reply.json()["service"]["log_level"]), (200, &json!("VERBOSE")));
    server.info("/clusters/said-at-verbose");
    server.admin("PUT", "/", "log_level=INFO");
    server.info("/clusters/said-at-info");
    let (_, log) = server.stop();
    let told = ["error", "verbose", "info"].map(|word| log.contains(&format!("said-at-{word}")));
    assert_eq!(told, [false, true, true], "{log}");
}

#[test]
fn its_switches_are_events_with_their_actor() {
    let place = Place::quick(30);
    let server = place.serve();
    let native = |body: &str| server.post("/v2/default/service/action", body);
    // Reply, action, detail, user. The old admin port has no authenticator.
    let steps = [
        (native(r#"{"quick_shutdown": {"enabled": true}}"#), "quick_shutdown", "on", "admin"),
        (native(r#"{"quick_shutdown": null}"#), "quick_shutdown", "off", "admin"),
        (native(r#"{"set_log_level": {"level": "debug"}}"#), "set_log_level", "DEBUG", "admin"),
        (native(r#"{"reload": null}"#), "reload", "", "admin"),
        (server.admin("POST", "/", "action=quick_shutdown"), "quick_shutdown", "on", "operator"),
        (server.admin("POST", "/?value=off", "action=quick_shutdown"), "quick_shutdown", "off", "operator"),
        (server.admin("PUT", "/", "log_level=info"), "set_log_level", "INFO", "operator"),
    ];
    let told = || {
        let events = server.get("/v2/default/events?all_projects=1&kind=service_action").json();
        let events = events["events"].as_array().expect("events").iter();
        events.map(|it| json!([it["data"], it["by"], it["project_id"]])).collect::<Vec<_>>()
    };
    let wanted = steps.map(|(reply, action, detail, user)| {
        assert_eq!(reply.status, 200, "{action}: {}", reply.text);
        let request = reply.header("x-openstack-request-id").expect("an id of the request");
        let by = json!({ "user": user, "project_id": "default", "request_id": request, "comment": null });
        json!([{ "action": action, "detail": detail }, by, null])
    });
    assert_eq!(told(), wanted);
    server.kill();
    let server = place.serve();
    let events = server.get("/v2/default/events?all_projects=1&kind=service_action").json();
    assert_eq!(events["events"].as_array().map(Vec::len), Some(wanted.len()), "durable: {events}");
}

#[test]
fn quick_shutdown_lets_vms_live_on() {
    let place = Place::quick(300);
    let server = place.serve();
    let quick = |server: &crate::support::Server<'_>| {
        server.get("/v2/default/service").json()["service"]["quick_shutdown"] == json!(true)
    };
    let job = server.submit("true");
    let vm = server.await_job(&job, "complete")["vm"].clone();
    assert!(!quick(&server));
    Command::new("kill").args(["-USR2", &server.pid().to_string()]).status().expect("kill runs");
    await_some("the signal to be heard", || if quick(&server) { Ok(()) } else { Err("not yet") });
    server.admin("POST", "/", "action=quick_shutdown");
    assert!(!quick(&server), "signal and old port turn the same flag");
    server.admin("POST", "/?value=on", "action=quick_shutdown");
    server.admin("POST", "/?value=on", "action=quick_shutdown");
    assert!(quick(&server) && server.info("/developer-info").text.contains("Quick shutdown: on\n"));
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    assert!(!place.workers().is_empty(), "the VM lives on: {log}");
    let server = place.serve();
    assert!(!quick(&server), "the flag is of one run");
    let vms = server.get("/v2/default/vms").json();
    assert_eq!(vms["vms"][0]["id"], vm, "{vms}");
    let (status, log) = server.stop();
    assert!(status.success() && place.workers().is_empty(), "without the flag it ends them: {log}");
}

#[test]
fn the_clouds_are_read_again_all_or_nothing() {
    let place = Place::quick(300);
    let server = place.serve();
    let job = server.submit("true");
    let vm = server.await_job(&job, "complete")["vm"].as_str().expect("a VM").to_owned();
    server.admin("PUT", "/clouds/local", "action=disable");
    let clouds = || {
        let shown = server.get("/v2/default/clouds/detail").json();
        let clouds = shown["clouds"].as_array().expect("clouds").clone();
        let cloud = |it: &serde_json::Value| {
            format!("{} {} {}", it["name"].as_str().unwrap_or("?"), it["vm_slots"], it["enabled"])
        };
        clouds.iter().map(cloud).collect::<Vec<_>>()
    };
    let old = format!("{QUICK}keep_alive_s = 300\n");
    // What the file says, status of the native call, what the old port says, the clouds afterwards.
    let before = vec!["local 2 false".to_owned()];
    let steps = [
        (format!("{old}brust = 1\n"), 409, "brust", before.clone()),
        (format!("{old}[clouds.LOCAL]\n"), 409, "`LOCAL` and `local`", before.clone()),
        (format!("{old}[clouds.x\n"), 409, "pileus.toml:", before.clone()),
        (format!("{old}[clouds.new]\nenabled = false\ndriver = \"vmware\"\n"), 409, "vmware", before.clone()),
        (
            format!("[clouds.\"a/b ü\"]\nvm_slots = 0\n{old}"),
            200,
            "",
            vec!["a/b ü 0 true".into(), "local 2 false".into()],
        ),
        (old.replace("vm_slots = 2", "vm_slots = 5"), 200, "", vec!["local 5 false".into()]),
        (old.clone(), 200, "", before.clone()),
    ];
    for (text, status, said, after) in steps {
        place.write("pileus.toml", &text);
        let reply = server.admin("POST", "/", "action=reconfig");
        let fits = if said.is_empty() { reply.text.is_empty() } else { reply.text.contains(said) };
        assert!(reply.status == 200 && fits, "{text}: {}", reply.text);
        assert!(said.is_empty() || reply.text.starts_with("Reconfig failed, nothing was changed: error: "));
        assert_eq!(clouds(), after, "{text}");
        let reply = server.post("/v2/default/service/action", r#"{"reconfig": null}"#);
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.text.contains(said), "{}", reply.text);
        assert!(server.info("/vms").text.contains(&vm), "VMs stay");
    }
    // The file's own cloud goes, and its VM drains.
    place.write("pileus.toml", "[clouds.other]\nvm_slots = 1\n");
    assert_eq!(server.admin("POST", "/", "action=reconfig").text, "");
    server.await_no_vms();
    await_some("the cloud to be gone", || {
        let clouds = clouds();
        if clouds == ["other 1 true"] { Ok(()) } else { Err(clouds.join(", ")) }
    });
    assert_eq!(server.info("/cloud/config").text, "other [vm_slots,1]\n");
}
