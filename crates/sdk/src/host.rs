//! The process that serves, as far as an extension may see and change it.
//!
//! The roof implements it; [`testing`](crate::testing) has one that a test fills by hand. What is
//! asked here is of this process alone and is not kept over a restart, but for what the commands that
//! follow from it write.

use pileus_model::{Actor, BoxFuture, CloudSpec, Time};
use serde::Serialize;

/// How much the log tells: Cloud Scheduler's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Verbose,
    /// Why things happen.
    Debug,
    /// What happens.
    Info,
    /// What was coped with, and worse.
    Warning,
    /// What somebody must see to.
    Error,
    /// The same: Pileus knows nothing worse.
    Critical,
}

impl LogLevel {
    /// All of them, the most talkative first.
    pub const ALL: [LogLevel; 6] =
        [Self::Verbose, Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verbose => "VERBOSE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// From the word, in any letter case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }
}

/// What the log tells now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// As it was set last; `None`: as `PILEUS_LOG` says, which is finer than the words.
    pub level: Option<LogLevel>,
    /// The filter, in the words of `PILEUS_LOG`.
    pub filter: String,
}

/// A `[clouds.NAME]` as it stands in the file: options and their values, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudText {
    /// Its name, as written.
    pub name: String,
    /// Options in lower case, and values as people read them; secrets are left out.
    pub options: Vec<(String, String)>,
}

/// What this process uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Memory that is in use now, in KiB.
    pub memory_resident_kib: u64,
    /// The most memory that was, in KiB.
    pub memory_peak_kib: u64,
    /// Addresses that are taken, in KiB.
    pub memory_virtual_kib: u64,
    /// Threads of the system.
    pub threads: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
    /// Threads that run tasks.
    pub workers: u64,
    /// Tasks that are not done.
    pub tasks: u64,
    /// Tasks that are ready and wait for a worker.
    pub tasks_waiting: u64,
}

/// A file that the service goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// As people named it, or where it was looked for.
    pub name: String,
    /// Of its content, in lower-case hex.
    pub sha256: String,
    /// When it was read.
    pub loaded: Time,
}

/// One time that the files were read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// When.
    pub at: Time,
    /// Who asked for it: `SIGHUP`, `a changed file`, `a request`.
    pub by: &'static str,
    /// Why everything stays as it was; `None`: the service goes by the new files.
    pub problem: Option<String>,
    /// Files at fault: missing, unusable or wrong.
    pub files: Vec<String>,
    /// What holds from the next start on only.
    pub notes: Vec<String>,
}

/// How often the files were read again, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloads {
    /// Times that the service went on with new files.
    pub done: u64,
    /// Times that it could not.
    pub failed: u64,
    /// The last time.
    pub last: Option<Reload>,
    /// What it goes by now.
    pub files: Vec<LoadedFile>,
}

/// Durations of many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Times {
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
    /// What half of them did not exceed, as well as buckets tell, in nanoseconds.
    pub p50_ns: u64,
    /// The same of 99 in a hundred.
    pub p99_ns: u64,
}

/// How long a filter or app took in the requests that were timed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StageTimes {
    /// The section that names it: `composite.v2`.
    pub pipeline: String,
    /// Its name there: `ratelimit`.
    pub stage: String,
    /// How many requests were timed in it.
    pub count: u64,
    /// Without the stages below it.
    pub own: Times,
    /// With them.
    pub total: Times,
}

/// How long requests took.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Timings {
    /// Of each server as a whole.
    pub servers: Vec<StageTimes>,
    /// Of each stage in each pipeline.
    pub stages: Vec<StageTimes>,
}

/// Protection of the service against its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// Thing that is protected.
    pub name: String,
    /// `true` if it holds here.
    pub in_force: bool,
    /// Mechanism; if it is not in force, what jobs can do, and the remedy.
    pub how: String,
}

/// The process.
pub trait Host: Send + Sync {
    /// What the log tells now.
    fn logging(&self) -> Logging;

    /// Says what the log tells from now on. `Err`: why it cannot be changed.
    fn set_log_level(&self, level: LogLevel) -> Result<(), String>;

    /// Whether VMs live on when this process is told to stop.
    fn quick_shutdown(&self) -> bool;

    /// Sets that, or, with `None`, turns it over. Answers with what holds now.
    fn set_quick_shutdown(&self, on: Option<bool>) -> bool;

    /// The clouds of `pileus.toml` as it is on disk now. `Err`: the file, and where it is broken.
    fn clouds_on_disk(&self) -> BoxFuture<Result<Vec<CloudText>, String>>;

    /// The same, checked and understood, for [`Command::Reconfigure`](pileus_model::Command).
    fn configured_clouds(&self) -> BoxFuture<Result<Vec<(String, CloudSpec)>, String>>;

    /// What it uses.
    fn process(&self) -> Process;

    /// How long requests took, of those that were timed.
    fn timings(&self) -> Timings {
        Timings::default()
    }

    /// Protections of the service against the jobs of its driver `local`.
    fn protections(&self) -> Vec<Protection> {
        Vec::new()
    }

    /// How often its files were read again.
    fn reloads(&self) -> Reloads;

    /// Reads them again, all or nothing. `Err`: this process cannot.
    fn reload(&self, by: Actor) -> BoxFuture<Result<Reload, String>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_by_their_words() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_word(&level.as_str().to_lowercase()), Some(level));
        }
        assert_eq!((LogLevel::from_word("WARN"), LogLevel::from_word("")), (None, None));
    }
}
