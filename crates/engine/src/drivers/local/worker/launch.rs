//! Start of a job's first process by `job-exec`, and its report.

use std::{
    io::{self, ErrorKind},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::libc::E2BIG;
use rustix::process::Pid;
use tokio::{io::AsyncReadExt, net::unix::pipe::Receiver, time::timeout};

use super::setup::Ready;
use crate::drivers::local::{
    job_exec::{EXECUTING, Limits, Spec, StartFault},
    process::{STATE_VARIABLE, VM_VARIABLE},
};

/// This program, also after its file was replaced by another version's.
const PROGRAM: &str = "/proc/self/exe";
/// Variables of the worker that a job inherits.
const INHERITED: [&str; 6] = ["PATH", "LANG", "TZ", "USER", VM_VARIABLE, STATE_VARIABLE];
/// Longest report, in bytes.
const REPORT_MAX: u64 = 64 << 10;
/// Longest wait for the end of a report after the process has ended.
const REPORT_TIME: Duration = Duration::from_secs(2);

/// Report of a `job-exec`: a pipe that ends when the program is executed.
pub(super) struct StartReport(Receiver);

impl StartReport {
    /// Reads the report once the process has ended. `None`: the program was executed.
    pub(super) async fn fault(self) -> Option<StartFault> {
        let mut report = Vec::new();
        let mut pipe = self.0.take(REPORT_MAX);
        // Bytes that were read before an error or a time-out are still a report.
        let _ = timeout(REPORT_TIME, pipe.read_to_end(&mut report)).await;
        let fault = report.strip_prefix(EXECUTING).unwrap_or(&report);
        match serde_json::from_slice(fault) {
            Ok(fault) => Some(fault),
            Err(_) if report.starts_with(EXECUTING) => None,
            Err(_) => {
                Some(StartFault::host("job-exec ended early", &io::Error::from(ErrorKind::UnexpectedEof)))
            }
        }
    }
}

/// Folders and streams of a job.
pub(super) struct Surroundings<'a> {
    /// Working folder, seen from the VM's folder.
    pub(super) folder: &'a Path,
    /// Absolute paths for `HOME` and `TMPDIR`.
    pub(super) home: &'a Path,
    pub(super) scratch: &'a Path,
    pub(super) stdout: io::PipeWriter,
    pub(super) stderr: io::PipeWriter,
}

/// Starts the first process of a job, in a process group of its own. The caller reaps it.
pub(super) fn launch(
    ready: &Ready,
    job: &str,
    command: &[String],
    surroundings: Surroundings<'_>,
) -> Result<(Pid, StartReport), StartFault> {
    let orders = &ready.orders;
    let limits = Limits {
        memory_mib: orders.memory_mib,
        file_gib: orders.storage_gib,
        own_user: orders.user.is_some(),
    };
    let spec = serde_json::to_string(&Spec { limits, sandbox: orders.sandbox.clone() })
        .map_err(|error| StartFault::host("the job's bounds were not written", &error.into()))?;
    let opened = io::pipe().and_then(|(reader, writer)| {
        // The runtime reads it without blocking; `job-exec` writes less than a pipe has room for.
        Ok((Receiver::from_owned_fd(reader.into())?, writer))
    });
    let (report, report_end) = opened.map_err(|error| StartFault::host("a pipe was not opened", &error))?;
    let mut process = Command::new(PROGRAM);
    process.args(["job-exec", "--", &spec]).args(command);
    process.current_dir(surroundings.folder).process_group(0);
    process.stdin(Stdio::from(report_end)).stdout(surroundings.stdout).stderr(surroundings.stderr);
    process.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            process.env(name, value);
        }
    }
    process.env("SHELL", "/bin/sh").env("HOSTNAME", &ready.orders.vm).env("PILEUS_JOB_ID", job);
    process.env("HOME", surroundings.home).env("TMPDIR", surroundings.scratch);
    // `Child` is not kept: the worker reaps all children in one place. The ends of the pipes that are the
    // job's are closed here with `process`.
    let child = process.spawn().map_err(|error| match (error.kind(), error.raw_os_error()) {
        (ErrorKind::InvalidInput, None) => StartFault::job("the command has a NUL character"),
        (_, Some(E2BIG)) => StartFault::job("the command is too long"),
        _ => StartFault::host("job-exec was not started", &error),
    })?;
    Ok((Pid::from_child(&child), StartReport(report)))
}
