//! Buffered destination of log lines: stderr or a file, written by a thread of its own.
//!
//! A line is appended to a buffer in memory. The thread writes it once the buffer is full or its first
//! line is old enough, and at once where that is asked for. Callers never wait for a write: lines that
//! find no room are dropped and counted, as are lines that cannot be written.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::{error, warn};

/// Bytes that wait for a writer that is stalled, at the least. Reached after some 10,000 lines.
const MIN_ROOM: usize = 4 << 20;

/// Buffers that wait for a writer that is stalled.
const ROOM: usize = 16;

/// Size and age at which a buffer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Buffering {
    /// Size, in bytes.
    pub bytes: u32,
    /// Age of its first line, in milliseconds.
    pub ms: u32,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { bytes: 64 << 10, ms: 100 }
    }
}

/// Destination of log lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// A file, to which lines are appended.
    File(PathBuf),
}

impl Target {
    fn open(&self) -> io::Result<Option<File>> {
        let Self::File(path) = self else { return Ok(None) };
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        // A FIFO without a reader is an error, not a wait.
        let file = options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        Ok(Some(file))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Buffer in front of a destination. Its thread ends after the last reference is dropped and all lines
/// are written.
pub struct Sink(Arc<Shared>);

struct Shared {
    target: Target,
    buffering: Buffering,
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes threads that wait for a flush.
    flushed: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    running: bool,
    /// `true` if the pending lines have to be written now.
    urgent: bool,
    reopen: bool,
    closed: bool,
    /// Number of flushes that were asked for, and of those that are done.
    asked: u64,
    done: u64,
}

impl State {
    fn is_due(&self) -> bool {
        self.urgent || self.reopen || self.closed || self.asked != self.done
    }
}

impl Sink {
    /// Creates a sink that drops all lines until it is started. Lines that are lost are added to
    /// `dropped`.
    pub fn new(target: Target, buffering: Buffering, dropped: Arc<AtomicU64>) -> Self {
        let (state, wake, flushed) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { target, buffering, state, wake, flushed, dropped }))
    }

    /// Opens the destination and starts the thread. No effect if it runs already.
    pub fn start(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.running {
            return Ok(());
        }
        let mut output = Output::new(self.0.target.clone())?;
        let shared = self.0.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || shared.write_all(&mut output))?;
        state.running = true;
        Ok(())
    }

    /// Appends a line, which ends with a newline.
    pub fn push(&self, line: &[u8]) {
        self.add(line, false);
    }

    /// Appends a line that is written without delay.
    pub fn push_now(&self, line: &[u8]) {
        self.add(line, true);
    }

    fn add(&self, line: &[u8], urgent: bool) {
        let (shared, full) = (&*self.0, self.0.buffering.bytes as usize);
        let mut state = shared.lock();
        let before = state.pending.len();
        let after = before + line.len();
        if after > MIN_ROOM.max(full.saturating_mul(ROOM)) || !state.running {
            drop(state);
            shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.pending.extend_from_slice(line);
        // The thread waits for the first line, for a full buffer, or for neither.
        let wakes = before == 0 || (before < full && after >= full) || (urgent && !state.urgent);
        state.urgent |= urgent;
        drop(state);
        if wakes {
            shared.wake.notify_one();
        }
    }

    /// Writes all lines to the present file, then opens the file again by its name. Does not wait for it.
    pub fn reopen(&self) {
        self.0.lock().reopen = true;
        self.0.wake.notify_one();
    }

    /// Has all pending lines written now. Does not wait for it.
    pub fn hurry(&self) {
        self.0.lock().urgent = true;
        self.0.wake.notify_one();
    }

    /// Waits until all pending lines are written, no longer than `limit`. Returns `false` if they are not.
    pub fn flush(&self, limit: Duration) -> bool {
        let mut state = self.0.lock();
        if !state.running {
            return true;
        }
        state.asked += 1;
        let ticket = state.asked;
        self.0.wake.notify_one();
        let waited = self.0.flushed.wait_timeout_while(state, limit, |state| state.done < ticket);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({})", self.0.target)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the sink is closed.
    fn write_all(&self, output: &mut Output) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.next(&mut batch);
            let (reopen, closed, asked) = (std::mem::take(&mut state.reopen), state.closed, state.asked);
            drop(state);
            self.dropped.fetch_add(output.write(&batch), Relaxed);
            batch.clear();
            // One stall must not keep its memory for ever.
            batch.shrink_to(2 * self.buffering.bytes as usize);
            if reopen {
                output.reopen();
            }
            let mut state = self.lock();
            state.done = asked;
            let ends = closed && state.pending.is_empty();
            drop(state);
            self.flushed.notify_all();
            if ends {
                return;
            }
        }
    }

    /// Waits until lines have to be written, and moves them into `batch`.
    fn next(&self, batch: &mut Vec<u8>) -> MutexGuard<'_, State> {
        let (full, age) = (self.buffering.bytes as usize, Duration::from_millis(self.buffering.ms.into()));
        let idle = |state: &mut State| state.pending.is_empty() && !state.is_due();
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let early = |state: &mut State| state.pending.len() < full && !state.is_due();
        let waited = self.wake.wait_timeout_while(state, age, early);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(&mut state.pending, batch);
        state.urgent = false;
        state
    }
}

/// Destination that is open.
struct Output {
    target: Target,
    /// `None`: stderr.
    file: Option<File>,
    /// `true` if the last line was written in part.
    torn: bool,
    /// Lines that were lost since a write has failed; 0 if the last one succeeded.
    lost: u64,
}

impl Output {
    fn new(target: Target) -> io::Result<Self> {
        let file = target.open()?;
        Ok(Self { target, file, torn: false, lost: 0 })
    }

    fn reopen(&mut self) {
        match self.target.open() {
            Ok(file) => (self.file, self.torn) = (file, false),
            // The lines are still safe in the file from before, wherever it was moved to.
            Err(error) => error!(file = %self.target, %error, "log file not reopened"),
        }
    }

    /// Writes lines. Returns the number of those that are lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let mut rest = lines;
        let mut result = if self.torn { self.write_some(b"\n").map(drop) } else { Ok(()) };
        self.torn &= result.is_err();
        while result.is_ok() && !rest.is_empty() {
            match self.write_some(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => result = Err(error),
            }
        }
        let written = lines.len() - rest.len();
        self.torn |= lines.get(..written).is_some_and(|it| !it.is_empty() && !it.ends_with(b"\n"));
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        match result {
            Err(error) if self.lost == 0 => error!(file = %self.target, %error, "log not written"),
            Ok(()) if self.lost > 0 => warn!(file = %self.target, dropped = self.lost, "log written again"),
            _ => {}
        }
        self.lost = if lost == 0 { 0 } else { self.lost + lost };
        lost
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match &mut self.file {
                Some(file) => file.write(bytes),
                None => io::stderr().write(bytes),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }
}

#[cfg(test)]
mod tests;
