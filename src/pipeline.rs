//! The lists `FILTERS`, `APPS`, `COMPOSITES`: every name that `factory = "…"` may say.
//!
//! Each filter states its [`Capabilities`], from which the check derives the valid orders. The check itself and
//! the assembling stand in [`crate::paste`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use pileus_model::{Clock, Engine, Idle, ManualClock};
use pileus_sdk::{Filter, Mount, Stack};

use crate::{
    apps,
    cli::Options,
    diagnostic::{Diagnostic, Place, Source},
    filters,
    host::ThisProcess,
    kept::Kept,
    logging::Logs,
    paste::Section,
    policy::Policy,
    router::Router,
};

/// What a stage needs from the stages above it, or gives to those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// A request id.
    RequestId,
    /// Faults from below become responses: needed by nobody, given by `faultwrap`.
    Faults,
    /// The whole body in memory.
    WholeBody,
    /// Who calls.
    Caller,
    /// A router at the pipeline's end. Given by the app, from below.
    Route,
    /// Requests of foreign web pages have been refused.
    SameSite,
    /// The rules of `policy.json` have been asked.
    Rules,
}

impl Fact {
    /// In a sentence: `policy` needs …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestId => "a request id",
            Self::Faults => "faults to become responses",
            Self::WholeBody => "the whole body",
            Self::Caller => "a caller",
            Self::Route => "a route",
            Self::SameSite => "protection from foreign web pages",
            Self::Rules => "a decision by the rules",
        }
    }
}

/// What a filter's factory gets.
#[derive(Clone)]
pub struct Deps {
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// The door to the engine.
    pub engine: Arc<dyn Engine>,
    /// The rules of `policy.json`.
    pub policy: Arc<Policy>,
    /// The router at the end of the pipeline. There is one wherever the filter's kind needs
    /// [`Fact::Route`]: a pipeline without is an error before any factory is asked.
    pub router: Option<Arc<Router>>,
    /// What stages had in the pipeline before this one.
    pub kept: Kept,
    /// Where a factory notes which files it has read.
    pub watched: Watched,
    /// Log destinations of the process.
    pub logs: Arc<Logs>,
}

/// Notes of factories: files that they have read, of which a changed one makes a reload due, and warnings. A
/// file that a stage reads while it runs is none of them.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    paths: Arc<Mutex<Vec<PathBuf>>>,
    warnings: Arc<Mutex<Vec<Diagnostic>>>,
}

impl Watched {
    /// Notes files, be they there or not.
    pub fn note<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) {
        let mut all = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(paths.into_iter().map(Path::to_path_buf));
    }

    /// All of them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a warning about a section.
    pub fn warn(&self, warning: Diagnostic) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    /// Takes all warnings.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What building needs: from it every filter gets its [`Deps`].
#[derive(Clone)]
pub struct BuildDeps {
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// The door to the engine.
    pub engine: Arc<dyn Engine>,
    /// The rules of `policy.json`.
    pub policy: Arc<Policy>,
    /// The routes of every mount.
    pub routers: BTreeMap<Mount, Arc<Router>>,
    /// What stages have in the pipelines that run.
    pub kept: Kept,
    /// Which files factories have read.
    pub watched: Watched,
    /// The process, and what it counts.
    pub host: Arc<ThisProcess>,
}

impl BuildDeps {
    /// Nothing to build upon: an engine that is not there, no rules, no routes, and time stands still. For
    /// tests and fuzzing.
    pub fn idle() -> Self {
        Self {
            clock: Arc::new(ManualClock::default()),
            engine: Arc::new(Idle),
            policy: Arc::default(),
            routers: BTreeMap::new(),
            kept: Kept::default(),
            watched: Watched::default(),
            host: Arc::new(ThisProcess::new(&Options::default(), false)),
        }
    }

    /// What the filters of a pipeline above `mount` get.
    pub fn above(&self, mount: Option<Mount>, pipeline: &str) -> Deps {
        Deps {
            clock: self.clock.clone(),
            engine: self.engine.clone(),
            policy: self.policy.clone(),
            router: mount.and_then(|mount| self.routers.get(&mount)).cloned(),
            kept: self.kept.within(pipeline),
            watched: self.watched.clone(),
            logs: self.host.logs.clone(),
        }
    }
}

/// Builds a stage from its section. Starts no task and opens no socket.
pub type Factory = fn(&Section, &Deps) -> Result<Filter, Diagnostic>;

/// Capabilities of a filter with the settings of one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Capabilities that the stages above have to provide.
    pub requires: &'static [Fact],
    /// Capabilities for the stages below.
    pub provides: &'static [Fact],
    /// Capabilities that come too late to be of use: a stage above must not have provided them.
    pub precedes: &'static [Fact],
    /// `true` if the filter rejects unauthenticated requests. A pipeline without such a filter is open to
    /// every caller that reaches its port. `noauth` accepts any claimed identity and authenticates nothing.
    pub authenticates: bool,
}

impl Capabilities {
    /// A filter that requires and provides nothing.
    pub const NONE: Self = Self { requires: &[], provides: &[], precedes: &[], authenticates: false };

    /// The same capabilities with these requirements.
    pub const fn requires(self, requires: &'static [Fact]) -> Self {
        Self { requires, ..self }
    }

    /// The same capabilities, and these for the stages below.
    pub const fn provides(self, provides: &'static [Fact]) -> Self {
        Self { provides, ..self }
    }

    /// The same capabilities of a filter that has to stand above those that provide these.
    pub const fn precedes(self, precedes: &'static [Fact]) -> Self {
        Self { precedes, ..self }
    }

    /// The same capabilities of a filter that rejects unauthenticated requests.
    pub const fn authenticates(self) -> Self {
        Self { authenticates: true, ..self }
    }
}

/// A filter that `factory = "…"` may name.
#[derive(Debug, Clone, Copy)]
pub struct FilterKind {
    /// The word in the file.
    pub name: &'static str,
    /// Returns the capabilities that the filter has with the settings of a section. A setting that is missing or
    /// wrong counts as its default: its factory reports it.
    pub capabilities: fn(&Section) -> Capabilities,
    /// Builds it.
    pub factory: Factory,
}

impl FilterKind {
    /// Capabilities of the filter with its default settings.
    pub fn defaults(&self) -> Capabilities {
        let source = Arc::new(Source { name: String::new(), text: String::new() });
        let nowhere = Place { source, span: 0..0 };
        (self.capabilities)(&Section::bare(self.name, &nowhere))
    }
}

/// Builds an app from its section. Starts no task and opens no socket.
pub type AppFactory = fn(&Section, &BuildDeps) -> Result<Stack, Diagnostic>;

/// An app that `factory = "…"` may name.
#[derive(Debug, Clone, Copy)]
pub struct AppKind {
    /// The word in the file.
    pub name: &'static str,
    /// What stages above it have to give.
    pub needs: &'static [Fact],
    /// Whether it tells everybody the same, and changes nothing: it may be reached unauthenticated.
    pub public: bool,
    /// Which routes it serves by its settings; `None` where they are wrong, or it has no routes.
    pub mount: fn(&Section) -> Option<Mount>,
    /// Builds it.
    pub factory: AppFactory,
}

/// An app made of apps, that `factory = "…"` of a composite may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Composite {
    /// The longest start of the path chooses.
    Urlmap,
    /// `auth_strategy` of `pileus.toml` chooses.
    AuthStrategy,
    /// One after the other, until one has an answer.
    Cascade,
}

/// Every filter. To add one: its file, and its line here.
pub static FILTERS: &[FilterKind] = &[
    filters::authtoken::KIND,
    filters::compress::KIND,
    filters::conditional::KIND,
    filters::cors::KIND,
    filters::faultwrap::KIND,
    filters::healthcheck::KIND,
    filters::http_proxy_to_wsgi::KIND,
    filters::idempotency::KIND,
    filters::maintenance::KIND,
    filters::noauth::KIND,
    filters::policy::KIND,
    filters::ratelimit::KIND,
    filters::request_id::KIND,
    filters::samesite::KIND,
    filters::sizelimit::KIND,
    filters::timeout::KIND,
    filters::tokens::KIND,
    filters::trace::KIND,
];

/// Every app. To add one: its file, and its line here.
pub static APPS: &[AppKind] = &[
    apps::healthcheck::KIND,
    apps::metrics::KIND,
    apps::router::KIND,
    apps::version::KIND,
    apps::versions::KIND,
];

/// Every composite.
pub static COMPOSITES: &[(&str, Composite)] = &[
    ("auth_strategy", Composite::AuthStrategy),
    ("cascade", Composite::Cascade),
    ("urlmap", Composite::Urlmap),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_name_nothing_twice() {
        let lists: [Vec<&str>; 3] = [
            FILTERS.iter().map(|it| it.name).collect(),
            APPS.iter().map(|it| it.name).collect(),
            COMPOSITES.iter().map(|it| it.0).collect(),
        ];
        for list in lists {
            assert!(list.is_sorted_by(|one, two| one < two), "{list:?}");
        }
    }

    #[test]
    fn every_file_of_a_folder_is_in_its_list() {
        let lists = [
            ("src/filters", FILTERS.iter().map(|it| it.name).collect::<Vec<_>>()),
            ("src/apps", APPS.iter().map(|it| it.name).collect()),
        ];
        for (folder, list) in lists {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if text.contains("pub const KIND") || text.contains("pub static KIND") {
                    assert!(list.contains(&name.as_str()), "{folder}/{name} is in no list");
                }
            }
        }
    }

    #[test]
    fn noauth_proves_nothing() {
        let authenticates = FILTERS.iter().filter(|it| it.defaults().authenticates);
        let authenticates: Vec<_> = authenticates.map(|it| it.name).collect();
        assert!(authenticates == ["authtoken", "tokens"]);
    }
}
