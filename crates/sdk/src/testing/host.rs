//! A process that a test fills by hand.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pileus_model::{Actor, BoxFuture, CloudSpec, Time};

use crate::host::{CloudText, Host, LogLevel, Logging, Process, Reload, Reloads};

/// Says what it was told. At first: the level INFO, no quick shutdown, no clouds.
#[derive(Debug, Default)]
pub struct FakeHost(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    level: LogLevel,
    quick: bool,
    texts: Result<Vec<CloudText>, String>,
    clouds: Result<Vec<(String, CloudSpec)>, String>,
    problem: Option<String>,
    reloads: Reloads,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            quick: false,
            texts: Ok(Vec::new()),
            clouds: Ok(Vec::new()),
            problem: None,
            reloads: Reloads::default(),
        }
    }
}

impl FakeHost {
    /// Says what stands in the file.
    pub fn put_texts(&self, texts: Result<Vec<CloudText>, String>) {
        self.lock().texts = texts;
    }

    /// Says what the file means.
    pub fn put_clouds(&self, clouds: Result<Vec<(String, CloudSpec)>, String>) {
        self.lock().clouds = clouds;
    }

    /// Says what is wrong with the files from now on.
    pub fn put_problem(&self, problem: Option<&str>) {
        self.lock().problem = problem.map(Into::into);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for FakeHost {
    fn logging(&self) -> Logging {
        let level = self.lock().level;
        Logging { level: Some(level), filter: level.as_str().to_lowercase() }
    }

    fn set_log_level(&self, level: LogLevel) -> Result<(), String> {
        self.lock().level = level;
        Ok(())
    }

    fn quick_shutdown(&self) -> bool {
        self.lock().quick
    }

    fn set_quick_shutdown(&self, on: Option<bool>) -> bool {
        let mut inner = self.lock();
        inner.quick = on.unwrap_or(!inner.quick);
        inner.quick
    }

    fn clouds_on_disk(&self) -> BoxFuture<Result<Vec<CloudText>, String>> {
        let texts = self.lock().texts.clone();
        Box::pin(async { texts })
    }

    fn configured_clouds(&self) -> BoxFuture<Result<Vec<(String, CloudSpec)>, String>> {
        let clouds = self.lock().clouds.clone();
        Box::pin(async { clouds })
    }

    fn process(&self) -> Process {
        Process { pid: 1, memory_resident_kib: 20_480, threads: 3, ..Process::default() }
    }

    fn reloads(&self) -> Reloads {
        self.lock().reloads.clone()
    }

    fn reload(&self, _: Actor) -> BoxFuture<Result<Reload, String>> {
        let mut inner = self.lock();
        let (files, notes) = Default::default();
        let reload = Reload { at: Time(0), by: "a request", problem: inner.problem.clone(), files, notes };
        let failed = u64::from(reload.problem.is_some());
        inner.reloads.failed += failed;
        inner.reloads.done += 1 - failed;
        inner.reloads.last = Some(reload.clone());
        Box::pin(async { Ok(reload) })
    }
}
