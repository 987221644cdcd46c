//! The old ports over real sockets: forms, old bodies for what is missing, and browsers kept out.

use serde_json::json;

use crate::support::{Place, await_some, send};

#[test]
fn old_calls_get_old_answers() {
    let place = Place::quick(30);
    let server = place.serve();
    let version = concat!("Cloud Scheduler version: ", env!("CARGO_PKG_VERSION"));
    let empty = "ID     HOSTNAME                  VMTYPE               USER       STATUS       CLUSTER                \n\nTotal VMs: 0. Total Clouds: 1";
    // What it shows, port, method, path, form, status, body.
    let info = server.info;
    let admin = server.admin;
    let cases = [
        ("version", info, "GET", "/", "", 200, version),
        ("VM table", info, "GET", "/vms", "", 200, empty),
        ("VM count", info, "GET", "/vms?metric=total", "", 200, "0"),
        ("unknown metric", info, "GET", "/vms?metric=nope", "", 404, "not found"),
        (
            "unknown cluster",
            info,
            "GET",
            "/clusters/nope",
            "",
            200,
            "Cluster Info: nope\nCluster named nope not found.",
        ),
        ("unknown cluster as JSON", info, "GET", "/clusters/nope.json", "", 200, "{}"),
        ("unknown job", info, "GET", "/jobs/nope.json", "", 200, "null"),
        ("no state", info, "GET", "/jobs", "", 404, "not found"),
        ("unknown path", info, "GET", "/nope", "", 404, "not found"),
        ("trailing slash", info, "GET", "/vms/", "", 404, "not found"),
        ("another method", info, "PUT", "/vms", "", 405, "None"),
        ("OPTIONS", info, "OPTIONS", "/vms", "", 405, "None"),
        ("disable by form", admin, "PUT", "/clouds/local", "action=disable", 200, "Cloud: local disabled."),
        (
            "the query wins",
            admin,
            "PUT",
            "/clouds/local?action=enable",
            "action=disable",
            200,
            "Cloud: local enabled.",
        ),
        ("any case", admin, "PUT", "/clouds/LOCAL?action=enable", "", 200, "Cloud: LOCAL enabled."),
        ("unknown cloud", admin, "PUT", "/clouds/nope?action=enable", "", 200, "Could not find cloud nope."),
        ("unknown action", admin, "PUT", "/clouds/local?action=nope", "", 404, "not found"),
        ("no action", admin, "PUT", "/clouds/local", "", 404, "not found"),
        (
            "no number",
            admin,
            "PUT",
            "/clouds/local?allocations=x",
            "",
            200,
            "Need to use an integer value for vm_allocation",
        ),
        (
            "same number",
            admin,
            "PUT",
            "/clouds/local?allocations=2",
            "",
            200,
            "VM slots already set at 2. Nothing to do.",
        ),
        (
            "another number",
            admin,
            "PUT",
            "/clouds/local?allocations=3",
            "",
            200,
            "Attempt adjustment on cloud local, change to 3 slots",
        ),
        (
            "unknown VM",
            admin,
            "PUT",
            "/clouds/local/vms/nope?action=shutdown",
            "",
            200,
            "Could not find VM with ID: nope on Cluster: local.",
        ),
        ("count is needed", admin, "PUT", "/clouds/local/vms?action=shutdown", "", 404, "not found"),
        ("no aliases", admin, "GET", "/cloud-aliases", "", 200, "{}"),
        ("no limits", admin, "GET", "/user-limits", "", 200, "{}"),
        ("no file to reload", admin, "POST", "/cloud-aliases", "", 200, "False"),
    ];
    for (what, port, method, path, form, status, body) in cases {
        let headers: &[&str] =
            if form.is_empty() { &[] } else { &["Content-Type: application/x-www-form-urlencoded"] };
        let reply = send(port, method, path, headers, form);
        assert_eq!((reply.status, reply.text.as_str()), (status, body), "{what}");
    }
    let allow = send(info, "PUT", "/vms", &[], "");
    assert_eq!(allow.header("allow"), Some("GET, HEAD"));
    let head = send(info, "HEAD", "/vms", &[], "");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[test]
fn browsers_of_other_sites_are_kept_out() {
    let place = Place::quick(30);
    let server = place.serve();
    let host = server.admin.to_string();
    let cases: &[(&str, String, u16)] = &[
        ("a script of another site", "Origin: http://evil.example".into(), 403),
        ("a form of another site", "Sec-Fetch-Site: cross-site".into(), 403),
        ("a sandboxed page", "Origin: null".into(), 403),
        ("the same site", format!("Origin: http://{host}"), 200),
        ("the address bar", "Sec-Fetch-Site: none".into(), 200),
    ];
    for (what, header, status) in cases {
        let reply = send(server.admin, "PUT", "/clouds/local?action=enable", &[header], "");
        assert_eq!(reply.status, *status, "{what}: {}", reply.text);
    }
    let rebound = b"PUT /clouds/local?action=disable HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(crate::support::raw(server.admin, rebound).map(|it| it.status), Some(403), "a rebound name");
    assert!(server.info("/cloud").text.contains("True"), "nothing was disabled");
}

#[test]
fn vms_are_shut_down_retired_removed_and_reset_from_the_old_port() {
    let place = Place::quick(300);
    let server = place.serve();
    let boot = || {
        let job = server.submit("true");
        server.await_job(&job, "complete");
        let vms = server.get("/v2/default/vms").json();
        vms["vms"][0]["id"].as_str().expect("a kept VM").to_owned()
    };
    let gone = |vm: &str| {
        await_some("the VM to be gone", || {
            let text = server.info("/vms").text;
            if text.contains(vm) { Err(text) } else { Ok(()) }
        });
    };
    let vm = boot();
    let reply = server.admin("PUT", &format!("/clouds/local/vms/{vm}"), "action=shutdown");
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
    gone(&vm);
    let vm = boot();
    let reply = server.admin("PUT", &format!("/clouds/local/vms/{vm}"), "action=force_retire");
    assert_eq!(reply.text, format!("Retired VM {vm} on local."));
    gone(&vm);
    let vm = boot();
    let reply = server.admin("PUT", "/clouds/local/vms", "action=shutdown&count=all");
    assert_eq!(reply.text.trim_end(), format!("VM {vm} has been Destroyed."));
    gone(&vm);
    let vm = boot();
    let reply = server.admin("PUT", &format!("/clouds/local/vms/{vm}"), "action=remove");
    assert_eq!(reply.text, format!("Removed local's VM {vm} from CloudScheduler."));
    gone(&vm);
    // A VM that is shut down under its job: the job runs again elsewhere.
    let job = server.submit("sleep 1; echo twice is fine");
    let first = server.await_job(&job, "running")["vm"].as_str().expect("a VM").to_owned();
    server.admin("PUT", &format!("/clouds/local/vms/{first}"), "action=shutdown");
    let done = server.await_job(&job, "complete");
    assert_eq!(done["attempts"], json!(2), "{done}");
    assert_ne!(done["vm"], json!(first), "{done}");
}
