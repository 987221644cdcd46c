//! `/v2/{project_id}/jobs` on the bench.

use pileus_ext_jobs::EXTENSION;
use pileus_sdk::{
    Value, header, json,
    model::{
        Bounded, CloudTest, Command, Exit, Explanation, Gap, JobDefaults, JobSpec, JobState, Output, Refusal,
        StreamOutput, Time,
    },
    testing::{Ask, Bench, delete, get, post, put_job},
};

/// `1` new, `2` running and `4` complete of the project `p1`; `3` new of `p2`.
fn bench() -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(|view| {
        put_job(view, "1", |_| ());
        put_job(view, "2", |job| {
            job.state = JobState::Running;
            job.vm = Some("local-1".into());
            job.cloud = Some("local".into());
            job.started = Some(Time(job.submitted.0 + 1500));
            job.attempts = 1;
        });
        put_job(view, "3", |job| job.project = "p2".into());
        put_job(view, "4", |job| {
            job.state = JobState::Complete;
            job.exit = Some(Exit::Code(3));
            job.finished = Some(Time(job.submitted.0 + 2000));
        });
    });
    bench
}

fn ids(body: &Value) -> String {
    let jobs = body["jobs"].as_array().into_iter().flatten();
    jobs.map(|job| job["id"].as_str().unwrap_or("?")).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(bench().complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn a_project_sees_its_own_in_pages() {
    let bench = bench();
    let cases = [
        ("/p1/jobs", "1 2 4", None),
        ("/p2/jobs", "3", None),
        ("/p1/jobs?all_projects=1", "1 2 3 4", None),
        ("/p1/jobs?state=new", "1", None),
        ("/p1/jobs?state=new&all_projects=1", "1 3", None),
        ("/p1/jobs?state=held", "", None),
        ("/p1/jobs?limit=2", "1 2", Some("/p1/jobs?limit=2&marker=2")),
        ("/p1/jobs?limit=2&marker=2", "4", None),
        // A marker is a position: of no job, of another project's, of one in another state.
        ("/p1/jobs?marker=9", "", None),
        ("/p1/jobs?marker=10", "2 4", None),
        ("/p1/jobs?marker=3", "4", None),
        ("/p1/jobs?state=complete&marker=2", "4", None),
        ("/p1/jobs?sort_dir=desc", "4 2 1", None),
        ("/p1/jobs?sort_dir=desc&marker=3", "2 1", None),
        ("/p1/jobs?sort_key=state", "4 1 2", None),
        ("/p1/jobs?sort_key=started&sort_dir=desc&sort_key=id&sort_dir=desc", "2 4 1", None),
        (
            "/p1/jobs?sort_key=exit_code&sort_dir=desc&limit=1",
            "4",
            Some("/p1/jobs?sort_key=exit_code&sort_dir=desc&limit=1&marker=%5B3%2C%224%22%5D"),
        ),
        (
            "/p1/jobs?sort_key=exit_code&sort_dir=desc&limit=1&marker=[3,%224%22]",
            "2",
            Some("/p1/jobs?sort_key=exit_code&sort_dir=desc&limit=1&marker=%5Bnull%2C%222%22%5D"),
        ),
        // Another project's job tells nothing of its place.
        ("/p1/jobs?sort_key=state&marker=3", "4 1 2", None),
        ("/p1/jobs?all_tenants=True&sort_key=project_id&sort_dir=desc", "3 4 2 1", None),
        ("/p1/jobs?all_projects=no", "1 2 4", None),
        ("/p1/jobs/detail?limit=1&state=running", "2", None),
        (
            "/p1/jobs/detail?state=new&limit=1&all_projects=1",
            "1",
            Some("/p1/jobs/detail?state=new&limit=1&all_projects=1&marker=1"),
        ),
    ];
    for (uri, expected, next) in cases {
        let reply = bench.send(get(uri)).await;
        let body = reply.json();
        assert_eq!((reply.status, ids(&body)), (200, expected.to_owned()), "{uri}");
        let next = next.map(|next| format!("http://api.example:8774/v2{next}"));
        assert_eq!(body["jobs_links"][0]["href"].as_str(), next.as_deref(), "{uri}");
    }
    for state in JobState::ALL {
        let reply = bench.send(get(&format!("/p1/jobs?state={}", state.as_str()))).await;
        assert_eq!(reply.status, 200, "{state:?}");
    }
}

#[tokio::test]
async fn bad_parameters_are_400() {
    let bench = bench();
    let states =
        "state param must be one of new, scheduled, running, complete, held, removed, error, not `x`";
    let cases = [
        ("limit=x", "limit param must be an integer"),
        ("limit=-1", "limit param must be positive"),
        ("marker=", "marker param is malformed"),
        ("marker=%00", "marker param is malformed"),
        ("sort_key=state&marker=[]", "marker param is malformed"),
        ("marker=1&marker=2", "marker param must be given once, not twice"),
        ("sort_key=command", "sort_key param must be one of id, project_id, user"),
        ("sort_key=id&sort_key=id", "sort_key param must not name `id` twice"),
        ("sort_dir=up", "sort_dir param must be one of asc, desc, not `up`"),
        ("sort_dir=asc&sort_dir=desc", "sort_dir param must not be given more often than sort_key"),
        ("all_projects=bogus", "all_projects param must be one of 1, t, true"),
        ("all_tenants=2", "all_tenants param must be one of 1, t, true"),
        ("all_projects=1&all_tenants=1", "all_projects and all_tenants are one parameter"),
        (
            "user=ada",
            "accepts the query parameters limit, marker, sort_key, sort_dir, all_projects, all_tenants, state, and not `user`",
        ),
        ("state=x", states),
        ("state=New", "not `New`"),
        ("state=", "not ``"),
    ];
    for (query, message) in cases {
        for uri in [format!("/p1/jobs?{query}"), format!("/p1/jobs/detail?{query}")] {
            let reply = bench.send(get(&uri)).await;
            assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{uri}");
            assert!(reply.text.contains(message), "{uri}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_job_is_shown_with_its_units() {
    let bench = bench();
    let expected = json!({ "job": {
        "id": "2", "project_id": "p1", "user": "ada", "source": "queue", "command": ["true"],
        "vm_type": "vmt", "cpu_cores": 1, "memory_mib": 512, "storage_gib": 0, "priority": 0,
        "high_priority": false, "keep_alive_s": null, "target_clouds": [], "state": "running",
        "reason": null, "submitted": "2026-01-31T11:00:00Z", "started": "2026-01-31T11:00:01.5Z",
        "finished": null, "vm": "local-1", "cloud": "local", "attempts": 1, "breakages": 0, "exit_code": null,
        "signal": null, "links": [{ "rel": "self", "href": "http://api.example:8774/v2/p1/jobs/2" }],
    } });
    assert_eq!(bench.send(get("/p1/jobs/2")).await.json(), expected);
    let detail = bench.send(get("/p1/jobs/detail?state=running")).await.json();
    assert_eq!(detail, json!({ "jobs": [expected["job"]] }));
    let index = bench.send(get("/p1/jobs?state=running")).await.json();
    let mut brief =
        json!({ "id": "2", "state": "running", "finished": null, "exit_code": null, "signal": null });
    brief["links"] = expected["job"]["links"].clone();
    assert_eq!(index, json!({ "jobs": [brief] }));
    let ended = bench.send(get("/p1/jobs?state=complete")).await.json()["jobs"][0].take();
    assert_eq!((&ended["exit_code"], &ended["finished"]), (&json!(3), &json!("2026-01-31T11:00:02Z")));
    for (exit, code, signal) in
        [(Exit::Code(0), json!(0), Value::Null), (Exit::Signal(9), Value::Null, json!(9))]
    {
        bench.engine.edit(|view| put_job(view, "e.org#0.0", |job| job.exit = Some(exit)));
        let job = bench.send(get("/p1/jobs/e.org%230.0")).await.json()["job"].take();
        assert_eq!((&job["exit_code"], &job["signal"]), (&code, &signal));
        assert_eq!(job["links"][0]["href"], "http://api.example:8774/v2/p1/jobs/e.org%230.0");
    }
}

fn spec() -> JobSpec {
    JobSpec {
        project: "p1".into(),
        user: "ada".into(),
        command: vec!["sh".into(), "-c".into(), "exit 3".into()],
        vm_type: "default".into(),
        cpu_cores: 1,
        memory_mib: 512,
        storage_gib: 1,
        priority: 0,
        high_priority: false,
        keep_alive_s: None,
        target_clouds: Vec::new(),
        image: None,
        user_type_limit: None,
    }
}

/// An engine that queues every job as `new`.
fn queue() -> Bench {
    let bench = bench();
    bench.engine.react(|command, view| {
        let Command::SubmitJob(spec) = command else { return Err(Refusal::Unavailable) };
        put_job(view, "a/b", |job| {
            job.project = spec.project.clone();
            job.user = spec.user.clone();
            job.command = spec.command.clone();
        });
        Ok("a/b".into())
    });
    bench
}

#[tokio::test]
async fn a_job_needs_a_command_alone() {
    let all = JobSpec {
        user: "bob".into(),
        vm_type: "small".into(),
        cpu_cores: 2,
        memory_mib: 128,
        storage_gib: 4,
        priority: -5,
        high_priority: true,
        keep_alive_s: Some(60),
        target_clouds: vec!["West".into()],
        image: None,
        user_type_limit: None,
        ..spec()
    };
    let whole = r#", "user": "bob", "vm_type": "small", "cpu_cores": 2, "memory_mib": 128, "storage_gib": 4,
        "priority": -5, "high_priority": true, "keep_alive_s": 60, "target_clouds": ["West"]"#;
    let cases = [
        ("", spec()),
        (r#", "user": "ada""#, spec()),
        (r#", "user": null, "keep_alive_s": null"#, spec()),
        (whole, all),
    ];
    for (more, spec) in cases {
        let bench = queue();
        let body = format!(r#"{{"job": {{"command": ["sh", "-c", "exit 3"]{more}}}}}"#);
        let reply = bench.send(post("/p1/jobs", &body)).await;
        let job = reply.json()["job"].take();
        assert_eq!((reply.status, &job["id"]), (202, &json!("a/b")), "{}", reply.text);
        assert_eq!((&job["user"], &job["command"]), (&json!(&*spec.user), &json!(["sh", "-c", "exit 3"])));
        assert_eq!((&job["state"], job.as_object().unwrap().len()), (&json!("new"), 25));
        assert_eq!(reply.header(header::LOCATION), "http://api.example:8774/v2/p1/jobs/a%2Fb");
        assert_eq!(bench.engine.commands(), [Command::SubmitJob(Box::new(spec))]);
    }
}

#[tokio::test]
async fn what_a_job_does_not_say_is_the_deployers() {
    let defaults = JobDefaults {
        vm_type: "sl6".into(),
        cpu_cores: 4,
        memory_mib: 2048,
        storage_gib: 20,
        keep_alive_s: Some(300),
        target_clouds: vec!["west".into()],
    };
    let settled = || JobSpec {
        vm_type: "sl6".into(),
        cpu_cores: 4,
        memory_mib: 2048,
        storage_gib: 20,
        keep_alive_s: Some(300),
        target_clouds: vec!["west".into()],
        ..spec()
    };
    let cases = [
        ("", settled()),
        (r#", "vm_type": null"#, settled()),
        (
            r#", "target_clouds": [], "storage_gib": 0"#,
            JobSpec { target_clouds: vec![], storage_gib: 0, ..settled() },
        ),
        (
            r#", "cpu_cores": 1, "keep_alive_s": 0"#,
            JobSpec { cpu_cores: 1, keep_alive_s: Some(0), ..settled() },
        ),
    ];
    for (more, spec) in cases {
        let bench = Bench::with_job_defaults(&pileus_ext_jobs::EXTENSION, defaults.clone());
        let body = format!(r#"{{"job": {{"command": ["sh", "-c", "exit 3"]{more}}}}}"#);
        bench.send(post("/p1/jobs", &body)).await;
        assert_eq!(bench.engine.commands(), [Command::SubmitJob(Box::new(spec))], "{more}");
    }
}

#[tokio::test]
async fn another_user_is_a_rule_of_its_own() {
    let bench = queue();
    bench.deny("jobs:create:as_user");
    let job =
        |user: &str| post("/p1/jobs", &json!({ "job": { "command": ["x"], "user": user } }).to_string());
    let reply = bench.send(job("bob")).await;
    let message = "Policy doesn't allow jobs:create:as_user to be performed.";
    assert_eq!((reply.status, reply.json()["forbidden"]["message"].take()), (403, json!(message)));
    assert_eq!(bench.engine.commands(), []);
    assert_eq!(bench.send(job("ada")).await.status, 202);
    let nobody = bench.send(job("ada").by_nobody()).await;
    assert_eq!((nobody.status, nobody.top()), (401, "unauthorized".into()));
}

#[tokio::test]
async fn high_priority_and_priorities_out_of_range_are_rules_of_their_own() {
    let cases = [
        (json!({ "priority": 100 }), None),
        (json!({ "priority": -100 }), None),
        (json!({ "high_priority": false }), None),
        (json!({ "priority": 101 }), Some("jobs:create:any_priority")),
        (json!({ "priority": -101 }), Some("jobs:create:any_priority")),
        (json!({ "priority": 1_000_000_000 }), Some("jobs:create:any_priority")),
        (json!({ "high_priority": true }), Some("jobs:create:high_priority")),
    ];
    for (mut job, rule) in cases {
        job["command"] = json!(["x"]);
        let submit = || post("/p1/jobs", &json!({ "job": job }).to_string());
        let bench = queue();
        assert_eq!(bench.send(submit()).await.status, 202, "{job}");
        ["jobs:create:any_priority", "jobs:create:high_priority"].iter().for_each(|rule| bench.deny(rule));
        let reply = bench.send(submit()).await;
        match rule {
            None => assert_eq!(reply.status, 202, "{job}"),
            Some(rule) => {
                let message = format!("Policy doesn't allow {rule} to be performed.");
                let said = reply.json()["forbidden"]["message"].take();
                assert_eq!((reply.status, said), (403, json!(message)), "{job}");
            }
        }
    }
}

#[tokio::test]
async fn verbs_and_deletion_become_commands() {
    let hold = |reason: &str| Command::HoldJob { job: "1".into(), reason: reason.into() };
    let act = |body: &str| post("/p1/jobs/1/action", body);
    let cases = [
        (act(r#"{"hold": {"reason": "later"}}"#), 202, hold("later")),
        (act(r#"{"hold": null}"#), 202, hold("held by ada")),
        (act(r#"{"hold": {}}"#), 202, hold("held by ada")),
        (act(r#"{"release": null}"#), 202, Command::ReleaseJob { job: "1".into() }),
        (act(r#"{"release": {}}"#), 202, Command::ReleaseJob { job: "1".into() }),
        (delete("/p1/jobs/1"), 204, Command::DeleteJob { job: "1".into() }),
        (delete("/p1/jobs/3?all_projects=1"), 204, Command::DeleteJob { job: "3".into() }),
    ];
    let bench = bench();
    for (ask, status, command) in cases {
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, ""), "{command:?}");
        let (sent, by) = bench.engine.commands_by().remove(0);
        assert_eq!((sent, &*by.user, &*by.project), (command, "ada", "p1"));
    }
}

#[tokio::test]
async fn output_is_text_or_base64_and_waits_for_the_end() {
    let bench = bench();
    let gap = |from, to| Some(Gap { from, to });
    // bytes and gap, then text, encoding and gap in JSON
    type Case<'a> = (&'a [u8], Option<Gap>, &'a str, &'a str, Value);
    let cases: [Case<'_>; 8] = [
        ("a\n\0ü".as_bytes(), None, "a\n\0ü", "utf-8", Value::Null),
        (b"", None, "", "utf-8", Value::Null),
        (b"a\xff\n", None, "Yf8K", "base64", Value::Null),
        // Cut by the job itself.
        (b"a\xc3", None, "YcM=", "base64", Value::Null),
        (b"abcd", gap(2, 9), "abcd", "utf-8", json!({ "from": 2, "to": 9 })),
        // A character that the gap cuts is left out with it.
        (b"a\xc3\xbcb", gap(2, 9), "ab", "utf-8", json!({ "from": 1, "to": 10 })),
        (b"a\xf0\x9f\x92\xa9b", gap(2, 9), "ab", "utf-8", json!({ "from": 1, "to": 12 })),
        (b"a\xff\xbcb", gap(2, 9), "Yf+8Yg==", "base64", json!({ "from": 2, "to": 9 })),
    ];
    for (bytes, gap, text, encoding, shown) in cases {
        let stdout = StreamOutput { bytes: bytes.to_vec(), gap };
        let output = Output { stdout, stderr: b"oh"[..].into(), truncated: gap.is_some() };
        bench.engine.put_output("4", output);
        let reply = bench.send(get("/p1/jobs/4/output")).await;
        let wanted = json!({
            "state": "complete", "exit_code": 3, "signal": null, "truncated": gap.is_some(),
            "stdout": text, "stdout_encoding": encoding, "stdout_gap": shown,
            "stderr": "oh", "stderr_encoding": "utf-8", "stderr_gap": null,
        });
        assert_eq!((reply.status, reply.json()), (200, json!({ "output": wanted })), "{bytes:?}");
    }
    let reply = bench.send(get("/p1/jobs/1/output")).await;
    let wanted = json!({
        "state": "new", "exit_code": null, "signal": null, "truncated": false,
        "stdout": "", "stdout_encoding": "utf-8", "stdout_gap": null,
        "stderr": "", "stderr_encoding": "utf-8", "stderr_gap": null,
    });
    assert_eq!((reply.status, reply.json()), (200, json!({ "output": wanted })));
    bench.engine.edit(|view| put_job(view, "4", |job| job.exit = Some(Exit::Signal(15))));
    let output = bench.send(get("/p1/jobs/4/output")).await.json()["output"].take();
    assert_eq!((&output["exit_code"], &output["signal"]), (&Value::Null, &json!(15)));
}

#[tokio::test]
async fn what_a_project_does_not_see_is_404() {
    let bench = bench();
    let asks = |job: &str, query: &str| {
        let member = format!("/p1/jobs/{job}");
        [
            get(&format!("{member}{query}")),
            delete(&format!("{member}{query}")),
            get(&format!("{member}/output{query}")),
            post(&format!("{member}/action{query}"), r#"{"hold": null}"#),
            post(&format!("{member}/action{query}"), r#"{"release": null}"#),
        ]
    };
    for (job, query) in [("3", ""), ("3", "?all_projects=no"), ("9", ""), ("9", "?all_projects=1")] {
        for ask in asks(job, query) {
            let what = format!("{ask:?}");
            let reply = bench.send(ask).await;
            let message = format!("Job {job} could not be found.");
            let expected = json!({ "itemNotFound": { "code": 404, "message": message } });
            assert_eq!((reply.status, reply.json()), (404, expected), "{what}");
        }
    }
    bench.deny("jobs:index:all_projects");
    for ask in asks("3", "?all_projects=1") {
        let what = format!("{ask:?}");
        assert_eq!(bench.send(ask).await.status, 403, "{what}");
    }
    assert_eq!(bench.send(get("/p1/jobs?all_projects=1")).await.status, 403);
    assert_eq!(bench.send(get("/p1/jobs/detail?all_projects=1")).await.status, 403);
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn mistakes_name_their_place_and_change_nothing() {
    let new = |body: &str| post("/p1/jobs", body);
    let act = |body: &str| post("/p1/jobs/1/action", body);
    let cases: Vec<(Ask, &str)> = vec![
        (new(""), "The body is empty: a JSON object with the one key `job` is needed."),
        (new("{}"), "The body needs the one key `job`, and has none."),
        (new(r#"{"jobs": {}}"#), "and has `jobs`"),
        (new(r#"{"job": {}}"#), "missing field `command`"),
        (new(r#"{"job": [["true"]]}"#), "field `job`: invalid type: array"),
        (new(r#"{"job": {"command": "true"}}"#), "field `job.command`"),
        (new(r#"{"job": {"command": ["true", 1]}}"#), "field `job.command[1]`"),
        (new(r#"{"job": {"command": ["true"], "cpu_cores": "2"}}"#), "field `job.cpu_cores`"),
        (new(r#"{"job": {"command": ["true"], "cpu_cores": -1}}"#), "field `job.cpu_cores`"),
        (new(r#"{"job": {"command": ["true"], "memory_mib": 1.5}}"#), "field `job.memory_mib`"),
        (new(r#"{"job": {"command": ["true"], "memory_mb": 1}}"#), "unknown field `memory_mb`"),
        (new(r#"{"job": {"command": ["true"], "target_clouds": "West"}}"#), "field `job.target_clouds`"),
        (act(r#"{"hold": "later"}"#), "field `hold`"),
        (act(r#"{"hold": {"reason": 1}}"#), "field `hold.reason`"),
        (act(r#"{"hold": {"why": "later"}}"#), "unknown field `why`"),
        (act(r#"{"release": {"now": 1}}"#), "unknown field `now`"),
        (act(r#"{"explode": null}"#), "no such action"),
    ];
    let bench = bench();
    for (ask, message) in cases {
        let what = format!("{ask:?}");
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (400, "badRequest".into()), "{what}: {}", reply.text);
        let said = reply.json()["badRequest"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains(message), "{what}: {said}");
    }
    let xml = new("<job/>").header(header::CONTENT_TYPE, "application/xml");
    assert_eq!(bench.send(xml).await.status, 415);
    assert_eq!(bench.engine.commands(), []);
}

#[tokio::test]
async fn the_engines_refusals_are_faults() {
    let job = r#"{"job": {"command": []}}"#;
    let empty = Refusal::Invalid { field: "command", problem: "it is empty".into() };
    let ended = || Refusal::Conflict("Job 1 has ended.".into());
    let cases: Vec<(Ask, Refusal, u16, &str)> = vec![
        (post("/p1/jobs", job), empty, 400, "Invalid command: it is empty"),
        (post("/p1/jobs", job), Refusal::Full, 507, "the disk is full"),
        (
            post("/p1/jobs", job),
            Refusal::Quota { resource: "waiting_jobs", requested: 1, used: 3, limit: 3 },
            403,
            "Quota exceeded for waiting_jobs: Requested 1, but already used 3 of 3 waiting_jobs",
        ),
        (post("/p1/jobs/1/action", r#"{"hold": null}"#), ended(), 409, "Job 1 has ended."),
        (post("/p1/jobs/1/action", r#"{"release": null}"#), ended(), 409, "Job 1 has ended."),
        (delete("/p1/jobs/1"), ended(), 409, "Job 1 has ended."),
        (delete("/p1/jobs/1"), Refusal::Unavailable, 503, "cannot be written now"),
    ];
    let bench = bench();
    for (ask, refusal, status, message) in cases {
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(ask).await;
        assert_eq!(reply.status, status, "{refusal:?}");
        assert!(reply.text.contains(message), "{refusal:?}: {}", reply.text);
    }
}

#[tokio::test]
async fn every_action_is_guarded_by_its_rule() {
    let asks = [
        ("jobs:index", get("/p1/jobs")),
        ("jobs:detail", get("/p1/jobs/detail")),
        ("jobs:show", get("/p1/jobs/1")),
        ("jobs:create", post("/p1/jobs", r#"{"job": {"command": ["true"]}}"#)),
        ("jobs:delete", delete("/p1/jobs/1")),
        ("jobs:hold", post("/p1/jobs/1/action", r#"{"hold": null}"#)),
        ("jobs:release", post("/p1/jobs/1/action", r#"{"release": null}"#)),
        ("jobs:output", get("/p1/jobs/1/output")),
    ];
    for (rule, ask) in asks {
        let bench = bench();
        bench.deny(rule);
        let reply = bench.send(ask).await;
        assert_eq!((reply.status, reply.top()), (403, "forbidden".into()), "{rule}");
        assert_eq!(bench.engine.commands(), [], "{rule}");
    }
}

#[tokio::test]
async fn a_project_is_told_why_its_own_jobs_wait() {
    let bench = bench();
    for job in ["1", "3"] {
        bench.engine.put_explanation(Explanation {
            job: job.into(),
            state: JobState::New,
            why: "It waits: every cloud that could run it is full.".into(),
            remedy: Some("Allow one more VM on cloud a.".into()),
            seq: 7,
            clouds: vec![CloudTest {
                cloud: "a".into(),
                fits: false,
                failed: Some("slots_free"),
                detail: Some("all of its 2 slots are taken".into()),
            }],
            queue: None,
            share: None,
            user_vms: Bounded { now: 2, limit: Some(3) },
            type_vms: Bounded { now: 1, limit: None },
            starting_vms: Bounded { now: 0, limit: None },
            failures: Vec::new(),
            banned_for_s: None,
        });
    }
    let cases = [
        ("/p1/jobs/1/explain", 200),
        ("/p1/jobs/3/explain", 404),
        ("/p1/jobs/3/explain?all_projects=1", 200),
        ("/p1/jobs/2/explain", 404),
        ("/p1/jobs/x/explain", 404),
    ];
    for (uri, status) in cases {
        let reply = bench.send(get(uri)).await;
        assert_eq!(reply.status, status, "{uri}: {}", reply.text);
    }
    let told = bench.send(get("/p1/jobs/1/explain")).await.json()["explanation"].clone();
    assert_eq!(
        told["clouds"],
        json!([{ "cloud": "a", "fits": false, "failed": "slots_free", "detail": "all of its 2 slots are taken" }])
    );
    assert_eq!((&told["state"], &told["user_vms"]), (&json!("new"), &json!({ "now": 2, "limit": 3 })));
    bench.deny("jobs:index:all_projects");
    assert_eq!(bench.send(get("/p1/jobs/3/explain?all_projects=1")).await.status, 403);
}
