//! The worker: what a VM of this driver is.
//!
//! One small process with its own folder and, when it was started as root, its own user. It
//! calls home, runs one job at a time, and keeps each result until the server has it. It outlives
//! the server; without one it ends itself after its lease, but never while a job runs.
//!
//! The process that the server starts is its [`supervisor`]: the worker's parent, and the end of what the worker
//! leaves.
//!
//! One thread: privileges are dropped before anything else could run, and only one place reaps.

mod job;
mod launch;
mod link;
mod ports;
mod setup;
mod storage;
mod stream;
mod supervisor;
mod view;

use std::{
    fs,
    future::pending,
    io::{self, Write},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    time::Duration,
};

use pileus_model::{OutputPart, OutputRange};
use rustix::process::{Pid, WaitOptions};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::{Sleep, sleep},
};

use self::{
    job::{Ended, Running},
    setup::Ready,
    stream::Kept,
};
use super::{
    folder::{self, CURRENT, RESULTS},
    wire::{self, Finished, FromWorker, PART_MAX, Part, READS, RESULT_MAX, Span, ToWorker, WireEnd},
};

/// Between SIGTERM and SIGKILL, for a job that is killed.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// The same, when the VM itself ends.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// What can happen to a worker.
enum Event {
    /// The server knows us; what we have to say goes here.
    Linked(UnboundedSender<Vec<u8>>),
    /// The server is gone.
    Unlinked,
    /// The server says something.
    Order(ToWorker),
    /// The job ended, and nothing of it runs any more.
    Ended(Ended),
}

/// In the environment of a worker that is none: it ends all that runs as this user, and itself.
pub(super) const END_USER_VARIABLE: &str = "PILEUS_END_USER";

/// In the environment of a worker that has a supervisor: the supervisor's number.
const SUPERVISOR_VARIABLE: &str = "PILEUS_SUPERVISOR";

/// Runs the worker whose folder this is, to its end. Nothing else may run in this process.
pub fn main(folder: &Path) -> ExitCode {
    if let Ok(user) = std::env::var(END_USER_VARIABLE) {
        return setup::end_user(&user).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let Ok(supervisor) = std::env::var(SUPERVISOR_VARIABLE) else { return supervisor::main(folder) };
    let ended = setup::enter(folder).and_then(|ready| match ready {
        Some(ready) => {
            supervisor::follow(&supervisor)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work(ready))
        }
        None => {
            note("another worker lives here");
            Ok(())
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("ended: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A line in `worker.log`. Not `eprintln`, which panics where the disk is full.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

async fn work(ready: Ready) -> io::Result<()> {
    let (events, mut inbox) = unbounded_channel();
    let mut children = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lease = Duration::from_secs(ready.orders.lease_s);
    let alive = Duration::from_secs(ready.orders.alive_s.max(1));
    tokio::spawn(link::keep(ready.secret.clone(), ready.orders.vm.clone(), alive, events.clone()));
    let mut host = Host { held: held()?, ready, events, server: None, running: None, stopping: false };
    let mut expiry: Option<Pin<Box<Sleep>>> = None;
    loop {
        let unowned = host.server.is_none() && host.running.is_none();
        expiry = unowned.then(|| expiry.take().unwrap_or_else(|| Box::pin(sleep(lease))));
        let expired = async {
            match &mut expiry {
                Some(expiry) => expiry.await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = children.recv() => host.reap(),
            Some(event) = inbox.recv() => host.take(event),
            _ = terminate.recv() => host.stop(),
            _ = interrupt.recv() => host.stop(),
            () = expired => {
                note("no server came in time");
                host.stopping = true;
            }
        }
        if host.stopping && host.running.is_none() {
            inbox.close();
            let ending = job::end_all(&host.ready);
            tokio::pin!(ending);
            loop {
                tokio::select! {
                    () = &mut ending => return Ok(()),
                    // Reaped meanwhile, so that nothing hides behind a zombie.
                    _ = children.recv() => reap(|_, _| ()),
                }
            }
        }
    }
}

/// A result that the server has not acknowledged. Its line lies in `results/<number>`.
struct Held {
    job: String,
    number: u64,
    end: WireEnd,
    span: Option<Span>,
    interrupted: bool,
    /// The line, where it could not be written there.
    line: Option<Vec<u8>>,
}

impl Held {
    /// The result as it is said, with its age. Where the file went, what is known without it.
    fn line(&self) -> io::Result<Vec<u8>> {
        let kept = match &self.line {
            Some(line) => parse(line),
            None => folder::read_untrusted(&result(self.number), RESULT_MAX).ok().as_deref().and_then(parse),
        };
        let mut finished = kept.unwrap_or_else(|| Finished {
            job: self.job.clone(),
            end: self.end.clone(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: true,
            stdout_gap: None,
            stderr_gap: None,
            span: self.span,
            interrupted: self.interrupted,
        });
        finished.span = finished.span.map(Span::aged);
        wire::line(&FromWorker::Finished(finished))
    }
}

/// A result in its line.
fn parse(line: &[u8]) -> Option<Finished> {
    match serde_json::from_slice(line) {
        Ok(FromWorker::Finished(finished)) => Some(finished),
        _ => None,
    }
}

fn result(number: u64) -> PathBuf {
    Path::new(RESULTS).join(number.to_string())
}

/// What a former worker of this VM left behind.
fn held() -> io::Result<Vec<Held>> {
    let mut held = Vec::new();
    for entry in fs::read_dir(RESULTS)? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = folder::read_untrusted(&result(number), RESULT_MAX)?;
        if let Some(Finished { job, end, span, interrupted, .. }) = parse(&line) {
            held.push(Held { job, number, end, span, interrupted, line: None });
        }
    }
    Ok(held)
}

struct Host {
    ready: Ready,
    events: UnboundedSender<Event>,
    server: Option<UnboundedSender<Vec<u8>>>,
    running: Option<Running>,
    held: Vec<Held>,
    stopping: bool,
}

impl Host {
    fn take(&mut self, event: Event) {
        match event {
            Event::Linked(server) => {
                self.server = Some(server);
                self.say(&FromWorker::Hello {
                    running: self.running.as_ref().map(|running| running.job.clone()),
                    finished: self.held.iter().map(|held| held.job.clone()).collect(),
                    version: READS,
                });
                let lines: Vec<_> = self.held.iter().map(Held::line).collect();
                lines.into_iter().for_each(|line| self.send(line));
            }
            Event::Unlinked => self.server = None,
            Event::Order(ToWorker::Run { job, command }) => self.run(job, &command),
            Event::Order(ToWorker::Kill { job }) => {
                if let Some(running) = self.running.as_ref().filter(|running| running.job == job) {
                    running.kill(KILL_GRACE);
                }
            }
            Event::Order(ToWorker::Ack { job }) => self.forget(&job),
            Event::Order(ToWorker::Read { id, job, range, wait_ms }) => self.read(id, &job, range, wait_ms),
            Event::Order(ToWorker::Stop) => self.stop(),
            Event::Ended(ended) => {
                self.running = None;
                // A job that died because its VM did has not ended: it will run elsewhere. What it wrote is
                // wanted all the same where it was removed.
                self.keep(ended, self.stopping);
            }
        }
    }

    /// Runs a job, unless it is known.
    fn run(&mut self, job: String, command: &[String]) {
        if self.stopping || self.held.iter().any(|held| held.job == job) {
            return;
        }
        if let Some(running) = &self.running {
            if running.job != job {
                // The server is wrong about us: hang up, and say again how it is.
                self.server = None;
            }
            return;
        }
        let number = self.ready.next_number();
        match job::start(&self.ready, &job, number, command, self.events.clone()) {
            Ok(running) => self.running = Some(running),
            Err(fault) => {
                let end = job::not_started(&fault);
                // Nothing was put into them.
                job::folders(number).iter().for_each(|folder| drop(folder::remove_tree(folder)));
                let (stdout, stderr) = (Kept::default(), Kept::default());
                self.keep(Ended { job, number, end, stdout, stderr, span: None }, false);
            }
        }
    }

    /// Answers with a piece of what a job writes, once there is one.
    fn read(&self, id: u64, job: &str, range: OutputRange, wait_ms: u64) {
        let Some(server) = self.server.clone() else { return };
        let running = self.running.as_ref().filter(|running| running.job == job);
        let stream = running.map(|running| running.stream(range.stream));
        let range = OutputRange { max: range.max.min(PART_MAX), ..range };
        tokio::spawn(async move {
            let part = match stream {
                Some(stream) => stream.part(range, Duration::from_millis(wait_ms)).await,
                None => None,
            };
            let part = match part {
                Some(OutputPart { offset, bytes, total, gap, ended: _ }) => {
                    Part { id, runs: true, offset, bytes, total, gap }
                }
                None => Part { id, ..Part::default() },
            };
            if let Ok(line) = wire::line(&FromWorker::Part(part)) {
                let _ = server.send(line);
            }
        });
    }

    /// Makes a result last, then says it. `interrupted`: the job was ended because the VM is.
    fn keep(&mut self, ended: Ended, interrupted: bool) {
        let Ended { job, number, end, stdout, stderr, span } = ended;
        let truncated = [&stdout, &stderr].into_iter().any(|kept| kept.cut || kept.gap.is_some());
        let finished = Finished {
            job: job.clone(),
            end: end.clone(),
            truncated,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            stdout_gap: stdout.gap,
            stderr_gap: stderr.gap,
            span,
            interrupted,
        };
        let line = wire::line(&FromWorker::Finished(finished));
        let saved = line.map(|line| match folder::replace_durably(&result(number), &line, 0o600) {
            Ok(()) => None,
            Err(error) => {
                note(&format!("the result of job number {number} stays in memory: {error}"));
                Some(line)
            }
        });
        if let Err(error) = folder::remove_file(Path::new(CURRENT)) {
            note(&format!("{CURRENT} stays: {error}"));
        }
        let held = Held { job, number, end, span, interrupted, line: saved.unwrap_or_default() };
        let line = held.line();
        self.held.push(held);
        self.send(line);
    }

    fn forget(&mut self, job: &str) {
        let Some(at) = self.held.iter().position(|held| held.job == job) else { return };
        let held = self.held.swap_remove(at);
        if let Err(error) = folder::remove_file(&result(held.number)) {
            note(&format!("the result of job number {} stays: {error}", held.number));
        }
    }

    fn say(&mut self, message: &FromWorker) {
        self.send(wire::line(message));
    }

    /// Where nobody listens, nothing is lost: all is said again on the next call.
    fn send(&mut self, line: io::Result<Vec<u8>>) {
        let sent =
            self.server.as_ref().zip(line.ok()).is_some_and(|(server, line)| server.send(line).is_ok());
        if !sent {
            self.server = None;
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        if let Some(running) = &self.running {
            running.kill(STOP_GRACE);
        }
    }

    fn reap(&mut self) {
        reap(|pid, end| {
            if let Some(running) = &mut self.running {
                running.reaped(pid, end);
            }
        });
    }
}

/// Reaps the job, and whatever else lost its parent in this VM.
fn reap(mut reaped: impl FnMut(Pid, WireEnd)) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => reaped(pid, WireEnd::Code(code)),
            (None, Some(signal)) => reaped(pid, WireEnd::Signal(signal)),
            (None, None) => {} // stopped or continued: lives
        }
    }
}
