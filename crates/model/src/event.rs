//! What happened: the one table of events is the truth, the audit log and the change feed.

#![allow(missing_docs)] // A variant says what its fields are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Actor, BootFailure, Cloud, Exit, Job, JobState, KeptAnswer, Name, Override, ProxyUse, RunTimes, Time,
    Token, Vm, VmState,
};

/// One thing that happened. Numbers have no gaps and never repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: 1, 2, 3, …
    pub seq: u64,
    /// When.
    pub time: Time,
    /// Who did it, for which project, in which request.
    pub by: Actor,
    /// Whose it is: who may read of it.
    #[serde(default)]
    pub owner: Owner,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// Whose an event is, settled when it happened: what it names may be gone when somebody reads of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The administrators': tokens, limits of users, and whatever nobody said otherwise of.
    #[default]
    Service,
    /// Everybody's: clouds and aliases.
    Shared,
    /// That of the VM or the job, whoever did it.
    Project(Name),
}

impl Owner {
    /// Whether those of `project` may read of it.
    pub fn is_seen_by(&self, project: &str) -> bool {
        match self {
            Self::Service => false,
            Self::Shared => true,
            Self::Project(own) => **own == *project,
        }
    }
}

/// A part of what happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// In their order.
    pub events: Vec<Arc<Event>>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// What can happen. A stored event must stay readable for ever: add variants and optional fields,
/// never change one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum Kind {
    /// A cloud is there, or its settings changed. `used` in it is ignored.
    CloudSet(Cloud),
    /// A cloud takes no more VMs and goes with its last one.
    CloudRetired { cloud: Name },
    /// A cloud is gone.
    CloudGone { cloud: Name },
    /// An administrator said whether a cloud takes VMs.
    CloudEnabled { cloud: Name, enabled: bool },
    /// An administrator drains a cloud. `CloudEnabled` with `true` ends it.
    CloudDraining { cloud: Name },
    /// An administrator said how many VMs a cloud may have.
    CloudSlots { cloud: Name, vm_slots: u32 },
    /// A VM has a name and a place; its cloud is asked next.
    VmRequested(Vm),
    /// The cloud accepted the request, or a driver learnt more of the VM.
    VmHandle { vm: Name, handle: String, hostname: String, address: String },
    /// The cloud says another state.
    VmState { vm: Name, state: VmState },
    /// The VM's worker called home.
    VmRegistered { vm: Name },
    /// Something is laid over the VM's state, or taken away.
    VmOverride { vm: Name, state: Option<Override>, force_retire: bool },
    /// The VM is to be destroyed; repeated until its cloud has let go.
    VmDestroy { vm: Name, why: String },
    /// Something went wrong with a VM.
    VmFailed { vm: Name, error: String, error_count: u32 },
    /// A VM never took a job: a boot for `job` came to nothing. Clouds are barred for the job, and the
    /// job itself, until the times named.
    BootFailed {
        vm: Name,
        job: Option<Name>,
        image: Option<Name>,
        failure: BootFailure,
        blocked_until: Option<Time>,
        banned_until: Option<Time>,
    },
    /// The cloud has let go of the VM, or an administrator had it forgotten. Its job, if it had
    /// one, goes back to the queue.
    VmGone { vm: Name, why: String },
    /// A job is queued.
    JobSubmitted(Job),
    /// A VM was booted for a job.
    JobScheduled { job: Name, vm: Name },
    /// A VM was given the job; it may run from now on.
    JobStarted { job: Name, vm: Name },
    /// A job ran to its end; its output is durable with this event. `times`: when it ran, by its worker's clock;
    /// absent: it ended with this event.
    JobFinished {
        job: Name,
        exit: Exit,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times: Option<RunTimes>,
    },
    /// A VM could not start a job by a fault of its host: the job waits again.
    /// `banned_until`: no VM is booted for it before.
    JobReturned {
        job: Name,
        vm: Name,
        error: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        banned_until: Option<Time>,
    },
    /// A job waits again, is held, was removed, or failed.
    JobState { job: Name, state: JobState, reason: Option<String> },
    /// Why a job waits, for people.
    JobReason { job: Name, reason: Option<String> },
    /// Old finished jobs are forgotten.
    JobsForgotten { jobs: Vec<Name> },
    /// An alias was set.
    AliasSet { alias: Name, clouds: Vec<String> },
    /// An alias was forgotten.
    AliasGone { alias: Name },
    /// The most VMs of a user; `None`: no limit.
    UserLimit { user: Name, vms: Option<u32> },
    /// A user's proxy was fetched anew.
    ProxyRenewed { user: Name, which: ProxyUse, expires: Time, server: Name },
    /// A token was made.
    TokenCreated(Token),
    /// A token was revoked.
    TokenRevoked {
        sha256: Name,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// A command of a request with an idempotency key was done, in the same transaction.
    KeyUsed { key: Name, request: Name, command: Name, id: String },
    /// What such a request was answered.
    KeyAnswered { key: Name, request: Name, answer: KeptAnswer },
    /// Keys that count no more.
    KeysForgotten { keys: Vec<Name> },
    /// The engine's time was set, by so many milliseconds, to the time of the event: the wall clock had jumped
    /// and stayed so. Times in the state moved with it; `since`: those before it did not.
    ClockSet {
        by_ms: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Time>,
    },
    /// An administrator switched the service itself. Written before it takes effect; the state does not change.
    /// `action`: its name in the API; `detail`: the value that was set, empty where there is none.
    ServiceAction { action: Name, detail: String },
}
