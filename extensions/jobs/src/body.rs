//! A job in JSON: as it is shown, and as it is submitted.
//!
//! Memory is in MiB, storage in GiB, times are RFC 3339 in UTC, spans in seconds.

use pileus_sdk::{
    Links, at, at_opt,
    model::{Exit, Job, JobDefaults, JobSpec, JobState, Name, Output, Time},
    serde::{Deserialize, Serialize},
};

/// A job in a list.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Brief<'a> {
    id: &'a str,
    state: JobState,
    /// Time of its end; null: it has not ended.
    #[serde(serialize_with = "at_opt")]
    finished: Option<Time>,
    /// 0 to 255; null: it did not end by itself.
    exit_code: Option<i32>,
    /// Null: no signal ended it.
    signal: Option<i32>,
    links: Links<'a>,
}

impl<'a> Brief<'a> {
    pub fn new(job: &'a Job, collection: &'a str) -> Self {
        let ((exit_code, signal), links) = (end(job), Links { collection, id: &job.id });
        Self { id: &job.id, state: job.state, finished: job.finished, exit_code, signal, links }
    }
}

/// A job in full.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Full<'a> {
    id: &'a str,
    project_id: &'a str,
    user: &'a str,
    /// Who brought it: `queue`, …
    source: &'a str,
    command: &'a [String],
    vm_type: &'a str,
    cpu_cores: u32,
    memory_mib: u64,
    storage_gib: u64,
    /// The higher number runs first.
    priority: i64,
    high_priority: bool,
    /// How long its VM may idle afterwards; null: as the cloud says.
    keep_alive_s: Option<u64>,
    /// Clouds or aliases; empty: anywhere.
    target_clouds: &'a [String],
    /// `new`, `scheduled`, `running`, `complete`, `held`, `removed`, `error`.
    state: JobState,
    /// Why it waits, is held, or failed.
    reason: Option<&'a str>,
    #[serde(serialize_with = "at")]
    submitted: Time,
    #[serde(serialize_with = "at_opt")]
    started: Option<Time>,
    #[serde(serialize_with = "at_opt")]
    finished: Option<Time>,
    /// The VM that runs it, or ran it last.
    vm: Option<&'a str>,
    cloud: Option<&'a str>,
    /// How often it was started.
    attempts: u32,
    /// 0 to 255; null: it did not end by itself.
    exit_code: Option<i32>,
    /// Null: no signal ended it.
    signal: Option<i32>,
    links: Links<'a>,
}

impl<'a> Full<'a> {
    pub fn new(job: &'a Job, collection: &'a str) -> Self {
        let (exit_code, signal) = end(job);
        Self {
            id: &job.id,
            project_id: &job.project,
            user: &job.user,
            source: &job.source,
            command: &job.command,
            vm_type: &job.vm_type,
            cpu_cores: job.cpu_cores,
            memory_mib: job.memory_mib,
            storage_gib: job.storage_gib,
            priority: job.priority,
            high_priority: job.high_priority,
            keep_alive_s: job.keep_alive_s,
            target_clouds: &job.target_clouds,
            state: job.state,
            reason: job.reason.as_deref(),
            submitted: job.submitted,
            started: job.started,
            finished: job.finished,
            vm: job.vm.as_deref(),
            cloud: job.cloud.as_deref(),
            attempts: job.attempts,
            exit_code,
            signal,
            links: Links { collection, id: &job.id },
        }
    }
}

/// The exit code, and the signal: at most one of them.
pub fn end(job: &Job) -> (Option<i32>, Option<i32>) {
    match job.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

/// What a job wrote. Bytes that are no UTF-8 stand as U+FFFD.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Written {
    state: JobState,
    stdout: String,
    stderr: String,
    /// Whether either was cut at the worker's limit.
    truncated: bool,
    exit_code: Option<i32>,
    signal: Option<i32>,
}

impl Written {
    pub fn new(job: &Job, output: &Output) -> Self {
        let (exit_code, signal) = end(job);
        Self {
            state: job.state,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            truncated: output.truncated,
            exit_code,
            signal,
        }
    }
}

/// `POST …/jobs` `{"job": {…}}`: only `command` is needed; the rest is settled by [`JobDefaults`].
#[derive(Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Create {
    command: Vec<String>,
    /// Left out: the caller.
    pub user: Option<Name>,
    vm_type: Option<Name>,
    cpu_cores: Option<u32>,
    memory_mib: Option<u64>,
    storage_gib: Option<u64>,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    high_priority: bool,
    keep_alive_s: Option<u64>,
    target_clouds: Option<Vec<String>>,
    image: Option<Name>,
    user_type_limit: Option<u32>,
}

impl Create {
    pub fn spec(self, project: Name, user: Name, defaults: &JobDefaults) -> JobSpec {
        JobSpec {
            project,
            user,
            command: self.command,
            vm_type: self.vm_type.unwrap_or_else(|| defaults.vm_type.clone()),
            cpu_cores: self.cpu_cores.unwrap_or(defaults.cpu_cores),
            memory_mib: self.memory_mib.unwrap_or(defaults.memory_mib),
            storage_gib: self.storage_gib.unwrap_or(defaults.storage_gib),
            priority: self.priority,
            high_priority: self.high_priority,
            keep_alive_s: self.keep_alive_s.or(defaults.keep_alive_s),
            target_clouds: self.target_clouds.unwrap_or_else(|| defaults.target_clouds.clone()),
            image: self.image,
            user_type_limit: self.user_type_limit,
        }
    }
}

/// `{"hold": {"reason": "…"}}`.
#[derive(Default, Deserialize)]
#[serde(crate = "pileus_sdk::serde", deny_unknown_fields)]
pub struct Hold {
    pub reason: Option<String>,
}
