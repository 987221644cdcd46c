//! The info port's texts on jobs, to the byte.

use std::time::Duration;

use pileus_ext_jobs::EXTENSION;
use pileus_sdk::{
    Mount, header, json,
    model::{BlockedCloud, JobState, Time, View},
    testing::{Answer, Ask, Bench, get, put_cloud, put_job, put_vm},
};

fn status(uri: &str) -> Ask {
    get(uri).on(Mount::CloudStatus)
}

fn plain(reply: &Answer) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    &reply.text
}

fn bench(fill: impl FnOnce(&mut View)) -> Bench {
    let bench = Bench::new(&EXTENSION);
    bench.engine.edit(fill);
    bench
}

const HEAD: &str =
    "Global ID            User            VM Type         Job Status Status       Cloud          \n";

#[tokio::test]
async fn the_table_of_one_job() {
    let bench = bench(|view| {
        put_job(view, "host.example.org#0.0#1460000000", |job| job.user = "alice".into());
        put_job(view, "ü-of-more-than-twenty-letters-ü", |job| {
            job.user = "a-user-of-more-than-15".into();
            job.vm_type = "a-type-of-more-than-15".into();
            job.cloud = Some("a-cloud-of-more-than-15".into());
            job.state = JobState::Running;
        });
        put_job(view, "a.json", |job| {
            job.state = JobState::Complete;
            job.cloud = Some("local".into());
        });
    });
    let waiting =
        "e.org#0.0#1460000000 alice           vmt             Idle       Unscheduled                 \n";
    let running =
        "han-twenty-letters-ü a-user-of-more- a-type-of-more- Running    Scheduled    a-cloud-of-more\n";
    let complete =
        "a.json               ada             vmt             Complete   Scheduled                   \n";
    let cases = [
        ("/jobs/host.example.org%230.0%231460000000", format!("{HEAD}{waiting}")),
        ("/jobs/%C3%BC-of-more-than-twenty-letters-%C3%BC", format!("{HEAD}{running}")),
        ("/jobs/a%2Ejson", format!("{HEAD}{complete}")),
        ("/jobs/nowhere", "Job not found.".to_owned()),
        ("/jobs/host.example.org", "Job not found.".to_owned()),
    ];
    for (uri, text) in cases {
        assert_eq!(plain(&bench.send(status(uri)).await), text, "{uri}");
    }
}

#[tokio::test]
async fn the_table_of_a_state() {
    let bench = bench(|view| {
        for state in JobState::ALL {
            put_job(view, state.as_str(), |job| job.state = state);
        }
        put_job(view, "other", |job| {
            job.project = "p2".into();
            job.high_priority = true;
        });
    });
    let cases = [
        ("new", "new Idle Unscheduled, other Idle Unscheduled"),
        ("sched", "running Running Scheduled, scheduled Idle Scheduled"),
        ("high", "other Idle Unscheduled"),
        ("idle", "new Idle Unscheduled, other Idle Unscheduled, scheduled Idle Scheduled"),
        ("running", "running Running Scheduled"),
        ("complete", "complete Complete Scheduled"),
        ("held", "held Held Unscheduled"),
    ];
    for (state, expected) in cases {
        let reply = bench.send(status(&format!("/jobs?state={state}"))).await;
        let rows = plain(&reply).strip_prefix(HEAD).unwrap();
        assert!(rows.lines().all(|row| row.len() == 92 && rows.ends_with('\n')), "{rows}");
        let rows = rows.lines().map(|row| {
            let cells: Vec<_> = row.split_whitespace().collect();
            [cells[0], cells[3], cells[4]].join(" ")
        });
        assert_eq!(rows.collect::<Vec<_>>().join(", "), expected, "{state}");
    }
    for state in ["", "New", "removed", "all"] {
        assert_eq!(plain(&bench.send(status(&format!("/jobs?state={state}"))).await), "", "{state}");
    }
    assert_eq!(bench.send(status("/jobs")).await.status, 404);
    let empty = Bench::new(&EXTENSION);
    assert_eq!(plain(&empty.send(status("/jobs?state=held")).await), HEAD);
}

const JOB: &str = concat!(
    r#"{"id": "a#1", "user": "ada", "uservmtype": "ada:vmt", "req_vmtype": "vmt", "req_network": "", "#,
    r#""req_image": "Default-Image", "req_imageloc": "", "status": "Scheduled", "running_cloud": "local", "#,
    r#""machine_reserved": "", "proxy_renew_time": "12", "priority": -3, "job_status": 2, "#,
    r#""cluster_id": 0, "proc_id": 0, "req_memory": 512, "req_cpucores": 1, "req_storage": 0, "#,
    r#""keep_alive": 60, "high_priority": 1, "usertype_limit": -1, "servertime": 0, "#,
    r#""jobstarttime": 1769857201, "maximum_price": 0.0, "banned": false, "job_per_core": false, "#,
    r#""proxy_non_boot": false, "ban_time": null, "block_time": null, "req_ami": {"default": ""}, "#,
    r#""instance_type": {"default": ""}, "target_clouds": ["West"], "blocked_clouds": [], "#,
    r#""req_security_group": [""], "remote_host": "host-v", "override_status": null, "spool_dir": null, "#,
    r#""myproxy_server": null, "myproxy_server_port": null, "myproxy_creds_name": null, "#,
    r#""x509userproxysubject": null, "x509userproxy": null, "original_x509userproxy": null, "#,
    r#""vmimage_proxy_file": null, "req_image_id": null, "location": null, "key_name": null, "#,
    r#""running_vm": null, "x509userproxy_expiry_time": null}"#,
);

fn running(view: &mut View) {
    put_cloud(view, "local", |_| ());
    put_vm(view, "v", "local", |_| ());
    put_job(view, "a#1", |job| {
        job.state = JobState::Running;
        job.vm = Some("v".into());
        job.cloud = Some("local".into());
        job.priority = -3;
        job.high_priority = true;
        job.keep_alive_s = Some(60);
        job.started = Some(Time(1_769_857_201_999));
        job.target_clouds = vec!["West".into()];
    });
}

#[tokio::test]
async fn a_job_as_json() {
    let bench = bench(|view| {
        running(view);
        put_job(view, "b", |job| {
            job.vm = Some("v".into());
            job.cloud = Some("local".into());
        });
    });
    let reply = bench.send(status("/jobs/a%231.json")).await;
    assert_eq!((reply.status, reply.header(header::CONTENT_TYPE)), (200, "application/json"));
    assert_eq!((reply.text.as_str(), reply.json().as_object().unwrap().len()), (JOB, 49));
    let waiting = bench.send(status("/jobs/b.json")).await.json();
    let keys = ["status", "running_cloud", "remote_host", "keep_alive", "high_priority", "jobstarttime"];
    let expected = [json!("Unscheduled"), json!(""), json!(null), json!(0), json!(0), json!(0)];
    assert_eq!(keys.map(|key| waiting[key].clone()), expected);
    let unknown = bench.send(status("/jobs/nowhere.json")).await;
    assert_eq!((unknown.status, unknown.text.as_str()), (200, "null"));
}

#[tokio::test]
async fn the_job_pool_holds_json_in_texts() {
    let bench = bench(|view| {
        running(view);
        put_job(view, "b", |_| ());
        put_job(view, "c", |job| job.state = JobState::Held);
    });
    for uri in ["/job-pool.json", "/job_pools.json"] {
        let reply = bench.send(status(uri)).await;
        let pool = reply.json();
        assert_eq!(pool["sched_jobs"], json!([JOB]), "{uri}");
        let new: Vec<_> =
            pool["new_jobs"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert!(new.len() == 1 && new[0].starts_with(r#"{"id": "b", "#), "{uri}: {new:?}");
        assert!(reply.text.starts_with(r#"{"new_jobs": ["{\"id\": \"b\", "#), "{uri}: {}", reply.text);
    }
    let empty = Bench::new(&EXTENSION).send(status("/job-pool.json")).await;
    assert_eq!(empty.text, r#"{"new_jobs": [], "sched_jobs": []}"#);
}

#[tokio::test]
async fn old_calls_are_guarded_by_their_rules() {
    let asks = [
        ("cloud_status:jobs", "/jobs?state=new"),
        ("cloud_status:jobs", "/job-pool.json"),
        ("cloud_status:jobs", "/job_pools.json"),
        ("cloud_status:job", "/jobs/1"),
        ("cloud_status:job", "/jobs/1.json"),
    ];
    for (rule, uri) in asks {
        let bench = Bench::new(&EXTENSION);
        bench.deny(rule);
        assert_eq!(bench.send(status(uri)).await.status, 403, "{uri}");
    }
}

#[tokio::test]
async fn a_banned_job_says_so_until_the_ban_ends() {
    let bench = bench(|view| {
        put_job(view, "a", |job| {
            job.image = Some("debian".into());
            job.user_type_limit = Some(3);
            job.banned_until = Some(Time(1_769_860_800_000 + 60_000));
            let blocked = |cloud: &str, until| BlockedCloud { cloud: cloud.into(), until: Time(until) };
            job.blocked_clouds = vec![blocked("west", i64::MAX), blocked("east", 0)];
        });
    });
    let row = bench.send(status("/jobs/a")).await;
    assert!(plain(&row).contains(" Idle       TempBanned "), "{}", row.text);
    let job = bench.send(status("/jobs/a.json")).await.json();
    assert_eq!((&job["banned"], &job["override_status"]), (&json!(true), &json!("TempBanned")));
    assert_eq!((&job["blocked_clouds"], &job["usertype_limit"]), (&json!(["west"]), &json!(3)));
    assert_eq!(job["req_ami"], json!({ "default": "debian" }));
    bench.clock.advance(Duration::from_secs(60));
    let row = bench.send(status("/jobs/a")).await;
    assert!(plain(&row).contains(" Idle       Unscheduled "), "{}", row.text);
    assert_eq!(bench.send(status("/jobs/a.json")).await.json()["banned"], false);
}
