//! Commands that concern jobs.

use std::sync::Arc;

use pileus_model::{Job, JobDefaults, JobSpec, JobState, Kind, Refusal, Time, View};

use super::valid::{self, invalid};
use crate::{ids::Ids, sources::queue};

pub fn submit(spec: JobSpec, now: Time, ids: &mut Ids) -> Result<Vec<Kind>, Refusal> {
    check(&spec)?;
    Ok(vec![Kind::JobSubmitted(Job {
        id: ids.job(now),
        project: spec.project,
        user: spec.user,
        source: queue::NAME.into(),
        command: spec.command,
        vm_type: spec.vm_type,
        cpu_cores: spec.cpu_cores,
        memory_mib: spec.memory_mib,
        storage_gib: spec.storage_gib,
        priority: spec.priority,
        high_priority: spec.high_priority,
        keep_alive_s: spec.keep_alive_s,
        target_clouds: spec.target_clouds,
        image: spec.image,
        user_type_limit: spec.user_type_limit,
        state: JobState::New,
        reason: None,
        submitted: now,
        started: None,
        finished: None,
        vm: None,
        cloud: None,
        attempts: 0,
        breakages: 0,
        setback: None,
        returns: 0,
        exit: None,
        failures: Vec::new(),
        blocked_clouds: Vec::new(),
        banned_until: None,
    })])
}

/// What jobs get that do not say it, checked as a job that says nothing.
pub fn check_defaults(defaults: &JobDefaults) -> Result<(), Refusal> {
    check(&JobSpec {
        project: "default".into(),
        user: "default".into(),
        command: vec!["true".into()],
        vm_type: defaults.vm_type.clone(),
        cpu_cores: defaults.cpu_cores,
        memory_mib: defaults.memory_mib,
        storage_gib: defaults.storage_gib,
        priority: 0,
        high_priority: false,
        keep_alive_s: defaults.keep_alive_s,
        target_clouds: defaults.target_clouds.clone(),
        image: None,
        user_type_limit: None,
    })
}

fn check(spec: &JobSpec) -> Result<(), Refusal> {
    valid::new_name("project", &spec.project)?;
    valid::user("user", &spec.user)?;
    valid::name("vm_type", &spec.vm_type)?;
    match spec.command.first() {
        None => return invalid("command", "must name a program"),
        Some(program) if program.is_empty() => return invalid("command", "must name a program"),
        Some(_) if spec.command.len() > valid::ARGS_MAX => {
            return invalid("command", format!("must not have more than {} arguments", valid::ARGS_MAX));
        }
        Some(_) => (),
    }
    if spec.command.iter().map(|argument| argument.len() + 1).sum::<usize>() > valid::COMMAND_MAX {
        return invalid("command", format!("must not be longer than {} bytes", valid::COMMAND_MAX));
    }
    spec.command.iter().try_for_each(|argument| valid::text("command", argument, valid::COMMAND_MAX))?;
    valid::count("cpu_cores", spec.cpu_cores, 1)?;
    valid::quantity("memory_mib", spec.memory_mib, 1)?;
    valid::quantity("storage_gib", spec.storage_gib, 0)?;
    valid::quantity("keep_alive_s", spec.keep_alive_s.unwrap_or(0), 0)?;
    valid::names("target_clouds", &spec.target_clouds)?;
    spec.image.as_ref().map_or(Ok(()), |image| valid::name("image", image))?;
    spec.user_type_limit.map_or(Ok(()), |limit| valid::count("user_type_limit", limit, 1))
}

/// A job that has ended is forgotten, with its output; any other is removed and can still be read.
pub fn delete(view: &View, job: &str) -> Result<Vec<Kind>, Refusal> {
    let it = find(view, job)?;
    Ok(vec![if it.state.is_final() {
        Kind::JobsForgotten { jobs: vec![it.id.clone()] }
    } else {
        Kind::JobState { job: it.id.clone(), state: JobState::Removed, reason: None }
    }])
}

pub fn hold(view: &View, job: &str, reason: String) -> Result<Vec<Kind>, Refusal> {
    valid::text("reason", &reason, valid::TEXT_MAX)?;
    let it = find(view, job)?;
    match it.state {
        JobState::New | JobState::Scheduled | JobState::Held => {
            let reason = (!reason.is_empty()).then_some(reason);
            let held = it.state == JobState::Held && it.reason == reason;
            let event = Kind::JobState { job: it.id.clone(), state: JobState::Held, reason };
            Ok(if held { Vec::new() } else { vec![event] })
        }
        JobState::Running | JobState::Complete | JobState::Removed | JobState::Error => {
            Err(Refusal::Conflict(format!("Job {job} is {} and cannot be held.", it.state.as_str())))
        }
    }
}

pub fn release(view: &View, job: &str) -> Result<Vec<Kind>, Refusal> {
    let it = find(view, job)?;
    if it.state != JobState::Held {
        return Err(Refusal::Conflict(format!("Job {job} is {}, not held.", it.state.as_str())));
    }
    Ok(vec![Kind::JobState { job: it.id.clone(), state: JobState::New, reason: None }])
}

fn find<'a>(view: &'a View, job: &str) -> Result<&'a Arc<Job>, Refusal> {
    view.jobs.get(job).ok_or_else(|| Refusal::NotFound { kind: "Job", id: job.into() })
}
