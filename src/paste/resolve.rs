//! References to sections, and inheritance: from a name in a file to a [`Section`] with all its
//! settings.
//!
//! A name means a section of the file in which the name is written. Where there is none, it means
//! compiled-in code of that name with its defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    Section, globals,
    parse::{Files, Group, Raw},
    value::{Setting, Table, Value},
};
use crate::diagnostic::{Diagnostic, Place, Report, shortened};

/// Which section: file, kind, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Index into [`Files::files`].
    pub file: usize,
    /// Its kind.
    pub group: Group,
    /// Its name.
    pub name: String,
}

/// What a reference says.
pub enum Reference {
    /// A section that is there.
    Section(Id),
    /// A name for which the file has no section of the kinds that were asked for.
    Name(String),
}

/// A section with what it inherits.
#[derive(Debug)]
pub struct Resolved {
    /// The section without the keys that are told apart here.
    pub section: Section,
    /// `factory`: the name of compiled-in code, and where it is written.
    pub factory: Option<(String, Place)>,
    /// `filter-with`: the filter around it.
    pub filter_with: Option<Value>,
    /// `set`: globals for itself and for what is loaded through it.
    pub set: Arc<Table>,
    /// `get`: settings that are globals, by what these are called.
    pub get: Table,
    /// Whether parts of it could not be read: what it is made of is not known for certain.
    pub broken: bool,
}

/// Looks up what `reference` names among sections of these kinds.
pub fn look_up(files: &Files, reference: &Value, wanted: &[Group]) -> Result<Reference, Diagnostic> {
    let wrong = |text: String| Diagnostic::error(text).at(reference.place.clone());
    let form = "write `config:FILE#KIND.NAME`, as in `config:site.toml#filter.limit`";
    let Some(text) = reference.as_text() else {
        return Err(wrong(format!("expected a name, found {}", reference.kind_name())));
    };
    let from = files.of(&reference.place).unwrap_or(0);
    let find = |file: usize, name: &str, groups: &[Group]| {
        let sections = &files.files.get(file)?.sections;
        let group = groups.iter().find(|group| sections.contains_key(&(**group, name.to_owned())))?;
        Some(Reference::Section(Id { file, group: *group, name: name.to_owned() }))
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        return Ok(find(from, text, wanted).unwrap_or_else(|| Reference::Name(text.to_owned())));
    };
    if scheme != "config" {
        return Err(wrong(format!("`{scheme}:` is no scheme, there is only `config:`")).help(form));
    }
    let Some((path, (word, name))) =
        rest.split_once('#').and_then(|(path, section)| Some((path, section.split_once('.')?)))
    else {
        return Err(wrong(format!("`{text}` says no section")).help(form));
    };
    let Some(group) = Group::named(word) else {
        let words = Group::ALL.map(Group::as_str);
        return Err(wrong(format!("there are no sections of the kind `{word}`")).suggest(word, words));
    };
    if !wanted.contains(&group) {
        let wanted = wanted.first().map_or("", |group| group.as_str());
        return Err(wrong(format!("`{word}.{name}` is of the kind `{word}`, and `{wanted}` is wanted here")));
    }
    let file = files.named(&reference.place, path).map_err(|why| {
        let beside = Path::new(&reference.place.source.name).parent().unwrap_or(Path::new(""));
        wrong(format!("{path} {why}")).about(beside.join(path))
    })?;
    find(file, name, &[group]).ok_or_else(|| {
        let sections = files.files.get(file).map(|file| file.sections.keys());
        let names = sections.into_iter().flatten().filter(|(it, _)| *it == group);
        wrong(format!("{path} has no section [{word}.{name}]"))
            .suggest(name, names.map(|(_, name)| name.as_str()))
    })
}

/// The section `id`, with what it inherits by `use`: an outer key replaces an inner one.
///
/// `compiled_in` tells whether a name is that of compiled-in code of this kind. Every section on
/// the way goes into `used`.
pub fn resolve(
    files: &Files,
    id: &Id,
    compiled_in: &dyn Fn(&str) -> bool,
    used: &mut BTreeSet<Id>,
    report: &mut Report,
) -> Option<Resolved> {
    let raw = raw(files, id)?;
    let name = format!("{}.{}", id.group.as_str(), id.name);
    let section = Section::bare(&name, &raw.place);
    let (set, get) = (Arc::default(), Table::new());
    let mut it = Resolved { section, factory: None, filter_with: None, set, get, broken: false };
    let mut set = BTreeMap::new();
    // A filter-app is a filter to whoever inherits: its `next` is its own.
    let kind = if id.group == Group::FilterApp { Group::Filter } else { id.group };
    let mut way = vec![id.clone()];
    let (mut at, mut current) = (id.clone(), raw);
    loop {
        used.insert(at.clone());
        report.extend(current.gaps.values().cloned());
        let Section { settings, gaps, .. } = &mut it.section;
        let gets = globals(current, "get", &name, &mut it.broken, report);
        for (key, setting) in gets.filter(|(key, _)| !settings.contains_key(*key) && !gaps.contains_key(*key))
        {
            if let Some(twice) = current.settings.get(key) {
                let text = format!("[{name}] `{key}` is a setting here, and `get` says it too");
                report.push(
                    Diagnostic::error(text).at(setting.key.clone()).help(format!(
                        "the other one stands in line {}; delete one of them",
                        twice.key.line()
                    )),
                );
            }
            it.get.entry(key.clone()).or_insert_with(|| setting.clone());
        }
        for (key, setting) in globals(current, "set", &name, &mut it.broken, report) {
            set.entry(key.clone()).or_insert_with(|| setting.clone());
        }
        let words = |key: &str| matches!(key, "set" | "get");
        let own = current.settings.iter().filter(|(key, _)| !words(key));
        for (key, setting) in own.filter(|(key, _)| !gaps.contains_key(*key) && !it.get.contains_key(*key)) {
            settings.entry(key.clone()).or_insert_with(|| setting.clone());
        }
        for (key, why) in current.gaps.iter().filter(|(key, _)| !settings.contains_key(*key)) {
            gaps.entry(key.clone()).or_insert_with(|| why.clone());
        }
        it.broken |= ["set", "get"].iter().any(|key| current.gaps.contains_key(*key));
        if ["use", "factory"].iter().any(|key| current.gaps.contains_key(*key)) {
            it.broken = true;
            break;
        }
        let Some(inherit) = current.settings.get("use") else {
            match factory(&at, current, compiled_in) {
                Ok(factory) => it.factory = factory,
                Err(problem) => {
                    report.push(problem);
                    it.broken = true;
                }
            }
            break;
        };
        if let Some(factory) = current.settings.get("factory") {
            let text = format!("[{name}] says both `factory` and `use`: one of them has to go");
            report.push(Diagnostic::error(text).at(factory.key.clone()));
        }
        match look_up(files, &inherit.value, &[kind]) {
            Err(problem) => report.push(problem),
            Ok(Reference::Name(word)) if compiled_in(&word) => {
                it.factory = Some((word, inherit.value.place.clone()));
                break;
            }
            Ok(Reference::Name(word)) => {
                report.push(unknown(files, &inherit.value, kind, &word, report.is_full()))
            }
            Ok(Reference::Section(next)) if way.contains(&next) => {
                let from = way.iter().position(|it| *it == next).unwrap_or(0);
                let names = way[from..].iter().chain([&next]).map(|it| label(files, it));
                let text = format!("`use` goes round: {}", names.collect::<Vec<_>>().join(" → "));
                report.push(Diagnostic::error(text).at(inherit.value.place.clone()));
            }
            Ok(Reference::Section(next)) => {
                if let Some(inner) = self::raw(files, &next) {
                    way.push(next.clone());
                    (at, current) = (next, inner);
                    continue;
                }
            }
        }
        it.broken = true;
        break;
    }
    it.set = Arc::new(set);
    let mut take = |key: &str| it.section.settings.remove(key).map(|setting: Setting| setting.value);
    // What a kind does not know stays, and is an unknown key.
    take("use");
    if !matches!(id.group, Group::Server | Group::Pipeline) {
        take("factory");
    }
    if id.group != Group::Server {
        it.filter_with = take("filter-with");
    }
    Some(it)
}

/// What a section says with `set` or `get`; where it makes no sense, that is reported.
fn globals<'a>(
    raw: &'a Raw,
    word: &str,
    name: &str,
    broken: &mut bool,
    report: &mut Report,
) -> impl Iterator<Item = (&'a String, &'a Setting)> + use<'a> {
    let table = globals::table(&raw.settings, word, name);
    *broken |= table.is_err();
    report.take(table).flatten().into_iter().flatten()
}

/// `filter.limit`; in another file than the first one with its name, `site.toml#filter.limit`.
pub fn label(files: &Files, id: &Id) -> String {
    let file = match files.files.get(id.file) {
        Some(file) if id.file > 0 => format!("{}#", file.source.name),
        _ => String::new(),
    };
    format!("{file}{}.{}", id.group.as_str(), id.name)
}

/// The section as it stands in its file.
pub fn raw<'a>(files: &'a Files, id: &Id) -> Option<&'a Raw> {
    files.files.get(id.file)?.sections.get(&(id.group, id.name.clone()))
}

/// What a section without `use` is made by: what it says, or else its own name.
fn factory(
    id: &Id,
    raw: &Raw,
    compiled_in: &dyn Fn(&str) -> bool,
) -> Result<Option<(String, Place)>, Diagnostic> {
    let Some(Setting { value, .. }) = raw.settings.get("factory") else {
        return Ok(compiled_in(&id.name).then(|| (id.name.clone(), raw.place.clone())));
    };
    match value.as_text() {
        Some(text) => Ok(Some((text.to_owned(), value.place.clone()))),
        None => {
            let text = format!("expected the name of a factory, found {}", value.kind_name());
            Err(Diagnostic::error(text).at(value.place.clone()))
        }
    }
}

/// There is nothing of this name. With `many` other problems, nothing like it is looked for.
fn unknown(files: &Files, reference: &Value, group: Group, word: &str, many: bool) -> Diagnostic {
    let text = format!("there is no section [{}.{}]", group.as_str(), shortened(word));
    let wrong = Diagnostic::error(text).at(reference.place.clone());
    if many {
        return wrong;
    }
    let file = files.of(&reference.place).and_then(|at| files.files.get(at));
    let keys = file.map(|file| file.sections.keys()).into_iter().flatten();
    let names = keys.filter(|(it, _)| *it == group).map(|(_, name)| name.as_str());
    wrong.suggest(word, names.collect::<Vec<_>>())
}
