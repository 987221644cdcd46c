//! One worker's call, from its hello on.
//!
//! **Level-triggered**: compares what the view says of the VM with what its worker says of itself,
//! and tells it the difference. Nothing else is remembered, so that it does not matter when which
//! side died.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};

use pileus_model::{Name, Output, OutputPart, OutputRange, Refusal, Vm};
use serde::Serialize;
use tokio::{
    io::AsyncWriteExt,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{
    channel::Channel,
    wire::{self, FromWorker, Lines, ToWorker},
};
use crate::desk::{End, JobResult};

/// How long a worker may take to read what we write, or to say hello.
const WORKER_TIME: Duration = Duration::from_secs(30);
/// A worker that says nothing for so long is hung up on; it calls again if it can.
const SILENCE: Duration = Duration::from_secs(6 * wire::ALIVE_S);
/// Most requests for output that a worker has not answered.
const READS_MAX: usize = 64;

/// One worker's call.
pub(super) struct Session<'a> {
    channel: &'a Channel,
    vm: Name,
    writer: OwnedWriteHalf,
    worker: Worker,
    requests: mpsc::Receiver<ReadRequest>,
    /// Requests that the worker has not answered, by their numbers.
    reads: HashMap<u64, (OutputRange, oneshot::Sender<OutputPart>)>,
    next_read: u64,
}

/// Request for a piece of what a job writes. Dropped without an answer where there is none to be had.
pub(super) struct ReadRequest {
    pub(super) job: Name,
    pub(super) range: OutputRange,
    /// Time that the worker waits while there is nothing at the offset.
    pub(super) wait: Duration,
    pub(super) answer: oneshot::Sender<OutputPart>,
}

/// What the worker said of itself, and was told.
#[derive(Debug, Default)]
struct Worker {
    running: Option<Name>,
    /// Ended, and not yet reported in full: nothing new is run before.
    pending: HashSet<String>,
    /// Job whose result was refused for good: it is not run again.
    refused: Option<Name>,
    killing: bool,
    stopping: bool,
    /// It answers requests for output.
    reads: bool,
}

/// What the worker is to be told now.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Nothing,
    Run(Name),
    Kill(Name),
    Stop,
}

impl Worker {
    /// The difference between what should be and what is. Not `takes_jobs`: a job that was given to a VM
    /// before it began to retire is run.
    fn order(&self, vm: Option<&Vm>) -> Order {
        let Some(vm) = vm.filter(|vm| vm.destroy.is_none()) else {
            return if self.stopping { Order::Nothing } else { Order::Stop };
        };
        match (&self.running, &vm.job) {
            _ if self.stopping => Order::Nothing,
            (Some(running), Some(job)) if running == job => Order::Nothing,
            (Some(running), _) if !self.killing => Order::Kill(running.clone()),
            (None, Some(job)) if self.pending.is_empty() && self.refused.as_ref() != Some(job) => {
                Order::Run(job.clone())
            }
            _ => Order::Nothing,
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(
        channel: &'a Channel,
        vm: Name,
        writer: OwnedWriteHalf,
        requests: mpsc::Receiver<ReadRequest>,
    ) -> Self {
        let (worker, reads) = (Worker::default(), HashMap::new());
        Self { channel, vm, writer, worker, requests, reads, next_read: 0 }
    }

    /// Serves the worker until it hangs up.
    pub(super) async fn talk(&mut self, mut lines: Lines<OwnedReadHalf>) -> io::Result<()> {
        match timeout(WORKER_TIME, lines.hear()).await.map_err(io::Error::other)?? {
            Some(FromWorker::Hello { running, finished, version }) => {
                self.worker.running = running.map(Into::into);
                self.worker.pending = finished.into_iter().collect();
                self.worker.reads = version >= wire::READS;
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no hello")),
        }
        self.register().await;
        let mut heard = self.channel.clock.monotonic();
        loop {
            let view = self.channel.desk.view();
            match self.worker.order(view.vms.get(&self.vm).map(|vm| &**vm)) {
                Order::Nothing => {}
                Order::Run(job) => match view.jobs.get(&job) {
                    Some(found) => self.run(&job, &found.command).await?,
                    None => debug!(vm.id = &*self.vm, job.id = &*job, "a job that nobody knows was not run"),
                },
                Order::Kill(job) => {
                    info!(vm.id = &*self.vm, job.id = &*job, "a job that is not wanted any more was killed");
                    self.worker.killing = true;
                    self.say(&ToWorker::Kill { job: job.to_string() }).await?;
                }
                Order::Stop => {
                    self.worker.stopping = true;
                    self.say(&ToWorker::Stop).await?;
                }
            }
            let silent = self.channel.clock.monotonic().since(heard);
            tokio::select! {
                message = lines.hear() => match message? {
                    Some(message) => {
                        heard = self.channel.clock.monotonic();
                        self.channel.silence.heard(&self.vm);
                        self.hear(message).await?;
                    }
                    None => return Ok(()),
                },
                () = self.channel.desk.changed_since(view.seq) => {}
                Some(request) = self.requests.recv() => self.read(request).await?,
                () = self.channel.clock.sleep(SILENCE.saturating_sub(silent)) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the worker fell silent"));
                }
            }
        }
    }

    /// Tells the desk that the worker called. A VM that is gone is told to stop by what follows.
    async fn register(&self) {
        while let Err(refusal) = self.channel.desk.registered(&self.vm).await {
            debug!(vm.id = &*self.vm, %refusal, "the worker could not be registered");
            // While the state cannot be written, the worker is not listened to.
            self.channel.silence.heard(&self.vm);
            if !passing(&refusal) || !self.channel.pause().await {
                return;
            }
        }
    }

    async fn hear(&mut self, message: FromWorker) -> io::Result<()> {
        match message {
            FromWorker::Hello { .. } => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a second hello"));
            }
            FromWorker::Alive => {}
            FromWorker::Part(part) => {
                if let Some((range, answer)) = self.reads.remove(&part.id)
                    && let Some(part) = part.into_answer(range)
                {
                    let _ = answer.send(part);
                }
            }
            FromWorker::Finished(result) => {
                let (job, result) = result.into_result(self.channel.desk.now());
                debug!(vm.id = &*self.vm, job.id = job, "a job ended");
                let Some(taken) = self.deliver(&job, result).await else {
                    return Ok(()); // the server stops; the worker will say it again
                };
                self.worker.pending.remove(&job);
                // The view shows what was taken: the VM may be given the same job again.
                self.worker.refused = (!taken).then(|| job.as_str().into());
                if self.worker.running.as_deref() == Some(&*job) {
                    self.worker.running = None;
                    self.worker.killing = false;
                }
                self.say(&ToWorker::Ack { job }).await?;
            }
        }
        Ok(())
    }

    /// Returns `true` once the result is durable, `false` if it never will be. `None`: the server stops before that.
    async fn deliver(&self, job: &str, result: JobResult) -> Option<bool> {
        loop {
            match self.channel.desk.finished(&self.vm, job, result.clone()).await {
                Ok(()) => return Some(true),
                Err(refusal) if passing(&refusal) => {
                    self.channel.silence.heard(&self.vm);
                    debug!(vm.id = &*self.vm, job.id = job, %refusal, "the result waits");
                }
                Err(refusal) => {
                    // A worker that kept it would be stuck for ever.
                    warn!(vm.id = &*self.vm, job.id = job, %refusal, "the result was refused");
                    return Some(false);
                }
            }
            if !self.channel.pause().await {
                return None;
            }
        }
    }

    async fn run(&mut self, job: &Name, command: &[String]) -> io::Result<()> {
        let order = ToWorker::Run { job: job.to_string(), command: command.to_vec() };
        let line = wire::line(&order)?;
        if line.len() > wire::LINE_MAX {
            let why = End::NotStarted("the command is too long".into());
            let result = JobResult::new(why, Output::default());
            match self.channel.desk.finished(&self.vm, job, result).await {
                Ok(()) => {}
                Err(refusal) if passing(&refusal) => drop(self.channel.pause().await),
                Err(_) => self.worker.refused = Some(job.clone()),
            }
            return Ok(());
        }
        debug!(vm.id = &*self.vm, job.id = &**job, "a job was handed over");
        self.worker.running = Some(job.clone());
        self.worker.killing = false;
        self.write(&line).await
    }

    /// Asks the worker for a piece of output.
    async fn read(&mut self, request: ReadRequest) -> io::Result<()> {
        let ReadRequest { job, range, wait, answer } = request;
        self.reads.retain(|_, (_, answer)| !answer.is_closed());
        if !self.worker.reads || self.worker.running.as_ref() != Some(&job) || self.reads.len() >= READS_MAX {
            return Ok(());
        }
        self.next_read += 1;
        let (id, job) = (self.next_read, job.to_string());
        self.reads.insert(id, (range, answer));
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.say(&ToWorker::Read { id, job, range, wait_ms }).await
    }

    async fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.write(&wire::line(message)?).await
    }

    async fn write(&mut self, line: &[u8]) -> io::Result<()> {
        timeout(WORKER_TIME, self.writer.write_all(line)).await.map_err(io::Error::other)?
    }
}

/// Whether the same may be taken later.
pub(super) fn passing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Full | Refusal::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_the_difference() {
        use Order::{Kill, Nothing, Run, Stop};
        let vm = |job: Option<&str>, destroy: bool| {
            let mut vm: Vm = serde_json::from_value(serde_json::json!({
                "id": "v", "cloud": "c", "project": "p", "user": "u", "vm_type": "t", "cpu_cores": 1,
                "memory_mib": 1, "storage_gib": 1, "keep_alive_s": 0, "state": "Running", "override_state": null,
                "force_retire": false, "destroy": null, "last_error": null, "error_count": 0, "created": 0,
                "changed": 0, "running": null, "registered": null, "idle_since": null, "job": job,
                "job_runs_s": [], "hostname": "", "address": "", "handle": "",
            }))
            .unwrap();
            vm.destroy = destroy.then(|| "why".into());
            Some(vm)
        };
        let worker =
            |running: Option<&str>, pending: &[&str], refused: Option<&str>, killing, stopping| Worker {
                running: running.map(Into::into),
                pending: pending.iter().map(|job| (*job).to_owned()).collect(),
                refused: refused.map(Into::into),
                killing,
                stopping,
                reads: false,
            };
        let cases = [
            ("idle", vm(None, false), worker(None, &[], None, false, false), Nothing),
            ("a job to run", vm(Some("j"), false), worker(None, &[], None, false, false), Run("j".into())),
            ("it runs", vm(Some("j"), false), worker(Some("j"), &[], None, false, false), Nothing),
            ("not wanted", vm(None, false), worker(Some("j"), &[], None, false, false), Kill("j".into())),
            (
                "another wanted",
                vm(Some("k"), false),
                worker(Some("j"), &[], None, false, false),
                Kill("j".into()),
            ),
            ("being killed", vm(Some("k"), false), worker(Some("j"), &[], None, true, false), Nothing),
            ("it ended unheard", vm(Some("j"), false), worker(None, &["j"], None, false, false), Nothing),
            (
                "another ended unheard",
                vm(Some("k"), false),
                worker(None, &["j"], None, false, false),
                Nothing,
            ),
            (
                "its result was refused",
                vm(Some("j"), false),
                worker(None, &[], Some("j"), false, false),
                Nothing,
            ),
            ("the next", vm(Some("k"), false), worker(None, &[], Some("j"), false, false), Run("k".into())),
            ("destroyed", vm(Some("j"), true), worker(Some("j"), &[], None, false, false), Stop),
            ("unknown", None, worker(None, &[], None, false, false), Stop),
            ("told so", None, worker(None, &[], None, false, true), Nothing),
            ("stopping", vm(Some("j"), false), worker(None, &[], None, false, true), Nothing),
        ];
        for (what, vm, worker, order) in cases {
            assert_eq!(worker.order(vm.as_ref()), order, "{what}");
        }
    }
}
