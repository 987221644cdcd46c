//! `cloud_admin` on the admin port: what is asked, and what is printed, to the byte.

use crate::bench::{Bench, Ran, Server};

const KILL: &str =
    "Must provide a -n [VM ID], -a to kill all VMs, or -b [count] to kill a set number on cloud.";
const RETIRE: &str =
    "Must provide a -n [VM ID], -a (all), or -b [count] to force retire all or some VMs on this cloud.";

/// The option, what is asked (empty: nothing), what is printed; `@` stands for the server's URL, and a
/// line that is asked for is printed where nothing else is said.
#[rustfmt::skip]
const CASES: &[(&str, &str, &str)] = &[
    ("",                               "", "Run cloud_admin -h for help.\n"),
    ("-k -c C -n V",                   "PUT /clouds/C/vms/V action=shutdown", ""),
    ("--kill-vm --cloud C --vm-id V",  "PUT /clouds/C/vms/V action=shutdown", ""),
    ("-k -c C -a",                     "PUT /clouds/C/vms action=shutdown&count=all", ""),
    ("-k -c C --all",                  "PUT /clouds/C/vms action=shutdown&count=all", ""),
    ("-k -c C -b 3",                   "PUT /clouds/C/vms action=shutdown&count=3", ""),
    ("-k -c C --number=three",         "PUT /clouds/C/vms action=shutdown&count=three", ""),
    ("-k -c C -n V -a -b 3",           "PUT /clouds/C/vms/V action=shutdown", ""),
    ("-k -c C -a -b 3",                "PUT /clouds/C/vms action=shutdown&count=all", ""),
    ("-kacC",                          "PUT /clouds/C/vms action=shutdown&count=all", ""),
    ("-k -c a/b -n i#1",               "PUT /clouds/a%2Fb/vms/i%231 action=shutdown", ""),
    ("-k",                             "", "Must Provide the cloud name to kill VMs on and the VM ID, count, or all flag.\n"),
    ("-k -n V",                        "", "Must Provide the cloud name to kill VMs on and the VM ID, count, or all flag.\n"),
    ("-k -c C",                        "", "KILL"),
    ("-m -c C -n V",                   "PUT /clouds/C/vms/V action=remove", ""),
    ("--remove -c C -n V",             "PUT /clouds/C/vms/V action=remove", ""),
    ("-m -c C -a",                     "PUT /clouds/C/vms action=remove&count=all", "@clouds/C/vms\nPUT /clouds/C/vms action=remove&count=all\n"),
    ("-m -c C~/ -a",                   "PUT /clouds/C%7E%2F/vms action=remove&count=all", "@clouds/C%7E%2F/vms\nPUT /clouds/C%7E%2F/vms action=remove&count=all\n"),
    ("-m -c C -b 3",                   "", "Must provide a -n [VM ID] or -a to remove all VMs on this cloud.\n"),
    ("-m",                             "", "Must Provide the cloud name to remove VMs on and the VM ID or all flag.\n"),
    ("-o -c C -n V",                   "PUT /clouds/C/vms/V action=force_retire", ""),
    ("--force-retire -c C -n V",       "PUT /clouds/C/vms/V action=force_retire", ""),
    ("-o -c C -a",                     "PUT /clouds/C/vms action=force_retire&count=all", ""),
    ("-o -c C -b 3",                   "PUT /clouds/C/vms action=force_retire&count=3", ""),
    ("-o -c C",                        "", "RETIRE"),
    ("-o",                             "", "Must Provide the cloud name to force retire VMs on and the VM ID, all or count flag.\n"),
    ("-x -c C -n V",                   "PUT /clouds/C/vms/V action=reset_override_state", ""),
    ("--reset-vm-state -c C -n V",     "PUT /clouds/C/vms/V action=reset_override_state", ""),
    ("-x -c C",                        "", "Must provide -n [VM ID] to reset state of VM.\n"),
    ("-x -n V",                        "", "Must provide the cloud name and VM ID to reset override state on.\n"),
    ("-e C",                           "PUT /clouds/C action=enable", ""),
    ("--enable=C",                     "PUT /clouds/C action=enable", ""),
    ("-d C",                           "PUT /clouds/C action=disable", ""),
    ("--disable C",                    "PUT /clouds/C action=disable", ""),
    ("-e C -d D",                      "PUT /clouds/C action=enable", ""),
    ("--enable= -d D",                 "PUT /clouds/D action=disable", ""),
    ("-r",                             "", "Reconfig Disabled - use 'quickrestart'\n"),
    ("--reconfig",                     "", "Reconfig Disabled - use 'quickrestart'\n"),
    ("-i",                             "POST /user-limits", "No Limits set - list empty or problem parsing file.\n"),
    ("--reload-limits",                "POST /user-limits", "No Limits set - list empty or problem parsing file.\n"),
    ("-j",                             "GET /user-limits", ""),
    ("--list-limits",                  "GET /user-limits", ""),
    ("-t",                             "POST /cloud-aliases", "Failed to load alias file - check json format, path, or permissions.\n"),
    ("--reload-target-alias",          "POST /cloud-aliases", "Failed to load alias file - check json format, path, or permissions.\n"),
    ("-y",                             "GET /cloud-aliases", ""),
    ("--list-alias",                   "GET /cloud-aliases", ""),
    ("-l DEBUG",                       "PUT / log_level=DEBUG", ""),
    ("--log-level debug",              "PUT / log_level=debug", ""),
    ("-l Debug",                       "PUT / log_level=Debug", ""),
    ("-p vm -u ann",                   "POST /users/ann refresh=vm_proxy", "Refreshing VM proxies for user ann.\n"),
    ("-p job -u ann",                  "POST /users/ann refresh=job_proxy", "Refreshing Job proxies for user ann.\n"),
    ("--refresh-proxy job --user /O=x","POST /users/%2FO%3Dx refresh=job_proxy", "Refreshing Job proxies for user /O=x.\n"),
    ("-p vm",                          "", "Must Specify a user with -u or --user.\n"),
    ("-q",                             "POST / action=quick_shutdown", "POST / action=quick_shutdown\nToggled Quick shutdown flag.\n"),
    ("--quick-exit",                   "POST / action=quick_shutdown", "POST / action=quick_shutdown\nToggled Quick shutdown flag.\n"),
    ("-v 5 -c C",                      "PUT /clouds/C allocations=5", "Adjusting vm_slots on C to 5\nPUT /clouds/C allocations=5\n"),
    ("--vm-allocation 5 -c C",         "PUT /clouds/C allocations=5", "Adjusting vm_slots on C to 5\nPUT /clouds/C allocations=5\n"),
    ("-v -1 -c C",                     "PUT /clouds/C allocations=-1", "Adjusting vm_slots on C to -1\nPUT /clouds/C allocations=-1\n"),
    ("-v 5",                           "", "Change vm slot of cloud need '-c cloudname' for cloud to change allocation of\n"),
    ("-c C",                           "", "Run cloud_admin -h for help.\n"),
    ("-C why",                         "", "Run cloud_admin -h for help.\n"),
];

#[test]
fn every_option_asks_and_prints_what_it_always_did() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    let base = format!("http://127.0.0.1:{}/", server.port);
    for (line, asked, out) in CASES {
        let out = match *out {
            "" => format!("{asked}\n"),
            "KILL" => format!("{KILL}\n"),
            "RETIRE" => format!("{RETIRE}\n"),
            out => out.replace('@', &base),
        };
        assert_eq!(bench.admin(&server, line), Ran { out, err: String::new(), code: 0 }, "{line}");
        assert_eq!(server.lines().join("\n"), *asked, "{line}");
    }
}

/// Options in the order in which they win; each is given together with all behind it.
#[test]
fn the_first_option_wins_over_all_behind_it() {
    let order = [
        ("-k -c C -n V", "PUT /clouds/C/vms/V action=shutdown"),
        ("-m -c C -n V", "PUT /clouds/C/vms/V action=remove"),
        ("-o -c C -n V", "PUT /clouds/C/vms/V action=force_retire"),
        ("-x -c C -n V", "PUT /clouds/C/vms/V action=reset_override_state"),
        ("-e C", "PUT /clouds/C action=enable"),
        ("-d C", "PUT /clouds/C action=disable"),
        ("-r", ""),
        ("-i", "POST /user-limits"),
        ("-j", "GET /user-limits"),
        ("-t", "POST /cloud-aliases"),
        ("-y", "GET /cloud-aliases"),
        ("-l INFO", "PUT / log_level=INFO"),
        ("-p vm -u ann", "POST /users/ann refresh=vm_proxy"),
        ("-q", "POST / action=quick_shutdown"),
        ("-v 5 -c C", "PUT /clouds/C allocations=5"),
    ];
    let (bench, server) = (Bench::new(), Server::start(&[]));
    for at in 0..order.len() {
        let mut line: Vec<&str> = order[at..].iter().map(|(option, _)| *option).collect();
        line.reverse();
        bench.admin(&server, &line.join(" "));
        assert_eq!(server.lines().join("\n"), order[at].1, "{line:?}");
    }
}

#[test]
fn a_reload_is_good_when_the_body_is_true() {
    let server = Server::start(&[("POST /user-limits", 200, "True"), ("POST /cloud-aliases", 200, "True")]);
    let bench = Bench::new();
    assert_eq!(bench.admin(&server, "-i").out, "User-Limit file reloaded.\n");
    assert_eq!(bench.admin(&server, "-t").out, "Target Cloud Alias file reloaded.\n");
}

/// `admin_log_comments`: what is asked without a comment, and with one.
#[test]
fn comments_are_wanted_of_every_change_but_two() {
    let wants =
        "Admin comments being enforced. Please use -C 'reason for command' when performing this option.\n";
    let help = "Run cloud_admin -h for help.\n";
    let changes = [
        "-k -c C -n V",
        "-m -c C -n V",
        "-o -c C -n V",
        "-x -c C -n V",
        "-i",
        "-t",
        "-l INFO",
        "-p vm -u u",
        "-q",
        "-v 5 -c C",
    ];
    let bench = Bench::new();
    bench.configure("cloud_scheduler.conf", "[logging]\nadmin_log_comments: true\n");
    let server = Server::start(&[]);
    for line in changes {
        assert_eq!(bench.admin(&server, line).out, format!("{wants}{help}"), "{line}");
        assert!(server.lines().is_empty(), "{line}");
        bench.admin(&server, &format!("{line} -C because"));
        assert_eq!(server.lines().len(), 1, "{line}");
        assert_eq!(bench.admin(&server, &format!("{line} --strict")).code, 2, "{line}");
    }
    for line in ["-e C", "-d C", "-j", "-y"] {
        bench.admin(&server, line);
        assert_eq!(server.lines().len(), 1, "{line}");
    }
    // The next option that matches is considered.
    let out = bench.admin(&server, "-k -c C -n V -d C").out;
    assert_eq!(out, format!("{wants}PUT /clouds/C action=disable\n"));
}

#[test]
fn what_was_done_is_noted_and_why() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    let log = bench.path().join("admin.log");
    let settings = format!(
        "[logging]\nlog_level: DEBUG\nlog_format: %(levelname)s %(message)s\nlog_location_cloud_admin: {}\n",
        log.display()
    );
    bench.configure("cloud_scheduler.conf", &settings);
    let cases = [
        ("-k -c C -n V", "INFO Shutting down VM: V on: C"),
        ("-m -c C -a", "INFO Removing all VM entries from Cloud Scheduler on cloud: C"),
        ("-o -c C -b 2", "INFO Force retiring 2 VMs, on cloud: C"),
        ("-x -c C", "DEBUG Reset state attempted without valid vm id."),
        ("-e C", "INFO Cloud: C enabled."),
        ("-d C", "INFO Cloud: C disabled."),
        ("-r", "DEBUG Call to disabled reconfig option. service quickrestart suggested."),
        ("-i", "DEBUG Problem reloading user limits, check format, path, permissions."),
        ("-p job -u ann", "INFO Refresh job proxies for user ann"),
        ("-v 5 -c C", "INFO Attempting to adjust vm allocation on C. Target: 5"),
        ("", "DEBUG Invoked with no arguments or other error."),
    ];
    for (line, noted) in cases {
        std::fs::remove_file(&log).ok();
        bench.admin(&server, line);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), format!("{noted}\n"), "{line}");
    }
    bench.configure("cloud_scheduler.conf", &format!("{settings}admin_log_comments: on\nlog_stdout: on\n"));
    std::fs::remove_file(&log).ok();
    let noted = "INFO Comment: too hot\nINFO Shutting down all VMs on cloud: C\n";
    let port = server.port.to_string();
    let words = ["-s", "127.0.0.1", "-P", &port, "-k", "-c", "C", "-a", "-C", "too hot"];
    let ran = bench.run_words(crate::bench::ADMIN, &words);
    assert_eq!((std::fs::read_to_string(&log).unwrap().as_str(), ran.err.as_str()), (noted, noted));
}

#[test]
fn nothing_is_changed_where_it_cannot_be_noted() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    bench.configure("cloud_scheduler.conf", "[logging]\nlog_location_cloud_admin: /nowhere/admin.log\n");
    let ran = bench.admin(&server, "-e C");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("log_location_cloud_admin /nowhere/admin.log: "), "{}", ran.err);
    assert!(server.lines().is_empty());
}

#[test]
fn strict_codes_and_json_tell_what_happened() {
    let server = Server::start(&[
        ("PUT /clouds/nope action=enable", 200, "Could not find cloud nope."),
        ("PUT /clouds/C allocations=x", 200, "Need to use an integer value for vm_allocation"),
        ("POST /users/ann refresh=vm_proxy", 500, "internal server error"),
        ("POST /cloud-aliases", 200, "True"),
        ("GET /user-limits", 200, "{u'bob': 5}"),
    ]);
    let cases = [
        ("-e C", 0, "{\"text\":\"PUT /clouds/C action=enable\"}\n"),
        ("-e nope", 1, "{\"text\":\"Could not find cloud nope.\"}\n"),
        (
            "-v x -c C",
            1,
            "{\"text\":\"Adjusting vm_slots on C to x\\nNeed to use an integer value for vm_allocation\"}\n",
        ),
        ("-p vm -u ann", 1, "{\"text\":\"Refreshing VM proxies for user ann.\"}\n"),
        ("-t", 0, "{\"text\":\"Target Cloud Alias file reloaded.\"}\n"),
        ("-i", 1, "{\"text\":\"No Limits set - list empty or problem parsing file.\"}\n"),
        ("-j", 0, "{\"text\":\"{u'bob': 5}\"}\n"),
        ("-r", 69, "{\"text\":\"Reconfig Disabled - use 'quickrestart'\"}\n"),
        ("", 2, "{\"text\":\"Run cloud_admin -h for help.\"}\n"),
    ];
    let bench = Bench::new();
    for (line, code, out) in cases {
        let strict = bench.admin(&server, &format!("{line} --strict --json"));
        assert_eq!((strict.code, strict.out.as_str()), (code, out), "{line}");
        assert_eq!(bench.admin(&server, line).code, 0, "{line}");
    }
}
