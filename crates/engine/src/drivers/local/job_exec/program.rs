//! Program of a job: search by `PATH`, execution, and the reason where it fails.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::Read,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access, execve},
};

use super::fault::{FaultKind, StartFault, kind};

/// Longest first line of a script, in bytes. Source: `BINPRM_BUF_SIZE` of Linux.
const FIRST_LINE: u64 = 256;
/// Longest part of a program's name in a message, in characters.
const NAME_MAX: usize = 200;

/// Returns the files that a program's name may mean, in the order of `PATH`. A name with a slash means one file.
pub(super) fn candidates(program: &OsStr) -> Vec<PathBuf> {
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return vec![program.into()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(program)).collect()
}

/// Executes the first candidate that there is. Returns only where none is executed.
///
/// Unlike `execvp`, a file that is neither a binary nor a script with `#!` is an error, and not run by a shell.
pub(super) fn execute(
    program: &OsStr,
    candidates: &[PathBuf],
    arguments: &[CString],
    environment: &[CString],
) -> StartFault {
    let mut denied = None;
    for path in candidates {
        let Ok(file) = CString::new(path.as_os_str().as_bytes()) else { continue };
        let Err(error) = execve(&file, arguments, environment);
        match error {
            Errno::ENOENT | Errno::ENOTDIR if fs::metadata(path).is_err() => {}
            // Another folder of `PATH` may have one that may be run.
            Errno::EACCES => {
                denied.get_or_insert((path, error));
            }
            _ => return explain(program, path, error),
        }
    }
    match denied {
        Some((path, error)) => explain(program, path, error),
        None => StartFault::job(format!("{}: no such program", shown(program))),
    }
}

/// Explains an error of `execve` by what the file is.
fn explain(program: &OsStr, path: &Path, error: Errno) -> StartFault {
    let name = shown(program);
    if kind(error) == FaultKind::Host {
        return StartFault::host(&format!("{name}: the host could not start it"), &error.into());
    }
    let interpreter = || interpreter(path).map(|it| shown(it.as_os_str()));
    let why = match error {
        Errno::ENOENT | Errno::ENOTDIR => match interpreter() {
            Some(interpreter) => format!("its interpreter {interpreter} does not exist"),
            None => "its loader does not exist on this host".to_owned(),
        },
        Errno::EACCES => denial(path, interpreter()),
        Errno::ENOEXEC => "neither a binary for this host nor a script that begins with `#!`".to_owned(),
        Errno::E2BIG => "the command is too long".to_owned(),
        Errno::ETXTBSY => "it is open for writing".to_owned(),
        _ => std::io::Error::from(error).to_string(),
    };
    StartFault::job(format!("{name}: {why}"))
}

fn denial(path: &Path, interpreter: Option<String>) -> String {
    let Ok(metadata) = fs::metadata(path) else { return "not allowed to run it".to_owned() };
    if metadata.is_dir() {
        return "it is a folder".to_owned();
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return "it is not executable (no permission `x`)".to_owned();
    }
    match interpreter.filter(|_| access(path, AccessFlags::X_OK).is_ok()) {
        Some(interpreter) => format!("not allowed to run its interpreter {interpreter}"),
        None => "not allowed to run it".to_owned(),
    }
}

/// Returns the interpreter that a script names in its first line.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(FIRST_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let word = line.split(u8::is_ascii_whitespace).next()?;
    (!word.is_empty()).then(|| OsStr::from_bytes(word).into())
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().take(NAME_MAX).collect()
}
