//! The main job: a job submitted over HTTP boots a VM, runs, and is seen on all three ports.

use serde_json::json;

use crate::support::{Place, await_some};

#[test]
fn a_job_boots_a_vm_runs_and_is_seen_on_all_three_ports() {
    let place = Place::quick(2);
    let server = place.serve();
    let submitted = server.post(
        "/v2/default/jobs",
        r#"{"job": {"command": ["sh", "-c", "echo hello from $HOSTNAME; echo oh >&2; sleep 2; exit 3"],
            "user": "ada", "vm_type": "small", "cpu_cores": 1, "memory_mib": 128, "priority": 0}}"#,
    );
    assert_eq!(submitted.status, 202, "{}", submitted.text);
    let job = submitted.json()["job"].clone();
    let id = job["id"].as_str().expect("an id").to_owned();
    assert_eq!((&job["user"], &job["state"]), (&json!("ada"), &json!("new")), "{job}");

    // While it runs, the three listeners tell the same story.
    let running = server.await_job(&id, "running");
    let vm = running["vm"].as_str().expect("a VM").to_owned();
    assert!(!place.workers().is_empty(), "a VM is a process");
    let vms = server.get("/v2/default/vms/detail").json()["vms"].clone();
    assert_eq!(vms.as_array().map(Vec::len), Some(1), "{vms}");
    assert_eq!(
        (&vms[0]["id"], &vms[0]["state"], &vms[0]["cloud"]),
        (&json!(vm), &json!("Running"), &json!("local")),
        "{vms}"
    );
    let table = server.info("/vms").text;
    let row = table.lines().find(|line| line.starts_with(&vm)).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains(" ada ") && row.contains(" Running ") && row.contains(" small "), "{row}");
    assert!(table.contains("\n\nTotal VMs: 1. Total Clouds: 1"), "{table}");
    let pool = server.info("/clusters.json").json();
    let cluster = &pool["resources"][0];
    assert_eq!(
        (&cluster["name"], &cluster["enabled"], &cluster["vms"][0]["id"], &cluster["vms"][0]["status"]),
        (&json!("local"), &json!(true), &json!(vm), &json!("Running")),
        "{pool}"
    );
    let jobs = server.info("/jobs?state=running").text;
    assert!(jobs.lines().count() == 2 && jobs.contains(" ada "), "{jobs}");
    let disabled = server.admin("PUT", "/clouds/local?action=disable", "");
    assert_eq!((disabled.status, disabled.text.as_str()), (200, "Cloud: local disabled."));
    assert_eq!(server.info("/clusters.json").json()["resources"][0]["enabled"], json!(false));
    assert_eq!(server.get("/v2/default/clouds/local").json()["cloud"]["enabled"], json!(false));

    let done = server.await_job(&id, "complete");
    assert_eq!((&done["attempts"], &done["vm"]), (&json!(1), &json!(vm)), "{done}");
    let output = server.get(&format!("/v2/default/jobs/{id}/output")).json()["output"].clone();
    assert_eq!(
        (&output["stdout"], &output["stderr"], &output["exit_code"]),
        (&json!(format!("hello from {vm}\n")), &json!("oh\n"), &json!(3)),
        "{output}"
    );

    // Idle for longer than its keep-alive: told to retire, then gone, and so is its worker.
    await_some("the VM to retire", || {
        let text = server.info("/vms").text;
        if text.contains(" Retiring ") || !text.contains(&vm) { Ok(()) } else { Err(text) }
    });
    server.await_no_vms();
    assert_eq!(place.workers(), [0_u32; 0], "no worker is left");

    // A disabled cloud boots nothing, and the job says why it waits.
    let waiting = server.submit("true");
    await_some("a reason", || {
        let job = server.get(&format!("/v2/default/jobs/{waiting}")).json()["job"].clone();
        let reason = job["reason"].as_str().unwrap_or_default().to_owned();
        if reason.contains("disabled") && job["state"] == "new" { Ok(()) } else { Err(job.to_string()) }
    });
    let enabled = server.admin("PUT", "/clouds/local", "action=enable");
    assert_eq!(enabled.text, "Cloud: local enabled.");
    server.await_job(&waiting, "complete");

    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(place.workers(), [0_u32; 0], "an orderly stop leaves no worker");
}

#[test]
fn the_printed_line_submits_a_job_when_it_is_pasted() {
    let place = Place::quick(1);
    let server = place.serve();
    let line = server.banner.last().expect("a line to paste").trim().to_owned();
    let token = place.state().join("admin-token");
    assert!(line.contains(&format!("$(cat '{}')", token.display())), "{line}");
    assert!(!line.contains(&server.token), "the secret itself is not printed");
    assert!(line.contains(&format!("http://{}/v2/default/jobs", server.api)), "{line}");
    let mode = std::fs::metadata(&token).expect("the token").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    assert!(server.banner.iter().any(|line| line.contains(&*place.state().to_string_lossy())));
    // Pasted into a shell whose `curl` shows what it was given: what it sends, the server takes.
    let pasted = format!("curl() {{ for word in \"$@\"; do printf '%s\\n' \"$word\"; done; }}; {line}");
    let output = std::process::Command::new("sh").args(["-c", &pasted]).output().expect("sh runs");
    let words = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(words.lines().any(|word| word == format!("X-Auth-Token: {}", server.token)), "{words}");
    let body = words.lines().last().expect("a body");
    let reply = server.post("/v2/default/jobs", body);
    assert_eq!(reply.status, 202, "{body}: {}", reply.text);
    let id = reply.json()["job"]["id"].as_str().expect("an id").to_owned();
    server.await_job(&id, "complete");
}

#[test]
fn jobs_of_one_user_share_kept_vms_and_slots_bound_them() {
    let place = Place::quick(30);
    let server = place.serve();
    let ids: Vec<String> = (0..6).map(|n| server.submit(&format!("echo {n}; sleep 0.2"))).collect();
    let mut most = 0;
    for id in &ids {
        await_some("the job to end", || {
            let count = server.get("/v2/default/vms").json()["vms"].as_array().map_or(0, Vec::len);
            most = most.max(count);
            let state = server.get(&format!("/v2/default/jobs/{id}")).json()["job"]["state"].clone();
            if state == "complete" { Ok(()) } else { Err(state.to_string()) }
        });
    }
    assert!((1..=2).contains(&most), "two slots, and {most} VMs");
    for (n, id) in ids.iter().enumerate() {
        let output = server.get(&format!("/v2/default/jobs/{id}/output")).json()["output"].clone();
        assert_eq!(output["stdout"], json!(format!("{n}\n")), "{output}");
    }
}

#[test]
fn a_running_job_that_is_deleted_is_killed() {
    let place = Place::quick(30);
    let server = place.serve();
    let id = server.submit("sleep 1000");
    server.await_job(&id, "running");
    let path = format!("/v2/default/jobs/{id}");
    assert_eq!(server.call("DELETE", &path, "").status, 204);
    // Its VM is free again, for the next one.
    let next = server.submit("pgrep -x sleep -u $(id -u) | wc -l");
    server.await_job(&next, "complete");
    let output = server.get(&format!("/v2/default/jobs/{next}/output")).json();
    assert_eq!(output["output"]["exit_code"], json!(0), "{output}");
}
