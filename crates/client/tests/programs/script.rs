//! Every command of both programs once, by a shell script, against answers as Cloud Scheduler gives
//! them; and the same script with `--project`.
//!
//! The expected outputs stand beside the script; `UPDATE_EXPECTED=1` writes them anew, to be read
//! before they are kept.

use std::{path::Path, process::Command};

use crate::{
    bench::{ADMIN, Bench, STATUS, Server},
    native,
};

const POOL: &str = "Resource pool Resources:
NAME             CLOUD TYPE NETWORK ADDRESS                ENABLED    
mouse            OpenStack  mouse.example.org              True       
";

const CLUSTER: &str = "Cluster: mouse 
ADDRESS                      CLOUD TYPE         VMS/MAX         MEMORY        STORAGE       PRIORITY     ENABLED   
    mouse.example.org         OpenStack         1 / 10           19976           490            0           True     

";

const VM: &str =
    "testvm host1                     vmt                  testuser   Running      mouse          \n";

const JOBS: &str =
    "Global ID            User            VM Type         Job Status Status       Cloud          \n";

/// As Cloud Scheduler answers, in the words of its contract.
fn old_answers() -> Vec<(&'static str, u16, String)> {
    let vms = "ID     HOSTNAME                  VMTYPE               USER       STATUS       CLUSTER                \n";
    let fixed = [
        ("GET /", "Cloud Scheduler version: 1.13.2"),
        ("GET /cloud", POOL),
        ("GET /cloud/config", "mouse [cloud_type,OpenStack][vm_slots,10]\n"),
        ("GET /clusters.json", r#"{"name": "Resources", "resources": []}"#),
        ("GET /clusters/mouse.json", r#"{"name": "mouse", "vms": []}"#),
        ("GET /clusters/mouse/vms/testvm.json", r#"{"id": "testvm"}"#),
        ("GET /clusters/mouse/vms?metric=total", "1"),
        ("GET /clusters/mouse/vms?metric=all", "1 Running,"),
        ("GET /vms?metric=total", "1"),
        ("GET /vms?metric=all", "1 Running,"),
        (
            "GET /vms?metric=missing",
            "List of Condor Entries with no match in Cloud Scheduler(host:startd):\n",
        ),
        ("GET /vms?metric=startup_time", "Cluster: mouse 90,  Avg: 90 "),
        ("GET /vms?metric=job_run_times", "Run Times of Jobs on VMs\nhost1 : avg 20.000000\n"),
        ("GET /developer-info", "You need to have Guppy installed to get developer information"),
        ("GET /ips", "[host1]\n\taddress 110.1.1.1\n"),
        ("GET /diff-types", "Diff Types dictionary\nCurrent Types (vms)\nDesired Types (jobs)\n"),
        ("GET /failures/boot", "Job Failure Reasons:\n"),
        ("GET /failures/image", "Image Failure List\n"),
        ("GET /thread-heart-beats", "Thread Heart beat times:\n   Scheduler Thread(5): 19\n"),
        ("POST /user-limits", "True"),
        ("GET /user-limits", "{u'bob': 5, u'alice': 2}"),
        ("POST /cloud-aliases", "False"),
        ("GET /cloud-aliases", "{u'West': [u'Alpha', u'beta-two']}"),
        ("PUT /clouds/mouse/vms/testvm action=shutdown", ""),
        ("PUT /clouds/mouse/vms/testvm action=remove", "Removed mouse's VM testvm from CloudScheduler."),
        ("PUT /clouds/mouse/vms/testvm action=force_retire", "Retired VM testvm on mouse."),
        ("PUT /clouds/mouse/vms/testvm action=reset_override_state", "Reset state of mouse on testvm"),
        ("PUT /clouds/mouse/vms action=shutdown&count=all", "VM testvm has been Destroyed."),
        ("PUT /clouds/mouse/vms action=shutdown&count=1", "VM testvm has been Destroyed."),
        ("PUT /clouds/mouse/vms action=remove&count=all", "Removed all VMs from mouse."),
        ("PUT /clouds/mouse/vms action=force_retire&count=all", "Retired all VMs in mouse."),
        ("PUT /clouds/mouse/vms action=force_retire&count=1", "Retired 1 VM(s) in mouse."),
        ("PUT / log_level=DEBUG", ""),
        ("POST / action=quick_shutdown", ""),
        ("PUT /clouds/mouse allocations=5", "Attempt adjustment on cloud mouse, change to 5 slots"),
        ("PUT /clouds/mouse action=disable", "Cloud: mouse disabled."),
        ("PUT /clouds/mouse action=enable", "Cloud: mouse enabled."),
    ];
    let mut rules: Vec<_> = fixed.into_iter().map(|(line, body)| (line, 200, body.to_owned())).collect();
    rules.push(("GET /clusters", 200, format!("Clusters in resource pool:\n{CLUSTER}")));
    rules.push(("GET /clusters/mouse", 200, format!("Cluster Info: mouse\n{CLUSTER}")));
    rules.push(("GET /clusters/mouse/vms/testvm", 200, format!("VM Info for VM id: testvm\n{VM}")));
    rules.push(("GET /vms", 200, format!("{vms}{VM}\nTotal VMs: 1. Total Clouds: 1")));
    for state in ["sched", "new", "high", "held", "idle", "complete", "running"] {
        let line = format!("GET /jobs?state={state}").leak();
        let job =
            "e.org#0.0#1460000000 alice           vmt             Idle       Unscheduled                 \n";
        let row = if state == "new" { job } else { "" };
        rules.push((line, 200, format!("{JOBS}{row}")));
    }
    // The handler was broken for years.
    rules.push(("POST /users/testuser refresh=job_proxy", 500, "internal server error".into()));
    rules.push(("POST /users/testuser refresh=vm_proxy", 500, "internal server error".into()));
    rules
}

fn compare(server: &Server, options: &[&str], expected: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let bench = Bench::new();
    let port = server.port;
    let output = Command::new("sh")
        .arg(folder.join("every_command.sh"))
        .arg(format!("{STATUS} -s 127.0.0.1 -p {port}"))
        .arg(format!("{ADMIN} -s 127.0.0.1 -P {port}"))
        .args(options)
        .env("HOME", bench.path())
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap().replace(&format!(":{port}"), ":PORT");
    let file = folder.join(expected);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, &out).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    for (at, (is, should)) in out.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "line {} of {}", at + 1, file.display());
    }
    assert_eq!(out, expected);
}

#[test]
fn every_command_on_the_old_ports() {
    let answers = old_answers();
    let server = Server::with(answers.clone());
    compare(&server, &[], "every_command.old.out");
    let unknown: Vec<String> =
        server.lines().into_iter().filter(|line| !answers.iter().any(|answer| answer.0 == line)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_command_in_a_project() {
    compare(&Server::with(native::rules()), &["--project", "demo"], "every_command.v2.out");
}
