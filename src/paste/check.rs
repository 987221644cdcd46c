//! Phase *check*: finds every name, follows every reference, and makes the [`Plan`].
//!
//! Starts at the servers and goes down, so that a section that nobody uses is known at the end. A
//! mistake never stops it: what is broken is noted as broken, and nothing else is said about it.
//! What needs the whole plan (order of filters, addresses, authentication) stands in
//! [`super::flow`].

use std::collections::{BTreeMap, BTreeSet};

use pileus_sdk::Mount;

use super::{
    Section, composite, flow,
    globals::Scope,
    parse::{Files, Group},
    plan::{AppId, AppPlan, FilterPlan, Plan, ServerPlan, Shape},
    resolve::{Id, Reference, Resolved, label, look_up, resolve},
    server::ServerSettings,
    value::{Setting, Value},
};
use crate::{
    diagnostic::{Diagnostic, Place, Report, nearest},
    pipeline::{APPS, AppKind, COMPOSITES, FILTERS, FilterKind},
};

/// What may stand where an app is wanted.
pub(super) const APP_LIKE: [Group; 4] = [Group::App, Group::Composite, Group::Pipeline, Group::FilterApp];

/// How deep apps may stand in apps, to save the stack from a file that was made to hurt.
const MAX_DEPTH: usize = 64;

/// How many apps there may be, for the same reason: `set` makes several of one.
const MAX_APPS: usize = 10_000;

/// The code that names may mean.
#[derive(Debug, Clone, Copy)]
pub struct Catalog {
    /// Filters.
    pub filters: &'static [FilterKind],
    /// Apps.
    pub apps: &'static [AppKind],
}

impl Catalog {
    /// All that is compiled in.
    pub const COMPILED_IN: Self = Self { filters: FILTERS, apps: APPS };

    /// The filter of this name.
    pub fn filter(&self, name: &str) -> Option<FilterKind> {
        self.filters.iter().find(|it| it.name == name).copied()
    }

    /// The app of this name.
    pub fn app(&self, name: &str) -> Option<AppKind> {
        self.apps.iter().find(|it| it.name == name).copied()
    }
}

/// `auth_strategy` of `pileus.toml`.
#[derive(Debug, Clone, Copy)]
pub struct Strategy<'a> {
    /// The word.
    pub name: &'a str,
    /// Where it was said; `None`: it is the default.
    pub place: Option<&'a Place>,
    /// Whether this is what the file says; not so where it cannot be read.
    pub known: bool,
}

impl Strategy<'_> {
    /// Where `pileus.toml` cannot be read: the default, and nothing is said where it is missing.
    pub const UNKNOWN: Self = Self { name: "token", place: None, known: false };
}

/// Makes the plan. It is good for building even where the report has errors: broken parts are left
/// out, and their factories may have more to say.
pub fn check(files: &Files, catalog: &Catalog, strategy: Strategy<'_>, report: &mut Report) -> Plan {
    let mut checker = Checker::new(files, catalog, strategy);
    checker.servers();
    checker.unused();
    checker.set_for_nobody();
    report.extend(checker.report.sorted().into_iter().cloned());
    let plan = Plan { servers: checker.servers, apps: checker.apps };
    flow::check(&plan, &checker.orphans, catalog, report);
    plan
}

pub(super) struct Checker<'a> {
    pub files: &'a Files,
    pub strategy: Strategy<'a>,
    pub report: Report,
    pub catalog: &'a Catalog,
    servers: Vec<ServerPlan>,
    /// Apps of servers that have mistakes, and where they are named.
    orphans: Vec<(AppId, Place)>,
    apps: Vec<AppPlan>,
    /// How many apps were made, with those of strategies that are not chosen.
    made: usize,
    pub used: BTreeSet<Id>,
    /// The apps on whose way we are, to find cycles.
    way: Vec<Id>,
    /// What is made already; where it depends on what was set on the way, with who has set it.
    done: BTreeMap<(Id, Option<Vec<Id>>), AppId>,
    /// What was set on the way to where we are.
    scope: Scope,
    /// Whether something below gets a global.
    gets: bool,
    /// Globals that somebody gets, and those that somebody sets with the place of their names.
    pub got: BTreeSet<String>,
    pub set: BTreeMap<String, Place>,
    /// Whether uses may have been missed, so that nothing can be said of unused sections.
    pub lost: bool,
    /// Whether the report is thrown away.
    quiet: bool,
}

impl<'a> Checker<'a> {
    fn new(files: &'a Files, catalog: &'a Catalog, strategy: Strategy<'a>) -> Self {
        Self {
            files,
            strategy,
            report: Report::default(),
            catalog,
            servers: Vec::new(),
            orphans: Vec::new(),
            apps: Vec::new(),
            made: 0,
            used: BTreeSet::new(),
            way: Vec::new(),
            done: BTreeMap::new(),
            scope: Scope::default(),
            gets: false,
            got: BTreeSet::new(),
            set: BTreeMap::new(),
            lost: false,
            quiet: false,
        }
    }

    fn servers(&mut self) {
        let Some(file) = self.files.files.first() else { return };
        let mut servers: Vec<_> =
            file.sections.iter().filter(|((group, _), _)| *group == Group::Server).collect();
        servers.sort_by_key(|(_, raw)| file.order(&raw.place));
        if servers.is_empty() {
            let start = Place { source: file.source.clone(), span: 0..0 };
            let help = "write `[server.api]` with `listen = \"127.0.0.1:8774\"` and `app = \"…\"`";
            self.report.push(
                Diagnostic::error("no section [server.NAME]: there is nothing to serve").at(start).help(help),
            );
            self.lost = true;
        }
        for ((group, name), _) in servers {
            let id = Id { file: 0, group: *group, name: name.clone() };
            let Some(mut it) = resolve(self.files, &id, &|_| false, &mut self.used, &mut self.report) else {
                continue;
            };
            let above = self.scope.depth();
            self.enter(&id, &mut it);
            let app = it.section.settings.get("app").map(|app| app.value.clone());
            let app = app.filter(|app| app.as_text().is_some());
            self.lost |= app.is_none();
            let below = app.map(|app| (self.app(&app), app.place));
            self.scope.leave(above);
            let settings = match it.broken {
                true => None,
                false => self.report.take(it.section.parse::<ServerSettings>()),
            };
            let settings = settings.and_then(|settings| self.sound(settings, &it.section));
            let name = name.clone();
            match (settings, below) {
                (Some(settings), Some((app, app_place))) => {
                    self.servers.push(ServerPlan { name, settings, section: it.section, app, app_place });
                }
                (None, Some(below)) => self.orphans.push(below),
                (_, None) => {}
            }
        }
    }

    /// The settings of a server with paths from where they are written, if they make sense together.
    fn sound(&mut self, mut settings: ServerSettings, section: &Section) -> Option<ServerSettings> {
        let listen = section.settings.get("listen").map(|setting| &setting.value.place);
        settings.listen.relative_to(self.files.folder(listen.unwrap_or(&section.place)));
        let Some((key, problem)) = settings.problem() else { return Some(settings) };
        self.report.push(section.wrong(key, problem));
        None
    }

    /// Notes an app.
    pub fn note(&mut self, name: String, place: Place, shape: Shape) -> AppId {
        self.made += 1;
        self.apps.push(AppPlan { name, place, shape });
        self.apps.len() - 1
    }

    /// An app that has mistakes, here.
    pub fn broken(&mut self, place: &Place) -> AppId {
        self.note(String::new(), place.clone(), Shape::Broken)
    }

    /// The app that `reference` names.
    pub fn app(&mut self, reference: &Value) -> AppId {
        match look_up(self.files, reference, &APP_LIKE) {
            Ok(Reference::Section(id)) => self.section(&id, reference),
            Ok(Reference::Name(name)) => self.compiled_in(&name, reference),
            Err(problem) => {
                self.report.push(problem);
                self.lost = true;
                self.broken(&reference.place)
            }
        }
    }

    /// An app that needs no section: a compiled-in one with its defaults, or the routes of a mount.
    fn compiled_in(&mut self, name: &str, reference: &Value) -> AppId {
        let place = &reference.place;
        let id = (Id { file: usize::MAX, group: Group::App, name: name.to_owned() }, None);
        if let Some(done) = self.done.get(&id) {
            return *done;
        }
        let mut section = Section::bare(name, place);
        let mount = Mount::ALL.into_iter().find(|mount| mount.as_str() == name);
        let kind = match mount {
            Some(mount) => {
                let value = Value::text(mount.as_str(), place);
                let setting = Setting { key: place.clone(), value };
                section.settings.insert("routes".into(), setting);
                self.catalog.app("router")
            }
            None => self.catalog.app(name),
        };
        let Some(kind) = kind else {
            let wrong = self.unknown(name, reference, &APP_LIKE);
            self.report.push(wrong);
            return self.broken(place);
        };
        let app = self.note(name.to_owned(), place.clone(), Shape::App { kind, section });
        self.done.insert(id, app);
        app
    }

    /// The app that a section makes.
    fn section(&mut self, id: &Id, reference: &Value) -> AppId {
        let (anyhow, here) = ((id.clone(), None), (id.clone(), Some(self.scope.ids())));
        if let Some(done) = self.done.get(&anyhow) {
            return *done;
        }
        if let Some(done) = self.done.get(&here) {
            self.gets = true;
            return *done;
        }
        let wrong = |text: String| Diagnostic::error(text).at(reference.place.clone());
        if let Some(from) = self.way.iter().position(|it| it == id) {
            let names = self.way[from..].iter().chain([id]).map(|it| label(self.files, it));
            let text = format!("an app leads to itself: {}", names.collect::<Vec<_>>().join(" → "));
            self.report.push(wrong(text));
            return self.broken(&reference.place);
        }
        if self.way.len() >= MAX_DEPTH {
            self.report.push(wrong(format!("more than {MAX_DEPTH} apps stand in each other")));
            return self.broken(&reference.place);
        }
        if self.made >= MAX_APPS {
            self.report.push(wrong(format!("more than {MAX_APPS} apps, with those that `set` makes of one")));
            return self.broken(&reference.place);
        }
        self.way.push(id.clone());
        let (above, others) = (self.scope.depth(), std::mem::take(&mut self.gets));
        let app = self.make(id, &reference.place);
        self.scope.leave(above);
        self.way.pop();
        self.done.insert(if self.gets { here } else { anyhow }, app);
        self.gets |= others;
        app
    }

    fn make(&mut self, id: &Id, at: &Place) -> AppId {
        let Some(mut it) = self.resolved(id) else { return self.broken(at) };
        let filter_with = it.filter_with.take();
        let (name, place) = (it.section.name.clone(), it.section.place.clone());
        let shape = match id.group {
            Group::App => self.plain(it),
            Group::Pipeline => composite::pipeline(self, it),
            Group::FilterApp => composite::filter_app(self, it),
            _ => composite::composite(self, it),
        };
        let app = self.note(name.clone(), place.clone(), shape);
        let Some(outer) = filter_with else { return app };
        let filters = self.filter(&outer);
        let shape = Shape::Filters { strategy: None, filters, app, app_place: place.clone() };
        self.note(name, place, shape)
    }

    /// `[app.NAME]`.
    fn plain(&mut self, it: Resolved) -> Shape {
        let catalog = self.catalog;
        let kind =
            self.factory(&it, |name| catalog.app(name), &|| catalog.apps.iter().map(|it| it.name).collect());
        match kind {
            Some(kind) if !it.broken => Shape::App { kind, section: it.section },
            _ => Shape::Broken,
        }
    }

    /// The section with what it inherits.
    fn resolved(&mut self, id: &Id) -> Option<Resolved> {
        let catalog = self.catalog;
        let compiled_in = |name: &str| match id.group {
            Group::Filter | Group::FilterApp => catalog.filter(name).is_some(),
            Group::App => catalog.app(name).is_some(),
            Group::Composite => COMPOSITES.iter().any(|it| it.0 == name),
            Group::Pipeline | Group::Server => false,
        };
        let mut it = resolve(self.files, id, &compiled_in, &mut self.used, &mut self.report)?;
        self.enter(id, &mut it);
        let names_others = !matches!(id.group, Group::Filter | Group::App);
        self.lost |= it.broken || names_others && !it.section.gaps.is_empty();
        Some(it)
    }

    /// Lets hold what a section sets, and gives it what it gets.
    fn enter(&mut self, id: &Id, it: &mut Resolved) {
        self.scope.enter(id, it);
        self.set.extend(it.set.iter().map(|(name, setting)| (name.clone(), setting.key.clone())));
        self.gets |= !it.get.is_empty();
        self.got.extend(it.get.values().filter_map(|asked| asked.value.as_text().map(str::to_owned)));
        self.scope.give(self.files, it, &mut self.report);
    }

    /// The code by which a section is made, or says that there is none.
    pub fn factory<T>(
        &mut self,
        it: &Resolved,
        find: impl Fn(&str) -> Option<T>,
        names: &dyn Fn() -> Vec<&'static str>,
    ) -> Option<T> {
        let section = &it.section;
        match &it.factory {
            Some((name, place)) => {
                let found = find(name);
                if found.is_none() {
                    let text = format!("[{}] there is no factory `{name}`", section.name);
                    self.report.push(Diagnostic::error(text).at(place.clone()).suggest(name, names()));
                }
                found
            }
            None if it.broken => None,
            None => {
                let text = format!("[{}] says neither `factory` nor `use`", section.name);
                let own = section.name.split_once('.').map_or("", |(_, name)| name);
                let wrong = Diagnostic::error(text).at(section.place.clone());
                self.report.push(match nearest(own, names()) {
                    Some(near) => wrong.help(format!("did you mean `{near}`?")),
                    None => wrong.suggest("factory", names()),
                });
                None
            }
        }
    }

    /// The filter that `reference` names, and what its `filter-with` puts around it: from the
    /// outside in.
    pub fn filter(&mut self, reference: &Value) -> Vec<FilterPlan> {
        let mut filters = Vec::new();
        let mut way = Vec::new();
        let mut next = Some(reference.clone());
        let above = self.scope.depth();
        while let Some(reference) = next.take() {
            let broken = |place: &Place| FilterPlan {
                name: String::new(),
                kind: None,
                section: Section::bare("", place),
                place: place.clone(),
                broken: true,
            };
            let plan = match look_up(self.files, &reference, &[Group::Filter]) {
                Ok(Reference::Section(id)) if way.contains(&id) => {
                    let names = way.iter().chain([&id]).map(|it| label(self.files, it));
                    let names = names.collect::<Vec<_>>().join(" → ");
                    let text = format!("`filter-with` goes round: {names}");
                    self.report.push(Diagnostic::error(text).at(reference.place.clone()));
                    broken(&reference.place)
                }
                Ok(Reference::Section(id)) => {
                    way.push(id.clone());
                    let Some(mut it) = self.resolved(&id) else { break };
                    next = it.filter_with.take();
                    self.filter_plan(it, reference.place)
                }
                Ok(Reference::Name(name)) => match self.catalog.filter(&name) {
                    Some(kind) => {
                        let place = reference.place;
                        let section = Section::bare(&name, &place);
                        FilterPlan { name, kind: Some(kind), section, place, broken: false }
                    }
                    None => {
                        let wrong = self.unknown(&name, &reference, &[Group::Filter]);
                        self.report.push(wrong);
                        broken(&reference.place)
                    }
                },
                Err(problem) => {
                    self.report.push(problem);
                    self.lost = true;
                    broken(&reference.place)
                }
            };
            filters.insert(0, plan);
        }
        self.scope.leave(above);
        filters
    }

    /// A filter from its section.
    pub fn filter_plan(&mut self, it: Resolved, place: Place) -> FilterPlan {
        let catalog = self.catalog;
        let names = || catalog.filters.iter().map(|it| it.name).collect();
        let kind = self.factory(&it, |name| catalog.filter(name), &names);
        FilterPlan { name: it.section.name.clone(), kind, section: it.section, place, broken: it.broken }
    }

    /// Plans what is not chosen, for the uses alone: its names may mean what is not compiled in.
    pub fn quietly(&mut self, plan: impl FnOnce(&mut Self)) {
        if self.quiet {
            return plan(self);
        }
        let mut quiet = Checker {
            used: std::mem::take(&mut self.used),
            way: self.way.clone(),
            scope: self.scope.clone(),
            made: self.made,
            quiet: true,
            ..Checker::new(self.files, self.catalog, self.strategy)
        };
        plan(&mut quiet);
        self.used = quiet.used;
        self.gets |= quiet.gets;
        self.got.append(&mut quiet.got);
        self.made = quiet.made;
    }
}
