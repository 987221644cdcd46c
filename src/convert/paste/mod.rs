//! `api-paste.ini` → `api-paste.toml`.
//!
//! What a section is here is said by [`factories`](super::factories). Then the file is walked twice:
//! first to find what is left of each app (a pipeline whose app is gone is gone, a urlmap without
//! paths too), then from the servers down, to write what they reach.
//!
//! Two things are put in that the old file does not say: servers, which `nova.conf` knew; and the
//! filter `policy` above routes, since Nova asked its rules inside of the code. What says who calls
//! is never just left out: where `authtoken` stood and did not know Keystone, `tokens` stands.
//! Source: Paste Deploy, `paste/deploy/loadwsgi.py`; reference §1.

mod names;
mod pipes;
mod servers;
mod settings;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use super::{
    Conversion,
    factories::{self, FACTORIES, Is, LIMITS_2012, LIMITS_2013, Setting},
    ini::{Ini, Opt, Piece, Section, pieces},
    note::Fate,
    scheduler::{boolean, number},
    service::Service,
    write::{self, Line},
};
use crate::{
    diagnostic::{Diagnostic, Place, Report, nearest, words},
    paste::{Catalog, Files, Strategy, check},
    pipeline::{Capabilities, FILTERS, Fact, FilterKind},
};

/// Keys that Paste itself reads.
const PROTOCOLS: [&str; 7] = [
    "paste.app_factory",
    "paste.composite_factory",
    "paste.composit_factory",
    "paste.filter_factory",
    "paste.filter_app_factory",
    "paste.server_factory",
    "paste.server_runner",
];

/// What Paste makes of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    App,
    Composite,
    Pipeline,
    FilterApp,
    Filter,
    Server,
}

impl Kind {
    fn of(prefix: &str) -> Option<Self> {
        Some(match prefix {
            "app" | "application" => Self::App,
            "composite" | "composit" => Self::Composite,
            "pipeline" => Self::Pipeline,
            "filter-app" => Self::FilterApp,
            "filter" => Self::Filter,
            "server" => Self::Server,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Composite => "composite",
            Self::Pipeline => "pipeline",
            Self::FilterApp => "filter-app",
            Self::Filter => "filter",
            Self::Server => "server",
        }
    }

    fn is_app(self) -> bool {
        !matches!(self, Self::Filter | Self::Server)
    }
}

/// How a section says what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Made {
    /// By this factory: `module:attribute` or `egg:Distribution#entry`.
    By(String),
    /// As another section of this file.
    Like(String),
    /// As a section of another file, in our words.
    Elsewhere(String),
    /// A pipeline.
    Listed,
}

/// A section that Paste would read.
struct Def<'a> {
    kind: Kind,
    name: String,
    section: &'a Section,
    made: Made,
}

impl Def<'_> {
    fn what(&self) -> String {
        format!("[{}]", self.section.name)
    }
}

/// A name where an app or a filter is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// A section of this file.
    Def(usize),
    /// Compiled-in code without a section.
    Factory(String, Is),
    /// A section of another file, in our words.
    Elsewhere(String),
}

/// Whether anything of an app is left; a filter is like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Yes,
    No,
}

struct Paste<'a> {
    ini: &'a Ini,
    defs: Vec<Def<'a>>,
    out: &'a mut Conversion,
    left: BTreeMap<usize, Left>,
    /// Apps on whose way we are, to find circles.
    way: Vec<usize>,
    /// Sections that were written, and their text.
    written: BTreeMap<usize, String>,
    /// Keys of `[DEFAULT]` that somebody names.
    defaults: BTreeSet<String>,
    /// Globals that are got by their names: what they are depends on the way.
    by_name: BTreeSet<String>,
    /// Keys of `[DEFAULT]` whose values went where a `get` wanted them.
    got: BTreeSet<String>,
    /// Filters that were put in under a name of their own.
    own: BTreeMap<&'static str, String>,
    /// Whether Nova is that of 2012.
    folsom: bool,
    /// Settings of filters in a service's own file.
    service: &'a Service,
    /// Filters whose settings were read from there.
    read: BTreeSet<&'static str>,
    /// `true` once an app with routes was written.
    api: bool,
}

impl<'a> Paste<'a> {
    fn new(ini: &'a Ini, service: &'a Service, out: &'a mut Conversion) -> Self {
        Self {
            ini,
            defs: Vec::new(),
            out,
            left: BTreeMap::new(),
            way: Vec::new(),
            written: BTreeMap::new(),
            defaults: BTreeSet::new(),
            by_name: BTreeSet::new(),
            got: BTreeSet::new(),
            own: BTreeMap::new(),
            folsom: false,
            service,
            read: BTreeSet::new(),
            api: false,
        }
    }
}

/// Settings of one filter in a service's own file, without an `api-paste.ini`.
pub fn service_lines(ini: &Ini, service: &Service, factory: &'static str, out: &mut Conversion) -> Vec<Line> {
    let mut lines = Vec::new();
    let empty = Section { name: String::new(), place: ini.default.place.clone(), options: Vec::new() };
    Paste::new(ini, service, out).service_settings(&empty, factory, &mut lines);
    lines
}

/// Converts the file. `None`: nothing of it is left that could be served.
pub fn convert(ini: &Ini, service: &Service, out: &mut Conversion) -> Option<String> {
    let mut paste = Paste::new(ini, service, out);
    paste.sections();
    paste.folsom = paste.defs.iter().any(|def| {
        matches!(&def.made, Made::By(factory) if factory.starts_with("keystone.middleware.")
            || factory.contains(".volume:"))
    });
    paste.text()
}

/// Reads what was made, as `pileus check` will.
pub fn read_back(text: &str, report: &mut Report) {
    if !text.lines().any(|line| line.starts_with("[server.")) {
        return;
    }
    let here = Path::new("");
    // What comes from the environment is not there yet.
    let environment = |_: &str| Some(String::new());
    let Some(files) = Files::from_text("api-paste.toml", text, here, &environment, report) else { return };
    let strategies = ["token", "noauth", "keystone"];
    let has = |word: &str| text.lines().any(|line| line.starts_with(&format!("{word} ")));
    let name = strategies.into_iter().find(|word| has(word)).unwrap_or("token");
    check(&files, &Catalog::COMPILED_IN, Strategy { name, place: None, known: true }, report);
}

/// A name as we write it: a colon would be a scheme.
fn ours(name: &str) -> String {
    name.replace(':', "_")
}

impl<'a> Paste<'a> {
    fn error(&mut self, text: String, place: &Place) {
        self.out.errors.push(Diagnostic::error(text).at(place.clone()));
    }

    /// Finds the sections that Paste would read, and how they are made.
    fn sections(&mut self) {
        for section in &self.ini.sections {
            let (prefix, name) = match section.name.split_once(':') {
                Some((prefix, name)) => (prefix.trim(), name.trim()),
                None => (section.name.trim(), ""),
            };
            let Some(kind) = Kind::of(prefix).filter(|_| section.name.contains(':')) else {
                let text = "Paste reads no such section";
                self.out.notes.add(&section.place, format!("[{}]", section.name), Fate::Unknown, text);
                continue;
            };
            let same = self
                .defs
                .iter()
                .find(|def| def.name == name && (def.kind == kind || def.kind.is_app() && kind.is_app()));
            if let Some(other) = same {
                let what = format!("[{}]", section.name);
                if other.kind == kind {
                    let text = format!("Paste takes {} instead, and says nothing", other.what());
                    self.out.notes.add(&section.place, what, Fate::Unknown, text);
                } else {
                    let text = format!("{what} and {} have one name: which is meant?", other.what());
                    self.error(text, &section.place);
                }
                continue;
            }
            if let Some(made) = self.made(kind, section) {
                self.defs.push(Def { kind, name: name.to_owned(), section, made });
            }
        }
    }

    /// How a section says what it is.
    fn made(&mut self, kind: Kind, section: &Section) -> Option<Made> {
        if kind == Kind::Pipeline {
            return Some(Made::Listed);
        }
        let says: Vec<&Opt> =
            section.options.iter().filter(|it| it.key == "use" || PROTOCOLS.contains(&&*it.key)).collect();
        let option = match says[..] {
            [] => {
                let text = format!("[{}] says neither `use` nor a factory", section.name);
                self.error(text, &section.place);
                return None;
            }
            [option] => option,
            [first, second, ..] => {
                let text = format!("[{}] says both `{}` and `{}`", section.name, first.key, second.key);
                self.error(text, &second.place);
                return None;
            }
        };
        let value = match self.ini.interpolated(section, option) {
            Ok(value) => value,
            Err(problem) => {
                self.out.errors.push(problem);
                return None;
            }
        };
        if option.key != "use" {
            return Some(Made::By(value));
        }
        match value.split_once(':') {
            None => Some(Made::Like(value)),
            Some((scheme, rest)) => match scheme.to_lowercase().as_str() {
                "egg" if rest.contains('#') => Some(Made::By(format!("egg:{rest}"))),
                "egg" => Some(Made::By(format!("egg:{rest}#main"))),
                "call" => Some(Made::By(rest.to_owned())),
                "config" => Some(Made::Elsewhere(elsewhere(rest, kind))),
                _ => {
                    let text = format!("`{scheme}:` is no scheme: Paste knows `config:`, `egg:` and `call:`");
                    self.error(text, &option.place);
                    None
                }
            },
        }
    }

    /// What the section is here, through all that it uses; with the last section on the way.
    fn is(&mut self, def: usize) -> Option<Is> {
        let mut way = vec![def];
        loop {
            let it = self.defs.get(*way.last()?)?;
            let place = it.section.place.clone();
            match &it.made {
                Made::By(factory) => return known(factory, it.kind.is_app()),
                Made::Listed | Made::Elsewhere(_) => return None,
                Made::Like(name) => {
                    let kind = it.kind;
                    let next = self.defs.iter().position(|other| {
                        other.name == *name
                            && match kind {
                                Kind::Filter | Kind::FilterApp => other.kind == Kind::Filter,
                                Kind::Server => other.kind == Kind::Server,
                                _ => other.kind.is_app(),
                            }
                    });
                    let Some(next) = next else {
                        let text =
                            format!("[{}] uses `{name}`, and there is no such section", it.section.name);
                        self.error(text, &place);
                        return None;
                    };
                    if way.contains(&next) {
                        let names: Vec<_> = way.iter().chain([&next]).map(|at| self.name(*at)).collect();
                        self.error(format!("`use` goes round: {}", names.join(" → ")), &place);
                        return None;
                    }
                    way.push(next);
                }
            }
        }
    }

    fn name(&self, def: usize) -> String {
        self.defs.get(def).map(|def| def.name.clone()).unwrap_or_default()
    }

    /// What a name in a pipeline or a composite means.
    fn named(&mut self, name: &str, filter: bool, place: &Place) -> Option<Named> {
        if let Some((scheme, rest)) = name.split_once(':') {
            return match scheme.to_lowercase().as_str() {
                "egg" => {
                    let factory = if rest.contains('#') { name.to_owned() } else { format!("{name}#main") };
                    Some(match known(&factory, !filter) {
                        Some(is) => Named::Factory(factory, is),
                        None => Named::Factory(factory, Is::Gone("")),
                    })
                }
                "config" => {
                    let kind = if filter { Kind::Filter } else { Kind::App };
                    Some(Named::Elsewhere(elsewhere(rest, kind)))
                }
                _ => {
                    self.error(format!("`{name}`: there is no scheme `{scheme}:` here"), place);
                    None
                }
            };
        }
        let fits = |def: &Def<'_>| if filter { def.kind == Kind::Filter } else { def.kind.is_app() };
        if let Some(found) = self.defs.iter().position(|def| def.name == name && fits(def)) {
            return Some(Named::Def(found));
        }
        let noun = if filter { "filter" } else { "app" };
        let names = self.defs.iter().filter(|def| fits(def)).map(|def| &*def.name);
        let wrong = Diagnostic::error(format!("there is no {noun} `{name}`")).at(place.clone());
        let near = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
        self.out.errors.push(near.into_iter().fold(wrong, Diagnostic::help));
        None
    }

    /// Whether something of an app is left.
    fn left(&mut self, def: usize) -> Left {
        if let Some(left) = self.left.get(&def) {
            return *left;
        }
        let Some(it) = self.defs.get(def) else { return Left::No };
        let (section, kind, made) = (it.section, it.kind, it.made.clone());
        if let Some(from) = self.way.iter().position(|other| *other == def) {
            let names: Vec<_> = self.way[from..].iter().chain([&def]).map(|at| self.name(*at)).collect();
            self.error(format!("an app leads to itself: {}", names.join(" → ")), &section.place);
            return Left::No;
        }
        self.way.push(def);
        let left = match (kind, &made) {
            (_, Made::Elsewhere(_)) => Left::Yes,
            (Kind::Pipeline, _) => self.last(section, "pipeline"),
            (Kind::FilterApp, _) => self.last(section, "next"),
            (_, Made::Like(name)) => {
                self.is(def);
                let found = self.defs.iter().position(|other| other.name == *name && other.kind.is_app());
                found.map_or(Left::No, |found| self.left(found))
            }
            _ => match self.is(def) {
                Some(Is::App(..)) => Left::Yes,
                Some(Is::Urlmap { .. } | Is::Cascade | Is::Strategies) => {
                    let mut left = Left::No;
                    for (option, list) in self.members(def) {
                        if list.last().is_some_and(|app| self.app_left(app, &option.place) == Left::Yes) {
                            left = Left::Yes;
                        }
                    }
                    left
                }
                _ => Left::No,
            },
        };
        self.way.pop();
        self.left.insert(def, left);
        left
    }

    /// Whether the app at the end of this option is left.
    fn last(&mut self, section: &Section, key: &str) -> Left {
        let Some(option) = section.get(key) else {
            self.error(format!("[{}] has no `{key}`", section.name), &section.place);
            return Left::No;
        };
        let names = self.list(section, option);
        match names.last() {
            Some(app) => self.app_left(app, &option.place),
            None => {
                self.error(
                    format!("[{}] `{key}` is empty: it needs an app at its end", section.name),
                    &option.place,
                );
                Left::No
            }
        }
    }

    fn app_left(&mut self, name: &str, place: &Place) -> Left {
        match self.named(name, false, place) {
            Some(Named::Def(def)) => self.left(def),
            Some(Named::Elsewhere(_) | Named::Factory(_, Is::App(..))) => Left::Yes,
            _ => Left::No,
        }
    }

    /// The words of a value.
    fn list(&mut self, section: &Section, option: &Opt) -> Vec<String> {
        match self.ini.interpolated(section, option) {
            Ok(value) => value.split_whitespace().map(str::to_owned).collect(),
            Err(problem) => {
                self.out.errors.push(problem);
                Vec::new()
            }
        }
    }

    /// The options of a composite that name apps, and what they name.
    fn members(&mut self, def: usize) -> Vec<(Opt, Vec<String>)> {
        let is = self.is(def);
        let Some(it) = self.defs.get(def) else { return Vec::new() };
        let section = it.section;
        let mut members = Vec::new();
        for option in &section.options {
            let key = option.key.as_str();
            let word = key.split_whitespace().next().unwrap_or_default();
            let other = PROTOCOLS.contains(&key)
                || matches!(key, "use" | "require" | "filter-with")
                || matches!(word, "set" | "get") && key.contains(char::is_whitespace);
            let member = match is {
                Some(Is::Urlmap { .. }) => key == "not_found_app" || crate::paste::is_mount(key),
                Some(Is::Cascade) => key.starts_with("app"),
                _ => true,
            };
            if !other && member {
                members.push((option.clone(), self.list(section, option)));
            }
        }
        members
    }
}

/// Meaning of a factory here. One entry point of `healthcheck` makes a filter and an app.
fn known(factory: &str, is_app: bool) -> Option<Is> {
    let is = FACTORIES.iter().find(|row| row.0 == factory).map(|row| row.1)?;
    Some(if is_app && is == Is::Filter("healthcheck") { Is::App("healthcheck", &[]) } else { is })
}

/// `config:PATH#NAME` in our words.
fn elsewhere(rest: &str, kind: Kind) -> String {
    let (path, name) = rest.split_once('#').unwrap_or((rest, "main"));
    let path = path.replace("%(here)s", "${here}").replace('\\', "/");
    let stem = path.strip_suffix(".ini").or_else(|| path.strip_suffix(".conf")).unwrap_or(&path);
    format!("config:{stem}.toml#{}.{}", kind.as_str(), ours(name))
}
