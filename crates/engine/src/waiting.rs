//! Counts of jobs that wait, by project, and their quota.

use pileus_model::{Job, JobSpec, JobState, Name, Refusal, View, Waiting};

use crate::config::SchedulerConfig;

/// Part of a job in the count of its project, in bytes. `None`: it runs or has ended.
pub fn part(job: &Job) -> Option<u64> {
    let waits = matches!(job.state, JobState::New | JobState::Scheduled | JobState::Held);
    let names = [&job.project, &job.user, &job.vm_type].into_iter().chain(&job.image);
    waits.then(|| bytes(&job.command, &job.target_clouds, names))
}

/// Counts a job of `project` that has changed.
pub fn count(view: &mut View, project: &Name, before: Option<u64>, after: Option<u64>) {
    if before == after {
        return;
    }
    let mut waiting = view.waiting.get(project).copied().unwrap_or_default();
    waiting.jobs = (waiting.jobs + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
    waiting.bytes = waiting.bytes.saturating_add(after.unwrap_or(0)).saturating_sub(before.unwrap_or(0));
    if waiting.jobs == 0 {
        view.waiting.remove(project);
    } else {
        view.waiting.insert(project.clone(), waiting);
    }
}

/// Counts all jobs again.
pub fn count_all(view: &mut View) {
    view.waiting = Default::default();
    for job in view.jobs.clone().values() {
        count(view, &job.project, None, part(job));
    }
}

/// Most that a project may have.
pub fn max(config: &SchedulerConfig) -> Waiting {
    Waiting { jobs: config.waiting_jobs_max, bytes: config.waiting_bytes_max }
}

/// Refuses a job that would exceed the quota of its project.
pub fn admit(view: &View, spec: &JobSpec, config: &SchedulerConfig) -> Result<(), Refusal> {
    let (used, max) = (view.waiting.get(&spec.project).copied().unwrap_or_default(), max(config));
    let names = [&spec.project, &spec.user, &spec.vm_type].into_iter().chain(&spec.image);
    let bytes = bytes(&spec.command, &spec.target_clouds, names);
    let tests =
        [("waiting_jobs", 1, used.jobs, max.jobs), ("waiting_job_bytes", bytes, used.bytes, max.bytes)];
    match tests.into_iter().find(|(_, requested, used, limit)| used.saturating_add(*requested) > *limit) {
        Some((resource, requested, used, limit)) => Err(Refusal::Quota { resource, requested, used, limit }),
        None => Ok(()),
    }
}

fn bytes<'a>(command: &[String], clouds: &[String], names: impl Iterator<Item = &'a Name>) -> u64 {
    let texts = command.iter().chain(clouds).map(String::len);
    texts.chain(names.map(|name| name.len())).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use pileus_model::{Exit, Kind, Time, VmState};

    use super::*;
    use crate::testing::{self, cloud, happen, idle_vm, job};

    fn spec(project: &str, argument: usize) -> JobSpec {
        JobSpec {
            project: project.into(),
            user: "u".into(),
            command: vec!["x".repeat(argument)],
            vm_type: "t".into(),
            cpu_cores: 1,
            memory_mib: 1,
            storage_gib: 0,
            priority: 0,
            high_priority: false,
            keep_alive_s: None,
            target_clouds: vec!["c".into()],
            image: Some("i".into()),
            user_type_limit: None,
        }
    }

    #[test]
    fn a_project_has_room_up_to_its_quota() {
        let mut view = View::default();
        view.waiting.insert("p".into(), Waiting { jobs: 2, bytes: 90 });
        // Project, bytes of the argument, quotas of jobs and bytes, and the quota that refuses.
        for (project, argument, jobs, bytes, refused) in [
            ("p", 5, 3, 100, None),
            ("p", 5, 2, 100, Some("waiting_jobs")),
            ("p", 6, 3, 100, Some("waiting_job_bytes")),
            ("q", 95, 1, 100, None),
            ("q", 96, 1, 100, Some("waiting_job_bytes")),
            ("q", 0, 0, 100, Some("waiting_jobs")),
        ] {
            let config =
                SchedulerConfig { waiting_jobs_max: jobs, waiting_bytes_max: bytes, ..Default::default() };
            let found = match admit(&view, &spec(project, argument), &config) {
                Ok(()) => None,
                Err(Refusal::Quota { resource, .. }) => Some(resource),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, refused, "{project}, {argument} bytes, at most {jobs} and {bytes}");
        }
        let refusal = Refusal::Quota { resource: "waiting_jobs", requested: 1, used: 10, limit: 10 };
        let text = "Quota exceeded for waiting_jobs: Requested 1, but already used 10 of 10 waiting_jobs";
        assert_eq!(refusal.to_string(), text);
    }

    #[test]
    fn counts_follow_the_states_of_jobs() {
        let mut view = testing::view([cloud("c", 3)]);
        testing::add(&mut view, [], [idle_vm("v", "c")]);
        let project = job("j").project;
        let id = || Name::from("j");
        let to = |state| Kind::JobState { job: id(), state, reason: None };
        let steps = [
            (Kind::JobSubmitted(job("j")), 1),
            (Kind::JobSubmitted(job("k")), 2),
            (Kind::JobScheduled { job: id(), vm: "v".into() }, 2),
            (Kind::JobReason { job: id(), reason: Some("waits".into()) }, 2),
            (Kind::JobStarted { job: id(), vm: "v".into() }, 1),
            (Kind::VmState { vm: "v".into(), state: VmState::Error }, 1),
            (Kind::VmGone { vm: "v".into(), why: "fire".into() }, 2),
            (to(JobState::Held), 2),
            (to(JobState::New), 2),
            (to(JobState::Removed), 1),
            (Kind::JobsForgotten { jobs: vec![id()] }, 1),
            (Kind::JobFinished { job: "k".into(), exit: Exit::Code(0), times: None }, 0),
        ];
        for (kind, jobs) in steps {
            let what = format!("{kind:?}");
            happen(&mut view, Time(1), [kind]);
            let found = view.waiting.get(&project).copied().unwrap_or_default();
            assert_eq!(found.jobs, jobs, "{what}");
            let mut again = view.clone();
            count_all(&mut again);
            assert_eq!(again.waiting, view.waiting, "{what}");
        }
    }
}
