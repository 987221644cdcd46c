//! Reason why a job's program does not run.

use std::{fmt, io};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Longest text of a fault, in characters. The report fits into a pipe that nothing reads yet.
const TEXT_MAX: usize = 1000;

/// Cause of a [`StartFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::drivers::local) enum FaultKind {
    /// The job: its command can run nowhere, or not here.
    Job,
    /// The host: the same command may run later, or elsewhere.
    Host,
}

/// Reason why a job's program does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::drivers::local) struct StartFault {
    pub(in crate::drivers::local) kind: FaultKind,
    /// Reason, in words for the job's user.
    pub(in crate::drivers::local) text: String,
}

impl StartFault {
    /// Creates a fault of the job.
    pub(in crate::drivers::local) fn job(text: impl AsRef<str>) -> Self {
        Self::new(FaultKind::Job, text.as_ref())
    }

    /// Creates a fault of the host.
    pub(in crate::drivers::local) fn host(what: &str, error: &io::Error) -> Self {
        Self::new(FaultKind::Host, &format!("{what}: {error}"))
    }

    fn new(kind: FaultKind, text: &str) -> Self {
        Self { kind, text: text.chars().take(TEXT_MAX).collect() }
    }
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the cause of an error of `execve`. Source: execve(2).
pub(super) fn kind(error: Errno) -> FaultKind {
    match error {
        Errno::EAGAIN
        | Errno::EIO
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENODEV
        | Errno::ENOMEM
        | Errno::ENOSPC
        | Errno::ESTALE
        | Errno::ETIMEDOUT => FaultKind::Host,
        _ => FaultKind::Job,
    }
}
