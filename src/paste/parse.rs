//! Phase *parse*: reads `api-paste.toml` and every file that it names, into sections.
//!
//! What can be said of one section alone is found here, its names are replaced, and nothing is
//! looked up. Problems of a section are kept with it, and told once somebody uses it: a shared file
//! may hold a section whose `${env:NAME}` is not set on every host.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    Section,
    interpolate::{Environment, Interpolated, interpolate},
    layers::{Sections, lay},
    value::{self, Kind, Table, Value},
};
use crate::{
    config_file,
    diagnostic::{Diagnostic, Place, Report, Source, nearest},
};

/// What a section makes: the word before its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `[server.NAME]`: a port.
    Server,
    /// `[composite.NAME]`: an app made of apps.
    Composite,
    /// `[pipeline.NAME]`: filters and an app.
    Pipeline,
    /// `[filter.NAME]`.
    Filter,
    /// `[filter-app.NAME]`: one filter and the app below it.
    FilterApp,
    /// `[app.NAME]`.
    App,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 6] =
        [Self::Server, Self::Composite, Self::Pipeline, Self::Filter, Self::FilterApp, Self::App];

    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Composite => "composite",
            Self::Pipeline => "pipeline",
            Self::Filter => "filter",
            Self::FilterApp => "filter-app",
            Self::App => "app",
        }
    }

    /// By its word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == word)
    }

    /// Whether it may stand where an app is wanted: all of these share their names.
    pub fn is_app(self) -> bool {
        !matches!(self, Self::Server | Self::Filter)
    }
}

/// A section as it stands in its file, its names replaced.
#[derive(Debug)]
pub struct Raw {
    /// The header's place.
    pub place: Place,
    /// All that it says and that can be understood by itself.
    pub settings: Table,
    /// What is wrong with the other settings.
    pub gaps: BTreeMap<String, Diagnostic>,
}

/// One file.
#[derive(Debug)]
pub struct File {
    /// Its name and text.
    pub source: Arc<Source>,
    /// Its sections, with those of its base.
    pub sections: Sections,
    /// Its `[default]`, above that of its base.
    pub default: Interpolated,
    /// Itself, and the bases below it.
    layers: Vec<Layer>,
}

impl File {
    /// Whether something stands in a base of the file, not in itself.
    pub fn is_bases(&self, place: &Place) -> bool {
        !Arc::ptr_eq(&self.source, &place.source)
    }

    /// The lowest base comes first, and the file itself last; within each text its own order holds.
    pub fn order(&self, place: &Place) -> (Reverse<Option<usize>>, usize) {
        let layer = self.layers.iter().position(|layer| Arc::ptr_eq(&layer.source, &place.source));
        (Reverse(layer), place.span.start)
    }
}

/// A text, and where it stands.
#[derive(Debug)]
struct Layer {
    source: Arc<Source>,
    folder: PathBuf,
}

/// The file that was asked for, and those that it names.
#[derive(Debug, Default)]
pub struct Files {
    /// The first one is the one that was asked for.
    pub files: Vec<File>,
    /// By absolute path; with the reason where a file cannot be read.
    by_path: BTreeMap<PathBuf, Result<usize, String>>,
    /// Paths as they are named: a link may lead to another file tomorrow.
    named: BTreeSet<PathBuf>,
}

impl Files {
    /// Reads the file at `path`, and those that it names. `None` where its TOML is broken or it
    /// cannot be read; the report says why.
    pub fn read(path: &Path, environment: Environment<'_>, report: &mut Report) -> Option<Self> {
        let source = report.take(config_file::source(path).map_err(|error| error.diagnostic()))?;
        Self::from_source(source, path, environment, report)
    }

    /// The same for a file that was read already.
    pub fn from_source(
        source: Arc<Source>,
        path: &Path,
        environment: Environment<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let folder = absolute(path).parent().map(Path::to_path_buf).unwrap_or_default();
        let mut files = Self::default();
        files.by_path.insert(key(path), Ok(0));
        files.named.insert(path.to_path_buf());
        files.add(source, folder, Some(path), environment, report)
    }

    /// The same for a text that is no file. `folder` is its `${here}`, and where the files that it
    /// names are looked for.
    pub fn from_text(
        name: &str,
        text: &str,
        folder: &Path,
        environment: Environment<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        let source = Arc::new(Source { name: name.into(), text: text.into() });
        Self::default().add(source, absolute(folder), None, environment, report)
    }

    /// The paths of all files, for whoever watches them; a text that is no file has none.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.named.iter().map(PathBuf::as_path)
    }

    /// The file in which something stands.
    pub fn of(&self, place: &Place) -> Option<usize> {
        let is = |layer: &Layer| Arc::ptr_eq(&layer.source, &place.source);
        self.files.iter().position(|file| file.layers.iter().any(is))
    }

    /// The file at `path` as it is named at `place`, or why it cannot be read.
    pub fn named(&self, place: &Place, path: &str) -> Result<usize, String> {
        let full = self.folder(place).join(path);
        self.by_path.get(&key(&full)).cloned().unwrap_or_else(|| Err("was not read".into()))
    }

    /// The folder of the text in which something stands.
    pub fn folder(&self, place: &Place) -> &Path {
        let mut layers = self.files.iter().flat_map(|file| &file.layers);
        let layer = layers.find(|layer| Arc::ptr_eq(&layer.source, &place.source));
        layer.map_or(Path::new(""), |layer| &layer.folder)
    }

    /// Takes the first text, and all the files that are named by the way.
    fn add(
        mut self,
        source: Arc<Source>,
        folder: PathBuf,
        path: Option<&Path>,
        environment: Environment<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        // With broken TOML, all else would be guesses.
        let mut reader = Reader {
            environment,
            report,
            by_path: &mut self.by_path,
            named: &mut self.named,
            way: path.map(key).into_iter().collect(),
        };
        self.files.push(reader.file(source, folder, 0)?);
        let mut at = 0;
        while let Some(from) = self.files.get(at) {
            let named = from.sections.values().flat_map(|raw| named_files(&raw.settings)).collect::<Vec<_>>();
            for (place, path) in named {
                let full = self.folder(&place).join(&path);
                if self.by_path.contains_key(&key(&full)) {
                    continue;
                }
                let index = self.files.len();
                let beside = Path::new(&place.source.name).parent().unwrap_or(Path::new("")).join(&path);
                self.named.insert(beside.clone());
                let read = config_file::text(&full).map_err(|error| error.to_string()).and_then(|text| {
                    let source = Arc::new(Source { name: beside.display().to_string(), text });
                    let folder = full.parent().map(Path::to_path_buf).unwrap_or_default();
                    let (by_path, named) = (&mut self.by_path, &mut self.named);
                    let mut reader = Reader { environment, report, by_path, named, way: vec![key(&full)] };
                    let file = reader.file(source, folder, index);
                    self.files.push(file.ok_or_else(|| "has broken TOML".to_owned())?);
                    Ok(index)
                });
                self.by_path.insert(key(&full), read);
            }
            at += 1;
        }
        Some(self)
    }
}

/// Reads texts, each with the bases below it.
struct Reader<'a> {
    environment: Environment<'a>,
    report: &'a mut Report,
    by_path: &'a mut BTreeMap<PathBuf, Result<usize, String>>,
    named: &'a mut BTreeSet<PathBuf>,
    /// The files that led here: none may be its own base.
    way: Vec<PathBuf>,
}

impl Reader<'_> {
    /// One text, which becomes the file of this index; `None` where its TOML, or that of a base, is broken.
    fn file(&mut self, source: Arc<Source>, folder: PathBuf, index: usize) -> Option<File> {
        let Own { base, default, sections, changes } =
            own(&source, &folder.display().to_string(), self.environment, self.report)?;
        let layer = Layer { source, folder };
        let mut file = match &base {
            None => {
                for change in &changes {
                    let text = "a change without a `base`: there is nothing to change";
                    let help = "say `base = \"shipped\"`, or the path of a file, at the top";
                    self.report.push(Diagnostic::error(text).at(change.place.clone()).help(help));
                }
                File { source: layer.source.clone(), sections, default, layers: Vec::new() }
            }
            Some(base) => {
                let mut below = self.base(base, &layer, index)?;
                below.sections = lay(below.sections, sections, changes, self.report);
                below.default.settings.retain(|name, _| !default.gaps.contains_key(name));
                below.default.settings.extend(default.settings);
                below.default.gaps.extend(default.gaps);
                below
            }
        };
        one_name_for_one_app(&file.sections, self.report);
        file.source = layer.source.clone();
        file.layers.insert(0, layer);
        Some(file)
    }

    /// The file that `base` names, as seen from `above`.
    fn base(&mut self, base: &Value, above: &Layer, index: usize) -> Option<File> {
        let wrong = |text: String| Diagnostic::error(text).at(base.place.clone());
        let Some(path) = base.as_text() else {
            let text = format!("expected \"shipped\" or the path of a file, found {}", base.kind_name());
            self.report.push(wrong(text));
            return None;
        };
        if path == "shipped" {
            let source = Source { name: "api-paste.toml (built in)".into(), text: super::SHIPPED.into() };
            return self.file(Arc::new(source), above.folder.clone(), index);
        }
        let full = above.folder.join(path);
        if self.way.contains(&key(&full)) {
            self.report.push(wrong(format!("{path} is its own base, by way of others")));
            return None;
        }
        let beside = Path::new(&above.source.name).parent().unwrap_or(Path::new("")).join(path);
        self.named.insert(beside.clone());
        let text = match config_file::text(&full) {
            Ok(text) => text,
            Err(error) => {
                self.by_path.insert(key(&full), Err(error.to_string()));
                self.report.push(wrong(format!("{path} {error}")).about(&beside));
                return None;
            }
        };
        self.by_path.insert(key(&full), Ok(index));
        self.way.push(key(&full));
        let folder = full.parent().map(Path::to_path_buf).unwrap_or_default();
        let source = Arc::new(Source { name: beside.display().to_string(), text });
        self.file(source, folder, index)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// What two ways to the same file have in common.
fn key(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| absolute(path))
}

/// The paths of `config:PATH#…` in strings, and in lists of them, and where they are written.
fn named_files(settings: &Table) -> Vec<(Place, String)> {
    let values = settings.values().flat_map(|setting| match &setting.value.kind {
        Kind::List(list) => list.iter().collect(),
        _ => vec![&setting.value],
    });
    let path = |value: &Value| {
        let (path, _) = value.as_text()?.strip_prefix("config:")?.split_once('#')?;
        Some((value.place.clone(), path.to_owned()))
    };
    values.filter_map(path).collect()
}

/// What one text says.
struct Own {
    base: Option<Value>,
    default: Interpolated,
    sections: Sections,
    changes: Vec<Section>,
}

/// Parses one text; `None` where its TOML is broken.
fn own(source: &Arc<Source>, here: &str, environment: Environment<'_>, report: &mut Report) -> Option<Own> {
    let top = toml(source, report)?;
    let mut default = Interpolated::default();
    let mut sections = BTreeMap::new();
    for (key, place, settings) in parts(source, top.get_ref(), report) {
        let Interpolated { settings, gaps } = interpolate(&settings, &default, here, environment);
        match key {
            Some(key) => {
                sections.insert(key, Raw { place, settings, gaps });
            }
            None => {
                report.extend(gaps.values().cloned());
                default = Interpolated { settings, gaps };
            }
        }
    }
    let top = value::table(source, top.get_ref());
    let listed = top.get("change").and_then(|setting| setting.value.as_list()).unwrap_or_default();
    let changes = listed.iter().filter_map(|value| {
        let Kind::Table(settings) = &value.kind else { return None };
        let Interpolated { settings, gaps } = interpolate(settings, &default, here, environment);
        Some(Section { settings, gaps, ..Section::bare("change", &value.place) })
    });
    let base = top.get("base").map(|setting| setting.value.clone());
    let changes = changes.collect();
    Some(Own { base, default, sections, changes })
}

/// The top of a TOML text; where it is broken, `None`, and the first mistake of every line.
pub fn toml<'a>(source: &'a Arc<Source>, report: &mut Report) -> Option<Spanned<DeTable<'a>>> {
    let (top, mut errors) = DeTable::parse_recoverable(&source.text);
    let start = |error: &Error| error.span().map_or(source.text.len(), |span| span.start);
    let place = |error: &Error| {
        let span = error.span().unwrap_or(source.text.len()..source.text.len());
        Place { source: source.clone(), span }
    };
    errors.sort_by_key(start);
    // One of each line. The errors are sorted: each text between two of them is searched once.
    let mut last = None;
    errors.retain(|error| {
        let at = start(error).min(source.text.len());
        let between = last.map(|last| &source.text.as_bytes()[last..at]);
        last = Some(at);
        between.is_none_or(|between| between.contains(&b'\n'))
    });
    if errors.is_empty() {
        return Some(top);
    }
    for error in errors {
        report.push(Diagnostic::error(error.message()).at(place(&error)));
    }
    None
}

/// A section as it is written: its key (none: `[default]`), its header, what it says.
type Part = (Option<(Group, String)>, Place, Table);

/// The sections of a file, `[default]` first, the others in their order.
fn parts(source: &Arc<Source>, top: &DeTable<'_>, report: &mut Report) -> Vec<Part> {
    let mut found = Vec::new();
    for (word, value) in top {
        let at = Place { source: source.clone(), span: word.span() };
        let word: &str = word.get_ref();
        match value.get_ref().as_table() {
            None if word == "base" => {}
            None if word == "change" && changes_are_tables(value.get_ref()) => {}
            None => {
                let help = "settings stand in sections: [server.NAME], [pipeline.NAME], … or [default]";
                let text = format!("`{word}` stands outside of any section");
                report.push(Diagnostic::error(text).at(at).help(help));
            }
            Some(_) if word == "default" => found.push(part(source, None, at, value)),
            Some(inner) => {
                // A misspelled kind is reported, and taken for what was meant.
                let meant = Group::named(word).or_else(|| {
                    let kinds: Vec<&str> =
                        Group::ALL.map(Group::as_str).into_iter().chain(["default"]).collect();
                    let text = format!("there are no sections of the kind `{word}`");
                    report.push(Diagnostic::error(text).at(at).suggest(word, kinds.iter().copied()));
                    nearest(word, kinds).and_then(Group::named)
                });
                if let Some(group) = meant {
                    found.extend(named_parts(source, group, inner, report));
                }
            }
        }
    }
    found.sort_by_key(|(key, place, _)| (key.is_some(), place.span.start));
    found
}

/// `[[change]]`, one or more.
fn changes_are_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(|it| it.get_ref().is_table()))
}

/// The sections of one kind.
fn named_parts(source: &Arc<Source>, group: Group, inner: &DeTable<'_>, report: &mut Report) -> Vec<Part> {
    let word = group.as_str();
    let mut found = Vec::new();
    for (name, section) in inner {
        let at = Place { source: source.clone(), span: name.span() };
        let name: &str = name.get_ref();
        if section.get_ref().is_table() {
            found.push(part(source, Some((group, name.to_owned())), at, section));
            continue;
        }
        let (text, help) = if section.get_ref().is_array() {
            (
                format!("`{word}.{name}` is a list, and has to be a section"),
                format!("write `[{word}.{name}]`"),
            )
        } else {
            let help = format!("write `[{word}.main]`, or another name");
            (format!("`{name}` stands in [{word}], which has no name"), help)
        };
        report.push(Diagnostic::error(text).at(at).help(help));
    }
    found
}

fn part(
    source: &Arc<Source>,
    name: Option<(Group, String)>,
    key: Place,
    value: &Spanned<DeValue<'_>>,
) -> Part {
    let value = Value::new(source, value);
    // The header where there is one; else (`filter.x.rate = 5`) the key.
    let header = source.text.get(value.place.span.clone()).is_some_and(|text| text.starts_with('['));
    let place = if header { value.place } else { key };
    (name, place, if let Kind::Table(table) = value.kind { table } else { Table::new() })
}

/// What an `app = "NAME"` may name has to have a name of its own.
fn one_name_for_one_app(sections: &BTreeMap<(Group, String), Raw>, report: &mut Report) {
    let mut names: BTreeMap<&str, (Group, &Raw)> = BTreeMap::new();
    let mut apps: Vec<_> = sections.iter().filter(|((group, _), _)| group.is_app()).collect();
    apps.sort_by_key(|(_, raw)| raw.place.span.start);
    for ((group, name), raw) in apps {
        if let Some((other, first)) = names.get(name.as_str()) {
            let text = format!(
                "[{}.{name}] and [{}.{name}] have one name: `{name}` could mean either",
                other.as_str(),
                group.as_str()
            );
            let line = || format!("the other one stands in line {}; rename one of them", first.place.line());
            let help = if report.is_full() { "rename one of them".to_owned() } else { line() };
            report.push(Diagnostic::error(text).at(raw.place.clone()).help(help));
        } else {
            names.insert(name, (*group, raw));
        }
    }
}

/// The whole of a file without such sections: `pileus.toml`. `None` where its TOML is broken.
pub fn whole_table(source: &Arc<Source>, report: &mut Report) -> Option<Table> {
    let top = toml(source, report)?;
    Some(value::table(source, top.get_ref()))
}
