//! `pileus.toml`: the settings of the service. Every line may be left out.
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `auth_strategy` | `"token"` | which pipeline of an `auth_strategy` composite is used |
//! | `extensions` | `"standard"` | all extensions, or a list of aliases |
//! | `store` | `"sqlite"` | where the state is kept |
//! | `cloud_aliases`, `user_limits` | none | files, relative to this one |
//! | `[scheduler]` | | read by the engine's own type: [`Config::scheduler`] |
//! | `[credentials]` | no server | read by the engine's own type: [`Config::credentials`] |
//! | `[job_defaults]` | | read by the model's own type: [`Config::job_defaults`] |
//! | `[policy]` | | read by the policy's own type: [`Config::policy`] |
//! | `[local]` | | read by the engine's own type: [`Config::local`] |
//! | `[clouds.NAME]` | one, `local` | see [`CloudSpec`]; with any, `local` is not added |
//!
//! Which words there are for drivers, stores and extensions is told by whoever asks ([`Known`]):
//! this file knows neither the engine nor the extensions.

mod clouds;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use clouds::cloud_texts;
use pileus_model::CloudSpec;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{
    config_file,
    diagnostic::{Diagnostic, Place, Report, Source, nearest, shortened},
    paste::{Kind, Section, Setting, Table, Value, whole_table},
};

/// The file as it is shipped: what holds where the working folder has none.
pub static SHIPPED: &str = include_str!("../../pileus.toml");

/// The words that a file may say.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Of `driver`.
    pub drivers: &'a [&'a str],
    /// Of `store`.
    pub stores: &'a [&'a str],
    /// Of `extensions`.
    pub extensions: &'a [&'a str],
}

/// Something that was said, and where; without a place it is the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// What.
    pub value: T,
    /// Where.
    pub place: Option<Place>,
}

/// Which extensions are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extensions {
    /// All.
    Standard,
    /// These aliases, in this order.
    Listed(Vec<Said<String>>),
}

/// The whole file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which pipeline of an `auth_strategy` composite is used.
    pub auth_strategy: Said<String>,
    /// Which extensions are wanted.
    pub extensions: Extensions,
    /// Where the state is kept.
    pub store: Said<String>,
    /// The file of cloud aliases.
    pub cloud_aliases: Option<Said<PathBuf>>,
    /// The file of users' limits.
    pub user_limits: Option<Said<PathBuf>>,
    /// In the order of the file.
    pub clouds: Vec<(String, CloudSpec)>,
    scheduler: Section,
    credentials: Section,
    job_defaults: Section,
    policy: Section,
    local: Section,
    /// What its relative paths start from.
    pub folder: PathBuf,
}

impl Config {
    /// Reads the file at `path`. `None` where it cannot be read or its TOML is broken; all other
    /// mistakes leave a config that must not be used while the report has errors.
    pub fn read(path: &Path, known: &Known<'_>, report: &mut Report) -> Option<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let source = report.take(config_file::source(path).map_err(|error| error.diagnostic()))?;
        Self::from_text(&source.name, &source.text, folder, known, report)
    }

    /// The same for a text that is no file. Its paths are relative to `folder`.
    pub fn from_text(
        name: &str,
        text: &str,
        folder: &Path,
        known: &Known<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let source = Arc::new(Source { name: name.into(), text: text.into() });
        let start = Place { source: source.clone(), span: 0..0 };
        let settings = whole_table(&source, report)?;
        let top = Section { settings, ..Section::bare("", &start) };
        report.take(top.parse::<Top>());
        let text = |key: &str| {
            let value = &top.settings.get(key)?.value;
            Some(Said { value: value.as_text()?.to_owned(), place: Some(value.place.clone()) })
        };
        let default = |word: &str| Said { value: word.to_owned(), place: None };
        let path = |key: &str| text(key).map(|it| Said { value: folder.join(it.value), place: it.place });
        let part = |name: &str| match top.settings.get(name) {
            Some(setting) => section(name, setting),
            None => Section::bare(name, &top.place),
        };
        let store = text("store").unwrap_or_else(|| default("sqlite"));
        one_of(&store, "store", known.stores, report);
        Some(Self {
            auth_strategy: text("auth_strategy").unwrap_or_else(|| default("token")),
            extensions: extensions(top.settings.get("extensions"), known, report),
            store,
            cloud_aliases: path("cloud_aliases"),
            user_limits: path("user_limits"),
            clouds: clouds::clouds(&top.settings, known, report),
            scheduler: part("scheduler"),
            credentials: part("credentials"),
            job_defaults: part("job_defaults"),
            policy: part("policy"),
            local: part("local"),
            folder: folder.to_path_buf(),
        })
    }

    /// Returns the files of aliases and limits.
    pub fn lists(&self) -> impl Iterator<Item = &Path> {
        [&self.cloud_aliases, &self.user_limits].into_iter().flatten().map(|said| said.value.as_path())
    }

    /// `[scheduler]`, in the engine's own type; with no such section, that type's defaults. Every
    /// mistake comes back with its place.
    pub fn scheduler<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        self.scheduler.parse()
    }

    /// `[credentials]`, likewise; to be asked for what is wrong with a setting.
    pub fn credentials(&self) -> &Section {
        &self.credentials
    }

    /// `[job_defaults]`, likewise.
    pub fn job_defaults(&self) -> &Section {
        &self.job_defaults
    }

    /// `[policy]`, likewise.
    pub fn policy(&self) -> &Section {
        &self.policy
    }

    /// `[local]`, likewise.
    pub fn local(&self) -> &Section {
        &self.local
    }
}

/// What may stand at the top. Its values are read one by one, so that one mistake hides none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(rename = "auth_strategy")]
    _auth_strategy: Option<String>,
    #[serde(rename = "extensions")]
    _extensions: Option<IgnoredAny>,
    #[serde(rename = "store")]
    _store: Option<String>,
    #[serde(rename = "cloud_aliases")]
    _cloud_aliases: Option<String>,
    #[serde(rename = "user_limits")]
    _user_limits: Option<String>,
    #[serde(rename = "scheduler")]
    _scheduler: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "credentials")]
    _credentials: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "job_defaults")]
    _job_defaults: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "policy")]
    _policy: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "local")]
    _local: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "clouds")]
    _clouds: Option<BTreeMap<String, BTreeMap<String, IgnoredAny>>>,
}

fn extensions(setting: Option<&Setting>, known: &Known<'_>, report: &mut Report) -> Extensions {
    let Some(Setting { value, .. }) = setting else { return Extensions::Standard };
    let wrong = |value: &Value| {
        let text = format!("expected \"standard\" or a list of aliases, found {}", value.kind_name());
        Diagnostic::error(text).at(value.place.clone())
    };
    let list = match &value.kind {
        Kind::Text(text) if text == "standard" => return Extensions::Standard,
        Kind::List(list) => list,
        Kind::Text(text) => {
            let help = match nearest(text, known.extensions.iter().copied().chain(["standard"])) {
                Some("standard") => "did you mean \"standard\"?".to_owned(),
                near => format!("did you mean [{:?}]?", near.unwrap_or(text)),
            };
            report.push(wrong(value).help(help));
            return Extensions::Standard;
        }
        _ => {
            report.push(wrong(value));
            return Extensions::Standard;
        }
    };
    let mut found: Vec<Said<String>> = Vec::new();
    for value in list {
        let Some(alias) = value.as_text() else {
            report.push(wrong(value));
            continue;
        };
        let said = Said { value: alias.to_owned(), place: Some(value.place.clone()) };
        one_of(&said, "extension", known.extensions, report);
        if found.iter().any(|other| other.value == said.value) {
            let text = format!("the extension `{alias}` is listed twice");
            report.push(Diagnostic::warning(text).at(value.place.clone()));
        } else {
            found.push(said);
        }
    }
    Extensions::Listed(found)
}

/// Reports a word that is none of those that are known.
fn one_of(said: &Said<String>, what: &str, known: &[&str], report: &mut Report) {
    let word = said.value.as_str();
    if !known.contains(&word) {
        let wrong = Diagnostic::error(format!("there is no {what} `{}`", shortened(word)));
        let wrong = wrong.suggest(word, known.iter().copied());
        report.push(said.place.iter().cloned().fold(wrong, Diagnostic::at));
    }
}

/// A table below the top, as a section.
fn section(name: &str, setting: &Setting) -> Section {
    let header = &setting.value.place;
    let has_header = header.source.text.get(header.span.clone()).is_some_and(|text| text.starts_with('['));
    let settings = match &setting.value.kind {
        Kind::Table(table) => table.clone(),
        _ => Table::new(),
    };
    let place = if has_header { header } else { &setting.key };
    Section { settings, ..Section::bare(name, place) }
}
