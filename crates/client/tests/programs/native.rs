//! The programs with `--project`: what they ask of `/v2`, what they print, how they exit.

use std::os::unix::fs::PermissionsExt;

use crate::bench::{ADMIN, Asked, Bench, Ran, STATUS, Server, nobody};

const CLOUD: &str = r#"{"id": "mouse", "name": "mouse", "origin": "file", "enabled": true, "vm_slots": 10,
    "used": {"vm_slots": 2, "memory_mib": 1024, "storage_gib": 0},
    "free": {"vm_slots": 8, "memory_mib": 19976, "storage_gib": 490},
    "spec": {"driver": "local", "enabled": true, "vm_slots": 10, "cpu_cores": 4, "memory_mib": 21000,
        "storage_gib": 490, "priority": 0, "keep_alive_s": 60, "boot_timeout_s": null},
    "links": [{"rel": "self", "href": "x"}]}"#;
const VM: &str = r#"{"id": "testvm", "cloud": "mouse", "user": "ann", "vm_type": "default", "state": "Running",
    "hostname": "host1", "address": "10.0.0.1", "job": "j1", "force_retire": false, "destroy_reason": null,
    "created": "2026-01-01T00:00:00Z", "running": "2026-01-01T00:01:30Z", "job_runs_s": [10, 30]}"#;
const OTHER: &str = r#"{"id": "a-newer", "cloud": "mouse", "user": "bob", "vm_type": "big", "state": "Starting",
    "hostname": "", "address": "", "job": null, "force_retire": false, "destroy_reason": null,
    "created": "2026-01-01T00:02:00Z", "running": null, "job_runs_s": []}"#;
const GOING: &str = r#"{"id": "going", "cloud": "mouse", "user": "bob", "vm_type": "big", "state": "Shutdown",
    "hostname": "", "address": "", "job": null, "force_retire": true, "destroy_reason": "idle",
    "created": "2025-01-01T00:02:00Z", "running": null, "job_runs_s": []}"#;
const ELSEWHERE: &str = r#"{"id": "far", "cloud": "cat", "user": "bob", "vm_type": "big", "state": "Running",
    "hostname": "far1", "address": "10.0.0.9", "job": null, "force_retire": false, "destroy_reason": null,
    "created": "2024-01-01T00:02:00Z", "running": "2024-01-01T00:02:30Z", "job_runs_s": [5]}"#;
const JOB: &str = r#"{"id": "j2", "user": "ann", "vm_type": "default", "state": "new", "priority": 0,
    "high_priority": true, "cloud": null, "reason": "no cloud is enabled"}"#;

/// A server of one cloud, four VMs on two pages, and one job.
pub fn rules() -> Vec<(&'static str, u16, String)> {
    let one = |key: &str, member: &str| format!("{{\"{key}\": {member}}}");
    let list = |key: &str, members: &[&str]| one(key, &format!("[{}]", members.join(",")));
    let next = r#""vms_links": [{"rel": "next", "href": "http://elsewhere/?marker=a-newer"}]"#;
    let first = format!("{{\"vms\": [{OTHER}], {next}}}");
    let missing = r#"{"itemNotFound": {"code": 404, "message": "Cloud nope could not be found."}}"#;
    let results = r#"{"results": [{"id": "testvm", "status": 202, "message": "accepted"}]}"#;
    let partly = r#"{"results": [{"id": "testvm", "status": 202, "message": "accepted"},
        {"id": "gone", "status": 409, "message": "VM gone is being destroyed."}]}"#;
    vec![
        ("GET /", 200, r#"{"versions": [{"id": "v2.0", "status": "CURRENT"}]}"#.to_owned()),
        ("GET /v2/demo/clouds/detail", 200, list("clouds", &[CLOUD])),
        ("GET /v2/demo/clouds/mouse", 200, one("cloud", CLOUD)),
        ("GET /v2/demo/clouds/MOUSE", 200, one("cloud", CLOUD)),
        ("GET /v2/demo/clouds/nope", 404, missing.to_owned()),
        ("GET /v2/demo/vms/detail", 200, first),
        ("GET /v2/demo/vms/detail?marker=a-newer", 200, list("vms", &[ELSEWHERE, GOING, VM])),
        ("GET /v2/demo/vms/testvm", 200, one("vm", VM)),
        ("GET /v2/demo/vms/far", 200, one("vm", ELSEWHERE)),
        ("GET /v2/demo/jobs/detail", 200, list("jobs", &[JOB])),
        ("GET /v2/demo/jobs/detail?state=new", 200, list("jobs", &[JOB])),
        ("GET /v2/demo/jobs/detail?state=scheduled", 200, list("jobs", &[])),
        ("GET /v2/demo/jobs/detail?state=running", 200, list("jobs", &[])),
        ("GET /v2/demo/jobs/detail?state=held", 200, list("jobs", &[])),
        ("GET /v2/demo/jobs/detail?state=complete", 200, list("jobs", &[])),
        ("GET /v2/demo/users", 200, r#"{"users": [{"name": "ann", "vms": 1, "vm_limit": 5}, {"name": "bob", "vms": 12, "vm_limit": null}]}"#.to_owned()),
        ("GET /v2/demo/cloud-aliases", 200, r#"{"cloud_aliases": [{"name": "West", "clouds": ["mouse", "cat"]}]}"#.to_owned()),
        (r#"POST /v2/demo/users/ann/action {"refresh":{"proxy":"vm_proxy"}}"#, 200, r#"{"user": {"name": "ann", "proxies": {"job_proxy": null, "vm_proxy": {"expires": "2026-01-01T12:00:00Z"}}}}"#.to_owned()),
        (r#"POST /v2/demo/users/ann/action {"refresh":{"proxy":"job_proxy"}}"#, 502, r#"{"computeFault": {"code": 502, "message": "myproxy.example:7512 gave no proxy"}}"#.to_owned()),
        (r#"POST /v2/demo/users/testuser/action {"refresh":{"proxy":"job_proxy"}}"#, 409, r#"{"conflictingRequest": {"code": 409, "message": "No MyProxy server is known for user testuser."}}"#.to_owned()),
        (r#"POST /v2/demo/users/testuser/action {"refresh":{"proxy":"vm_proxy"}}"#, 200, r#"{"user": {"name": "testuser", "proxies": {"vm_proxy": {"expires": "2026-01-01T12:00:00Z"}}}}"#.to_owned()),
        (r#"POST /v2/demo/cloud-aliases/action {"reload":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/clouds/mouse/action {"enable":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/clouds/mouse/action {"disable":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/clouds/nope/action {"enable":null}"#, 404, missing.to_owned()),
        (r#"POST /v2/demo/clouds/mouse/action {"set_slots":{"vm_slots":5}}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/vms/testvm/action {"shutdown":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/vms/testvm/action {"remove":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/vms/testvm/action {"force_retire":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/vms/testvm/action {"reset_override_state":null}"#, 202, "".to_owned()),
        (r#"POST /v2/demo/vms/action {"shutdown":{"cloud":"mouse"}}"#, 200, partly.to_owned()),
        (r#"POST /v2/demo/vms/action {"shutdown":{"cloud":"empty"}}"#, 200, r#"{"results": []}"#.to_owned()),
        (r#"POST /v2/demo/vms/action {"shutdown":{"vms":["testvm"]}}"#, 200, results.to_owned()),
        (r#"POST /v2/demo/vms/action {"remove":{"cloud":"mouse"}}"#, 200, results.to_owned()),
        (r#"POST /v2/demo/vms/action {"force_retire":{"cloud":"mouse"}}"#, 200, results.to_owned()),
        (r#"POST /v2/demo/vms/action {"force_retire":{"vms":["testvm"]}}"#, 200, results.to_owned()),
        (r#"POST /v2/demo/vms/action {"force_retire":{"vms":["testvm","a-newer"]}}"#, 200, results.to_owned()),
    ]
}

fn server() -> Server {
    Server::with(rules())
}

#[test]
fn cloud_status_shows_tables() {
    let server = server();
    let vms = "\
ID       HOSTNAME  TYPE     USER  STATE     CLOUD  JOB
a-newer  -         big      bob   Starting  mouse  -
far      far1      big      bob   Running   cat    -
going    -         big      bob   Shutdown  mouse  -
testvm   host1     default  ann   Running   mouse  j1
";
    let on_mouse = vms
        .lines()
        .filter(|line| !line.starts_with("far"))
        .fold(String::new(), |all, line| all + line + "\n");
    let cases = [
        ("", "NAME   DRIVER  ENABLED  VMS  SLOTS\nmouse  local   yes        2     10\n".to_owned()),
        ("-m", vms.to_owned()),
        ("-m -c MOUSE", on_mouse),
        ("-o", "4\n".to_owned()),
        ("-o -c mouse", "3\n".to_owned()),
        ("-u", "STATE     VMS\nRunning     2\nShutdown    1\nStarting    1\n".to_owned()),
        ("-i", "HOSTNAME  ADDRESS\nfar1      10.0.0.9\nhost1     10.0.0.1\n".to_owned()),
        ("-z", "ID  USER  REASON\nj2  ann   no cloud is enabled\n".to_owned()),
    ];
    let bench = Bench::new();
    for (line, out) in cases {
        let ran = bench.status(&server, &format!("--project demo {line}"));
        assert_eq!(ran, Ran { out, err: String::new(), code: 0 }, "{line}");
    }
}

#[test]
fn json_is_whole_and_can_be_read() {
    let server = server();
    #[rustfmt::skip]
    let cases = [
        (STATUS, "",                   "/clouds/0/name", "mouse"),
        (STATUS, "-a",                 "/clouds/0/spec/driver", "local"),
        (STATUS, "-m",                 "/vms/3/id", "testvm"),
        (STATUS, "-c mouse",           "/cloud/origin", "file"),
        (STATUS, "-n testvm",          "/vm/job", "j1"),
        (STATUS, "-q new",             "/jobs/0/id", "j2"),
        (STATUS, "-q all",             "/jobs/high/0/id", "j2"),
        (STATUS, "-v",                 "/versions/0/id", "v2.0"),
        (STATUS, "-c nope",            "/itemNotFound/message", "Cloud nope could not be found."),
        (ADMIN,  "-j",                 "/users/1/name", "bob"),
        (ADMIN,  "-y",                 "/cloud_aliases/0/clouds/1", "cat"),
        (ADMIN,  "-k -c mouse -a",     "/results/1/message", "VM gone is being destroyed."),
        (ADMIN,  "-e mouse",           "/done", "enable"),
        (ADMIN,  "-p vm -u ann",       "/proxies/vm_proxy/expires", "2026-01-01T12:00:00Z"),
        (ADMIN,  "-p job -u ann",      "/computeFault/message", "myproxy.example:7512 gave no proxy"),
        (ADMIN,  "-q",                 "/error", "-q: /v2 has no counterpart; the old ports (without --project) may have it"),
    ];
    let bench = Bench::new();
    for (program, line, path, value) in cases {
        let port = if program == STATUS { "-p" } else { "-P" };
        let line = format!("-s 127.0.0.1 {port} {} --project demo --json {line}", server.port);
        let out = bench.run(program, &line).out;
        let document: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(document.pointer(path).and_then(|value| value.as_str()), Some(value), "{line}: {out}");
    }
}

/// What is asked, and the exit code.
#[test]
fn every_option_asks_its_counterpart_or_says_that_there_is_none() {
    let two = "GET /v2/demo/vms/detail|GET /v2/demo/vms/detail?marker=a-newer";
    #[rustfmt::skip]
    let cases = [
        (STATUS, "-a",                 "GET /v2/demo/clouds/detail".to_owned(), 0),
        (STATUS, "-l",                 "GET /v2/demo/clouds/detail".to_owned(), 0),
        (STATUS, "-c mouse",           "GET /v2/demo/clouds/mouse".to_owned(), 0),
        (STATUS, "-c nope",            "GET /v2/demo/clouds/nope".to_owned(), 1),
        (STATUS, "-c nope -m",         "GET /v2/demo/clouds/nope".to_owned(), 1),
        (STATUS, "-n testvm",          "GET /v2/demo/vms/testvm".to_owned(), 0),
        (STATUS, "-c MOUSE -n testvm", "GET /v2/demo/vms/testvm".to_owned(), 0),
        (STATUS, "-c mouse -n far",    "GET /v2/demo/vms/far".to_owned(), 1),
        (STATUS, "-b",                 two.to_owned(), 0),
        (STATUS, "-g",                 two.to_owned(), 0),
        (STATUS, "-u -c mouse",        format!("GET /v2/demo/clouds/mouse|{two}"), 0),
        (STATUS, "-q idle",            "GET /v2/demo/jobs/detail?state=new|GET /v2/demo/jobs/detail?state=scheduled".to_owned(), 0),
        (STATUS, "-q high",            "GET /v2/demo/jobs/detail".to_owned(), 0),
        (STATUS, "-v",                 "GET /".to_owned(), 0),
        (STATUS, "-d",                 String::new(), 69),
        (STATUS, "-t",                 String::new(), 69),
        (STATUS, "-r",                 String::new(), 69),
        (STATUS, "-x",                 String::new(), 69),
        (STATUS, "-w",                 String::new(), 69),
        (ADMIN,  "-e mouse",           "POST /v2/demo/clouds/mouse/action {\"enable\":null}".to_owned(), 0),
        (ADMIN,  "-d mouse",           "POST /v2/demo/clouds/mouse/action {\"disable\":null}".to_owned(), 0),
        (ADMIN,  "-e nope",            "POST /v2/demo/clouds/nope/action {\"enable\":null}".to_owned(), 1),
        (ADMIN,  "-v 5 -c mouse",      "POST /v2/demo/clouds/mouse/action {\"set_slots\":{\"vm_slots\":5}}".to_owned(), 0),
        (ADMIN,  "-v five -c mouse",   String::new(), 2),
        (ADMIN,  "-v 5",               String::new(), 2),
        (ADMIN,  "-k -n testvm",       "POST /v2/demo/vms/testvm/action {\"shutdown\":null}".to_owned(), 0),
        (ADMIN,  "-k -c mouse -n testvm", "GET /v2/demo/vms/testvm|POST /v2/demo/vms/testvm/action {\"shutdown\":null}".to_owned(), 0),
        (ADMIN,  "-k -c mouse -n far", "GET /v2/demo/vms/far".to_owned(), 1),
        (ADMIN,  "-k -c mouse -a",     "POST /v2/demo/vms/action {\"shutdown\":{\"cloud\":\"mouse\"}}".to_owned(), 1),
        (ADMIN,  "-k -c empty -a",     "POST /v2/demo/vms/action {\"shutdown\":{\"cloud\":\"empty\"}}".to_owned(), 0),
        (ADMIN,  "-k -c mouse -b 1",   format!("GET /v2/demo/clouds/mouse|{two}|POST /v2/demo/vms/action {{\"shutdown\":{{\"vms\":[\"testvm\"]}}}}"), 0),
        (ADMIN,  "-o -c mouse -b 9",   format!("GET /v2/demo/clouds/mouse|{two}|POST /v2/demo/vms/action {{\"force_retire\":{{\"vms\":[\"testvm\",\"a-newer\"]}}}}"), 0),
        (ADMIN,  "-o -c mouse -b -1",  String::new(), 2),
        (ADMIN,  "-o -n testvm",       "POST /v2/demo/vms/testvm/action {\"force_retire\":null}".to_owned(), 0),
        (ADMIN,  "-m -n testvm",       "POST /v2/demo/vms/testvm/action {\"remove\":null}".to_owned(), 0),
        (ADMIN,  "-m -c mouse -b 1",   String::new(), 2),
        (ADMIN,  "-x -n testvm",       "POST /v2/demo/vms/testvm/action {\"reset_override_state\":null}".to_owned(), 0),
        (ADMIN,  "-x -c mouse -a",     String::new(), 2),
        (ADMIN,  "-t",                 "POST /v2/demo/cloud-aliases/action {\"reload\":null}".to_owned(), 0),
        (ADMIN,  "-y",                 "GET /v2/demo/cloud-aliases".to_owned(), 0),
        (ADMIN,  "-j",                 "GET /v2/demo/users".to_owned(), 0),
        (ADMIN,  "-r",                 String::new(), 69),
        (ADMIN,  "-i",                 String::new(), 69),
        (ADMIN,  "-l DEBUG",           String::new(), 69),
        (ADMIN,  "-p vm -u ann",       "POST /v2/demo/users/ann/action {\"refresh\":{\"proxy\":\"vm_proxy\"}}".to_owned(), 0),
        (ADMIN,  "-p job -u ann",      "POST /v2/demo/users/ann/action {\"refresh\":{\"proxy\":\"job_proxy\"}}".to_owned(), 1),
        (ADMIN,  "-p vm",              String::new(), 2),
        (ADMIN,  "-q",                 String::new(), 69),
        (ADMIN,  "",                   String::new(), 2),
    ];
    let (bench, server) = (Bench::new(), server());
    for (program, line, asked, code) in cases {
        let port = if program == STATUS { "-p" } else { "-P" };
        let ran = bench.run(program, &format!("-s 127.0.0.1 {port} {} --project demo {line}", server.port));
        assert_eq!((server.lines().join("|"), ran.code), (asked, code), "{line}: {ran:?}");
        assert_eq!(ran.err.is_empty(), code == 0 || line == "-k -c mouse -a", "{line}: {ran:?}");
    }
}

#[test]
fn a_refusal_is_told_with_its_name_and_its_request() {
    let (bench, server) = (Bench::new(), server());
    let ran = bench.status(&server, "--project demo -c nope");
    let err = "cloud_status: itemNotFound (404): Cloud nope could not be found. [req-1]\n";
    assert_eq!(ran, Ran { out: String::new(), err: err.into(), code: 1 });
    let ran = bench.status(&server, "--project demo -d");
    assert_eq!(
        ran.err,
        "cloud_status: -d: /v2 has no counterpart; the old ports (without --project) may have it\n"
    );
    let port = nobody();
    let ran = bench.run(STATUS, &format!("-s 127.0.0.1 -p {port} --project demo"));
    assert!(
        ran.err.starts_with(&format!("cloud_status: 127.0.0.1:{port}: couldn't connect: ")),
        "{}",
        ran.err
    );
    assert_eq!((ran.code, ran.out.as_str()), (69, ""));

    let server =
        Server::start(&[("GET /v2/demo/clouds/detail", 200, "<html>"), ("GET /v2/demo/users", 200, "{}")]);
    let ran = bench.status(&server, "--project demo");
    assert!(ran.err.contains("the answer makes no sense") && ran.code == 69, "{ran:?}");
    assert_eq!(bench.admin(&server, "--project demo -j").code, 69);
}

#[test]
fn a_list_that_leads_nowhere_comes_to_an_end() {
    let page = r#"{"clouds": [{"id": "a"}], "clouds_links": [{"rel": "next", "href": "x"}]}"#;
    let server = Server::start(&[
        ("GET /v2/demo/clouds/detail", 200, page),
        ("GET /v2/demo/clouds/detail?marker=a", 200, page),
    ]);
    let ran = Bench::new().status(&server, "--project demo");
    assert!(ran.err.contains("`clouds_links` leads nowhere") && ran.code == 69, "{ran:?}");
}

fn tokens(asked: Vec<Asked>) -> Vec<String> {
    let head = asked.into_iter().flat_map(|asked| asked.head);
    head.filter_map(|line| line.strip_prefix("x-auth-token: ").map(str::to_owned)).collect()
}

#[test]
fn a_token_comes_from_the_option_the_file_or_the_environment_and_is_never_repeated() {
    let server = Server::start(&[(
        "GET /v2/demo/clouds/mouse",
        401,
        r#"{"unauthorized": {"code": 401, "message": "Who?"}}"#,
    )]);
    let bench = Bench::new();
    crate::bench::secret(&bench.path().join("token"), "fr0m-file\n");
    crate::bench::secret(&bench.path().join("two"), "s3cret one\n");
    std::fs::write(bench.path().join("open"), "s3cret-one\n").unwrap();
    std::fs::set_permissions(bench.path().join("open"), PermissionsExt::from_mode(0o644)).unwrap();
    let port = server.port.to_string();
    let run = |line: &str| {
        let mut command = bench.command(STATUS);
        command.env("PILEUS_TOKEN", "fr0m-env").args([
            "-s",
            "127.0.0.1",
            "-p",
            &port,
            "--project",
            "demo",
            "-c",
            "mouse",
        ]);
        crate::bench::ran(command.args(line.split_whitespace()).output().unwrap())
    };
    let cases = [
        ("", "fr0m-env"),
        ("--token-file token", "fr0m-file"),
        ("--token fr0m-line", "fr0m-line"),
        ("--token fr0m-line --token-file token", "fr0m-line"),
    ];
    for (line, token) in cases {
        let ran = run(line);
        assert_eq!(tokens(server.asked()), [token], "{line}");
        assert!(ran.code == 1 && !format!("{ran:?}").contains("fr0m"), "{ran:?}");
        assert!(ran.err.contains("A token is given with --token-file"), "{ran:?}");
    }
    for (line, text) in [
        ("--token-file nowhere", "nowhere: "),
        ("--token-file two", "two holds no token"),
        ("--token-file open", "open can be read by others (mode 0644)\nhelp: run `chmod 600 open`"),
    ] {
        let ran = run(line);
        assert!(ran.err.contains(text) && !ran.err.contains("s3cret") && ran.code == 78, "{ran:?}");
        assert!(server.asked().is_empty());
    }
}

#[test]
fn names_and_projects_of_any_characters_are_one_part_of_the_path() {
    let (bench, server) = (Bench::new(), Server::start(&[]));
    let port = server.port.to_string();
    bench.run_words(
        STATUS,
        &["-s", "127.0.0.1", "-p", &port, "--project", "a/b", "-n", "x#1?é", "--all-projects"],
    );
    assert_eq!(server.lines(), ["GET /v2/a%2Fb/vms/x%231%3F%C3%A9?all_projects=1"]);
}

#[test]
fn changes_are_noted_and_want_comments_here_too() {
    let (bench, server) = (Bench::new(), server());
    let log = bench.path().join("admin.log");
    let settings = "[logging]\nadmin_log_comments: true\nlog_format: %(message)s\nlog_location_cloud_admin";
    bench.configure("cloud_scheduler.conf", &format!("{settings}: {}\n", log.display()));
    let ran = bench.admin(&server, "--project demo -k -n testvm");
    assert!(ran.code == 2 && server.lines().is_empty(), "{ran:?}");
    let ran = bench.admin(&server, "--project demo -k -n testvm -C hot");
    assert_eq!((ran.code, ran.out.as_str()), (0, "VM: testvm shutdown accepted.\n"));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "Comment: hot\nshutdown of VM: testvm\n");
}
