//! The server's end of the channel: workers call home here, and hear what to run.
//!
//! Takes calls, and knows who calls; see [`wire`](super::wire) for how each side proves who it is.
//! What is said then is the [`session`](super::session)'s.

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pileus_model::{Clock, Name, OutputPart, OutputRange};
use tokio::{
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    folder::StateFolder,
    greetings::{Greeting, Greetings},
    session::{ReadRequest, Session},
    silence::{HEARTBEAT, Silence},
    tcp_owner::owner_of,
    wire::{self, Answer, Challenge, Lines, Question, Welcome},
};
use crate::{desk::Desk, supervise::outcome};

/// Time in which a caller proves who it is. Real time, not the clock's: it bounds what a stranger may hold.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// After the desk could not write.
const RETRY: Duration = Duration::from_secs(1);
/// Time that a worker may take for a piece of output, beside the time that it was told to wait.
const READ_TIME: Duration = Duration::from_secs(10);
/// Requests for output that wait for a session to take them.
const READS_WAITING: usize = 16;

/// All sessions of all workers.
pub(super) struct Channel {
    address: SocketAddr,
    state: Arc<StateFolder>,
    pub(super) desk: Arc<dyn Desk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) silence: Silence,
    stop: CancellationToken,
    tasks: TaskTracker,
    callers: Mutex<Callers>,
}

#[derive(Default)]
struct Callers {
    /// VMs that have called since the server started.
    seen: HashSet<Name>,
    /// The latest session of each VM: a newer one ends the older.
    sessions: HashMap<Name, Caller>,
    next: u64,
}

/// Session of a worker, as the channel has it.
struct Caller {
    number: u64,
    end: CancellationToken,
    reads: mpsc::Sender<ReadRequest>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Channel {
    /// Opens the channel at a port of its own, for this host alone.
    pub(super) async fn open(
        state: Arc<StateFolder>,
        desk: Arc<dyn Desk>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let channel = Arc::new(Self {
            address: listener.local_addr()?,
            state,
            desk,
            silence: Silence::new(clock.clone()),
            clock,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            callers: Mutex::default(),
        });
        let accepting = channel.clone();
        channel.tasks.spawn(async move {
            if let Err(panic) = outcome(accepting.clone().accept(listener)).await {
                accepting.desk.ended("the channel of workers", panic);
            }
        });
        channel.tasks.spawn(channel.clone().listen());
        Ok(channel)
    }

    /// Where workers call.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the VM has called since the server started.
    pub(super) fn has_called(&self, vm: &str) -> bool {
        self.callers().seen.contains(vm)
    }

    /// Ends the VM's session; its worker is gone.
    pub(super) fn forget(&self, vm: &str) {
        let mut callers = self.callers();
        callers.seen.remove(vm);
        self.silence.forget(vm);
        if let Some(caller) = callers.sessions.remove(vm) {
            caller.end.cancel();
        }
    }

    /// Asks the VM's worker for a piece of what its job writes. `None`: the job does not run there, or the worker
    /// is away, too old, busy, or silent.
    pub(super) async fn read(
        &self,
        vm: &str,
        job: Name,
        range: OutputRange,
        wait: Duration,
    ) -> Option<OutputPart> {
        let range = OutputRange { max: range.max.min(wire::PART_MAX), ..range };
        let (answer, answered) = oneshot::channel();
        let reads = self.callers().sessions.get(vm)?.reads.clone();
        reads.try_send(ReadRequest { job, range, wait, answer }).ok()?;
        tokio::select! {
            part = answered => part.ok(),
            () = self.clock.sleep(wait.saturating_add(READ_TIME)) => None,
        }
    }

    /// Hangs up on everybody, and listens no more. Workers go on.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Waits before the desk is asked again; `false`: the channel is closed.
    pub(super) async fn pause(&self) -> bool {
        tokio::select! {
            () = self.clock.sleep(RETRY) => true,
            () = self.stop.cancelled() => false,
        }
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the server listens, until the channel closes.
    async fn listen(self: Arc<Self>) {
        loop {
            self.silence.beat();
            tokio::select! {
                () = self.clock.sleep(HEARTBEAT) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let greetings = Greetings::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, caller)) => {
                    // As root each VM has a user: one of them does not keep the workers of others out.
                    let owner = owner_of(caller, self.address).ok().flatten();
                    let greeting = greetings.take(owner.map(|(user, _)| user));
                    let channel = self.clone();
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = channel.clone().serve(stream, greeting) => {}
                            () = channel.stop.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, say: the next moment may be better.
                    warn!(%error, "a worker's call could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, greeting: Greeting) {
        let greeted = tokio::select! {
            greeted = timeout(GREETING_TIME, self.greet(stream)) => greeted,
            () = greeting.end.cancelled() => return debug!("a caller was turned away for a newer one"),
        };
        drop(greeting);
        let (vm, lines, writer) = match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(known) => known,
            Err(error) => return debug!(%error, "a caller was turned away"),
        };
        let (reads, requests) = mpsc::channel(READS_WAITING);
        let (number, end) = {
            let mut callers = self.callers();
            callers.seen.insert(vm.clone());
            self.silence.heard(&vm);
            callers.next += 1;
            let (number, end) = (callers.next, CancellationToken::new());
            let caller = Caller { number, end: end.clone(), reads };
            if let Some(older) = callers.sessions.insert(vm.clone(), caller) {
                older.end.cancel();
            }
            (number, end)
        };
        info!(vm.id = &*vm, "the worker called home");
        let mut session = Session::new(&self, vm.clone(), writer, requests);
        let ended = tokio::select! {
            ended = session.talk(lines) => ended,
            () = end.cancelled() => Ok(()),
        };
        match ended {
            Ok(()) => debug!(vm.id = &*vm, "the worker's call ended"),
            Err(error) => debug!(vm.id = &*vm, %error, "the worker's call broke off"),
        }
        let mut callers = self.callers();
        if callers.sessions.get(&vm).is_some_and(|latest| latest.number == number) {
            callers.sessions.remove(&vm);
        }
    }

    /// Each side proves to the other that it knows the VM's secret.
    async fn greet(&self, stream: TcpStream) -> io::Result<(Name, Lines<OwnedReadHalf>, OwnedWriteHalf)> {
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = Lines::new(reader, wire::GREETING_MAX);
        let nonce = wire::nonce()?;
        wire::say(&mut writer, &Question { nonce: nonce.clone() }).await?;
        let answer: Answer = lines.hear().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let secret = self.state.secret(&answer.vm);
        let challenge = Challenge {
            secret: &secret,
            address: self.address,
            server_nonce: &nonce,
            worker_nonce: &answer.nonce,
            vm: &answer.vm,
        };
        if !challenge.holds("worker", &answer.mac) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "wrong proof"));
        }
        wire::say(&mut writer, &Welcome { mac: challenge.proof("server") }).await?;
        Ok((answer.vm.into(), lines.with_max(wire::RESULT_MAX), writer))
    }
}
