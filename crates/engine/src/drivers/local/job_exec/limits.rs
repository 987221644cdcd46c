//! Limits of a job's processes.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use serde::{Deserialize, Serialize};

/// Least data memory of a process, in MiB: a smaller one starts no program.
const MEMORY_MIN_MIB: u64 = 32;
/// Open files of one process: the soft and the hard limit.
const FILES: (rlim_t, rlim_t) = (1024, 4096);
/// Processes and threads of a VM that has its own user.
const PROCESSES: rlim_t = 1024;

/// Limits that all processes of a job inherit, and cannot raise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::drivers::local) struct Limits {
    /// Data memory of one process, in MiB.
    pub(in crate::drivers::local) memory_mib: u64,
    /// Size of one file, in GiB. `None`: no limit.
    pub(in crate::drivers::local) file_gib: Option<u64>,
    /// `true` if the VM has its own user. The kernel counts processes by user.
    pub(in crate::drivers::local) own_user: bool,
}

impl Limits {
    /// Sets the limits on this process. The limit of memory is the last one: this program may use more already.
    pub(super) fn set(&self) -> io::Result<()> {
        lower(Resource::RLIMIT_CORE, 0, 0)?;
        lower(Resource::RLIMIT_NOFILE, FILES.0, FILES.1)?;
        if let Some(file_gib) = self.file_gib {
            let size = file_gib.saturating_mul(1 << 30);
            lower(Resource::RLIMIT_FSIZE, size, size)?;
        }
        if self.own_user {
            lower(Resource::RLIMIT_NPROC, PROCESSES, PROCESSES)?;
        }
        let memory = self.memory_mib.max(MEMORY_MIN_MIB).saturating_mul(1 << 20);
        lower(Resource::RLIMIT_DATA, memory, memory)
    }
}

fn lower(resource: Resource, soft: rlim_t, hard: rlim_t) -> io::Result<()> {
    let (_, now) = getrlimit(resource)?;
    let hard = hard.min(now);
    Ok(setrlimit(resource, soft.min(hard), hard)?)
}
