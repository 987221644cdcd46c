//! Start of jobs by the built program: every kind of command, for VMs of every size, as root and not as root.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::support::{Place, QUICK, Server, await_some, is_root};

/// A place with one large cloud.
fn large() -> Place {
    Place::new(&format!("{QUICK}memory_mib = 8192\nkeep_alive_s = 2\n"))
}

#[test]
fn every_command_starts_or_has_the_right_reason() {
    commands(&large());
}

#[test]
fn every_command_starts_or_has_the_right_reason_without_root() {
    if is_root() {
        commands(&large().without_root());
    }
}

fn commands(place: &Place) {
    let files = tempfile::tempdir().expect("a folder");
    let config = fs::read_to_string(place.path().join("pileus.toml")).expect("a file");
    place.write("pileus.toml", &format!("{config}\n[local]\nreadable = [{:?}]\n", files.path()));
    fs::set_permissions(files.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
    let file = |name: &str, mode, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
        path.display().to_string()
    };
    let plain = file("plain", 0o644, "#!/bin/sh\n");
    let without = file("without", 0o755, "echo no interpreter\n");
    let missing = file("missing", 0o755, "#!/no/such/interpreter -x\n");
    let folder = files.path().display().to_string();
    let up = format!("{}bin/true", "../".repeat(40));
    // Case, program, reason; no reason: it runs.
    let cases = [
        ("absolute", "/bin/true", None),
        ("relative", &*up, None),
        ("by PATH", "true", None),
        ("missing", "/no/such/program", Some("no such program")),
        ("missing in PATH", "no-such-program", Some("no such program")),
        ("folder", &*folder, Some("it is a folder")),
        ("not executable", &*plain, Some("it is not executable")),
        ("no `#!`", &*without, Some("nor a script that begins with `#!`")),
        ("no interpreter", &*missing, Some("its interpreter /no/such/interpreter does not exist")),
    ];
    let server = place.serve();
    for memory_mib in [64, 512, 1024, 4096] {
        let jobs: Vec<String> =
            cases.iter().map(|(_, program, _)| submit(&server, &[program], memory_mib)).collect();
        for ((what, program, reason), id) in cases.iter().zip(jobs) {
            let job = ended(&server, &id);
            match reason {
                None => assert_eq!(job["exit_code"], json!(0), "{what}, {memory_mib} MiB: {job}"),
                Some(reason) => {
                    assert_eq!(job["state"], "error", "{what}, {memory_mib} MiB: {job}");
                    let said = job["reason"].as_str().unwrap_or_default();
                    assert!(
                        said.contains(reason) && said.contains(program),
                        "{what}, {memory_mib} MiB: {job}"
                    );
                }
            }
        }
    }
    let script = "ulimit -d; ulimit -c; echo $(( 0x$(grep SigIgn /proc/self/status | cut -f 2) & 0x1000 ))";
    let limits = submit(&server, &["sh", "-c", script], 4096);
    ended(&server, &limits);
    let output = server.get(&format!("/v2/default/jobs/{limits}/output")).json()["output"].clone();
    assert_eq!(output["stdout"], "4194304\n0\n0\n", "SIGPIPE is not ignored: {output}");
}

fn submit(server: &Server<'_>, command: &[&str], memory_mib: u32) -> String {
    let body = json!({ "job": { "command": command, "memory_mib": memory_mib } });
    let reply = server.post("/v2/default/jobs", &body.to_string());
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.json()["job"]["id"].as_str().expect("an id").to_owned()
}

fn ended(server: &Server<'_>, id: &str) -> Value {
    await_some("the job to end", || {
        let reply = server.get(&format!("/v2/default/jobs/{id}"));
        let job = reply.json()["job"].clone();
        if job["state"] == "complete" || job["state"] == "error" { Ok(job) } else { Err(reply.text) }
    })
}
