//! Reload: the phases of a start once more, beside the service that runs, and then one change to it. All
//! or nothing: where anything is wrong, everything stays as it is, and log and status say so.
//!
//! Asked for by SIGHUP, by an administrator over HTTP, or by a file whose content is another one. What
//! can only be settled at a start (where the state lies, how the scheduler works) is said, not done.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_model::{Actor, Clock, Command, Engine};
use pileus_sdk::host::{LoadedFile, Reload};
use sha2::{Digest, Sha256};
use tracing::{error, info, warn};

use crate::{
    Checked, check,
    cli::Options,
    diagnostic::Report,
    kept::Kept,
    paste::ServerSettings,
    serve::{Opened, Serving, systemd},
};

/// How often files are looked at, in seconds.
pub const LOOK_S: u64 = 2;

/// What a file holds, as its SHA-256 in hex; `None`: it is not there, or cannot be read.
type Contents = BTreeMap<PathBuf, Option<String>>;

/// A service that can be changed while it runs.
pub struct Reloader {
    options: Options,
    checked: Checked,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    kept: Kept,
    /// Of the last attempt, well or ill.
    tried: Contents,
    /// Of the look before, which may have seen a file that was half written.
    seen: Contents,
}

impl Reloader {
    /// Of a service that was just started.
    pub fn new(
        options: &Options,
        checked: Checked,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        kept: Kept,
    ) -> Self {
        let tried = contents(&checked.paths);
        checked.host.loaded(files(&tried, clock.now()));
        Self { options: options.clone(), checked, engine, clock, kept, seen: tried.clone(), tried }
    }

    /// Whether the files say something else than when they were last read, and have settled.
    pub async fn changed(&mut self) -> bool {
        let Some(now) = look(&self.checked.paths).await else { return false };
        let settled = now == self.seen;
        self.seen = now;
        settled && self.seen != self.tried
    }

    /// Reads all files again and lets the service go on with what they say.
    pub async fn reload(&mut self, by: &'static str, actor: Actor, serving: &mut Serving) -> Reload {
        systemd::reloading();
        self.read().await;
        let outcome = self.attempt(actor, serving).await;
        let (problem, notes) = match outcome {
            Ok(notes) => {
                // Other files, perhaps: what names them has changed. Of those from before, what was read
                // then counts: one that was changed since has not been tried.
                let before = std::mem::take(&mut self.tried);
                self.read().await;
                self.tried.extend(before.into_iter().filter(|(path, _)| self.seen.contains_key(path)));
                self.checked.host.loaded(files(&self.tried, self.clock.now()));
                info!(by, "reloaded");
                (None, notes)
            }
            Err(problem) => {
                error!(by, problem, "not reloaded: everything stays as it was");
                (Some(problem), Vec::new())
            }
        };
        for note in &notes {
            warn!(by, note, "reloaded, but");
        }
        systemd::ready();
        let reload = Reload { at: self.clock.now(), by, problem, notes };
        self.checked.host.reloaded(reload.clone());
        reload
    }

    /// Takes what the files hold now for what was tried.
    async fn read(&mut self) {
        if let Some(now) = look(&self.checked.paths).await {
            self.seen = now.clone();
            self.tried = now;
        }
    }

    async fn attempt(&mut self, actor: Actor, serving: &mut Serving) -> Result<Vec<String>, String> {
        let options = self.options.clone();
        let checking = tokio::task::spawn_blocking(move || {
            let mut report = Report::default();
            let checked = check(&options, &mut report);
            (checked.filter(|_| report.errors() == 0), report)
        });
        let (checked, report) =
            checking.await.map_err(|error| format!("the files were not checked: {error}"))?;
        let mut next = checked.ok_or_else(|| report.render(false))?;
        // The process is the same, whatever its files say.
        next.host = self.checked.host.clone();
        let apps = next.build(self.engine.clone(), self.clock.clone(), &self.kept);
        let apps = apps.map_err(|report| report.render(false))?;
        let servers = next.plan.servers.iter();
        let servers: Vec<(String, ServerSettings)> =
            servers.map(|server| (server.name.clone(), server.settings.clone())).collect();
        let opened: Vec<Opened> = serving
            .open(servers.iter().map(|(name, settings)| (name.as_str(), settings)))
            .map_err(|(name, error)| format!("[server.{name}] cannot listen where it should: {error}"))?;
        if next.config.clouds != self.checked.config.clouds {
            // The last thing that may fail, and the only one that is not taken back.
            let command = Command::Reconfigure { clouds: next.config.clouds.clone() };
            self.engine.submit(command, actor).await.map_err(|refusal| refusal.to_string())?;
        }
        let changes = servers.into_iter().zip(opened).zip(apps);
        serving
            .change(changes.map(|(((name, settings), opened), app)| (name, settings, opened, app)).collect());
        let notes = later(&self.checked, &next);
        // What runs with the old settings is compared with them the next time, too.
        next.scheduler = self.checked.scheduler.clone();
        next.credentials = self.checked.credentials.clone();
        next.config.store = self.checked.config.store.clone();
        self.checked = next;
        Ok(notes)
    }
}

/// What was changed and holds from the next start on.
fn later(old: &Checked, new: &Checked) -> Vec<String> {
    let changed = [
        ("[scheduler]", old.scheduler != new.scheduler),
        ("[credentials]", old.credentials != new.credentials),
        ("`store`", old.config.store.value != new.config.store.value),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(what, _)| format!("{what} of pileus.toml holds from the next start on")).collect()
}

/// The same where nobody waits for a disk.
async fn look(paths: &[PathBuf]) -> Option<Contents> {
    let paths = paths.to_vec();
    tokio::task::spawn_blocking(move || contents(&paths)).await.ok()
}

fn contents(paths: &[PathBuf]) -> Contents {
    let of = |path: &Path| {
        let bytes = fs::read(path).ok()?;
        Some(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    // Of a folder, whatever lies in it.
    let all = paths.iter().flat_map(|path| match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
        Err(_) => vec![path.clone()],
    });
    all.map(|path| (path.clone(), of(&path))).collect()
}

fn files(contents: &Contents, loaded: pileus_model::Time) -> Vec<LoadedFile> {
    let name = |path: &Path| path.display().to_string();
    let file = |(path, sha256): (&PathBuf, &Option<String>)| {
        Some(LoadedFile { name: name(path), sha256: sha256.clone()?, loaded })
    };
    contents.iter().filter_map(file).collect()
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloader")
    }
}
