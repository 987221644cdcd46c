//! Quotas on jobs that wait.

use pileus_model::{Command, JobSpec, Refusal};

use crate::fake::{Bench, Fake, config, job};

#[tokio::test]
async fn a_quota_holds_for_requests_at_the_same_time_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let settings = || {
        let mut config = config(dir.path(), &[("c", 0)]);
        (config.scheduler.waiting_jobs_max, config.scheduler.waiting_bytes_max) = (5, 300);
        config
    };
    let bench = Bench::start(settings(), &cloud).await;
    let is_quota = |refusal: Refusal, wanted: &str| match refusal {
        Refusal::Quota { resource, .. } => assert_eq!(resource, wanted),
        other => panic!("{other}"),
    };
    let all = at_once(&bench, 20).await;
    assert_eq!(all.iter().filter(|done| done.is_ok()).count(), 5);
    all.into_iter().filter_map(Result::err).for_each(|refusal| is_quota(refusal, "waiting_jobs"));
    // Another project has its own.
    let other = bench.submit_job_or_not(JobSpec { project: "q".into(), ..job() }).await.unwrap();
    let large = JobSpec { project: "q".into(), command: vec!["x".repeat(300)], ..job() };
    is_quota(bench.submit_job_or_not(large).await.unwrap_err(), "waiting_job_bytes");
    let clock = bench.clock.clone();
    bench.stop().await;

    let bench = Bench::try_start(settings(), &cloud, &clock).await.unwrap();
    is_quota(bench.submit_job_or_not(job()).await.unwrap_err(), "waiting_jobs");
    let waiting = bench.engine.view().waiting.clone();
    assert_eq!((waiting["p"].jobs, waiting["q"].jobs), (5, 1));
    let first = bench.engine.view().jobs.keys().find(|id| **id != other).unwrap().clone();
    // Held, it counts; removed, it does not.
    bench.submit(Command::HoldJob { job: first.clone(), reason: "wait".into() }).await.unwrap();
    is_quota(bench.submit_job_or_not(job()).await.unwrap_err(), "waiting_jobs");
    bench.submit(Command::DeleteJob { job: first }).await.unwrap();
    bench.submit_job_or_not(job()).await.unwrap();
    assert_eq!(bench.engine.waiting_max().map(|max| (max.jobs, max.bytes)), Some((5, 300)));
    bench.stop().await;
}

/// Submits so many jobs at the same time.
async fn at_once(bench: &Bench, jobs: usize) -> Vec<Result<pileus_model::Name, Refusal>> {
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..jobs {
        let (engine, command) = (bench.engine.clone(), Command::SubmitJob(Box::new(job())));
        all.spawn(async move { engine.submit(command, Default::default()).await.map(|done| done.id.into()) });
    }
    all.join_all().await
}
