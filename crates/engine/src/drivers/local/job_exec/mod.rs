//! `pileus job-exec SPEC PROGRAM [ARGUMENT…]`: confines itself as a job has to be, then executes its program.
//!
//! A worker starts one for each job, so that the worker itself has no limits. Standard input is a pipe to the
//! worker, which gets [`EXECUTING`] immediately before the program is executed, and a [`StartFault`] in JSON
//! where that fails. The program gets `/dev/null` in its place. The pipe's end without a fault means that the
//! program runs.

mod fault;
mod limits;
mod program;
mod sandbox;

use std::{
    ffi::{CString, OsString},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
    process::ExitCode,
};

use nix::unistd;
use serde::{Deserialize, Serialize};

pub(super) use self::{
    fault::{FaultKind, StartFault},
    limits::Limits,
    sandbox::Sandbox,
};

/// Bounds of a job's processes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) limits: Limits,
    /// `None`: this kernel has no Landlock.
    pub(super) sandbox: Option<Sandbox>,
}

/// Line that the worker gets before the program is executed.
pub(super) const EXECUTING: &[u8] = b"executing\n";
/// Exit code where the program was not executed. The worker reads the reason from the pipe.
const NOT_EXECUTED: u8 = 127;
/// `EX_USAGE`: the arguments are not those of a worker.
const USAGE: u8 = 64;

/// Becomes the program of a job. `words` are the arguments after `job-exec`: the bounds in JSON, the program and
/// its arguments. Returns only where the program was not executed.
pub fn main(words: &[OsString]) -> ExitCode {
    let Some((spec, command)) = words.split_first() else { return ExitCode::from(USAGE) };
    let Ok(spec) = serde_json::from_slice::<Spec>(spec.as_bytes()) else {
        return ExitCode::from(USAGE);
    };
    let mut status = match take_status() {
        Ok(status) => File::from(status),
        Err(_) => return ExitCode::from(NOT_EXECUTED),
    };
    let fault = execute(&spec, command, &mut status);
    // Without a reader, the worker is gone, and with it the interest in the reason.
    let _ = serde_json::to_vec(&fault).map(|fault| status.write_all(&fault));
    ExitCode::from(NOT_EXECUTED)
}

/// Takes the pipe to the worker from standard input. The program does not inherit it.
fn take_status() -> io::Result<OwnedFd> {
    let status = io::stdin().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(status)
}

fn execute(spec: &Spec, command: &[OsString], status: &mut File) -> StartFault {
    let Some((program, _)) = command.split_first() else { return StartFault::job("the command is empty") };
    let arguments: Result<Vec<CString>, _> =
        command.iter().map(|word| CString::new(word.as_bytes())).collect();
    let environment: Result<Vec<CString>, _> = std::env::vars_os()
        .map(|(name, value)| {
            let entry = [name.into_vec(), value.into_vec()].join(&b'=');
            CString::new(entry)
        })
        .collect();
    let (Ok(arguments), Ok(environment)) = (arguments, environment) else {
        return StartFault::job("the command has a NUL character");
    };
    let candidates = program::candidates(program);
    // Rust ignores SIGPIPE, and an ignored signal stays ignored over `execve`. A handler does not.
    let handled = tokio::runtime::Builder::new_current_thread().enable_io().build().and_then(|runtime| {
        let _entered = runtime.enter();
        let pipe = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe())?;
        Ok((pipe, runtime))
    });
    if let Err(error) = handled {
        return StartFault::host("SIGPIPE was not restored", &error);
    }
    if let Some(sandbox) = &spec.sandbox {
        let own: Vec<PathBuf> =
            ["HOME", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(Into::into).collect();
        if let Err(error) = sandbox.enter(&own) {
            return StartFault::host("the job's files were not confined", &error);
        }
    }
    // `execve` needs a list of pointers. The allocator gets its memory before the limits hold.
    drop(Vec::<usize>::with_capacity(arguments.len().max(environment.len()) + 1));
    if let Err(error) = spec.limits.set() {
        return StartFault::host("limits were not set", &error);
    }
    if let Err(error) = status.write_all(EXECUTING) {
        return StartFault::host("the worker is gone", &error);
    }
    program::execute(program, &candidates, &arguments, &environment)
}
