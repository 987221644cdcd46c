//! How much is done at a time, and what is not tried again where it failed.

use pileus_model::{Command, JobSpec, JobState};

use crate::fake::{Bench, Fake, Mood, config, job};

#[tokio::test]
async fn few_vms_are_destroyed_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("c", 5)]);
    config.scheduler.max_destroying_vms = 2.try_into().unwrap();
    let bench = Bench::start(config, &cloud).await;
    for vm_type in ["t1", "t2", "t3", "t4", "t5"] {
        bench.submit_job(JobSpec { vm_type: vm_type.into(), ..job() }).await;
    }
    let view = bench.until("five vms", |view| view.vms.len() == 5).await;
    for vm in view.vms.keys() {
        bench.boot(&cloud, vm).await;
    }
    // Nobody boots another one.
    bench.submit(Command::EnableCloud { cloud: "c".into(), enabled: false }).await.unwrap();
    cloud.mood("c", Mood::Hanging);
    let vms = view.vms.keys().cloned().collect();
    bench.submit(Command::ShutdownVms { vms, why: "asked".into() }).await.unwrap();
    let destroys = || cloud.0.lock().unwrap().destroys.len();
    bench.until_so("two calls", || destroys() == 2).await;
    bench.tick(2).await;
    assert_eq!(destroys(), 2, "the others wait until these have been answered");
    cloud.mood("c", Mood::Well);
    bench.tick_until("the end of all", |view| view.vms.is_empty()).await;
    let view = bench.engine.view();
    assert!(view.jobs.values().all(|job| job.state == JobState::New), "they are not held, but wait");
    let reason = |view: &pileus_model::View| {
        view.jobs
            .values()
            .all(|job| job.reason.as_deref() == Some("every cloud that could run it is disabled"))
    };
    bench.tick_until("the reason", reason).await;
    bench.stop().await;
}

#[tokio::test]
async fn no_more_vms_boot_at_a_time_than_may() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("c", 9)]);
    config.scheduler.max_starting_vms = Some(2);
    let bench = Bench::start(config, &cloud).await;
    for vm_type in ["t1", "t2", "t3", "t4", "t5"] {
        bench.submit_job(JobSpec { vm_type: vm_type.into(), ..job() }).await;
    }
    let view = bench.until("two vms", |view| view.vms.len() == 2).await;
    bench.tick(3).await;
    assert_eq!(bench.engine.view().vms.len(), 2);
    let vm = view.vms.keys().next().unwrap();
    bench.boot(&cloud, vm).await;
    bench.until("one more, for one that has booted", |view| view.vms.len() == 3).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_image_that_fails_in_a_cloud_is_booted_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("a", 3), ("b", 3)]);
    config.clouds[1].1.priority = 1;
    config.scheduler.ban_tracking = true;
    config.scheduler.ban_min_track = 2.try_into().unwrap();
    // The image is to blame here, not the job.
    config.scheduler.block_cloud_after_boot_failures = 9.try_into().unwrap();
    let bench = Bench::start(config, &cloud).await;
    let id = bench.submit_job(JobSpec { image: Some("centos".into()), ..job() }).await;
    // Nothing ever calls home in either of them.
    let view = bench.tick_until("a vm in b", |view| view.vms_of("b").next().is_some()).await;
    let in_a = cloud.0.lock().unwrap().creates.iter().filter(|vm| vm.starts_with("a-")).count();
    assert_eq!(in_a, 2, "as many as it takes to know");
    assert_eq!(view.images["a"]["centos"].boots, [false, false]);
    assert_eq!(view.jobs[&id].failures.len(), 2);
    bench.stop().await;
}
