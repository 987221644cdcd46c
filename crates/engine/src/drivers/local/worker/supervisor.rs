//! Parent of the worker. It adopts what a killed worker leaves, and ends it.
//!
//! ```text
//! server ── supervisor ── worker ── job-exec, which becomes the job
//! ```
//!
//! A process that lost its parents comes to the nearest living ancestor that adopts orphans: the
//! worker, or, where that one was killed, its supervisor. No descendant escapes both: neither an
//! empty environment nor a session of its own changes its ancestors. The supervisor has nothing
//! else to do, so it stays root where the worker becomes the VM's user, and no job can signal it
//! there. Elsewhere Landlock (from Linux 6.12) keeps jobs from it.
//!
//! Source: `PR_SET_CHILD_SUBREAPER`, prctl(2).

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal as NixSignal},
    unistd,
};
use rustix::process::{Pid, Signal};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    SUPERVISOR_VARIABLE,
    job::Ender,
    note, reap,
    setup::{become_user, close_inherited, doing},
    view,
};
use crate::drivers::local::{
    folder::{ORDERS, Orders, SUPERVISOR},
    process::Process,
    wire::WireEnd,
};

/// Time for the worker to end after SIGTERM: more than it gives its job. Then it is killed.
const STOP_TIME: Duration = Duration::from_secs(3);

/// Runs the worker of this folder and ends what it leaves. Nothing else may run in this process.
pub(super) fn main(folder: &Path) -> ExitCode {
    match run(folder) {
        Ok(WireEnd::Code(0)) => ExitCode::SUCCESS,
        Ok(WireEnd::Signal(signal)) => {
            note(&format!("the worker was ended by signal {signal}"));
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::FAILURE, // it said why
        Err(error) => {
            note(&format!("supervisor ended: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> io::Result<WireEnd> {
    close_inherited()?;
    doing("enter the folder", std::env::set_current_dir(folder))?;
    match unistd::setsid() {
        Ok(_) | Err(Errno::EPERM) => {} // EPERM: leads a group already
        Err(error) => return Err(error.into()),
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(SUPERVISOR);
    let mut lock = match Flock::lock(doing("open the lock", file)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => {
            note("another worker lives here");
            return Ok(WireEnd::Code(0));
        }
        Err((_, error)) => return Err(error.into()),
    };
    let orders = doing("read the orders", fs::read(ORDERS))?;
    let orders: Orders = doing("read the orders", serde_json::from_slice(&orders))?;
    let own = Process::current()?;
    lock.set_len(0)?;
    doing("write the pid", writeln!(lock, "{} {}", own.pid, own.start))?;
    doing("adopt orphans", prctl::set_child_subreaper(true))?;
    doing("give up privileges", prctl::set_no_new_privs())?;
    if let Some(cgroup) = &orders.cgroup {
        // `0` is the writer. All that it starts is in its group too.
        match fs::write(cgroup.join("cgroup.procs"), "0") {
            // Its memory would not be bounded, as was promised.
            Err(error) if cgroup.join("memory.max").exists() => doing("enter the control group", Err(error))?,
            Err(error) => note(&format!("not in the control group {cgroup:?}: {error}")),
            Ok(()) => {}
        }
    }
    if let Some(user) = orders.user {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWIPC) {
            note(&format!("System V objects of jobs stay when the VM ends: {error}"));
        }
        view::limit(user);
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(supervise(folder, own, &orders))
}

async fn supervise(folder: &Path, own: Process, orders: &Orders) -> io::Result<WireEnd> {
    let mut children = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("worker").arg(folder).env(SUPERVISOR_VARIABLE, own.pid.to_string());
    // `Child` is not kept: every child is reaped in one place.
    let worker = Pid::from_child(&doing("start the worker", command.spawn())?);
    let mut deadline = None;
    let end = loop {
        let mut end = None;
        reap(|pid, how| end = end.take().or((pid == worker).then_some(how)));
        if let Some(end) = end {
            break end;
        }
        let overdue = async {
            match &mut deadline {
                Some(deadline) => std::pin::Pin::new(deadline).await,
                None => std::future::pending().await,
            }
        };
        // The worker is a child that was not reaped, so that its number is its own.
        let kill = |signal| {
            let _ = rustix::process::kill_process(worker, signal);
        };
        tokio::select! {
            _ = children.recv() => {}
            _ = terminate.recv() => {
                kill(Signal::TERM);
                // A stopped worker takes no signal before it goes on.
                kill(Signal::CONT);
                deadline.get_or_insert_with(|| Box::pin(sleep(STOP_TIME)));
            }
            _ = interrupt.recv() => kill(Signal::TERM),
            () = overdue => {
                note("the worker did not end and was killed");
                kill(Signal::KILL);
                deadline = None;
            }
        }
    };
    if let Some(user) = orders.user {
        // Only as the VM's user all its processes can be ended at once.
        doing("become the VM's user", become_user(user))?;
    }
    let ender = Ender { own, user: orders.user };
    let ending = ender.end_all();
    tokio::pin!(ending);
    loop {
        reap(|_, _| ());
        tokio::select! {
            () = &mut ending => return Ok(end),
            _ = children.recv() => {}
        }
    }
}

/// Has the kernel end this worker, in order, when its supervisor ends.
pub(super) fn follow(supervisor: &str) -> io::Result<()> {
    // After the change of the user, which the kernel takes as a new beginning.
    prctl::set_pdeathsig(NixSignal::SIGTERM)?;
    match supervisor.parse() == Ok(unistd::getppid().as_raw()) {
        true => Ok(()),
        false => Err(io::Error::other("the supervisor has ended")),
    }
}
