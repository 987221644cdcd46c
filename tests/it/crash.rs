//! `kill -9` at any moment and a new start: nothing acknowledged is lost, nothing runs twice.

use std::{fs, process::Command, thread, time::Duration};

use serde_json::json;

use crate::support::{Place, QUICK, await_some};

#[test]
fn a_killed_server_finds_its_running_job_again_and_runs_it_once() {
    let place = Place::quick(1);
    let proof = place.path().join("proof");
    fs::write(&proof, "").expect("a file");
    // Root's workers are other users.
    let mut mode = fs::metadata(&proof).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o666);
    fs::set_permissions(&proof, mode).expect("permissions");
    let mut mode = fs::metadata(place.path()).expect("a folder").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(place.path(), mode).expect("permissions");

    let server = place.serve();
    let script = format!("echo ran >> {}; sleep 3; echo done", proof.display());
    let id = server.submit(&script);
    let vm = server.await_job(&id, "running")["vm"].clone();
    assert_eq!(server.admin("PUT", "/clouds/local?allocations=5", "").status, 200);
    await_some("the job to have begun", || {
        if fs::read_to_string(&proof).expect("a file").is_empty() { Err("not yet") } else { Ok(()) }
    });
    server.kill();
    assert!(!place.workers().is_empty(), "workers outlive a kill");

    let server = place.serve();
    let done = server.await_job(&id, "complete");
    assert_eq!((&done["vm"], &done["attempts"]), (&vm, &json!(1)), "{done}");
    let output = server.get(&format!("/v2/default/jobs/{id}/output")).json();
    assert_eq!(output["output"]["stdout"], json!("done\n"), "{output}");
    assert_eq!(fs::read_to_string(&proof).expect("a file"), "ran\n", "once, not twice");
    assert_eq!(server.get("/v2/default/clouds/local").json()["cloud"]["vm_slots"], json!(5));
    server.await_no_vms();
    assert_eq!(place.workers(), [0_u32; 0]);
}

#[test]
fn a_job_that_ends_while_nobody_listens_is_reported_afterwards() {
    let place = Place::quick(30);
    let server = place.serve();
    let id = server.submit("sleep 1; echo late; exit 7");
    server.await_job(&id, "running");
    server.kill();
    thread::sleep(Duration::from_millis(1500));
    let server = place.serve();
    server.await_job(&id, "complete");
    let output = server.get(&format!("/v2/default/jobs/{id}/output")).json();
    assert_eq!(
        (&output["output"]["stdout"], &output["output"]["exit_code"]),
        (&json!("late\n"), &json!(7)),
        "{output}"
    );
}

#[test]
fn a_job_whose_worker_is_killed_runs_again_on_another_vm() {
    // Were the VM given up after five bad answers, as one of a cloud that may be mistaken, it would
    // take longer than anybody waits here.
    let place =
        Place::new(&QUICK.replace("[clouds.local]", "polling_error_threshold = 1000\n\n[clouds.local]"));
    let server = place.serve();
    let id = server.submit("sleep 3; echo again");
    let lost = server.await_job(&id, "running")["vm"].clone();
    for worker in place.workers() {
        Command::new("kill").args(["-KILL", &worker.to_string()]).status().expect("kill runs");
    }
    let done = server.await_job(&id, "complete");
    assert_eq!((&done["attempts"], done["vm"] == lost), (&json!(2), false), "{done}");
    let output = server.get(&format!("/v2/default/jobs/{id}/output")).json();
    assert_eq!(output["output"]["stdout"], json!("again\n"), "{output}");
}

/// Kills at moments spread over the whole life of jobs; every acknowledged job runs to its end.
#[test]
fn nothing_acknowledged_is_lost_whenever_the_server_is_killed() {
    let place = Place::quick(1);
    let mut acknowledged = Vec::new();
    for (round, pause_ms) in [0_u64, 5, 20, 60, 150, 400, 900, 1600].into_iter().enumerate() {
        let server = place.serve();
        for job in &acknowledged {
            let reply = server.get(&format!("/v2/default/jobs/{job}"));
            assert_eq!(reply.status, 200, "round {round}: an acknowledged job is lost: {}", reply.text);
        }
        acknowledged.push(server.submit(&format!("sleep 0.3; echo {round}")));
        acknowledged.push(server.submit(&format!("echo {round}")));
        thread::sleep(Duration::from_millis(pause_ms));
        server.kill();
    }
    let server = place.serve();
    for (index, job) in acknowledged.iter().enumerate() {
        server.await_job(job, "complete");
        let output = server.get(&format!("/v2/default/jobs/{job}/output")).json();
        assert_eq!(output["output"]["stdout"], json!(format!("{}\n", index / 2)), "{output}");
    }
    server.await_no_vms();
    assert_eq!(place.workers(), [0_u32; 0], "no worker is left behind unowned");
    let used = server.get("/v2/default/clouds/local").json();
    assert_eq!(used["cloud"]["used"]["vm_slots"], json!(0), "{used}");
}

#[test]
fn what_an_administrator_said_of_a_cloud_outlives_a_kill() {
    let place = Place::quick(1);
    let server = place.serve();
    assert_eq!(server.admin("PUT", "/clouds/local?action=disable", "").text, "Cloud: local disabled.");
    server.kill();
    let server = place.serve();
    let cloud = server.get("/v2/default/clouds/local").json()["cloud"].clone();
    assert_eq!(cloud["enabled"], json!(false), "{cloud}");
    assert!(server.info("/cloud").text.contains("False"));
}

#[test]
fn a_state_folder_has_one_owner() {
    let place = Place::quick(1);
    let server = place.serve();
    let (status, stdout, stderr) = place.run(&["serve"]);
    assert_eq!(status.code(), Some(69), "{stdout}{stderr}");
    assert!(stderr.contains("in use") && stderr.contains("var"), "{stderr}");
    assert_eq!(server.get("/v2/default/jobs").status, 200, "the owner goes on");
}

/// He who keeps it elsewhere gets no second one; he who lost it reads so, and not only a 401.
#[test]
fn a_lost_administrators_token_is_said_and_not_made_again() {
    let place = Place::quick(1);
    let (_, log) = place.serve().stop();
    assert!(!log.contains("its file is gone"), "{log}");
    let file = place.state().join("admin-token");
    std::fs::write(&file, "").expect("an empty file");
    let server = place.serve();
    assert_eq!(server.get("/v2/default/jobs").status, 401, "no token");
    let (_, log) = server.stop();
    assert!(log.contains("its file is gone"), "{log}");
    assert_eq!(std::fs::read_to_string(file).expect("a file"), "");
}
