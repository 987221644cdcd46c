//! `pileus convert`: files of Cloud Scheduler and of Nova become ours.
//!
//! | file | becomes | by |
//! | --- | --- | --- |
//! | `cloud_scheduler.conf` | `pileus.toml`; for other ports, `api-paste.toml` | [`scheduler`] |
//! | `cloud_resources.conf` | `[clouds.NAME]` of `pileus.toml` | [`resources`] |
//! | `api-paste.ini` | `api-paste.toml` | [`paste`] |
//! | `policy.json`, `policy.yaml` | `policy.json` | [`policy`] |
//! | `nova.conf` and its like | `pileus.toml`, settings of `api-paste.toml` | [`service`] |
//!
//! Pure: texts in, texts out; `commands::convert` reads and writes. Every option of every file gets
//! one [`Note`]: nothing is dropped without a word. What was made is read by our own readers before
//! anybody sees it, so that a mistake of this module is told, not shipped. No secret is written or
//! shown: a variable of the environment stands in its place.

mod factories;
mod ini;
mod note;
mod paste;
mod policy;
#[cfg(test)]
mod policy_tests;
mod resources;
mod scheduler;
mod service;
#[cfg(test)]
mod tests;
mod write;
pub(crate) mod yaml;

use std::{fmt, path::Path, sync::Arc};

pub use note::{Fate, Note, Notes};

use crate::{
    config::{Config, Known},
    diagnostic::{Diagnostic, Place, Report, Source},
    extensions,
    policy::Policy,
};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum FileKind {
    /// cloud_scheduler.conf
    Scheduler,
    /// cloud_resources.conf
    Resources,
    /// api-paste.ini
    Paste,
    /// policy.json or policy.yaml
    Policy,
    /// nova.conf, keystone.conf and their like
    #[value(name = "service")]
    Service,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheduler => "cloud_scheduler.conf",
            Self::Resources => "cloud_resources.conf",
            Self::Paste => "api-paste.ini",
            Self::Policy => "policy.json or policy.yaml",
            Self::Service => "service's own file",
        })
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Input {
    /// As people named it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `pileus.toml`, `api-paste.toml` or `policy.json`.
    pub name: &'static str,
    /// All of it.
    pub text: String,
}

/// What became of the files.
#[derive(Debug, Default)]
pub struct Conversion {
    /// Empty where a file is broken.
    pub outputs: Vec<Output>,
    /// What became of each option.
    pub notes: Notes,
    /// What is broken.
    pub errors: Report,
}

/// The sections of `pileus.toml`, gathered from the files that speak of them.
#[derive(Debug, Default)]
struct Settings {
    top: Vec<write::Line>,
    scheduler: Vec<write::Line>,
    credentials: Vec<write::Line>,
    job_defaults: Vec<write::Line>,
    policy: Vec<write::Line>,
    clouds: Option<String>,
}

/// Converts all files of one run: they may speak of each other. Without a kind, each is recognised.
pub fn convert(inputs: &[Input], kind: Option<FileKind>) -> Conversion {
    let mut it = Conversion::default();
    let mut known: Vec<(FileKind, &Input)> = Vec::new();
    for input in inputs {
        match kind.map_or_else(|| recognise(input), Ok) {
            Err(problem) => it.errors.push(problem),
            Ok(kind) => match known.iter().find(|(other, _)| *other == kind) {
                Some((_, other)) => {
                    let text = format!("{}: {} is a {kind}, too", input.name, other.name);
                    it.errors.push(Diagnostic::error(text).help("convert one after the other"));
                }
                None => known.push((kind, input)),
            },
        }
    }
    // A service's own file comes first: filters of api-paste.ini read their settings from it.
    known.sort_by_key(|(kind, _)| (*kind != FileKind::Service, *kind));
    let has = |kind| known.iter().any(|(other, _)| *other == kind);
    let mut settings = Settings::default();
    let mut asked = scheduler::Asked::default();
    let mut service = service::Service::default();
    for (kind, input) in &known {
        match kind {
            FileKind::Policy => it.policy(input),
            _ => match ini::parse(&input.name, &input.text) {
                Err(problems) => it.errors.extend(problems),
                Ok(ini) => {
                    for warning in &ini.warnings {
                        it.notes.warning(warning);
                    }
                    match kind {
                        FileKind::Scheduler => {
                            let with = has(FileKind::Resources);
                            asked = scheduler::convert(&ini, with, &mut settings, &mut it);
                        }
                        FileKind::Resources => resources::convert(&ini, &asked, &mut settings, &mut it),
                        FileKind::Service => {
                            let with = has(FileKind::Paste);
                            service = service::convert(&ini, with, &mut settings, &mut it);
                            let text = (!with).then(|| service::overlay(&ini, &service, &mut it)).flatten();
                            it.outputs.extend(text.map(|text| Output { name: "api-paste.toml", text }));
                        }
                        _ => {
                            let ini = ini::Ini { here: Some("${here}"), ..ini };
                            let text = paste::convert(&ini, &service, &mut it);
                            it.outputs.extend(text.map(|text| Output { name: "api-paste.toml", text }));
                        }
                    }
                }
            },
        }
    }
    scheduler::ports(&asked, has(FileKind::Paste) || has(FileKind::Service), &mut it);
    if has(FileKind::Scheduler) || has(FileKind::Resources) || !settings.is_empty() {
        it.outputs.insert(0, Output { name: "pileus.toml", text: settings.text() });
    }
    if it.errors.errors() > 0 {
        it.outputs.clear();
    }
    it.read_back();
    it
}

impl Settings {
    fn is_empty(&self) -> bool {
        self.top.is_empty() && self.policy.is_empty()
    }

    fn text(self) -> String {
        let mut text = String::from(
            "# Made by `pileus convert`. Every line may be left out; `pileus check` says what is wrong.\n",
        );
        if !self.top.is_empty() {
            text += "\n";
            text += &write::lines(&self.top, "");
        }
        if !self.scheduler.is_empty() {
            text += "\n[scheduler]\n";
            text += &write::lines(&self.scheduler, "");
        }
        if !self.credentials.is_empty() {
            text += "\n[credentials]\n";
            text += &write::lines(&self.credentials, "");
        }
        if !self.job_defaults.is_empty() {
            text += "\n[job_defaults]\n";
            text += &write::lines(&self.job_defaults, "");
        }
        if !self.policy.is_empty() {
            text += "\n[policy]\n";
            text += &write::lines(&self.policy, "");
        }
        text + self.clouds.as_deref().unwrap_or_default()
    }
}

impl Conversion {
    fn policy(&mut self, input: &Input) {
        let made = match self::policy::convert(input, &mut self.notes) {
            Ok(text) => text,
            Err(problems) => return self.errors.extend(problems),
        };
        self.outputs.push(Output { name: "policy.json", text: made });
    }

    /// Reads what was made: nobody should find out by `pileus check`.
    fn read_back(&mut self) {
        let mut report = Report::default();
        for output in &self.outputs {
            match output.name {
                "pileus.toml" => {
                    let known = Known {
                        drivers: pileus_engine::drivers::DRIVERS,
                        stores: pileus_engine::STORES,
                        extensions: &extensions::aliases(),
                    };
                    let read =
                        Config::from_text(output.name, &output.text, Path::new(""), &known, &mut report);
                    if let Some(config) = read {
                        report.take(config.scheduler::<pileus_engine::SchedulerConfig>());
                        report.take(config.credentials().parse::<pileus_engine::CredentialsConfig>());
                        report.take(config.job_defaults().parse::<pileus_model::JobDefaults>());
                    }
                }
                "api-paste.toml" => self::paste::read_back(&output.text, &mut report),
                _ => {
                    let source = Source { name: output.name.into(), text: output.text.clone() };
                    report.extend(Policy::parse(Arc::new(source)).1);
                }
            }
        }
        for problem in report.sorted().into_iter().filter(|it| !it.warning) {
            let help = "in what was made: put it right there, `pileus check` will say the same";
            let told = Diagnostic { warning: true, ..problem.clone() };
            self.notes.remains(match told.help {
                Some(_) => told,
                None => told.help(help),
            });
        }
    }
}

/// What a file is, by its content first, then by its name.
fn recognise(input: &Input) -> Result<FileKind, Diagnostic> {
    let name = Path::new(&input.name);
    let extension = name.extension().and_then(|it| it.to_str()).unwrap_or_default().to_lowercase();
    let file = name.file_name().and_then(|it| it.to_str()).unwrap_or_default().to_lowercase();
    let text = input.text.trim_start_matches('\u{feff}');
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let says = |words: &[&str]| words.iter().any(|word| file.contains(word));
    if text.trim_start().starts_with('{') || matches!(extension.as_str(), "json" | "yaml" | "yml") {
        return match as_it_is(text).filter(|_| !says(&["policy"])) {
            Some((what, key)) => {
                let told = format!("{}: these are {what}, which need no conversion", input.name);
                Err(Diagnostic::error(told).help(format!("name the file in pileus.toml: `{key} = \"…\"`")))
            }
            None => Ok(FileKind::Policy),
        };
    }
    if first.is_some_and(|line| line.starts_with('[')) {
        let headers: Vec<&str> =
            text.lines().map(str::trim_end).filter(|line| line.starts_with('[')).collect();
        let any =
            |prefixes: &[&str]| headers.iter().any(|line| prefixes.iter().any(|it| line.starts_with(it)));
        let has_option = |wanted: &str| {
            text.lines().any(|line| {
                line.split(['=', ':']).next().is_some_and(|key| key.trim().eq_ignore_ascii_case(wanted))
            })
        };
        let of_paste = ["[app", "[composit", "[pipeline:", "[filter:", "[filter-app:", "[server:"];
        if any(&of_paste) {
            return Ok(FileKind::Paste);
        }
        if has_option("cloud_type") {
            return Ok(FileKind::Resources);
        }
        if any(&["[global]", "[job]", "[logging]"]) {
            return Ok(FileKind::Scheduler);
        }
        let of_nova = ["osapi_compute_listen", "osapi_compute_listen_port", "enabled_apis", "auth_strategy"];
        if service::recognises(&file, &headers) || of_nova.iter().any(|it| has_option(it)) {
            return Ok(FileKind::Service);
        }
    }
    // A line that cannot be read, or nothing at all: the name tells who should say so.
    let by_name = [
        (&["resource"][..], FileKind::Resources),
        (&["cloud_scheduler", "cloudscheduler"], FileKind::Scheduler),
        (&["paste"], FileKind::Paste),
        (&["policy"], FileKind::Policy),
        (&["nova.conf", "keystone.conf"], FileKind::Service),
    ];
    if let Some((_, kind)) = by_name.iter().find(|(words, _)| says(words)) {
        return Ok(*kind);
    }
    let source = Arc::new(Source { name: input.name.clone(), text: String::new() });
    let place = Place { source, span: 0..0 };
    let text = "this is neither of Cloud Scheduler nor of Nova, as far as one can see";
    let help = "cloud_scheduler.conf, cloud_resources.conf, api-paste.ini, policy.json, policy.yaml and nova.conf are known; \
                say which it is with `--kind`";
    Err(Diagnostic::error(format!("{}: {text}", place.source.name)).help(help))
}

/// Files of Cloud Scheduler that Pileus reads as they are: what they are, and the setting for them.
fn as_it_is(text: &str) -> Option<(&'static str, &'static str)> {
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let all = |good: &dyn Fn(&serde_json::Value) -> bool| !members.is_empty() && members.values().all(good);
    if all(&|it| it.is_u64()) {
        return Some(("limits of users", "user_limits"));
    }
    let is_check = |it: &serde_json::Value| it.as_str().is_none_or(|it| it.contains(':') || it.len() < 2);
    let list = |it: &serde_json::Value| it.as_array().is_some_and(|it| !it.iter().any(is_check));
    let some = members.values().any(|it| it.as_array().is_some_and(|it| !it.is_empty()));
    (some && all(&list)).then_some(("cloud aliases", "cloud_aliases"))
}
