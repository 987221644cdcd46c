//! A job in JSON: as it is shown, and as it is submitted.
//!
//! Memory is in MiB, storage in GiB, times are RFC 3339 in UTC, spans in seconds.

use pileus_sdk::{
    Links, at, at_opt, base64,
    model::{Exit, Gap, Job, JobDefaults, JobSpec, JobState, Name, Output, StreamOutput, Time, View},
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
    /// Number of starts.
    attempts: u32,
    /// Number of VMs that broke under it.
    breakages: u32,
    /// 0 to 255; null: it did not end by itself.
    exit_code: Option<i32>,
    /// Null: no signal ended it.
    signal: Option<i32>,
    links: Links<'a>,
}

impl<'a> Full<'a> {
    pub fn new(view: &'a View, job: &'a Job, collection: &'a str) -> Self {
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
            reason: view.reason_of(job),
            submitted: job.submitted,
            started: job.started,
            finished: job.finished,
            vm: job.vm.as_deref(),
            cloud: job.cloud.as_deref(),
            attempts: job.attempts,
            breakages: job.breakages,
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

/// Output of a job. A stream is text, or base64 where its bytes are not UTF-8.
#[derive(Serialize)]
#[serde(crate = "pileus_sdk::serde")]
pub struct Written {
    state: JobState,
    /// The head, then the tail.
    stdout: String,
    stdout_encoding: &'static str,
    /// Offsets that are left out between head and tail; null: none.
    stdout_gap: Option<Gap>,
    stderr: String,
    stderr_encoding: &'static str,
    stderr_gap: Option<Gap>,
    /// `true` if bytes of either stream are missing.
    truncated: bool,
    exit_code: Option<i32>,
    signal: Option<i32>,
}

impl Written {
    pub fn new(job: &Job, output: &Output) -> Self {
        let (exit_code, signal) = end(job);
        let (stdout, stdout_encoding, stdout_gap) = shown(&output.stdout);
        let (stderr, stderr_encoding, stderr_gap) = shown(&output.stderr);
        Self {
            state: job.state,
            stdout,
            stdout_encoding,
            stdout_gap,
            stderr,
            stderr_encoding,
            stderr_gap,
            truncated: output.truncated,
            exit_code,
            signal,
        }
    }
}

/// A stream as JSON holds it: its content, the encoding, and the gap. Where the gap cuts a character of a text in
/// two, both parts count as left out.
fn shown(stream: &StreamOutput) -> (String, &'static str, Option<Gap>) {
    let (head, tail) = stream.parts();
    let (head, tail) = match stream.gap {
        Some(_) => (without_cut_end(head), without_cut_start(tail)),
        None => (head, tail),
    };
    let gap = stream.gap.map(|gap| {
        let total = stream.total();
        Gap { from: head.len() as u64, to: total.saturating_sub(tail.len() as u64).max(gap.to) }
    });
    match (str::from_utf8(head), str::from_utf8(tail)) {
        (Ok(head), Ok(tail)) => ([head, tail].concat(), "utf-8", gap),
        _ => (base64(&stream.bytes), "base64", stream.gap),
    }
}

/// Without the first bytes of a character whose rest is missing.
fn without_cut_end(bytes: &[u8]) -> &[u8] {
    match str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or(bytes),
        _ => bytes,
    }
}

/// Without the last bytes of a character whose start is missing: three at most.
fn without_cut_start(bytes: &[u8]) -> &[u8] {
    let rest = bytes.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    bytes.get(rest..).unwrap_or(bytes)
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
    pub priority: i64,
    #[serde(default)]
    pub high_priority: bool,
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
