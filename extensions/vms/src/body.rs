//! A VM in JSON, and what bulk verbs take and give.

use pileus_sdk::{
    Links, at, at_opt,
    model::{Time, Vm},
    serde::{Deserialize, Serialize},
};

/// A VM in a list.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Brief<'a> {
    id: &'a str,
    state: &'a str,
    links: Links<'a>,
}

impl<'a> Brief<'a> {
    pub fn new(vm: &'a Vm, collection: &'a str) -> Self {
        Self { id: &vm.id, state: vm.shown_state(), links: Links { collection, id: &vm.id } }
    }
}

/// A VM in full. Memory is in MiB, storage in GiB; every name says its unit; times are RFC 3339.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Full<'a> {
    id: &'a str,
    cloud: &'a str,
    project_id: &'a str,
    user: &'a str,
    vm_type: &'a str,
    cpu_cores: u32,
    memory_mib: u64,
    storage_gib: u64,
    /// How long it may idle.
    keep_alive_s: u64,
    /// `Starting`, `Running`, `Retiring`, `Error`, `Shutdown`: the override, else what the cloud says.
    state: &'a str,
    /// What the cloud says.
    polled_state: &'a str,
    /// What is laid over it; null: nothing.
    override_state: Option<&'a str>,
    /// Retired by an administrator or by idling, not by rebalancing.
    force_retire: bool,
    /// Why it is being destroyed; null: it is not.
    destroy_reason: Option<&'a str>,
    last_error: Option<&'a str>,
    /// Consecutive bad polls.
    error_count: u32,
    #[serde(serialize_with = "at")]
    created: Time,
    /// When `polled_state` changed last.
    #[serde(serialize_with = "at")]
    changed: Time,
    /// When it was `Running` first.
    #[serde(serialize_with = "at_opt")]
    running: Option<Time>,
    /// When its worker called home first.
    #[serde(serialize_with = "at_opt")]
    registered: Option<Time>,
    #[serde(serialize_with = "at_opt")]
    idle_since: Option<Time>,
    /// The job that it runs now.
    job: Option<&'a str>,
    /// Run times of its last ten jobs.
    job_runs_s: &'a [u64],
    hostname: &'a str,
    address: &'a str,
    links: Links<'a>,
}

impl<'a> Full<'a> {
    pub fn new(vm: &'a Vm, collection: &'a str) -> Self {
        Self {
            id: &vm.id,
            cloud: &vm.cloud,
            project_id: &vm.project,
            user: &vm.user,
            vm_type: &vm.vm_type,
            cpu_cores: vm.cpu_cores,
            memory_mib: vm.memory_mib,
            storage_gib: vm.storage_gib,
            keep_alive_s: vm.keep_alive_s,
            state: vm.shown_state(),
            polled_state: vm.state.as_str(),
            override_state: vm.override_state.map(|state| state.as_str()),
            force_retire: vm.force_retire,
            destroy_reason: vm.destroy.as_deref(),
            last_error: vm.last_error.as_deref(),
            error_count: vm.error_count,
            created: vm.created,
            changed: vm.changed,
            running: vm.running,
            registered: vm.registered,
            idle_since: vm.idle_since,
            job: vm.job.as_deref(),
            job_runs_s: &vm.job_runs_s,
            hostname: &vm.hostname,
            address: &vm.address,
            links: Links { collection, id: &vm.id },
        }
    }
}

/// Which VMs a bulk verb means: `{"vms": ["…"]}`, or `{"cloud": "…"}` for all of a cloud, or, with
/// `"count": N`, for its N oldest.
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Which {
    pub vms: Option<Vec<String>>,
    pub cloud: Option<String>,
    pub count: Option<usize>,
}

/// `{"results": […]}`, in the order in which the VMs were named.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Results {
    pub results: Vec<Outcome>,
}

/// What became of one VM.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Outcome {
    pub id: String,
    /// As if it had been asked alone: 202, 404, 409, …
    pub status: u16,
    pub message: String,
}
