//! One job: a process group in a folder of its own, its output, and the end of all that it started.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{sys::signal, unistd};
use pileus_model::JobStream;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{
    sync::{mpsc::UnboundedSender, oneshot, watch},
    time::sleep,
};

use super::{
    Event,
    launch::{Surroundings, launch},
    note,
    setup::Ready,
    storage::Storage,
    stream::{Kept, LiveStream, Stream},
};
use crate::drivers::local::{
    cgroup,
    folder::{self, CURRENT, JOBS},
    job_exec::{FaultKind, StartFault},
    process,
    wire::{Span, WireEnd, boot_ms},
};

/// Where even SIGKILL does not help (a dead file server): tries, and the pause between them.
const KILLS: u32 = 500;
const KILL_PAUSE: Duration = Duration::from_millis(10);

/// A job that runs.
pub(super) struct Running {
    pub(super) job: String,
    leader: Pid,
    /// Its standard output and standard error.
    streams: [LiveStream; 2],
    reaped: Option<oneshot::Sender<WireEnd>>,
    kill: watch::Sender<Option<Duration>>,
}

impl Running {
    /// Asks the job to end; makes it end after the grace.
    pub(super) fn kill(&self, grace: Duration) {
        self.kill.send_replace(Some(grace));
    }

    /// Writer of a stream.
    pub(super) fn stream(&self, stream: JobStream) -> LiveStream {
        let [stdout, stderr] = &self.streams;
        match stream {
            JobStream::Stdout => stdout.clone(),
            JobStream::Stderr => stderr.clone(),
        }
    }

    /// Some child was reaped: perhaps the job's first process.
    pub(super) fn reaped(&mut self, pid: Pid, end: WireEnd) {
        if pid == self.leader
            && let Some(reaped) = self.reaped.take()
        {
            let _ = reaped.send(end);
        }
    }
}

/// A job that ended.
pub(super) struct Ended {
    pub(super) job: String,
    pub(super) number: u64,
    pub(super) end: WireEnd,
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
    /// `None`: it did not run.
    pub(super) span: Option<Span>,
}

/// A job's home, and its TMPDIR, seen from the VM's folder.
pub(super) fn folders(number: u64) -> [PathBuf; 2] {
    names(number).map(|name| Path::new(JOBS).join(name))
}

fn names(number: u64) -> [String; 2] {
    [number.to_string(), format!("{number}.tmp")]
}

/// Starts a job. Its end arrives as [`Event::Ended`], also where its program was not executed.
pub(super) fn start(
    ready: &Ready,
    job: &str,
    number: u64,
    command: &[String],
    events: UnboundedSender<Event>,
) -> Result<Running, StartFault> {
    if command.is_empty() {
        return Err(StartFault::job("the command is empty"));
    }
    let ([folder, scratch], names) = (folders(number), names(number));
    let laid_out = [&folder, &scratch]
        .into_iter()
        .try_for_each(|path| DirBuilder::new().mode(0o700).create(path))
        // Known before it runs, so that no second worker runs it again.
        .and_then(|()| folder::replace(Path::new(CURRENT), number.to_string().as_bytes(), 0o600));
    laid_out.map_err(|error| StartFault::host("the job's folders were not made", &error))?;
    let output_max = ready.orders.output_max;
    let opened = Stream::open(output_max).and_then(|stdout| Ok((stdout, Stream::open(output_max)?)));
    let ((stdout, stdout_end), (stderr, stderr_end)) =
        opened.map_err(|error| StartFault::host("the job's output was not opened", &error))?;
    let [home, scratch] = names.map(|name| ready.jobs.join(name));
    let surroundings = Surroundings {
        folder: &folder,
        home: &home,
        scratch: &scratch,
        stdout: stdout_end,
        stderr: stderr_end,
    };
    let began = boot_ms();
    let (leader, report) = launch(ready, job, command, surroundings)?;
    let (reaped, end) = oneshot::channel();
    let (kill, killed) = watch::channel(None);
    let ender = Ender::of(ready);
    let storage = Storage::of(ready);
    let memory = Memory::of(ready);
    let over_limit = kill.clone();
    let running = Running {
        job: job.to_owned(),
        leader,
        streams: [stdout.live(), stderr.live()],
        reaped: Some(reaped),
        kill,
    };
    let job = job.to_owned();
    tokio::spawn(async move {
        let asked = killed.clone();
        let supervised = supervise(&ender, leader, end, killed);
        tokio::pin!(supervised);
        let end = tokio::select! {
            end = &mut supervised => end,
            why = storage.exceeded() => {
                over_limit.send_replace(Some(Duration::ZERO));
                supervised.await;
                WireEnd::OverLimit(why)
            }
        };
        let ended_at_ms = boot_ms();
        let ran_ms = ended_at_ms.saturating_sub(began);
        let span = Some(Span { ran_ms, ended_at_ms, ended_ago_ms: 0 });
        ender.end_all().await;
        // A job that was killed before it was executed ended by that.
        let asked = asked.borrow().is_some();
        let end = match report.fault().await {
            Some(fault) if !asked => not_started(&fault),
            _ if asked => end,
            _ => memory.judge(end),
        };
        let (stdout, stderr) = (stdout.finish().await, stderr.finish().await);
        // Before the result is written: it may need the room.
        storage.clear().await;
        let _ = events.send(Event::Ended(Ended { job, number, end, stdout, stderr, span }));
    });
    Ok(running)
}

/// Memory of the VM while a job runs.
struct Memory {
    cgroup: Option<PathBuf>,
    limit_mib: u64,
    /// Processes that had ended for lack of memory when the job began.
    kills: u64,
}

impl Memory {
    fn of(ready: &Ready) -> Self {
        let cgroup = ready.orders.cgroup.clone();
        let kills = cgroup.as_deref().map_or(0, cgroup::memory_kills);
        Self { cgroup, limit_mib: ready.orders.memory_mib, kills }
    }

    /// The end of the job, with the reason where the kernel ended it for lack of memory.
    fn judge(&self, end: WireEnd) -> WireEnd {
        let kills = self.cgroup.as_deref().map_or(0, cgroup::memory_kills);
        match end {
            WireEnd::Signal(signal) if signal == Signal::KILL.as_raw() && kills > self.kills => {
                let mib = self.limit_mib;
                WireEnd::OverLimit(format!(
                    "the kernel ended it: its VM had used all of its {mib} MiB of memory"
                ))
            }
            end => end,
        }
    }
}

/// Returns the end of a job whose program was not executed.
pub(super) fn not_started(fault: &StartFault) -> WireEnd {
    match fault.kind {
        FaultKind::Host => {
            note(&format!("this host did not start a job: {fault}"));
            WireEnd::HostFault(fault.to_string())
        }
        FaultKind::Job => WireEnd::NotStarted(fault.to_string()),
    }
}

/// Waits for the job's first process; ends it when told to.
async fn supervise(
    ender: &Ender,
    leader: Pid,
    mut reaped: oneshot::Receiver<WireEnd>,
    mut killed: watch::Receiver<Option<Duration>>,
) -> WireEnd {
    let grace = loop {
        tokio::select! {
            // First, so that a process that was reaped is never signalled.
            biased;
            end = &mut reaped => return end.unwrap_or(WireEnd::Signal(Signal::KILL.as_raw())),
            Ok(()) = killed.changed() => {
                if let Some(grace) = *killed.borrow_and_update() {
                    let _ = kill_process_group(leader, Signal::TERM);
                    // A job that was stopped hears nothing before it goes on.
                    let _ = kill_process_group(leader, Signal::CONT);
                    break grace;
                }
            }
        }
    };
    let deadline = sleep(grace);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            biased;
            end = &mut reaped => return end.unwrap_or(WireEnd::Signal(Signal::KILL.as_raw())),
            () = &mut deadline => break,
            // A shorter grace, because the VM ends.
            Ok(()) = killed.changed() => {
                if let Some(grace) = *killed.borrow_and_update() {
                    deadline.set(sleep(grace));
                }
            }
        }
    }
    ender.end_all().await;
    reaped.await.unwrap_or(WireEnd::Signal(Signal::KILL.as_raw()))
}

/// Ends whatever runs in the VM beside the worker.
pub(super) async fn end_all(ready: &Ready) {
    Ender::of(ready).end_all().await;
}

/// Ends all descendants of a process that adopts orphans.
pub(super) struct Ender {
    pub(super) own: process::Process,
    /// The VM's user, where nothing but this VM runs as it.
    pub(super) user: Option<u32>,
}

impl Ender {
    fn of(ready: &Ready) -> Self {
        Self { own: ready.own, user: ready.orders.user }
    }

    /// Kills all descendants. They cannot leave the family: the worker adopts every orphan. Somebody else
    /// must reap meanwhile.
    pub(super) async fn end_all(&self) {
        let mut hunt = process::Hunt::default();
        for _ in 0..KILLS {
            if has_no_children() {
                return;
            }
            if self.user.is_some_and(|user| unistd::getuid().as_raw() == user && user != 0) {
                // All of a user's processes at once, so that none can outrun it by forking.
                let _ = signal::kill(unistd::Pid::from_raw(-1), signal::Signal::SIGKILL);
            }
            hunt.round(&process::descendants(self.own));
            sleep(KILL_PAUSE).await;
        }
        note("something cannot be killed");
    }
}

/// Whether there is no child, not even a dead one; then there is no descendant. To look at `/proc` is
/// no proof: who forks and ends all the time may be missed.
fn has_no_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, options), Err(Errno::CHILD))
}
