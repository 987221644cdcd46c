//! Logs of the process: the general log on stderr, and the destinations of access logs.
//!
//! Both go through a [`Sink`]: a write that fails or blocks concerns no request. The general log is
//! made of `tracing` events; the access log is not, see [`crate::filters::trace`].

pub mod current;
mod one_line;
mod sink;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tracing::{Level, enabled, error};
use tracing_subscriber::fmt::MakeWriter;

use self::one_line::one_line;
pub use self::{
    one_line::visible,
    sink::{Buffering, Sink, Target},
};
use crate::{
    host::{SetFilter, ThisProcess},
    log_settings::{LogFormat, LogSettings},
};

/// Longest time that the end of the process waits for a log that nothing reads.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// Log destinations of a process. Stages keep their destinations alive; a reload that takes the last
/// one away closes its file.
#[derive(Debug)]
pub struct Logs {
    stderr: Arc<Sink>,
    others: Mutex<BTreeMap<(Target, Buffering), Weak<Sink>>>,
    dropped: Arc<AtomicU64>,
    /// `true` while requests are logged.
    access: AtomicBool,
    /// `true` if the general log is in JSON.
    json: AtomicBool,
}

impl Default for Logs {
    fn default() -> Self {
        let dropped = Arc::<AtomicU64>::default();
        let stderr = Arc::new(Sink::new(Target::Stderr, Buffering::default(), dropped.clone()));
        Self {
            stderr,
            others: Mutex::default(),
            dropped,
            access: AtomicBool::default(),
            json: AtomicBool::default(),
        }
    }
}

impl Logs {
    /// Returns the sink of a file, or of stderr. Opens nothing.
    pub fn sink(&self, file: Option<PathBuf>, buffering: Buffering) -> Arc<Sink> {
        let target = match file {
            None if buffering == Buffering::default() => return self.stderr.clone(),
            None => Target::Stderr,
            Some(path) => Target::File(path),
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, sink| sink.strong_count() > 0);
        let key = (target.clone(), buffering);
        others.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let sink = Arc::new(Sink::new(target, buffering, self.dropped.clone()));
            others.insert(key, Arc::downgrade(&sink));
            sink
        })
    }

    fn all(&self) -> Vec<(String, Arc<Sink>)> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let others =
            others.iter().filter_map(|((target, _), sink)| Some((target.to_string(), sink.upgrade()?)));
        others.chain([(Target::Stderr.to_string(), self.stderr.clone())]).collect()
    }

    /// Opens the destinations that are not open yet, and starts their threads.
    pub fn start(&self) -> Result<(), String> {
        for (name, sink) in self.all() {
            sink.start().map_err(|error| format!("the log {name} cannot be opened: {error}"))?;
        }
        Ok(())
    }

    /// Opens all files again by their names.
    pub fn reopen(&self) {
        for (_, sink) in self.all() {
            sink.reopen();
        }
    }

    /// Has all lines written soon.
    pub fn hurry(&self) {
        for (_, sink) in self.all() {
            sink.hurry();
        }
    }

    /// Waits until all lines are written, or for two seconds at each destination.
    pub fn flush(&self) {
        for (_, sink) in self.all() {
            sink.flush(LAST_FLUSH);
        }
    }

    /// Writes lines to the general log as they are, behind those that it has.
    pub fn push(&self, lines: &str) {
        self.stderr.push_now(lines.as_bytes());
    }

    /// Returns the number of lines that could not be written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Returns `true` if requests are logged.
    pub fn logs_requests(&self) -> bool {
        self.access.load(Relaxed)
    }

    /// Returns `true` if the general log is in JSON.
    pub fn is_json(&self) -> bool {
        self.json.load(Relaxed)
    }

    /// Turns the access log on or off.
    pub fn log_requests(&self, on: bool) {
        self.access.store(on, Relaxed);
    }

    /// Goes by the filter of the general log, whose target `access` stands for the access log. Asked once
    /// for each filter, so that a request costs one look at a flag.
    fn follow_filter(&self) {
        self.log_requests(enabled!(target: "access", Level::INFO));
    }
}

/// Starts the general log on stderr. Its filter can be changed later by way of `host`.
pub fn start(settings: LogSettings, host: &ThisProcess) -> Result<(), String> {
    let logs = host.logs.clone();
    logs.start()?;
    let LogSettings { filter, format } = settings;
    let words = filter.to_string();
    let colored = io::stderr().is_terminal();
    let writer = GeneralLog { sink: logs.stderr.clone(), json: format == LogFormat::Json, colored };
    logs.json.store(writer.json, Relaxed);
    // An event that cannot be formatted is left out: the default is to say so by `eprintln!`, which may panic.
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    // A second start in one process keeps the first one's log.
    let set: Option<SetFilter> = if writer.json {
        let builder = builder.with_writer(writer).json().with_filter_reloading();
        let handle = builder.reload_handle();
        let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        builder.try_init().ok().map(|()| Box::new(set) as SetFilter)
    } else {
        let builder = builder.with_writer(writer).with_ansi(colored).with_filter_reloading();
        let handle = builder.reload_handle();
        let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        builder.try_init().ok().map(|()| Box::new(set) as SetFilter)
    };
    logs.follow_filter();
    if let Some(set) = set {
        let logs = logs.clone();
        host.attach_log(
            words,
            Box::new(move |filter| {
                set(filter)?;
                logs.follow_filter();
                Ok(())
            }),
        );
    }
    // Not the standard hook: it waits for a stderr that nothing reads. A process that panics may end soon.
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        logs.hurry();
    }));
    Ok(())
}

/// Logs a panic. With `RUST_BACKTRACE` set, with its backtrace.
fn report(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => error!(at, error = message, %backtrace, "a task panicked"),
        _ => error!(at, error = message, "a task panicked"),
    }
}

/// Flushes all logs when it is dropped: at the end of the process, be it by a panic.
#[derive(Debug)]
pub struct FlushAtEnd(pub Arc<Logs>);

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Writer of the general log. Never fails: `tracing` would report a failure on stderr, and panic there.
#[derive(Debug, Clone)]
struct GeneralLog {
    sink: Arc<Sink>,
    json: bool,
    /// `true` if lines of text have colors.
    colored: bool,
}

impl Write for GeneralLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // JSON escapes by itself.
        let safe = if self.json { Cow::Borrowed(line) } else { one_line(line, self.colored) };
        current::tagged(&safe, self.json, |line| self.sink.push_now(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for GeneralLog {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_destination_is_one_sink() {
        let logs = Logs::default();
        let of = |file: Option<&str>, ms| {
            logs.sink(file.map(Into::into), Buffering { ms, ..Buffering::default() })
        };
        assert!(Arc::ptr_eq(&of(None, 100), &logs.stderr), "in the order of the general log");
        let first = of(Some("a"), 100);
        assert!(Arc::ptr_eq(&first, &of(Some("a"), 100)));
        assert!(!Arc::ptr_eq(&first, &of(Some("b"), 100)), "another file");
        assert!(
            !Arc::ptr_eq(&first, &of(Some("a"), 1)),
            "other settings: the old ones hold until it is gone"
        );
        drop(first);
        assert_eq!(logs.all().len(), 1);
    }

    #[test]
    fn a_panic_flushes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let logs = Arc::new(Logs::default());
        let buffering = Buffering { bytes: 1 << 20, ms: 3_600_000 };
        let sink = logs.sink(Some(path.clone()), buffering);
        sink.start().unwrap();
        sink.push(b"a\n");
        let thread = std::thread::spawn(move || {
            let _flush = FlushAtEnd(logs);
            panic!("a test of it");
        });
        assert!(thread.join().is_err());
        assert_eq!(std::fs::read(path).unwrap(), b"a\n");
    }
}
