//! Why a job waits, over HTTP and by `pileus explain job`; and the way of a request through the files.

use serde_json::{Value, json};

use crate::support::{Place, QUICK, await_some};

#[test]
fn a_waiting_job_is_explained_cloud_by_cloud() {
    let more = "memory_mib = 512

[clouds.second]
driver = \"local\"
vm_slots = 3
memory_mib = 4096
enabled = false

[clouds.none]
driver = \"local\"
vm_slots = 0
";
    let place = Place::new(&format!("{QUICK}{more}"));
    let server = place.serve();
    let body =
        json!({ "job": { "command": ["true"], "memory_mib": 2048, "target_clouds": ["local", "SECOND"] } });
    let made = server.post("/v2/default/jobs", &body.to_string());
    let id = made.json()["job"]["id"].as_str().expect("an id").to_owned();
    let explained = |status: u16| -> Value {
        let reply = server.get(&format!("/v2/default/jobs/{id}/explain"));
        assert_eq!(reply.status, status, "{}", reply.text);
        reply.json()["explanation"].clone()
    };
    let told = explained(200);
    assert_eq!(told["why"], json!("It waits: every cloud that could run it is disabled."));
    let failed: Vec<_> =
        told["clouds"].as_array().expect("clouds").iter().map(|it| [&it["cloud"], &it["failed"]]).collect();
    let wanted =
        [["local", "memory"], ["second", "enabled"], ["none", "target"]].map(|row| row.map(|it| json!(it)));
    assert_eq!(json!(failed), json!(wanted));
    // The scheduler says the same.
    await_some("the scheduler to have seen it", || {
        let job = server.get(&format!("/v2/default/jobs/{id}")).json()["job"].clone();
        if job["reason"] == json!("every cloud that could run it is disabled") { Ok(()) } else { Err(job) }
    });
    let url = format!("http://{}", server.api);
    let (status, text, stderr) = place.run(&["explain", "job", &id, "--url", &url]);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    let first = text.lines().next().expect("a line");
    assert_eq!(first, format!("Job {id} is new. It waits: every cloud that could run it is disabled."));
    for line in ["local", "second", "none"] {
        assert!(text.lines().any(|it| it.trim_start().starts_with(line)), "{line} in {text}");
    }
    let (status, text, _) = place.run(&["explain", "job", &id, "--url", &url, "--json"]);
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json["seq"] = told["seq"].clone();
    assert_eq!((status.code(), json), (Some(0), told));
    // Who has a token of a project asks for himself; another project's job is not there.
    let mine = place.path().join("token").display().to_string();
    for (project, code, says) in [("default", 0, "It waits: every cloud"), ("other", 1, "could not be found")]
    {
        let wanted =
            json!({ "token": { "name": project, "user": "ada", "project": project, "roles": ["member"] } });
        let made = server.post("/v2/default/tokens", &wanted.to_string());
        let token = made.json()["token"]["secret"].as_str().expect("a token").to_owned();
        place.secret("token", &token);
        let args = ["explain", "job", &id, "--url", &url, "--project", project, "--token-file", &mine];
        let (status, stdout, stderr) = place.run(&args);
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert!(format!("{stdout}{stderr}").contains(says), "{stdout}{stderr}");
    }
    // What goes wrong is said: exit code, and what is named.
    let elsewhere = place.path().join("elsewhere").display().to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["explain", "job", "nobody", "--url", &url], 1, "Job nobody could not be found."),
        (&["explain", "job", &id, "--url", "http://127.0.0.1:1"], 69, "127.0.0.1:1"),
        (&["explain", "job", &id, "--url", "ftp://x"], 69, "ftp://x"),
        (&["explain", "job", &id, "--url", &url, "--state", &elsewhere], 69, "admin-token"),
        (&["explain", "job", &id, "--url", &url, "--token-file", &elsewhere], 69, "elsewhere"),
    ];
    for (args, code, names) in cases {
        let (status, stdout, stderr) = place.run(args);
        assert_eq!((status.code(), stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(names), "{args:?}: {stderr}");
    }
    // Once there is room it runs, and says so.
    assert_eq!(server.admin("PUT", "/clouds/second?action=enable", "").status, 200);
    server.await_job(&id, "complete");
    assert_eq!(explained(200)["why"], json!("It ran to its end."));
}

#[test]
fn the_way_of_a_request_is_told_from_the_files() {
    let place = Place::new(QUICK);
    // Exit code, and what the text has to say, in this order.
    type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);
    let cases: [Case<'_>; 9] = [
        (
            &["GET", "/v2/demo/clouds/west%2F1"],
            0,
            &[
                "server   api",
                "composite.api, takes /v2",
                "composite.v2 (token)",
                "filter   request_id",
                "filter   guess_limit",
                "filter   tokens",
                "filter   ratelimit",
                "filter   sizelimit",
                "max_request_body_size = 114688",
                "api-paste.toml:",
                "app      osapi",
                "route    GET /{project_id}/clouds/{id}",
                "id = west/1",
                "clouds.show",
                "clouds:show: rule:member",
            ],
        ),
        (&["head", "/v2/demo/clouds"], 0, &["HEAD /v2/demo/clouds", "clouds.index"]),
        (&["POST", "/v2/demo/jobs/7/action"], 0, &["body has `hold`: jobs.hold", "body has `release`"]),
        (&["GET", "/"], 0, &["takes /", "app      versions"]),
        (
            &["GET", "/vms", "--server", "info"],
            0,
            &["pipeline.info", "samesite", "GET /vms", "cloud_status:"],
        ),
        (&["DELETE", "/v2/demo/clouds"], 1, &["405 Method Not Allowed: there is GET, HEAD, POST, OPTIONS"]),
        (&["GET", "/v2/demo/nothing"], 1, &["404"]),
        (&["GET", "/", "--server", "none"], 64, &["there is `api`, `info` and `admin`"]),
        (&["GET", "nowhere"], 64, &["it begins with `/`"]),
    ];
    for (args, code, says) in cases {
        let args: Vec<_> = ["explain"].iter().chain(args).copied().collect();
        let (status, stdout, stderr) = place.run(&args);
        let text = stdout + &stderr;
        assert_eq!(status.code(), Some(code), "{args:?}: {text}");
        let mut rest = text.as_str();
        for word in says {
            let (_, after) = rest.split_once(word).unwrap_or_else(|| panic!("{args:?}: no {word} in {text}"));
            rest = after;
        }
    }
    let (_, text, _) = place.run(&["explain", "GET", "/v2/demo/clouds/west", "--json"]);
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["route"]["params"], json!({ "project_id": "demo", "id": "west" }));
    assert_eq!(told["rules"][0], json!({ "rule": "clouds:show", "text": "rule:member" }));
    assert_eq!(told["problem"], Value::Null);
    let (_, graph, _) = place.run(&["pipeline", "--graph"]);
    assert!(graph.starts_with("digraph pileus {") && graph.contains("[label = \"/v2\"]"), "{graph}");
    // What is wrong, for programs.
    place.write("policy.json", "{\"clouds:show\": \"role:member and\"}");
    let (status, text, _) = place.run(&["check", "--json"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let first = &report["diagnostics"][0];
    assert_eq!((status.code(), &report["errors"]), (Some(78), &json!(1)), "{text}");
    assert_eq!((&first["file"], &first["line"]), (&json!("policy.json"), &json!(1)), "{text}");
    assert!(first["column"].as_u64() > Some(1) && first["severity"] == "error", "{text}");
}
