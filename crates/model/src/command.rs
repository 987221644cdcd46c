//! What can be asked of the engine, and how it refuses.

#![allow(missing_docs)] // A variant says what its fields are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{CloudSpec, KeptAnswer, Name, ProxyUse, RequestKey, Time};

/// On whose behalf something happens; kept with the event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// The user; for the engine's own doings the reconciler's name in brackets, `[scheduler]`.
    pub user: Name,
    /// The project that the caller acted for; empty for the engine.
    pub project: Name,
    /// The request that asked; empty for the engine.
    pub request_id: Name,
    /// What the caller said of it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Name>,
    /// The key of the request, where it has one: a command of it that was done is not done again.
    #[serde(skip)]
    pub key: Option<Arc<RequestKey>>,
}

/// User of the pipelines without an authenticator: the client that is trusted because it reaches the port.
pub const OPERATOR: &str = "operator";

impl Actor {
    /// `true` if events give this name to an actor of the server itself: `[scheduler]` and every other name
    /// in brackets, and [`OPERATOR`]. A client that acts under such a name would forge the audit log. Case
    /// and characters that a terminal does not show make no difference.
    pub fn is_reserved(user: &str) -> bool {
        let blank =
            |it: char| it.is_whitespace() || it.is_control() || ('\u{200b}'..='\u{200f}').contains(&it);
        let user = user.trim_matches(|it| blank(it) || it == '\u{feff}');
        user.starts_with('[') || user.eq_ignore_ascii_case(OPERATOR)
    }
}

/// A job as it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Whose it is.
    pub project: Name,
    /// For whom it runs.
    pub user: Name,
    /// The program and its arguments; at least one.
    pub command: Vec<String>,
    /// The type of VM that it wants.
    pub vm_type: Name,
    /// Cores that it wants; at least one.
    pub cpu_cores: u32,
    /// Memory that it wants, in MiB; at least one.
    pub memory_mib: u64,
    /// Storage that it wants, in GiB.
    pub storage_gib: u64,
    /// The higher number runs first.
    pub priority: i64,
    /// Runs before every normal job.
    pub high_priority: bool,
    /// How long its VM may idle afterwards, in seconds.
    pub keep_alive_s: Option<u64>,
    /// Clouds or aliases where it may run; empty: anywhere.
    pub target_clouds: Vec<String>,
    /// The image that its VM is booted from.
    pub image: Option<Name>,
    /// The user's own limit of VMs of this type; at least one.
    pub user_type_limit: Option<u32>,
}

/// A change that somebody asks for. Checked against the state, made into events, durable, applied,
/// published, and only then answered.
///
/// A `vms` field lists VM ids; unknown ones refuse the whole command, so that nobody believes half
/// of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Queues a job; the receipt's `id` is the job's.
    SubmitJob(Box<JobSpec>),
    /// Removes a job; one that runs is killed.
    DeleteJob { job: Name },
    /// Keeps a waiting job from running. One that runs is refused.
    HoldJob { job: Name, reason: String },
    /// Lets a held job wait again.
    ReleaseJob { job: Name },
    /// Adds a cloud.
    CreateCloud { cloud: Name, spec: CloudSpec },
    /// Replaces a cloud's settings; of one from `pileus.toml` it is refused.
    UpdateCloud { cloud: Name, spec: CloudSpec },
    /// Retires a cloud: its VMs drain, then it goes. One from `pileus.toml` is refused.
    DeleteCloud { cloud: Name },
    /// Says whether new VMs may be booted there; remembered. `true` ends a drain.
    EnableCloud { cloud: Name, enabled: bool },
    /// Lets running jobs of a cloud end, and starts nothing more there; remembered. VMs without a job go.
    DrainCloud { cloud: Name },
    /// Says how many VMs it may have; remembered. Surplus VMs, the youngest first, are retired.
    SetSlots { cloud: Name, vm_slots: u32 },
    /// These are the configured clouds now, in their order. Those that the configuration brought and
    /// names no more are retired; VMs, and what administrators said of clouds, stay. All or nothing.
    Reconfigure { clouds: Vec<(String, CloudSpec)> },
    /// Destroys VMs at once; their jobs go back to the queue.
    ShutdownVms { vms: Vec<Name>, why: String },
    /// Lets VMs finish their jobs, then destroys them.
    RetireVms { vms: Vec<Name> },
    /// Forgets VMs; what runs in the cloud goes on, unmanaged, except on `local`, which ends it.
    RemoveVms { vms: Vec<Name> },
    /// Takes back what was laid over a VM's state, as long as it is not being destroyed.
    ResetVm { vm: Name },
    /// Sets an alias: a name that stands for clouds.
    SetAlias { alias: Name, clouds: Vec<String> },
    /// Forgets an alias.
    DeleteAlias { alias: Name },
    /// Reads the alias file again; a broken one leaves the working set.
    ReloadAliases,
    /// Sets the most VMs of a user; `None` takes the limit away.
    SetUserLimit { user: Name, vms: Option<u32> },
    /// Reads the user-limit file again; a broken one leaves the working set.
    ReloadUserLimits,
    /// Fetches a user's proxy anew from the user's MyProxy server.
    RenewProxy { user: Name, which: ProxyUse },
    /// Adds a token, known by its hash. `replaces`: a token of the same name is revoked in the same step.
    CreateToken {
        sha256: Name,
        name: Name,
        user: Name,
        project: Name,
        roles: Vec<String>,
        expires: Option<Time>,
        replaces: bool,
    },
    /// Forgets a token, by its name.
    RevokeToken { name: Name },
    /// Writes down an action on the service itself, which takes effect outside of the state.
    RecordServiceAction { action: Name, detail: String },
    /// Keeps the answer to a request, for whoever sends it again.
    KeepAnswer { key: Name, request: Name, answer: KeptAnswer },
}

/// Why the engine did not do it. `Display` is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing. `kind` is a capitalised noun: `Cloud`, `VM`, `Job`.
    #[error("{kind} {id} could not be found.")]
    NotFound { kind: &'static str, id: String },
    /// It is there already, or in a state that does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A value that makes no sense.
    #[error("Invalid {field}: {problem}")]
    Invalid { field: &'static str, problem: String },
    /// More than a quota allows. Nova's sentence.
    #[error(
        "Quota exceeded for {resource}: Requested {requested}, but already used {used} of {limit} {resource}"
    )]
    Quota { resource: &'static str, requested: u64, used: u64, limit: u64 },
    /// Another service, which was needed for it, is not there or said no. Nothing was changed.
    #[error("{0}")]
    Elsewhere(String),
    /// The disk under the state folder is full: nothing was changed.
    #[error("The state cannot grow: the disk is full. Nothing was changed.")]
    Full,
    /// The state cannot be written now: nothing was changed.
    #[error("The state cannot be written now. Nothing was changed.")]
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_servers_own_actors_are_reserved() {
        let cases = [
            ("[scheduler]", true),
            ("[start]", true),
            ("[reload]", true),
            ("[vm v-1]", true),
            ("[anything", true),
            (" [files] ", true),
            ("\u{200b}[files]", true),
            ("\u{feff}operator", true),
            ("operator", true),
            ("Operator", true),
            ("operator\n", true),
            ("", false),
            ("operators", false),
            ("cloud_operator", false),
            ("ada [home]", false),
            ("scheduler", false),
            ("admin", false),
        ];
        for (user, reserved) in cases {
            assert_eq!(Actor::is_reserved(user), reserved, "{user:?}");
        }
    }
}
