//! An event in JSON: what people may read of it.
//!
//! Times are RFC 3339 in UTC, units stand in the names. No hash of a token is in it, nor what a
//! driver wrote down for itself.

use pileus_sdk::{
    Value, at, json,
    model::{CloudSpec, Event, Kind, Owner, Time},
    rfc3339,
    serde::Serialize,
};

/// An event.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Document<'a> {
    /// Its place; to go on after it: `since`.
    seq: u64,
    #[serde(serialize_with = "at")]
    time: Time,
    /// One of [`KINDS`].
    kind: &'static str,
    /// Whose the VM or the job is; null: everybody's, or the administrators'.
    project_id: Option<&'a str>,
    by: By<'a>,
    /// What changed; its members are those of the kind.
    data: Value,
}

#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
struct By<'a> {
    /// A user; of the engine's own doings the reconciler's name in brackets.
    user: &'a str,
    /// For which project; null where that is none of the reader's business, or there is none.
    project_id: Option<&'a str>,
    request_id: Option<&'a str>,
    /// What that user said of it.
    comment: Option<&'a str>,
}

impl<'a> Document<'a> {
    /// As those of `reader` may read it; `None`: who sees every project.
    pub fn new(event: &'a Event, reader: Option<&str>) -> Self {
        let (kind, data) = told(&event.kind);
        let said = |text: &'a str| (!text.is_empty()).then_some(text);
        let sees = |project: &&str| reader.is_none_or(|reader| reader == *project);
        let project_id = match &event.owner {
            Owner::Project(project) => said(project),
            Owner::Service | Owner::Shared => None,
        };
        let by = By {
            user: &event.by.user,
            project_id: said(&event.by.project).filter(sees),
            request_id: said(&event.by.request_id),
            comment: event.by.comment.as_deref(),
        };
        Self { seq: event.seq, time: event.time, kind, project_id, by, data }
    }
}

/// Every kind, in the order of what it is about.
pub const KINDS: [&str; 34] = [
    "cloud_set",
    "cloud_retired",
    "cloud_gone",
    "cloud_enabled",
    "cloud_draining",
    "cloud_slots",
    "vm_requested",
    "vm_handle",
    "vm_state",
    "vm_registered",
    "vm_override",
    "vm_destroy",
    "vm_failed",
    "boot_failed",
    "vm_gone",
    "job_submitted",
    "job_scheduled",
    "job_started",
    "job_finished",
    "job_returned",
    "job_state",
    "job_reason",
    "jobs_forgotten",
    "alias_set",
    "alias_gone",
    "user_limit",
    "proxy_renewed",
    "token_created",
    "token_revoked",
    "key_used",
    "key_answered",
    "keys_forgotten",
    "clock_set",
    "service_action",
];

/// The kind's name and what it tells. No `_` arm: a new kind has to choose what it shows.
pub fn told(kind: &Kind) -> (&'static str, Value) {
    match kind {
        Kind::CloudSet(cloud) => (
            "cloud_set",
            json!({ "cloud": cloud.name, "origin": cloud.origin, "settings": settings(&cloud.spec) }),
        ),
        Kind::CloudRetired { cloud } => ("cloud_retired", json!({ "cloud": cloud })),
        Kind::CloudGone { cloud } => ("cloud_gone", json!({ "cloud": cloud })),
        Kind::CloudEnabled { cloud, enabled } => {
            ("cloud_enabled", json!({ "cloud": cloud, "enabled": enabled }))
        }
        Kind::CloudDraining { cloud } => ("cloud_draining", json!({ "cloud": cloud })),
        Kind::CloudSlots { cloud, vm_slots } => {
            ("cloud_slots", json!({ "cloud": cloud, "vm_slots": vm_slots }))
        }
        Kind::VmRequested(vm) => (
            "vm_requested",
            json!({
                "vm": vm.id, "cloud": vm.cloud, "user": vm.user, "vm_type": vm.vm_type,
                "cpu_cores": vm.cpu_cores, "memory_mib": vm.memory_mib, "storage_gib": vm.storage_gib,
                "keep_alive_s": vm.keep_alive_s,
            }),
        ),
        Kind::VmHandle { vm, handle: _, hostname, address } => {
            ("vm_handle", json!({ "vm": vm, "hostname": hostname, "address": address }))
        }
        Kind::VmState { vm, state } => ("vm_state", json!({ "vm": vm, "state": state })),
        Kind::VmRegistered { vm } => ("vm_registered", json!({ "vm": vm })),
        Kind::VmOverride { vm, state, force_retire } => {
            ("vm_override", json!({ "vm": vm, "override_state": state, "force_retire": force_retire }))
        }
        Kind::VmDestroy { vm, why } => ("vm_destroy", json!({ "vm": vm, "why": why })),
        Kind::VmFailed { vm, error, error_count } => {
            ("vm_failed", json!({ "vm": vm, "error": error, "error_count": error_count }))
        }
        Kind::BootFailed { vm, job, image, failure, blocked_until, banned_until } => (
            "boot_failed",
            json!({
                "vm": vm, "job": job, "image": image, "fault": failure.fault, "detail": failure.detail,
                "cloud": failure.cloud,
                "blocked_until": stamp(*blocked_until), "banned_until": stamp(*banned_until),
            }),
        ),
        Kind::VmGone { vm, why } => ("vm_gone", json!({ "vm": vm, "why": why })),
        Kind::JobSubmitted(job) => (
            "job_submitted",
            json!({
                "job": job.id, "user": job.user, "source": job.source, "command": job.command,
                "vm_type": job.vm_type, "cpu_cores": job.cpu_cores, "memory_mib": job.memory_mib,
                "storage_gib": job.storage_gib, "priority": job.priority,
                "high_priority": job.high_priority, "keep_alive_s": job.keep_alive_s,
                "target_clouds": job.target_clouds,
            }),
        ),
        Kind::JobScheduled { job, vm } => ("job_scheduled", json!({ "job": job, "vm": vm })),
        Kind::JobStarted { job, vm } => ("job_started", json!({ "job": job, "vm": vm })),
        Kind::JobFinished { job, exit, times: None } => ("job_finished", json!({ "job": job, "exit": exit })),
        Kind::JobFinished { job, exit, times: Some(times) } => (
            "job_finished",
            json!({
                "job": job, "exit": exit,
                "started": stamp(Some(times.started)), "finished": stamp(Some(times.finished)),
            }),
        ),
        Kind::JobReturned { job, vm, error, .. } => {
            ("job_returned", json!({ "job": job, "vm": vm, "error": error }))
        }
        Kind::JobState { job, state, reason } => {
            ("job_state", json!({ "job": job, "state": state, "reason": reason }))
        }
        Kind::JobReason { job, reason } => ("job_reason", json!({ "job": job, "reason": reason })),
        Kind::JobsForgotten { jobs } => ("jobs_forgotten", json!({ "jobs": jobs })),
        Kind::AliasSet { alias, clouds } => ("alias_set", json!({ "alias": alias, "clouds": clouds })),
        Kind::AliasGone { alias } => ("alias_gone", json!({ "alias": alias })),
        Kind::UserLimit { user, vms } => ("user_limit", json!({ "user": user, "vm_limit": vms })),
        Kind::ProxyRenewed { user, which, expires, server } => (
            "proxy_renewed",
            json!({ "user": user, "proxy": which, "expires": rfc3339(*expires).to_string(), "server": server }),
        ),
        Kind::TokenCreated(token) => (
            "token_created",
            json!({
                "token": token.name, "user": token.user, "project": token.project, "roles": token.roles,
                "expires_at": token.expires.map(|expires| rfc3339(expires).to_string()),
            }),
        ),
        Kind::TokenRevoked { sha256: _, name } => ("token_revoked", json!({ "token": name })),
        // What was answered is the caller's; an answer may be long, too.
        Kind::KeyUsed { key, request: _, command: _, id } => ("key_used", json!({ "key": key, "made": id })),
        Kind::KeyAnswered { key, request: _, answer } => {
            ("key_answered", json!({ "key": key, "status": answer.status }))
        }
        Kind::KeysForgotten { keys } => ("keys_forgotten", json!({ "keys": keys.len() })),
        Kind::ClockSet { by_ms, since: _ } => ("clock_set", json!({ "by_ms": by_ms })),
        Kind::ServiceAction { action, detail } => {
            ("service_action", json!({ "action": action, "detail": detail }))
        }
    }
}

/// RFC 3339, or nothing.
fn stamp(time: Option<Time>) -> Value {
    #[derive(Serialize)]
    #[serde(crate = "pileus_sdk::serde")]
    struct Stamp(#[serde(serialize_with = "pileus_sdk::at_opt")] Option<Time>);
    json!(Stamp(time))
}

fn settings(spec: &CloudSpec) -> Value {
    json!({
        "driver": spec.driver, "enabled": spec.enabled, "vm_slots": spec.vm_slots,
        "cpu_cores": spec.cpu_cores, "memory_mib": spec.memory_mib, "storage_gib": spec.storage_gib,
        "priority": spec.priority, "keep_alive_s": spec.keep_alive_s, "boot_timeout_s": spec.boot_timeout_s,
        "max_vm_memory_mib": spec.max_vm_memory_mib,
    })
}

#[cfg(test)]
mod tests {
    use pileus_sdk::{
        model::{Actor, KeptAnswer, Name, Token},
        testing::{cloud, job, vm},
    };

    use super::*;

    #[test]
    fn kinds_have_the_names_of_the_table_of_events() {
        let x = || Name::from("x");
        let kinds = [
            Kind::CloudSet(cloud("a")),
            Kind::CloudRetired { cloud: x() },
            Kind::VmRequested(vm("v", "a")),
            Kind::VmHandle { vm: x(), handle: "secret".into(), hostname: "h".into(), address: "1".into() },
            Kind::JobSubmitted(job("j")),
            Kind::JobsForgotten { jobs: vec![x()] },
            Kind::UserLimit { user: x(), vms: None },
            Kind::TokenCreated(Token {
                sha256: "secret".into(),
                name: x(),
                user: x(),
                project: x(),
                roles: vec![],
                created: Time(0),
                expires: None,
            }),
            Kind::TokenRevoked { sha256: "secret".into(), name: Some(x()) },
            Kind::KeyUsed { key: x(), request: x(), command: x(), id: String::new() },
            Kind::KeyAnswered {
                key: x(),
                request: x(),
                answer: KeptAnswer { status: 201, headers: vec![], body: "secret".into() },
            },
            Kind::KeysForgotten { keys: vec![x()] },
            Kind::ClockSet { by_ms: -3_600_000, since: None },
            Kind::ServiceAction { action: x(), detail: "on".into() },
        ];
        for kind in kinds {
            let (name, data) = told(&kind);
            assert!(KINDS.contains(&name), "{name}");
            assert_eq!(json!(kind)["kind"], name);
            assert!(!data.to_string().contains("secret"), "{data}");
        }
    }

    #[test]
    fn a_reader_does_not_learn_of_which_other_project_somebody_is() {
        let by = Actor {
            user: "root".into(),
            project: "ops".into(),
            request_id: "req-1".into(),
            comment: Some("fire".into()),
            key: None,
        };
        let kind = Kind::VmDestroy { vm: "v".into(), why: "told so".into() };
        let event =
            Event { seq: 7, time: Time(1_769_860_800_000), by, owner: Owner::Project("p1".into()), kind };
        let mut wanted = json!({
            "seq": 7, "time": "2026-01-31T12:00:00Z", "kind": "vm_destroy", "project_id": "p1",
            "by": { "user": "root", "project_id": "ops", "request_id": "req-1", "comment": "fire" },
            "data": { "vm": "v", "why": "told so" },
        });
        assert_eq!(json!(Document::new(&event, None)), wanted);
        wanted["by"]["project_id"] = Value::Null;
        assert_eq!(json!(Document::new(&event, Some("p1"))), wanted);
    }
}
