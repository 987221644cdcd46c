//! This process, as extensions see it: its log, its flag of quick shutdown, its file of clouds, and
//! what it uses.
//!
//! Built with the pipelines and starts nothing; the log is handed to it by *start*, which is the only
//! phase that has one.

use std::{
    fmt, fs,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pileus_model::{Actor, BoxFuture, CloudSpec};
use pileus_sdk::host::{
    CloudText, Host, LoadedFile, LogLevel, Logging, Process, Protection, Reload, Reloads, Timings,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::Options,
    config::{Config, Known},
    diagnostic::Report,
    extensions,
    files::Files,
    logging::Logs,
    metrics::Metrics,
};

/// Puts another filter before the log.
pub type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// This process.
pub struct ThisProcess {
    options: Mutex<Options>,
    quick_shutdown: AtomicBool,
    set_filter: OnceLock<SetFilter>,
    logging: Mutex<Logging>,
    reloads: Mutex<Reloads>,
    ask: OnceLock<mpsc::Sender<Ask>>,
    protections: OnceLock<Vec<Protection>>,
    /// What it counts and measures.
    pub metrics: Arc<Metrics>,
    /// Destinations of its logs.
    pub logs: Arc<Logs>,
}

/// A wish for a reload, and where to say what came of it.
pub type Ask = (Actor, oneshot::Sender<Reload>);

impl ThisProcess {
    /// Of these files; VMs live on after it if `keep_vms`, until somebody says otherwise.
    pub fn new(options: &Options, keep_vms: bool) -> Self {
        Self {
            options: Mutex::new(options.clone()),
            quick_shutdown: AtomicBool::new(keep_vms),
            set_filter: OnceLock::new(),
            logging: Mutex::new(Logging { level: None, filter: String::new() }),
            reloads: Mutex::default(),
            ask: OnceLock::new(),
            protections: OnceLock::new(),
            metrics: Arc::default(),
            logs: Arc::default(),
        }
    }

    /// Sets the protections that are reported. The first call counts.
    pub fn set_protections(&self, protections: Vec<Protection>) {
        drop(self.protections.set(protections));
    }

    /// Somebody reloads from now on: he hears of every wish.
    pub fn attach_reload(&self) -> mpsc::Receiver<Ask> {
        let (ask, asked) = mpsc::channel(1);
        drop(self.ask.set(ask));
        asked
    }

    /// Records the files that the service goes by, and the options that name them.
    pub fn loaded(&self, files: Vec<LoadedFile>, options: &Options) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options.clone();
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner).files = files;
    }

    /// What came of a reload.
    pub fn reloaded(&self, reload: Reload) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        match reload.problem {
            None => reloads.done += 1,
            Some(_) => reloads.failed += 1,
        }
        reloads.last = Some(reload);
    }

    /// The log is there. `filter` is what it tells now.
    pub fn attach_log(&self, filter: String, set: SetFilter) {
        let words = [LogLevel::Verbose, LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error];
        let level = words.into_iter().find(|level| directives(*level) == filter);
        *self.logging.lock().unwrap_or_else(PoisonError::into_inner) = Logging { level, filter };
        drop(self.set_filter.set(set));
    }
}

/// The filter for a word. Other crates tell less: their details are nobody's who operates a service.
fn directives(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Verbose => "info,pileus=trace",
        LogLevel::Debug => "info,pileus=debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    }
}

impl Host for ThisProcess {
    fn logging(&self) -> Logging {
        self.logging.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_log_level(&self, level: LogLevel) -> Result<(), String> {
        let Some(set) = self.set_filter.get() else { return Err("this process writes no log".into()) };
        let filter = directives(level);
        let mut logging = self.logging.lock().unwrap_or_else(PoisonError::into_inner);
        set(EnvFilter::new(filter))?;
        *logging = Logging { level: Some(level), filter: filter.into() };
        Ok(())
    }

    fn quick_shutdown(&self) -> bool {
        self.quick_shutdown.load(Ordering::SeqCst)
    }

    fn set_quick_shutdown(&self, on: Option<bool>) -> bool {
        let now = match on {
            Some(on) => {
                self.quick_shutdown.store(on, Ordering::SeqCst);
                on
            }
            None => !self.quick_shutdown.fetch_xor(true, Ordering::SeqCst),
        };
        info!(quick_shutdown = now, "quick shutdown set");
        now
    }

    fn clouds_on_disk(&self) -> BoxFuture<Result<Vec<CloudText>, String>> {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
        aside(move || {
            let (mut report, source) = read(&options);
            let texts = source.and_then(|(source, _)| crate::config::cloud_texts(&source, &mut report));
            texts.ok_or_else(|| report.render(false))
        })
    }

    fn configured_clouds(&self) -> BoxFuture<Result<Vec<(String, CloudSpec)>, String>> {
        let options = self.options.lock().unwrap_or_else(PoisonError::into_inner).clone();
        aside(move || {
            let (mut report, source) = read(&options);
            let extensions = extensions::aliases();
            let known = Known {
                drivers: pileus_engine::drivers::DRIVERS,
                stores: pileus_engine::STORES,
                extensions: &extensions,
            };
            let config = source.and_then(|(source, folder)| {
                Config::from_text(&source.name, &source.text, &folder, &known, &mut report)
            });
            match config {
                Some(config) if report.errors() == 0 => Ok(config.clouds),
                _ => Err(report.render(false)),
            }
        })
    }

    fn reloads(&self) -> Reloads {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn timings(&self) -> Timings {
        self.metrics.timings()
    }

    fn reload(&self, by: Actor) -> BoxFuture<Result<Reload, String>> {
        let ask = self.ask.get().cloned();
        Box::pin(async move {
            let nobody = || "the service is stopping, or was not started".to_owned();
            let (say, said) = oneshot::channel();
            ask.ok_or_else(nobody)?.send((by, say)).await.map_err(|_| nobody())?;
            said.await.map_err(|_| nobody())
        })
    }

    fn protections(&self) -> Vec<Protection> {
        self.protections.get().cloned().unwrap_or_default()
    }

    fn process(&self) -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
        let mut process = Process {
            pid: std::process::id(),
            memory_resident_kib: of("VmRSS"),
            memory_peak_kib: of("VmHWM"),
            memory_virtual_kib: of("VmSize"),
            threads: of("Threads"),
            // One of them is the folder that was just counted.
            open_files: open.saturating_sub(1) as u64,
            ..Process::default()
        };
        if let Ok(runtime) = Handle::try_current() {
            let metrics = runtime.metrics();
            process.workers = metrics.num_workers() as u64;
            process.tasks = metrics.num_alive_tasks() as u64;
            process.tasks_waiting = metrics.global_queue_depth() as u64;
        }
        process
    }
}

type Read = (Report, Option<(std::sync::Arc<crate::diagnostic::Source>, std::path::PathBuf)>);

/// `pileus.toml` as it is now, and the folder that its paths are relative to.
fn read(options: &Options) -> Read {
    let mut report = Report::default();
    let source = Files::read_config(options, &mut report);
    let folder = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
    (report, source.map(|source| (source, folder)))
}

/// Files are read where nobody waits for it.
fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> BoxFuture<Result<T, String>> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(format!("the file could not be read: {error}")))
    })
}

impl fmt::Debug for ThisProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThisProcess").field("quick_shutdown", &self.quick_shutdown).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (tempfile::TempDir, ThisProcess) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pileus.toml");
        fs::write(&path, text).unwrap();
        let options = Options { config: Some(path), ..Options::default() };
        (folder, ThisProcess::new(&options, false))
    }

    #[tokio::test]
    async fn clouds_are_read_as_they_stand_in_the_file_now() {
        let text = "[clouds.West]\nvm_slots = 3\nPriority = -1\npassword = \"x\"\n[clouds.\"a b\"]\n\
                    driver = \"local\"\nenabled = false\nzones = [\"z1\", 2]\n";
        let (folder, host) = of(text);
        let texts = host.clouds_on_disk().await.unwrap();
        let shown: Vec<_> = texts
            .iter()
            .map(|cloud| {
                let options = cloud.options.iter().map(|(option, value)| format!("{option}={value}"));
                format!("{}: {}", cloud.name, options.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            ["West: vm_slots=3 priority=-1", "a b: driver=local enabled=false zones=[\"z1\", 2]"]
        );
        // What it means is another matter: it names options that there are not.
        let wrong = host.configured_clouds().await.unwrap_err();
        assert!(wrong.contains("pileus.toml:3:1") && wrong.contains("Priority"), "{wrong}");
        fs::write(folder.path().join("pileus.toml"), "[clouds.west]\nvm_slots = 9\n").unwrap();
        let clouds = host.configured_clouds().await.unwrap();
        assert_eq!((clouds[0].0.as_str(), clouds[0].1.vm_slots), ("west", 9));
        fs::write(folder.path().join("pileus.toml"), "[clouds.west\n").unwrap();
        let wrong = host.clouds_on_disk().await.unwrap_err();
        assert!(wrong.contains("pileus.toml:1"), "{wrong}");
        fs::remove_file(folder.path().join("pileus.toml")).unwrap();
        let wrong = host.configured_clouds().await.unwrap_err();
        assert!(wrong.contains("cannot be read"), "{wrong}");
    }

    #[test]
    fn the_level_changes_the_filter_and_is_remembered() {
        let (_folder, host) = of("");
        assert!(host.set_log_level(LogLevel::Info).is_err(), "there is no log yet");
        let said = Arc::new(Mutex::new(Vec::new()));
        let hears = said.clone();
        host.attach_log(
            "pileus::serve=debug".into(),
            Box::new(move |filter| {
                hears.lock().unwrap().push(filter.to_string());
                Ok(())
            }),
        );
        assert_eq!(host.logging(), Logging { level: None, filter: "pileus::serve=debug".into() });
        for level in LogLevel::ALL {
            host.set_log_level(level).unwrap();
            assert_eq!(host.logging().level, Some(level));
        }
        assert_eq!(said.lock().unwrap().len(), 6);
        assert_eq!(said.lock().unwrap()[3..], ["warn", "error", "error"]);
    }

    #[test]
    fn quick_shutdown_is_set_or_turned_over() {
        let host = ThisProcess::new(&Options::default(), true);
        let steps = [(None, false), (None, true), (Some(true), true), (Some(false), false), (None, true)];
        for (asked, now) in steps {
            assert_eq!((host.set_quick_shutdown(asked), host.quick_shutdown()), (now, now));
        }
    }

    #[tokio::test]
    async fn the_process_says_what_it_uses() {
        let process = ThisProcess::new(&Options::default(), false).process();
        assert_eq!(process.pid, std::process::id());
        assert!(
            process.memory_resident_kib > 100 && process.threads > 0 && process.open_files > 2,
            "{process:?}"
        );
        assert!(process.memory_peak_kib >= process.memory_resident_kib && process.workers > 0, "{process:?}");
    }
}
