//! Reload: the phases of a start once more, beside the service that runs, and then one change to it. All
//! or nothing: where anything is wrong, everything stays as it is, and log and status say so.
//!
//! Asked for by SIGHUP, by an administrator over HTTP, or by a file whose content is another one. What
//! can only be settled at a start (where the state lies, how the scheduler works) is said, not done.

mod content;
mod failure;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_model::{Actor, Clock, Command, Engine};
use pileus_sdk::host::Reload;
use tracing::{info, warn};

use self::content::{Content, Contents, contents, loaded};
use crate::{
    Checked, check,
    config::Said,
    diagnostic::{Diagnostic, Report},
    kept::Kept,
    paste::ServerSettings,
    serve::{Opened, Serving, systemd},
};

/// How often files are looked at, in seconds.
pub const LOOK_S: u64 = 2;

/// A service that can be changed while it runs.
pub struct Reloader {
    checked: Checked,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    kept: Kept,
    /// Content of the files that the service goes by.
    goes_by: Contents,
    /// Content that the last attempt has seen, well or ill.
    tried: Contents,
    /// Content at the look before, which may have seen a file that was half written.
    seen: Contents,
    /// Files that a failed attempt names and the running service has not read.
    wanted: BTreeSet<PathBuf>,
}

impl Reloader {
    /// Creates the reloader of a service that was just started.
    pub fn new(checked: Checked, engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, kept: Kept) -> Self {
        let goes_by = contents(checked.paths.clone());
        checked.host.loaded(loaded(&goes_by, clock.now()), &checked.options);
        let (tried, seen, wanted) = (goes_by.clone(), goes_by.clone(), BTreeSet::new());
        Self { checked, engine, clock, kept, goes_by, tried, seen, wanted }
    }

    /// Returns `true` if the files are not what the last attempt has seen, and have settled.
    pub async fn changed(&mut self) -> bool {
        let Some(now) = self.look().await else { return false };
        let settled = now == self.seen;
        self.seen = now;
        settled && self.seen != self.tried
    }

    /// Reads all files again and lets the service go on with what they say.
    pub async fn reload(&mut self, by: &'static str, actor: Actor, serving: &mut Serving) -> Reload {
        systemd::reloading();
        if let Some(now) = self.look().await {
            self.seen = now.clone();
            self.tried = now;
        }
        let outcome = self.attempt(actor, serving).await;
        self.wanted = match &outcome {
            Ok(_) => BTreeSet::new(),
            Err(report) => report.files().into_iter().map(PathBuf::from).collect(),
        };
        self.settle().await;
        let mut reload =
            Reload { at: self.clock.now(), by, problem: None, files: Vec::new(), notes: Vec::new() };
        match outcome {
            Ok(notes) => {
                self.goes_by = self.tried.clone();
                self.checked.host.loaded(loaded(&self.goes_by, reload.at), &self.checked.options);
                info!(by, "reloaded");
                for note in &notes {
                    warn!(by, note, "reloaded, but");
                }
                reload.notes = notes;
            }
            Err(report) => {
                failure::log(by, &report, &self.checked.host.logs);
                reload.problem = Some(report.render(false));
                reload.files = report.files().into_iter().collect();
            }
        }
        systemd::ready();
        self.checked.host.reloaded(reload.clone());
        reload
    }

    /// Takes other files into account that the attempt has named. Of those from before, the content that the
    /// attempt has seen counts: a change since then has not been tried.
    async fn settle(&mut self) {
        let Some(now) = self.look().await else { return };
        let paths: BTreeSet<PathBuf> = self.paths().collect();
        let belongs =
            |path: &Path| paths.contains(path) || path.parent().is_some_and(|it| paths.contains(it));
        self.tried.retain(|path, _| belongs(path));
        for (path, content) in &now {
            // A file that a failed attempt has missed and that is there now is worth another attempt.
            if self.wanted.is_empty() || *content == Content::Missing {
                self.tried.entry(path.clone()).or_insert_with(|| content.clone());
            }
        }
        self.seen = now;
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.checked.paths.iter().chain(&self.wanted).cloned()
    }

    /// Reads the files where nothing waits for a disk.
    async fn look(&self) -> Option<Contents> {
        let paths: Vec<PathBuf> = self.paths().collect();
        tokio::task::spawn_blocking(move || contents(paths)).await.ok()
    }

    async fn attempt(&mut self, actor: Actor, serving: &mut Serving) -> Result<Vec<String>, Report> {
        let options = self.checked.options.clone();
        let checking = tokio::task::spawn_blocking(move || {
            let mut report = Report::default();
            let checked = check(&options, &mut report);
            (checked.filter(|_| report.errors() == 0), report)
        });
        let (checked, report) =
            checking.await.map_err(|error| wrong(format!("the files were not checked: {error}")))?;
        let mut next = checked.ok_or(report)?;
        // The process is the same, whatever its files say.
        next.host = self.checked.host.clone();
        let apps = next.build(self.engine.clone(), self.clock.clone(), &self.kept)?;
        next.host.logs.start().map_err(wrong)?;
        let servers = next.plan.servers.iter();
        let servers: Vec<(String, ServerSettings)> =
            servers.map(|server| (server.name.clone(), server.settings.clone())).collect();
        let opened: Vec<Opened> = serving
            .open(servers.iter().map(|(name, settings)| (name.as_str(), settings)))
            .map_err(|(name, error)| {
                let server = next.plan.servers.iter().find(|server| server.name == name);
                let text = || Diagnostic::error(format!("[server.{name}] cannot listen: {error}"));
                only(server.map_or_else(text, |server| server.cannot_listen(&error)))
            })?;
        // The last things that may fail, and the only ones that are not taken back.
        for command in self.lists(&next) {
            self.submit(command, actor.clone()).await?;
        }
        if next.config.clouds != self.checked.config.clouds {
            self.submit(Command::Reconfigure { clouds: next.config.clouds.clone() }, actor).await?;
        }
        let changes = servers.into_iter().zip(opened).zip(apps);
        serving
            .change(changes.map(|(((name, settings), opened), app)| (name, settings, opened, app)).collect());
        // Streams that go on ask the new rules. Through other pipelines they have to come again.
        let same = self.checked.has_pipelines_of(&next);
        self.checked.policy.succeed(same.then(|| next.policy.clone()));
        let notes = later(&self.checked, &next);
        log_policy_files(&self.checked, &next);
        // What runs with the old settings is compared with them the next time, too.
        next.scheduler = self.checked.scheduler.clone();
        next.credentials = self.checked.credentials.clone();
        next.config.store = self.checked.config.store.clone();
        next.config.cloud_aliases = self.checked.config.cloud_aliases.clone();
        next.config.user_limits = self.checked.config.user_limits.clone();
        self.checked = next;
        Ok(notes)
    }

    async fn submit(&self, command: Command, actor: Actor) -> Result<(), Report> {
        let done = self.engine.submit(command, actor).await;
        done.map(drop).map_err(|refusal| wrong(refusal.to_string()))
    }

    /// Returns the commands that bring in the files of aliases and limits, for those that have changed. The
    /// engine reads the files that were named at its start.
    fn lists(&self, next: &Checked) -> Vec<Command> {
        let files = |checked: &Checked| {
            [&checked.config.cloud_aliases, &checked.config.user_limits]
                .map(|said| said.as_ref().map(|said| said.value.clone()))
        };
        let commands = [Command::ReloadAliases, Command::ReloadUserLimits];
        let lists = files(&self.checked).into_iter().zip(files(next)).zip(commands);
        let changed = |((old, new), command): ((Option<PathBuf>, Option<PathBuf>), Command)| {
            let path = old.filter(|old| new.as_ref() == Some(old))?;
            (self.tried.get(&path) != self.goes_by.get(&path)).then_some(command)
        };
        lists.filter_map(changed).collect()
    }
}

fn only(diagnostic: Diagnostic) -> Report {
    let mut report = Report::default();
    report.push(diagnostic);
    report
}

fn wrong(text: String) -> Report {
    only(Diagnostic::error(text))
}

/// Logs files of rules that have gone or come.
fn log_policy_files(old: &Checked, new: &Checked) {
    let names = |checked: &Checked| -> BTreeSet<String> {
        checked.policy_files.iter().map(|file| file.name.clone()).collect()
    };
    let (old, new) = (names(old), names(new));
    for file in old.difference(&new) {
        warn!(file, "policy file removed");
    }
    for file in new.difference(&old) {
        info!(file, "policy file added");
    }
}

/// Returns what has changed and holds from the next start on.
fn later(old: &Checked, new: &Checked) -> Vec<String> {
    let path = |said: &Option<Said<PathBuf>>| said.as_ref().map(|said| said.value.clone());
    let changed = [
        ("[scheduler]", old.scheduler != new.scheduler),
        ("[credentials]", old.credentials != new.credentials),
        ("`store`", old.config.store.value != new.config.store.value),
        ("`cloud_aliases`", path(&old.config.cloud_aliases) != path(&new.config.cloud_aliases)),
        ("`user_limits`", path(&old.config.user_limits) != path(&new.config.user_limits)),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(what, _)| format!("{what} of pileus.toml holds from the next start on")).collect()
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloader")
    }
}
