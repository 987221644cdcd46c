//! What happens when clouds, drivers, workers or the configuration do not behave.

use std::time::Duration;

use pileus_engine::{
    StartError,
    desk::{End, JobResult},
};
use pileus_model::{Command, JobSpec, JobState, ManualClock, Output, Refusal, VmState};

use crate::fake::{Bench, Fake, Mood, config, job, spec};

fn aimed(cloud: &str) -> JobSpec {
    JobSpec { target_clouds: vec![cloud.into()], vm_type: cloud.into(), ..job() }
}

#[tokio::test]
async fn a_cloud_that_hangs_fails_or_panics_holds_up_nobody() {
    for mood in [Mood::Hanging, Mood::Failing, Mood::Panicking] {
        let dir = tempfile::tempdir().unwrap();
        let cloud = Fake::default();
        cloud.mood("bad", mood);
        let bench = Bench::start(config(dir.path(), &[("bad", 2), ("good", 2)]), &cloud).await;
        bench.submit_job(aimed("bad")).await;
        let id = bench.submit_job(aimed("good")).await;
        let on = |cloud: &'static str| move |view: &pileus_model::View| view.vms_of(cloud).next().is_some();
        bench.until("a vm in the bad cloud", on("bad")).await;
        let view = bench.until("a vm in the good cloud", on("good")).await;
        let vm = view.vms_of("good").next().unwrap().id.clone();
        bench.boot(&cloud, &vm).await;
        bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
        bench.finish(&vm, &id, b"").await.unwrap();
        // Once it is well again, its VM is made at last, and under its first name.
        cloud.mood("bad", Mood::Well);
        let view = bench
            .tick_until("the vm in the bad cloud", |view| view.vms_of("bad").any(|vm| !vm.handle.is_empty()))
            .await;
        let vm = view.vms_of("bad").next().unwrap();
        assert!(cloud.0.lock().unwrap().vms.contains_key(&vm.id), "{mood:?}");
        assert_eq!(view.vms_of("bad").count(), 1, "{mood:?}");
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_failing_cloud_is_asked_less_and_less_and_given_up_for_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    cloud.mood("bad", Mood::Failing);
    let bench = Bench::start(config(dir.path(), &[("bad", 2), ("good", 2)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let view = bench.until("a failure", |view| view.vms.values().any(|vm| vm.last_error.is_some())).await;
    assert_eq!(&*view.vms.values().next().unwrap().cloud, "bad", "the first cloud is tried first");
    assert_eq!(view.jobs[&id].state, JobState::Scheduled);
    // After five failures, with back-off between, the job is given to another cloud.
    bench.tick_until("a vm in the good cloud", |view| view.vms_of("good").next().is_some()).await;
    let creates = cloud.0.lock().unwrap().creates.len();
    assert!((5..=12).contains(&creates), "{creates} calls");
    let beats = bench.engine.beats();
    assert!(beats[2].error.as_ref().is_some_and(|error| error.contains("the cloud is down")), "{beats:?}");
    cloud.mood("bad", Mood::Well);
    bench.tick_until("the end of the first vm", |view| view.vms_of("bad").next().is_none()).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_full_cloud_sends_the_job_on_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    cloud.mood("full", Mood::Full);
    let bench = Bench::start(config(dir.path(), &[("full", 2), ("good", 2)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let view = bench.until("a vm", |view| view.vms_of("good").next().is_some()).await;
    let vm = view.vms_of("good").next().unwrap().id.clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_vm_that_breaks_is_replaced_and_its_job_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 2)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let first = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &first).await;
    bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    bench.until("its handle", |view| !view.vms[&first].handle.is_empty()).await;
    cloud.0.lock().unwrap().vms.insert(first.clone(), VmState::Error);
    bench.tick(1).await;
    assert!(bench.engine.view().vms.contains_key(&first), "one bad answer is not enough");
    let view = bench
        .tick_until("another vm", |view| view.vms.keys().any(|vm| *vm != first) && view.vms.len() == 1)
        .await;
    let second = view.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &second).await;
    let view = bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    assert_eq!((view.jobs[&id].attempts, view.jobs[&id].vm.as_ref()), (2, Some(&second)));
    bench.finish(&first, &id, b"late").await.unwrap();
    assert_eq!(bench.engine.view().jobs[&id].state, JobState::Running, "the lost VM has no say any more");
    bench.stop().await;
}

#[tokio::test]
async fn vms_that_nobody_knows_are_swept_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    cloud.0.lock().unwrap().vms.insert("stray".into(), VmState::Running);
    let bench = Bench::start(config(dir.path(), &[("c", 9)]), &cloud).await;
    let known = |view: &pileus_model::View| view.vms.len() == 1;
    bench.submit_job(job()).await;
    let vm = bench.until("a vm", known).await.vms.keys().next().unwrap().clone();
    bench.until("its handle", |view| !view.vms[&vm].handle.is_empty()).await;
    bench.until_so("the sweep", || !cloud.0.lock().unwrap().vms.contains_key("stray")).await;
    bench.boot(&cloud, &vm).await;
    bench.tick(125).await;
    assert!(cloud.0.lock().unwrap().sweeps >= 2);
    assert_eq!(cloud.0.lock().unwrap().vms.contains_key(&vm), bench.engine.view().vms.contains_key(&vm));
    bench.stop().await;
}

#[tokio::test]
async fn what_an_engine_left_undone_the_next_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("c", 2)]);
    config.scheduler.keep_vms_on_stop = true;
    // It asks for a VM, and dies before it hears that it was made.
    cloud.mood("c", Mood::Hanging);
    let bench = Bench::start(config.clone(), &cloud).await;
    bench.submit_job(job()).await;
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.until_so("the call", || !cloud.0.lock().unwrap().creates.is_empty()).await;
    bench.stop().await;
    cloud.mood("c", Mood::Well);
    let bench = Bench::start(config.clone(), &cloud).await;
    bench.until("its handle", |view| !view.vms[&vm].handle.is_empty()).await;
    assert_eq!(cloud.0.lock().unwrap().vms.keys().collect::<Vec<_>>(), [&vm], "one VM, not two");
    // It is to destroy it, and dies before that is done.
    cloud.mood("c", Mood::Hanging);
    bench.submit(Command::ShutdownVms { vms: vec![vm.clone()], why: "asked".into() }).await.unwrap();
    bench.stop().await;
    assert!(cloud.0.lock().unwrap().vms.contains_key(&vm));
    cloud.mood("c", Mood::Well);
    let bench = Bench::start(config, &cloud).await;
    bench.until("its end", |view| !view.vms.contains_key(&vm)).await;
    assert!(!cloud.0.lock().unwrap().vms.contains_key(&vm));
    bench.stop().await;
}

#[tokio::test]
async fn whoever_hangs_up_has_been_heard() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(config(dir.path(), &[("c", 0)]), &Fake::default()).await;
    for at in 0..3000 {
        // Never polled; more of them than the queue holds.
        let command = Command::SetUserLimit { user: format!("u{at}").into(), vms: Some(at) };
        drop(bench.engine.submit(command, Default::default()));
    }
    bench.until("all", |view| view.user_limits.len() == 3000).await;
    bench.stop().await;
}

#[tokio::test]
async fn many_at_once_are_answered_each() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(config(dir.path(), &[("c", 0)]), &Fake::default()).await;
    let asked: Vec<_> = (0..2000)
        .map(|at| {
            let command = if at % 10 == 0 {
                Command::DeleteAlias { alias: "none".into() }
            } else {
                Command::SetAlias { alias: format!("a{at}").into(), clouds: vec![] }
            };
            bench.engine.submit(command, Default::default())
        })
        .collect();
    for (at, answer) in asked.into_iter().enumerate() {
        match answer.await {
            Ok(receipt) => assert!(receipt.view.aliases.contains_key(&*format!("a{at}")), "it can be seen"),
            Err(refusal) => assert!(at % 10 == 0 && matches!(refusal, Refusal::NotFound { .. })),
        }
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_and_leaves_the_folder_free() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let good = || config(dir.path(), &[("c", 1)]);
    let with = |change: fn(&mut pileus_engine::Config)| {
        let mut config = good();
        change(&mut config);
        config
    };
    let cases = [
        ("unknown driver", with(|c| c.clouds[0].1.driver = "vmware".into()), "cloud `c`: Invalid driver: "),
        ("twice", with(|c| c.clouds.push(("C".into(), spec(1)))), "cloud `C`: it is there twice"),
        ("unknown store", with(|c| c.store = "papyrus".into()), "the store `papyrus` is unknown"),
        ("missing file", with(|c| c.user_limits = Some("/nowhere/at.json".into())), "/nowhere/at.json: "),
    ];
    for (what, config, wanted) in cases {
        let error = Bench::try_start(config, &cloud, &ManualClock::default()).await.map(drop).unwrap_err();
        assert!(error.to_string().starts_with(wanted), "{what}: {error}");
    }
    let broken = pileus_engine::start(
        good(),
        std::sync::Arc::new(ManualClock::default()),
        Box::new(|_, _| {
            Box::pin(async { Err(pileus_engine::drivers::DriverError::Failed("no program".into())) })
        }),
    );
    let error = broken.await.map(drop).unwrap_err();
    assert!(matches!(error, StartError::Driver { .. }), "{error}");
    let bench = Bench::start(good(), &cloud).await;
    let held = Bench::try_start(good(), &cloud, &ManualClock::default()).await.map(drop).unwrap_err();
    assert!(held.to_string().contains("in use by another process"), "{held}");
    bench.stop().await;
}

#[tokio::test]
async fn every_reconciler_gives_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::start(config(dir.path(), &[("c", 1)]), &Fake::default()).await;
    bench.tick(3).await;
    let beats = bench.engine.beats();
    let names: Vec<_> = beats.iter().map(|beat| beat.name).collect();
    assert_eq!(names, ["Scheduler", "Cleanup", "VMPoller", "JobPoller", "MachinePoller"]);
    assert!(beats.iter().all(|beat| beat.error.is_none() && beat.interval_s == 5), "{beats:?}");
    bench.clock.advance(Duration::from_secs(1));
    bench.stop().await;
}

#[tokio::test]
async fn vms_that_start_no_job_are_destroyed_and_their_cloud_is_probed() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("bad", 1)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let other = bench.submit_job(job()).await;
    let fault = || JobResult::new(End::HostFault("no space left on device".into()), Output::default());
    for vms in 0..3 {
        let view = bench.tick_until("a vm", |view| view.vms.values().any(|vm| vm.destroy.is_none())).await;
        let vm = view.vms.values().find(|vm| vm.destroy.is_none()).unwrap().id.clone();
        bench.boot(&cloud, &vm).await;
        for _ in 0..3 {
            let view = bench.until("the start", |view| view.vms[&vm].job.is_some()).await;
            let given = view.vms[&vm].job.clone().unwrap();
            bench.desk.finished(&vm, &given, fault()).await.unwrap();
        }
        let view = bench.engine.view();
        assert_eq!(view.health["bad"].jobless, vms + 1);
        assert!(view.jobs[&id].reason.is_some(), "{:?}", view.jobs[&id]);
        bench.until("its end", |view| !view.vms.contains_key(&vm)).await;
    }
    // 5 min without a VM, then one; its success ends the suspicion.
    bench.tick(58).await;
    assert!(bench.engine.view().vms.is_empty(), "{:?}", bench.engine.view().vms);
    let view = bench.tick_until("a probe", |view| !view.vms.is_empty()).await;
    let vm = view.vms.values().next().unwrap().id.clone();
    bench.boot(&cloud, &vm).await;
    for _ in 0..2 {
        let view = bench.until("the start", |view| view.vms[&vm].job.is_some()).await;
        let given = view.vms[&vm].job.clone().unwrap();
        bench.finish(&vm, &given, b"").await.unwrap();
    }
    let view = bench.engine.view();
    let ended = [&id, &other].map(|id| view.jobs[id].state);
    assert!(view.health.is_empty() && ended == [JobState::Complete; 2], "{:?} {ended:?}", view.health);
    bench.stop().await;
}
