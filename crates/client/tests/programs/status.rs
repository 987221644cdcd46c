//! `cloud_status` on the info port: what is asked, and what is printed, to the byte.

use crate::bench::{Bench, Ran, Server};

/// Each option by each of its spellings, alone and with its modifiers.
#[test]
fn every_option_asks_and_prints_what_it_always_did() {
    #[rustfmt::skip]
    let cases = [
        ("",                                       "GET /cloud\n"),
        ("-a",                                     "GET /clusters\n"),
        ("--all-cluster",                          "GET /clusters\n"),
        ("-a -j",                                  "GET /clusters.json\n"),
        ("-aj",                                    "GET /clusters.json\n"),
        ("-c mouse",                               "GET /clusters/mouse\n"),
        ("-cmouse",                                "GET /clusters/mouse\n"),
        ("--cluster mouse",                        "GET /clusters/mouse\n"),
        ("--cluster=mouse",                        "GET /clusters/mouse\n"),
        ("-c mouse -j",                            "GET /clusters/mouse.json\n"),
        ("-c mouse -n vm-1",                       "GET /clusters/mouse/vms/vm-1\n"),
        ("-c mouse --vm-info vm-1",                "GET /clusters/mouse/vms/vm-1\n"),
        ("-c mouse -n vm-1 -j",                    "GET /clusters/mouse/vms/vm-1.json\n"),
        ("-c a/b -n c#d%e",                        "GET /clusters/a%2Fb/vms/c%23d%25e\n"),
        ("-n vm-1",                                "Please provide -c cluster_name with vm ID\n"),
        ("-m",                                     "GET /vms\n"),
        ("--virtual-machines",                     "GET /vms\n"),
        ("-m -j",                                  "GET /vms\n"),
        ("-j",                                     "GET /cloud\n"),
        ("-d",                                     "GET /developer-info\n"),
        ("--developer-information",                "GET /developer-info\n"),
        ("-q new",                                 "Jobs in New Queue\nGET /jobs?state=new\n"),
        ("--job-queue new",                        "Jobs in New Queue\nGET /jobs?state=new\n"),
        ("-q sched",                               "Jobs in Scheduled Queue\nGET /jobs?state=sched\n"),
        ("-q high",                                "Jobs in High Priority Queue\nGET /jobs?state=high\n"),
        ("-q held",                                "Jobs in Held state\nGET /jobs?state=held\n"),
        ("-q idle",                                "Jobs in Idle state\nGET /jobs?state=idle\n"),
        ("-q complete",                            "Jobs in Complete state\nGET /jobs?state=complete\n"),
        ("-q running",                             "Jobs in Running state\nGET /jobs?state=running\n"),
        ("-q all",                                 "Jobs in Scheduled Queue\nGET /jobs?state=sched\nJobs in New Queue\nGET /jobs?state=new\nJobs in High Priority Queue\nGET /jobs?state=high\n"),
        ("-i",                                     "GET /ips\n"),
        ("--ip-address",                           "GET /ips\n"),
        ("-b",                                     "GET /vms?metric=startup_time\n"),
        ("--boot-time",                            "GET /vms?metric=startup_time\n"),
        ("-t",                                     "GET /diff-types\n"),
        ("--diff_type",                            "GET /diff-types\n"),
        ("-g",                                     "GET /vms?metric=job_run_times\n"),
        ("--avg_job_time",                         "GET /vms?metric=job_run_times\n"),
        ("-l",                                     "GET /cloud/config\n"),
        ("--cloud-conf",                           "GET /cloud/config\n"),
        ("-o",                                     "GET /vms?metric=total\n"),
        ("--total-vms",                            "GET /vms?metric=total\n"),
        ("-o -c mouse",                            "GET /clusters/mouse/vms?metric=total\n"),
        ("-j -o -c mouse",                         "GET /clusters/mouse.json\n"),
        ("-u",                                     "GET /vms?metric=all\n"),
        ("--vm-status",                            "GET /vms?metric=all\n"),
        ("-u -c mouse",                            "GET /clusters/mouse/vms?metric=all\n"),
        ("-r",                                     "GET /vms?metric=missing\n"),
        ("--missing-vms",                          "GET /vms?metric=missing\n"),
        ("-x",                                     "GET /thread-heart-beats\n"),
        ("--heart-beats",                          "GET /thread-heart-beats\n"),
        ("-z",                                     "GET /failures/boot\n"),
        ("--boot-failures",                        "GET /failures/boot\n"),
        ("-w",                                     "GET /failures/image\n"),
        ("--image-failures",                       "GET /failures/image\n"),
        ("-v",                                     "GET /\nCloud Status version: 1.13.2\n"),
        ("--version",                              "GET /\nCloud Status version: 1.13.2\n"),
        ("word -a another",                        "GET /clusters\n"),
        ("-- -a",                                  "GET /cloud\n"),
    ];
    let (bench, server) = (Bench::new(), Server::start(&[]));
    for (line, out) in cases {
        let expected = Ran { out: out.into(), err: String::new(), code: 0 };
        assert_eq!(bench.status(&server, line), expected, "{line}");
        let questions: Vec<&str> = out.lines().filter(|line| line.starts_with("GET ")).collect();
        assert_eq!(server.lines(), questions, "{line}");
    }
}

#[test]
fn bodies_are_printed_as_they_are_and_status_codes_do_not_count() {
    let table =
        "Resource pool Resources:\nNAME             CLOUD TYPE NETWORK ADDRESS                ENABLED    \n";
    let cases = [
        (200, table, format!("{table}\n")),
        (200, "", "\n".into()),
        (200, "{\"VMs\": []}", "{\"VMs\": []}\n".into()),
        (200, "1 Running,1 Error,", "1 Running,1 Error,\n".into()),
        (200, "caf\u{e9}\t\u{1f600}", "caf\u{e9}\t\u{1f600}\n".into()),
        (404, "not found", "not found\n".into()),
        (405, "None", "None\n".into()),
        (500, "internal server error", "internal server error\n".into()),
    ];
    let bench = Bench::new();
    for (status, body, out) in cases {
        let server = Server::start(&[("GET /cloud", status, body)]);
        assert_eq!(bench.status(&server, ""), Ran { out, err: String::new(), code: 0 }, "{status} {body}");
    }
}

#[test]
fn json_is_the_servers_own_or_wraps_its_text() {
    let server = Server::start(&[
        ("GET /clusters.json", 200, "{\"resources\": []}"),
        ("GET /clusters/C.json", 404, "not found"),
        ("GET /", 200, "Cloud Scheduler version: 1.13.2"),
    ]);
    let cases = [
        ("-a --json", "{\"resources\": []}\n"),
        ("-c C --json", "{\"text\":\"not found\"}\n"),
        ("-c C -j", "not found\n"),
        ("--json", "{\"text\":\"GET /cloud\"}\n"),
        ("-m --json", "{\"text\":\"GET /vms\"}\n"),
        ("-q new --json", "{\"text\":\"Jobs in New Queue\\nGET /jobs?state=new\"}\n"),
        ("-v --json", "{\"text\":\"Cloud Scheduler version: 1.13.2\\nCloud Status version: 1.13.2\"}\n"),
        ("-n V --json", "{\"text\":\"Please provide -c cluster_name with vm ID\"}\n"),
    ];
    let bench = Bench::new();
    for (line, out) in cases {
        assert_eq!(bench.status(&server, line).out, out, "{line}");
    }
}

#[test]
fn strict_codes_tell_a_refusal_from_an_answer() {
    let server = Server::start(&[
        ("GET /clusters/nope", 200, "Cluster Info: nope\nCluster named nope not found."),
        ("GET /clusters/nope.json", 200, "{}"),
        ("GET /clusters/C/vms/V", 200, "VM Info for VM id: V\nVM with id: V not found."),
        ("GET /shared-objs", 500, "internal server error"),
        ("GET /diff-types", 404, "not found"),
        // A reason that sounds like a refusal, in an answer that is none.
        ("GET /failures/boot", 200, "Job Failure Reasons:\nUnable to boot on alpha"),
    ]);
    let bench = Bench::new();
    let cases = [
        ("", 0),
        ("-c nope", 1),
        ("-c nope -j", 1),
        ("-c C -n V", 1),
        ("-c C", 0),
        ("-t", 1),
        ("-z", 0),
        ("-n V", 2),
        ("-q nope", 2),
    ];
    for (line, code) in cases {
        assert_eq!(bench.status(&server, &format!("{line} --strict")).code, code, "{line}");
        let old = if code == 2 && line != "-n V" { 2 } else { 0 };
        assert_eq!(bench.status(&server, line).code, old, "{line}");
    }
}

#[test]
fn a_token_is_sent_where_it_was_said_and_the_environments_is_not() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    let sent = |asked: Vec<crate::bench::Asked>| {
        let head = asked.into_iter().flat_map(|asked| asked.head);
        head.filter(|line| line.starts_with("x-auth-token")).collect::<Vec<_>>()
    };
    bench.status(&server, "--token s3cret");
    assert_eq!(sent(server.asked()), ["x-auth-token: s3cret"]);
    crate::bench::secret(&bench.path().join("token"), "fr0m-file\n");
    bench.status(&server, "--token-file token");
    assert_eq!(sent(server.asked()), ["x-auth-token: fr0m-file"]);
    let port = server.port.to_string();
    let mut command = bench.command(crate::bench::STATUS);
    command.env("PILEUS_TOKEN", "s3cret").args(["-s", "127.0.0.1", "-p", &port]).output().unwrap();
    assert!(sent(server.asked()).is_empty());
}
