//! What happens when all goes well.

use std::{sync::Arc, time::Duration};

use pileus_engine::desk::{End, JobResult};
use pileus_model::{
    Actor, Clock, Command, Exit, JobSpec, JobState, JobStream, Origin, Output, OutputPart, OutputRange,
    Refusal, RequestKey, VmState,
};

use crate::fake::{Bench, Fake, config, job};

#[tokio::test]
async fn a_job_and_its_vm_from_the_first_to_the_last_moment() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("Alpha", 2)]), &cloud).await;
    // The clock stands still: everything up to the idle VM comes by signal, not by an interval.
    let id = bench.submit_job(job()).await;
    let view = bench.until("a vm", |view| !view.vms.is_empty()).await;
    assert_eq!(view.jobs[&id].state, JobState::Scheduled);
    let vm = view.vms.values().next().unwrap().id.clone();
    assert!(vm.starts_with("alpha-"), "{vm}");
    let view = bench.until("its handle", |view| !view.vms[&vm].handle.is_empty()).await;
    assert_eq!((view.vms[&vm].state, view.clouds["Alpha"].used.vm_slots), (VmState::Starting, 1));
    bench.boot(&cloud, &vm).await;
    let view = bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    assert_eq!(view.jobs[&id].vm.as_ref(), Some(&vm));
    assert_eq!((view.vms[&vm].state, view.vms[&vm].job.as_ref()), (VmState::Running, Some(&id)));
    assert_eq!(bench.engine.output(&id).await, Ok(None));
    bench.finish(&vm, &id, b"hello").await.unwrap();
    let view = bench.engine.view();
    assert_eq!((view.jobs[&id].state, view.jobs[&id].exit), (JobState::Complete, Some(Exit::Code(0))));
    assert_eq!(bench.engine.output(&id).await.unwrap().unwrap().stdout.bytes, b"hello");
    bench.finish(&vm, &id, b"again").await.unwrap();
    assert_eq!(
        bench.engine.output(&id).await.unwrap().unwrap().stdout.bytes,
        b"hello",
        "told once, kept once"
    );
    // Idle for as long as the cloud says, then gone.
    bench.tick(11).await;
    assert!(bench.engine.view().vms.contains_key(&vm));
    let view = bench.tick_until("the end of the vm", |view| view.vms.is_empty()).await;
    assert_eq!(view.clouds["Alpha"].used.vm_slots, 0);
    assert!(cloud.0.lock().unwrap().vms.is_empty(), "it is gone in the cloud, too");
    assert_eq!(cloud.0.lock().unwrap().creates.len(), 1, "one vm was made for one job");
    bench.stop().await;
}

#[tokio::test]
async fn a_kept_vm_takes_the_next_job_and_only_its_owners() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("c", 1)]);
    // Else alice would give the only VM up for bob.
    config.scheduler.rebalance = false;
    let bench = Bench::start(config, &cloud).await;
    let first = bench.submit_job(job()).await;
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&first].state == JobState::Running).await;
    let others = bench.submit_job(JobSpec { user: "bob".into(), ..job() }).await;
    bench.finish(&vm, &first, b"").await.unwrap();
    let second = bench.submit_job(job()).await;
    let view = bench.until("the second start", |view| view.jobs[&second].state == JobState::Running).await;
    assert_eq!(view.jobs[&second].vm.as_ref(), Some(&vm));
    let view = bench.until("a reason", |view| view.jobs[&others].reason.is_some()).await;
    assert_eq!(view.jobs[&others].reason.as_deref(), Some("every cloud that could run it is full"));
    assert_eq!(cloud.0.lock().unwrap().creates.len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_vm_is_given_up_after_its_job_for_a_user_who_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 1)]), &cloud).await;
    let first = bench.submit_job(job()).await;
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&first].state == JobState::Running).await;
    let others = bench.submit_job(JobSpec { user: "bob".into(), ..job() }).await;
    let view = bench.until("a vm given up", |view| view.vms[&vm].shown_state() == "Retiring").await;
    assert!(!view.vms[&vm].force_retire, "that is the mark of an administrator");
    assert_eq!(view.jobs[&first].state, JobState::Running, "the job goes on");
    bench.finish(&vm, &first, b"").await.unwrap();
    let view = bench.until("another vm", |view| view.vms.keys().any(|it| *it != vm)).await;
    let booted_for = view.vms.values().find(|it| it.id != vm).unwrap().booted_for.clone();
    assert_eq!(booted_for.as_ref(), Some(&others));
    bench.stop().await;
}

#[tokio::test]
async fn a_job_that_cannot_be_started_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 1)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    let end = End::NotStarted("no such program".into());
    bench.desk.finished(&vm, &id, JobResult::new(end, Output::default())).await.unwrap();
    let view = bench.engine.view();
    let it = &view.jobs[&id];
    assert_eq!((it.state, it.reason.as_deref()), (JobState::Error, Some("no such program")));
    bench.stop().await;
}

#[tokio::test]
async fn a_drained_cloud_ends_its_jobs_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 2)]), &cloud).await;
    let first = bench.submit_job(job()).await;
    let idles = bench.submit_job(JobSpec { vm_type: "t2".into(), ..job() }).await;
    let view = bench.until("two vms", |view| view.vms.len() == 2).await;
    for vm in view.vms.keys() {
        bench.boot(&cloud, vm).await;
    }
    let runs = |view: &pileus_model::View, id: &pileus_model::Name| view.jobs[id].state == JobState::Running;
    let view = bench.until("both", |view| runs(view, &first) && runs(view, &idles)).await;
    let [busy, idle] = [&first, &idles].map(|id| view.jobs[id].vm.clone().unwrap());
    bench.finish(&idle, &idles, b"").await.unwrap();
    bench.submit(Command::DrainCloud { cloud: "c".into() }).await.unwrap();
    bench.until("the idle one to go", |view| !view.vms.contains_key(&idle)).await;
    // The same owner and type: an idle VM would take it at once.
    let next = bench.submit_job(job()).await;
    bench.tick(2).await;
    assert!(runs(&bench.engine.view(), &first), "a running job goes on");
    bench.finish(&busy, &first, b"").await.unwrap();
    let view = bench.until("the busy one to go", |view| view.vms.is_empty()).await;
    assert_eq!((view.jobs[&first].state, view.jobs[&first].attempts), (JobState::Complete, 1));
    bench.tick(3).await;
    let view = bench.engine.view();
    assert!(view.vms.is_empty() && view.jobs[&next].state == JobState::New, "{view:#?}");
    assert_eq!(
        view.jobs[&next].reason.as_deref(),
        Some("every cloud that could run it is disabled or being drained")
    );
    bench.submit(Command::EnableCloud { cloud: "c".into(), enabled: true }).await.unwrap();
    let view = bench.tick_until("a vm", |view| !view.vms.is_empty()).await;
    let vm = view.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the next one", |view| runs(view, &next)).await;
    bench.stop().await;
}

#[tokio::test]
async fn administrators_end_vms_in_three_ways() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 3)]), &cloud).await;
    let mut ids = Vec::new();
    for vm_type in ["t1", "t2", "t3"] {
        ids.push(bench.submit_job(JobSpec { vm_type: vm_type.into(), ..job() }).await);
    }
    let view = bench.until("three vms", |view| view.vms.len() == 3).await;
    for vm in view.vms.keys() {
        bench.boot(&cloud, vm).await;
    }
    let running =
        |view: &pileus_model::View| view.jobs.values().filter(|job| job.state == JobState::Running).count();
    let view = bench.until("three starts", |view| running(view) == 3).await;
    let vm_of = |at: usize| view.jobs[&ids[at]].vm.clone().unwrap();
    bench.submit(Command::EnableCloud { cloud: "c".into(), enabled: false }).await.unwrap();
    // Shut down: the job waits again. Nobody boots another VM, as the cloud is disabled.
    bench.submit(Command::ShutdownVms { vms: vec![vm_of(0)], why: "asked".into() }).await.unwrap();
    let view = bench.until("its end", |view| !view.vms.contains_key(&vm_of(0))).await;
    assert_eq!((view.jobs[&ids[0]].state, view.jobs[&ids[0]].attempts), (JobState::New, 1));
    // Retired: the job goes on, then the VM ends.
    bench.submit(Command::RetireVms { vms: vec![vm_of(1)] }).await.unwrap();
    bench.tick(2).await;
    assert_eq!(bench.engine.view().vms[&vm_of(1)].shown_state(), "Retiring");
    bench.finish(&vm_of(1), &ids[1], b"").await.unwrap();
    bench.until("its end", |view| !view.vms.contains_key(&vm_of(1))).await;
    // Removed: the cloud keeps it, and no sweep takes it.
    bench.submit(Command::RemoveVms { vms: vec![vm_of(2)] }).await.unwrap();
    assert!(!bench.engine.view().vms.contains_key(&vm_of(2)));
    assert!(cloud.0.lock().unwrap().forgotten.contains(&vm_of(2)));
    bench.tick(130).await;
    assert!(cloud.0.lock().unwrap().sweeps >= 2);
    assert!(cloud.0.lock().unwrap().vms.contains_key(&vm_of(2)), "it goes on, unmanaged");
    bench.stop().await;
}

#[tokio::test]
async fn a_stop_destroys_vms_unless_told_otherwise_and_jobs_run_again() {
    for keep in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let cloud = Fake::default();
        let mut config = config(dir.path(), &[("c", 3)]);
        config.scheduler.keep_vms_on_stop = keep;
        let bench = Bench::start(config.clone(), &cloud).await;
        let id = bench.submit_job(job()).await;
        let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
        bench.boot(&cloud, &vm).await;
        bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
        bench.until("its handle", |view| !view.vms[&vm].handle.is_empty()).await;
        let engine = bench.engine.clone();
        bench.stop().await;
        assert_eq!(cloud.0.lock().unwrap().vms.contains_key(&vm), keep);
        let refused = engine.submit(Command::ReleaseJob { job: id.clone() }, Default::default()).await;
        assert!(refused.is_err(), "nothing is taken after the stop");
        drop(engine);
        let bench = Bench::start(config, &cloud).await;
        if keep {
            assert_eq!(bench.engine.view().jobs[&id].state, JobState::Running);
            bench.finish(&vm, &id, b"kept").await.unwrap();
        } else {
            let view = bench.until("another vm", |view| !view.vms.is_empty()).await;
            let other = view.vms.keys().next().unwrap().clone();
            assert_ne!(other, vm);
            bench.boot(&cloud, &other).await;
            bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
            bench.finish(&other, &id, b"").await.unwrap();
        }
        assert_eq!(bench.engine.view().jobs[&id].state, JobState::Complete);
        bench.stop().await;
    }
}

#[tokio::test]
async fn clouds_follow_the_configuration_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("a", 2), ("b", 2)]), &cloud).await;
    bench.submit(Command::EnableCloud { cloud: "a".into(), enabled: false }).await.unwrap();
    bench.submit(Command::SetSlots { cloud: "a".into(), vm_slots: 1 }).await.unwrap();
    let spec = crate::fake::spec(1);
    bench.submit(Command::CreateCloud { cloud: "api".into(), spec }).await.unwrap();
    bench.stop().await;
    let bench = Bench::start(config(dir.path(), &[("c", 1), ("a", 9)]), &cloud).await;
    let view = bench.engine.view();
    let names: Vec<_> = view.clouds_in_order().iter().map(|cloud| cloud.name.to_string()).collect();
    assert_eq!(names, ["c", "a", "api"]);
    let a = &view.clouds["a"];
    assert_eq!((a.enabled(), a.vm_slots(), a.spec.vm_slots), (false, 1, 9));
    assert_eq!(view.clouds["api"].origin, Origin::Api);
    bench.stop().await;
}

#[tokio::test]
async fn files_are_read_at_start_and_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let (aliases, limits) = (dir.path().join("aliases.json"), dir.path().join("limits.json"));
    std::fs::write(&aliases, r#"{"West": ["a", "b"]}"#).unwrap();
    std::fs::write(&limits, r#"{"alice": 1}"#).unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("a", 5)]);
    (config.cloud_aliases, config.user_limits) = (Some(aliases.clone()), Some(limits.clone()));
    let bench = Bench::start(config.clone(), &cloud).await;
    assert_eq!(*bench.engine.view().aliases["West"], ["a", "b"]);
    for vm_type in ["t1", "t2"] {
        bench.submit_job(JobSpec { vm_type: vm_type.into(), ..job() }).await;
    }
    bench.until("the limit", |view| view.jobs.values().any(|job| job.reason.is_some())).await;
    assert_eq!(bench.engine.view().vms.len(), 1);
    std::fs::write(&limits, r#"{"alice": 2}"#).unwrap();
    bench.submit(Command::ReloadUserLimits).await.unwrap();
    bench.until("a second vm", |view| view.vms.len() == 2).await;
    std::fs::write(&aliases, "{\"West\": [\n oops]}").unwrap();
    let refusal = bench.submit(Command::ReloadAliases).await.unwrap_err().to_string();
    assert!(refusal.contains("cloud_aliases") && refusal.contains("aliases.json:2:2: "), "{refusal}");
    assert_eq!(*bench.engine.view().aliases["West"], ["a", "b"], "the working set stays");
    bench.stop().await;
    let error = Bench::try_start(config, &cloud, &Default::default()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("aliases.json:2:2: "), "{error}");
}

/// A crash right after the change loses the answer at most: the key is in the change's transaction.
#[tokio::test]
async fn a_command_with_a_key_is_done_once_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let by = |request: &str| {
        let key = RequestKey { key: "k".into(), request: request.into(), repeated: false };
        Actor { user: "ann".into(), project: "p".into(), key: Some(Arc::new(key)), ..Actor::default() }
    };
    let submit = || Command::SubmitJob(Box::new(job()));
    let bench = Bench::start(config(dir.path(), &[("c", 0)]), &cloud).await;
    let first = bench.engine.submit(submit(), by("r")).await.unwrap();
    assert_eq!(bench.engine.submit(submit(), by("r")).await.unwrap().id, first.id);
    // Two at once are one, too: the second sees what the first did, in one transaction.
    let other = Command::SubmitJob(Box::new(JobSpec { user: "bob".into(), ..job() }));
    let both = tokio::join!(
        bench.engine.submit(other.clone(), by("r")),
        bench.engine.submit(other.clone(), by("r"))
    );
    assert_eq!(both.0.unwrap().id, both.1.unwrap().id);
    let refusal = bench.engine.submit(submit(), by("another")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict(_)), "{refusal}");
    assert_eq!(bench.engine.view().jobs.len(), 2);
    // A refused command uses no key.
    let hold = Command::HoldJob { job: "nobody".into(), reason: String::new() };
    let asked = Actor {
        key: Some(Arc::new(RequestKey { key: "h".into(), request: "r".into(), repeated: false })),
        ..by("r")
    };
    assert!(bench.engine.submit(hold, asked).await.is_err());
    assert_eq!(bench.engine.view().keys.len(), 1);
    let clock = bench.clock.clone();
    bench.stop().await;

    let bench = Bench::try_start(config(dir.path(), &[("c", 0)]), &cloud, &clock).await.unwrap();
    assert_eq!(bench.engine.submit(submit(), by("r")).await.unwrap().id, first.id);
    assert_eq!(bench.engine.view().jobs.len(), 2);
    bench.clock.advance(Duration::from_secs(24 * 60 * 60));
    let next = bench.engine.submit(submit(), by("another")).await.unwrap();
    assert_ne!(next.id, first.id, "after a day it is a new key, at {}", bench.clock.now().secs());
    bench.stop().await;
}

#[tokio::test]
async fn output_of_a_removed_job_is_kept_until_the_job_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let mut config = config(dir.path(), &[("c", 1)]);
    config.scheduler.job_retention_s = 20;
    let bench = Bench::start(config, &cloud).await;
    let id = bench.submit_job(job()).await;
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    bench.engine.submit(Command::DeleteJob { job: id.clone() }, Actor::default()).await.unwrap();
    let range = OutputRange { stream: JobStream::Stdout, offset: 2, max: 100 };
    // A reader that waits for it is woken, although no event says so.
    let read = bench.engine.output_part(&id, range, Duration::from_secs(60));
    let (part, ()) = tokio::join!(read, async {
        tokio::task::yield_now().await;
        bench.finish(&vm, &id, b"so far").await.unwrap();
    });
    let part = part.unwrap().unwrap();
    assert_eq!((&*part.bytes, part.offset, part.total, part.ended), (&b" far"[..], 2, 6, true));
    let output = bench.engine.output(&id).await.unwrap().unwrap();
    assert_eq!(output.stdout.bytes, b"so far");
    let it = bench.engine.view().jobs[&id].clone();
    assert_eq!((it.state, it.exit), (JobState::Removed, None));
    bench.tick_until("it is forgotten", |view| !view.jobs.contains_key(&id)).await;
    assert_eq!(bench.engine.output(&id).await, Ok(None));
    bench.finish(&vm, &id, b"late").await.unwrap();
    assert_eq!(bench.engine.output(&id).await, Ok(None));
    assert_eq!(bench.engine.output_part(&id, range, Duration::ZERO).await, Ok(None));
    bench.stop().await;
}

#[tokio::test]
async fn a_piece_of_output_is_waited_for_as_long_as_there_may_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = Fake::default();
    let bench = Bench::start(config(dir.path(), &[("c", 1)]), &cloud).await;
    let id = bench.submit_job(job()).await;
    let range = OutputRange { stream: JobStream::Stdout, offset: 0, max: 3 };
    let at_once = bench.engine.output_part(&id, range, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(at_once, OutputPart::default(), "it has not begun");
    let vm = bench.until("a vm", |view| !view.vms.is_empty()).await.vms.keys().next().unwrap().clone();
    bench.boot(&cloud, &vm).await;
    bench.until("the start", |view| view.jobs[&id].state == JobState::Running).await;
    // Its driver cannot ask workers: the end is waited for.
    let read = bench.engine.output_part(&id, range, Duration::from_secs(60));
    let (part, ()) = tokio::join!(read, async {
        tokio::task::yield_now().await;
        bench.finish(&vm, &id, b"hello").await.unwrap();
    });
    let part = part.unwrap().unwrap();
    assert_eq!((&*part.bytes, part.total, part.ended), (&b"hel"[..], 5, true));
    for (offset, bytes) in [(3, &b"lo"[..]), (5, b""), (9, b"")] {
        let range = OutputRange { offset, ..range };
        let part = bench.engine.output_part(&id, range, Duration::from_secs(60)).await.unwrap().unwrap();
        assert_eq!((&*part.bytes, part.ended), (bytes, true), "{offset}");
    }
    // The VM is not its user's.
    let held = bench.submit_job(JobSpec { user: "bob".into(), ..job() }).await;
    bench.engine.submit(Command::DeleteJob { job: held.clone() }, Actor::default()).await.unwrap();
    let none = bench.engine.output_part(&held, range, Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((none.total, none.ended), (0, true), "it never ran");
    bench.stop().await;
}
