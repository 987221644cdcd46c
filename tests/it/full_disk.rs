//! A disk that a job fills: what ends things is still written.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{Place, QUICK, Server, await_some};

/// Runs the test below in a mount namespace of its own.
#[test]
fn a_job_that_fills_the_disk_ends_and_others_can_be_deleted() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let test = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(test).args(["--exact", "full_disk::in_a_small_file_system", "--ignored"]);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: unshare cannot be run: {error}");
            return;
        }
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("unshare failed") {
        eprintln!("skipped: {stderr}");
        return;
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

fn free(path: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(path).expect("a file system");
    found.blocks_available() * found.fragment_size()
}

fn submit(server: &Server<'_>, command: &str) -> u16 {
    let body = json!({ "job": { "command": ["/bin/sh", "-c", command], "memory_mib": 64 } });
    server.post("/v2/default/jobs", &body.to_string()).status
}

fn vms(server: &Server<'_>) -> Vec<Value> {
    server.get("/v2/default/vms").json()["vms"].as_array().expect("VMs").clone()
}

#[test]
#[ignore = "mounts a file system: it is run by the test above, in a namespace of its own"]
fn in_a_small_file_system() {
    let place = Place::new(QUICK);
    fs::create_dir(place.state()).expect("a folder");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=48m,mode=0711", "tmpfs"]).arg(place.state());
    assert!(mount.status().expect("mount runs").success());
    let server = place.serve();
    // Waits, and is deleted while the disk is full.
    let waiting = server.submit("sleep 1000");
    let held = server.post(&format!("/v2/default/jobs/{waiting}/action"), r#"{"hold": null}"#);
    assert!(held.status < 300, "{}", held.text);
    // It writes again and again: whatever becomes free is taken at once.
    let filler = place.state().join("filler");
    fs::write(&filler, "").expect("a file");
    let greedy = server.submit("sleep 3; yes | head -c 2000000");
    let running = server.submit("sleep 1000");
    for job in [&greedy, &running] {
        server.await_job(job, "running");
    }
    let mut fill = Command::new("sh");
    fill.arg("-c").arg(format!("while :; do cat /dev/zero >> '{}'; sleep 0.01; done", filler.display()));
    let mut fill = fill.stderr(std::process::Stdio::null()).spawn().expect("sh runs");
    await_some("a full disk", || if free(&place.state()) == 0 { Ok(()) } else { Err("it has room") });
    await_some("submissions to be refused", || match submit(&server, "true") {
        507 => Ok(()),
        status => Err(status.to_string()),
    });
    // The job ends, with a part of its output.
    let done = server.await_job(&greedy, "complete");
    assert_eq!(done["state"], "complete", "{done}");
    let deleted = server.call("DELETE", &format!("/v2/default/jobs/{waiting}"), "");
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    let vm = server.get(&format!("/v2/default/jobs/{running}")).json()["job"]["vm"].clone();
    let vm = vm.as_str().expect("a VM").to_owned();
    let retired = server.post(&format!("/v2/default/vms/{vm}/action"), r#"{"force_retire": null}"#);
    assert!(retired.status < 300, "{}", retired.text);
    let deleted = server.call("DELETE", &format!("/v2/default/jobs/{running}"), "");
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    await_some("the VM to be gone", || {
        let left = vms(&server);
        if left.iter().all(|it| it["id"] != vm.as_str()) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert_eq!(submit(&server, "true"), 507, "still full");
    // The log keeps its level where no event can tell who changed it; quick shutdown is set all the same.
    let switches = [
        (r#"{"set_log_level": {"level": "critical"}}"#, 507),
        (r#"{"quick_shutdown": {"enabled": false}}"#, 200),
    ];
    for (body, status) in switches {
        let reply = server.post("/v2/default/service/action", body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
    }
    fill.kill().expect("a process");
    fill.wait().expect("its end");
    fs::remove_file(&filler).expect("a file");
    await_some("submissions to be accepted", || match submit(&server, "true") {
        202 => Ok(()),
        status => Err(status.to_string()),
    });
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("service action takes effect without its event"), "{log}");
    let server = place.serve();
    assert_eq!(server.get(&format!("/v2/default/jobs/{greedy}")).json()["job"]["state"], "complete");
    let job = server.get(&format!("/v2/default/jobs/{waiting}")).json()["job"].clone();
    assert!(job["finished"].is_string(), "{job}");
}
