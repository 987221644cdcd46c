//! Steps from a process to a worker: session, lock, priorities, user. The limits are those of each job:
//! see [`job_exec`](crate::drivers::local::job_exec).

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sched::{CpuSet, sched_setaffinity},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal,
        stat::{Mode, umask},
    },
    unistd::{self, Gid, Pid, Uid},
};

use super::{note, ports};
use crate::drivers::local::{
    folder::{self, CURRENT, JOBS, LOCK, ORDERS, Orders, PID, RESULTS, SECRET},
    process::Process,
    wire::Secret,
};

/// No VM gives a job a number as high as this: a job made the folder, and it says nothing.
const NUMBER_MAX: u64 = 1 << 53;
/// Jobs stand back behind the server.
const NICE: i32 = 5;
/// Where memory runs out, jobs go before the server.
const OOM_SCORE: &str = "500";

/// A worker that may begin.
pub(super) struct Ready {
    pub(super) orders: Orders,
    pub(super) secret: Secret,
    /// This process, the ancestor of all that runs in the VM.
    pub(super) own: Process,
    /// Where jobs live, as an absolute path that the VM's user may use.
    pub(super) jobs: PathBuf,
    number: Cell<u64>,
    /// Held for as long as the worker lives.
    _lock: Flock<File>,
}

impl Ready {
    /// A number that no job of this VM has had. One whose folders a job made beside its own is skipped.
    pub(super) fn next_number(&self) -> u64 {
        loop {
            self.number.set(self.number.get() + 1);
            let taken = |folder: &PathBuf| fs::symlink_metadata(folder).is_ok();
            if !super::job::folders(self.number.get()).iter().any(taken) {
                return self.number.get();
            }
        }
    }
}

/// Enters the folder and becomes its worker; `None`: another one lives there.
pub(super) fn enter(folder: &Path) -> io::Result<Option<Ready>> {
    close_inherited()?;
    doing("enter the folder", std::env::set_current_dir(folder))?;
    match unistd::setsid() {
        Ok(_) | Err(Errno::EPERM) => {} // EPERM: leads a group already
        Err(error) => return Err(error.into()),
    }
    umask(Mode::from_bits_truncate(0o022));
    let orders = doing("read the orders", fs::read(ORDERS))?;
    let orders: Orders = doing("read the orders", serde_json::from_slice(&orders))?;
    // Read while we still may: the VM's user may not, and so its jobs may not.
    let secret = doing("read the secret", fs::read(SECRET))?;
    let secret = Secret::from_bytes(&secret).ok_or_else(|| io::Error::other("the secret is broken"))?;
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(LOCK);
    let lock = match Flock::lock(doing("open the lock", lock)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    let own = Process::current()?;
    stand_back(&orders);
    doing("adopt orphans", prctl::set_child_subreaper(true))?;
    doing("give up privileges", prctl::set_no_new_privs())?;
    doing(
        "write the pid",
        folder::replace(Path::new(PID), format!("{} {}\n", own.pid, own.start).as_bytes(), 0o600),
    )?;
    let jobs = doing("find the jobs' folder", fs::canonicalize(JOBS))?;
    if let Some(user) = orders.user {
        doing("become the VM's user", become_user(user))?;
    }
    if !orders.closed_ports.is_empty() {
        doing("close ports", ports::close(&orders.closed_ports))?;
    }
    let number = doing("look at former jobs", former_jobs())?;
    doing("reach the jobs' folder", fs::metadata(&jobs))?;
    Ok(Some(Ready { orders, secret, own, jobs, number: Cell::new(number), _lock: lock }))
}

pub(super) fn doing<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("could not {what}: {error}"))
    })
}

/// Closes what the server's own parent may have left open: a port, say, that would stay taken.
pub(super) fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    // The listing's own descriptor is among them, and closed already.
    for fd in open {
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// Priorities that all jobs inherit. They make it better, but nothing depends on them.
fn stand_back(orders: &Orders) {
    if let Err(error) = pin(&orders.cpus) {
        note(&format!("not pinned to CPUs {:?}: {error}", orders.cpus));
    }
    let _ = rustix::process::nice(NICE);
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    // A dump would have the secret in it.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

fn pin(cpus: &[usize]) -> nix::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Becomes a user without any other right. There is one thread, so that none keeps the old rights.
pub(super) fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    if uid.is_root() {
        return Err(io::Error::other("a VM never runs as root"));
    }
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)?;
    // Else a job could read the secret from our memory.
    prctl::set_dumpable(false)?;
    let (users, groups) = (unistd::getresuid()?, unistd::getresgid()?);
    let became = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3]
        && unistd::getgroups()?.is_empty();
    if became { Ok(()) } else { Err(io::Error::other("the kernel let us keep rights")) }
}

/// Ends everything that runs as a VM's user, in one step that nothing can outrun by forking: the
/// kernel lets nobody fork meanwhile. Only one who is that user can.
pub(super) fn end_user(user: &str) -> io::Result<()> {
    become_user(user.parse().map_err(io::Error::other)?)?;
    match signal::kill(Pid::from_raw(-1), signal::Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The highest number that a former worker of this VM gave to a job. One that died while a job ran
/// has no heir: whether the job did its work is unknown, and it must not run twice.
fn former_jobs() -> io::Result<u64> {
    let numbers = |folder: &str| -> io::Result<Vec<u64>> {
        Ok(fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    };
    let results = numbers(RESULTS)?;
    if let Ok(current) = folder::read_untrusted(Path::new(CURRENT), 100) {
        let number = String::from_utf8_lossy(&current).trim_end().parse();
        if !number.is_ok_and(|number| results.contains(&number)) {
            return Err(io::Error::other("a former worker died while a job ran"));
        }
        folder::remove_file(Path::new(CURRENT))?;
    }
    let given = numbers(JOBS)?.into_iter().chain(results).filter(|number| *number < NUMBER_MAX);
    Ok(given.max().unwrap_or(0))
}
