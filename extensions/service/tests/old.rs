//! What the old ports say of the service itself, to the byte.

use std::sync::Arc;

use pileus_ext_service::EXTENSION;
use pileus_sdk::{
    Mount, header,
    host::CloudText,
    model::{BootFailure, BootFault, Command, Holding, ImageRecord, Refusal, Shares, Time, TypeShare},
    testing::{Answer, Ask, Bench, cloud, get, post, put, put_job},
};

fn status(uri: &str) -> Ask {
    get(uri).on(Mount::CloudStatus)
}

fn plain(reply: &Answer) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header(header::CONTENT_TYPE), "text/plain; charset=utf-8");
    &reply.text
}

#[test]
fn the_routes_are_sound() {
    assert_eq!(Bench::new(&EXTENSION).complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn the_file_is_shown_in_its_layout() {
    let bench = Bench::new(&EXTENSION);
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = vec![option("driver", "local"), option("vm_slots", "4")];
    bench.host.put_texts(Ok(vec![
        CloudText { name: "Alpha".into(), options },
        CloudText { name: "b c".into(), options: Vec::new() },
    ]));
    let reply = bench.send(status("/cloud/config")).await;
    assert_eq!(plain(&reply), "Alpha [driver,local][vm_slots,4]\nb c \n");
    bench.host.put_texts(Err("pileus.toml:1: what is that?".into()));
    assert_eq!(plain(&bench.send(status("/cloud/config")).await), "None");
}

#[tokio::test]
async fn shares_have_six_decimals() {
    let bench = Bench::new(&EXTENSION);
    let nothing = "Diff Types dictionary\nCurrent Types (vms)\nDesired Types (jobs)\n";
    assert_eq!(plain(&bench.send(status("/diff-types")).await), nothing);
    let share = |user: &str, billionths| TypeShare {
        project: "p1".into(),
        user: user.into(),
        vm_type: "t".into(),
        billionths,
    };
    bench.engine.put_shares(Shares {
        diff: vec![share("ada", 1_000_000_000), share("bob", -333_333_333), share("cy", -499)],
        current: vec![share("ada", 666_666_667)],
        desired: vec![share("bob", 83_333_333)],
    });
    let expected = "\
Diff Types dictionary
type: ada:t, dist: 1.000000
type: bob:t, dist: -0.333333
type: cy:t, dist: -0.000000
Current Types (vms)
type: ada:t, dist: 0.666667
Desired Types (jobs)
type: bob:t, dist: 0.083333
";
    assert_eq!(plain(&bench.send(status("/diff-types")).await), expected);
}

#[tokio::test]
async fn failures_are_listed_by_job_and_by_cloud() {
    let bench = Bench::new(&EXTENSION);
    for uri in ["/failures/boot", "/failures?type=boot"] {
        assert_eq!(plain(&bench.send(status(uri)).await), "Job Failure Reasons:\n");
    }
    let failure = |fault| BootFailure { fault, detail: "…".into(), cloud: "west".into(), at: Time(0) };
    bench.engine.edit(|view| {
        put_job(view, "e.org#1.0#7", |job| job.failures = vec![failure(BootFault::NotBooted)]);
        put_job(view, "2", |job| {
            job.failures = [BootFault::NotRegistered, BootFault::NoCapacity, BootFault::NotRegistered]
                .map(failure)
                .to_vec();
        });
        put_job(view, "3", |job| job.reason = Some("every cloud that could run it is full".into()));
        for (cloud, image, boots) in [
            ("east", "b", vec![false]),
            ("east", "a", vec![true, false]),
            ("east", "mended", vec![false, true]),
            ("west", "a", vec![false]),
            ("north", "fine", vec![true]),
        ] {
            let record = ImageRecord { boots, failure: Some(failure(BootFault::NotBooted)) };
            Arc::make_mut(view.images.entry(cloud.into()).or_default()).insert(image.into(), record);
        }
    });
    let expected = "\
Job Failure Reasons:
   Job ID: 2
      Resource Availability / Quota Problem
      VM did not register in time
   Job ID: e.org#1.0#7
      VM did not start in time
";
    for uri in ["/failures/boot", "/failures?type=boot"] {
        assert_eq!(plain(&bench.send(status(uri)).await), expected, "{uri}");
    }
    let expected = "Image Failure List\n   Cloud: east\n      Image: a\n      Image: b\n   Cloud: west\n      Image: a\n";
    for uri in ["/failures/image", "/failures?type=image"] {
        assert_eq!(plain(&bench.send(status(uri)).await), expected, "{uri}");
    }
    for uri in ["/failures", "/failures?type=", "/failures?type=Boot", "/failures/other"] {
        assert_eq!(bench.send(status(uri)).await.status, 404, "{uri}");
    }
}

#[tokio::test]
async fn each_reconciler_has_a_block() {
    let bench = Bench::new(&EXTENSION);
    bench.engine.put_holdings(vec![
        Holding { name: "Scheduler", lines: vec!["jobs that wait: 3".into(), "VMs that boot: 1".into()] },
        Holding { name: "Cleanup", lines: Vec::new() },
    ]);
    let reply = bench.send(status("/shared-objs")).await;
    assert_eq!(
        plain(&reply),
        "Scheduler Thread:\njobs that wait: 3\nVMs that boot: 1\n\nCleanup Thread:\n\n"
    );
}

#[tokio::test]
async fn the_process_is_described_under_both_names() {
    let bench = Bench::new(&EXTENSION);
    for uri in ["/developer-info", "/developer_info"] {
        let reply = bench.send(status(uri)).await;
        let text = plain(&reply);
        for line in ["Memory: 20480 KiB resident, 0 KiB at its peak", "Threads: 3", "Quick shutdown: off"] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert!(text.contains("Log level: INFO (info)\n"), "{text}");
    }
}

#[tokio::test]
async fn the_log_level_is_set() {
    let bench = Bench::new(&EXTENSION);
    let set = |uri: &str, form: &str| put(uri, form).form().on(Mount::CloudAdmin);
    let cases = [
        ("/?log_level=DEBUG", "", 200, "DEBUG"),
        ("/", "log_level=verbose", 200, "VERBOSE"),
        ("/?log_level=Critical", "log_level=info", 200, "CRITICAL"),
        ("/", "", 404, "CRITICAL"),
        ("/", "log_level=", 500, "CRITICAL"),
        ("/", "log_level=loud", 500, "CRITICAL"),
        ("/", "LOG_LEVEL=info", 404, "CRITICAL"),
    ];
    for (uri, form, status, level) in cases {
        let reply = bench.send(set(uri, form)).await;
        assert_eq!((reply.status, reply.text.is_empty()), (status, status == 200), "{uri} {form}");
        let info = bench.send(get("/developer-info").on(Mount::CloudStatus)).await;
        assert!(info.text.contains(&format!("Log level: {level} ")), "{uri} {form}: {}", info.text);
    }
}

#[tokio::test]
async fn quick_shutdown_is_turned_over_or_set() {
    let bench = Bench::new(&EXTENSION);
    let steps = [
        ("action=quick_shutdown", 200, true),
        ("action=quick_shutdown", 200, false),
        ("action=quick_shutdown&value=on", 200, true),
        ("action=quick_shutdown&value=on", 200, true),
        ("action=quick_shutdown&value=OFF", 200, false),
        ("action=quick_shutdown&value=maybe", 404, false),
        ("action=quick_shutdown&value=", 404, false),
        ("action=Quick_Shutdown", 404, false),
        ("action=", 404, false),
        ("", 404, false),
    ];
    for (form, status, on) in steps {
        let reply = bench.send(post("/", form).form().on(Mount::CloudAdmin)).await;
        assert_eq!((reply.status, reply.text.is_empty()), (status, status == 200), "{form}");
        let info = bench.send(get("/developer-info").on(Mount::CloudStatus)).await;
        let line = format!("Quick shutdown: {}\n", if on { "on" } else { "off" });
        assert!(info.text.contains(&line), "{form}: {}", info.text);
    }
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_says_so() {
    let bench = Bench::new(&EXTENSION);
    let reconfig = || post("/?action=reconfig", "").on(Mount::CloudAdmin);
    let clouds = vec![("a".to_owned(), cloud("a").spec)];
    bench.host.put_clouds(Ok(clouds.clone()));
    assert_eq!(plain(&bench.send(reconfig()).await), "");
    assert_eq!(bench.engine.commands(), [Command::Reconfigure { clouds }]);
    bench.host.put_clouds(Err("pileus.toml:7: what is that?".into()));
    let text = "Reconfig failed, nothing was changed: pileus.toml:7: what is that?";
    assert_eq!(plain(&bench.send(reconfig()).await), text);
    assert_eq!(bench.engine.commands(), []);
    bench.host.put_clouds(Ok(Vec::new()));
    for (refusal, status) in [
        (Refusal::Conflict("Cloud a has VMs: its driver cannot change.".into()), 200),
        (Refusal::Full, 507),
        (Refusal::Unavailable, 503),
    ] {
        bench.engine.refuse(refusal.clone());
        let reply = bench.send(reconfig()).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.text.contains(&refusal.to_string()), "{}", reply.text);
    }
}
