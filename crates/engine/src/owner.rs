//! Whose an event is: the project of the VM or the job that it is about, whoever did it.

use pileus_model::{Kind, Name, Owner, View};

/// Whose `kind` is, by the state right before it. No `_` arm: a new kind has to choose.
pub fn owner(view: &View, kind: &Kind) -> Owner {
    match kind {
        Kind::CloudSet(_)
        | Kind::CloudRetired { .. }
        | Kind::CloudGone { .. }
        | Kind::CloudEnabled { .. }
        | Kind::CloudDraining { .. }
        | Kind::CloudSlots { .. }
        | Kind::AliasSet { .. }
        | Kind::AliasGone { .. } => Owner::Shared,
        Kind::VmRequested(vm) => of(Some(&vm.project)),
        Kind::VmHandle { vm, .. }
        | Kind::VmState { vm, .. }
        | Kind::VmRegistered { vm }
        | Kind::VmOverride { vm, .. }
        | Kind::VmDestroy { vm, .. }
        | Kind::VmFailed { vm, .. }
        | Kind::BootFailed { vm, .. }
        | Kind::VmGone { vm, .. } => of(view.vms.get(vm).map(|vm| &vm.project)),
        Kind::JobSubmitted(job) => of(Some(&job.project)),
        Kind::JobScheduled { job, .. }
        | Kind::JobStarted { job, .. }
        | Kind::JobFinished { job, .. }
        | Kind::JobReturned { job, .. }
        | Kind::JobState { job, .. }
        | Kind::JobReason { job, .. } => of(view.jobs.get(job).map(|job| &job.project)),
        Kind::JobsForgotten { jobs } => {
            let mut projects = jobs.iter().map(|job| view.jobs.get(job).map(|job| &job.project));
            let first = projects.next().flatten();
            of(first.filter(|first| projects.all(|other| other == Some(first))))
        }
        Kind::UserLimit { .. }
        | Kind::ProxyRenewed { .. }
        | Kind::TokenCreated(_)
        | Kind::TokenRevoked { .. }
        | Kind::KeyUsed { .. }
        | Kind::KeyAnswered { .. }
        | Kind::KeysForgotten { .. }
        | Kind::ClockSet { .. }
        | Kind::ServiceAction { .. } => Owner::Service,
    }
}

/// What has no project, or several, is for administrators.
fn of(project: Option<&Name>) -> Owner {
    match project {
        Some(project) if !project.is_empty() => Owner::Project(project.clone()),
        _ => Owner::Service,
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::{Job, Vm};

    use super::*;
    use crate::testing::{self, cloud, job, vm};

    #[test]
    fn an_event_is_its_vms_or_its_jobs_project() {
        let mut view = testing::view([cloud("c", 3)]);
        let east = Job { project: "east".into(), ..job("e") };
        testing::add(&mut view, [job("j"), east.clone()], [vm("v", "c")]);
        let project = |name: &str| Owner::Project(name.into());
        let forgotten =
            |jobs: &[&str]| Kind::JobsForgotten { jobs: jobs.iter().map(|&job| job.into()).collect() };
        let cases = [
            (Kind::CloudGone { cloud: "c".into() }, Owner::Shared),
            (Kind::AliasGone { alias: "a".into() }, Owner::Shared),
            (Kind::VmRequested(Vm { project: "west".into(), ..vm("w", "c") }), project("west")),
            (Kind::VmGone { vm: "v".into(), why: String::new() }, project("p")),
            (Kind::VmRegistered { vm: "unknown".into() }, Owner::Service),
            (Kind::JobSubmitted(east), project("east")),
            (Kind::JobStarted { job: "e".into(), vm: "v".into() }, project("east")),
            (forgotten(&["j"]), project("p")),
            (forgotten(&["j", "e"]), Owner::Service),
            (forgotten(&["j", "unknown"]), Owner::Service),
            (forgotten(&[]), Owner::Service),
            (Kind::UserLimit { user: "ann".into(), vms: None }, Owner::Service),
            (Kind::TokenRevoked { sha256: "ab".into(), name: None }, Owner::Service),
            (Kind::ServiceAction { action: "reload".into(), detail: String::new() }, Owner::Service),
        ];
        for (kind, wanted) in cases {
            assert_eq!(owner(&view, &kind), wanted, "{kind:?}");
        }
        assert!(project("p").is_seen_by("p") && !project("p").is_seen_by("q"));
        assert!(Owner::Shared.is_seen_by("q") && !Owner::Service.is_seen_by("q"));
    }
}
