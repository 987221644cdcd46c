//! A file upon another: `base`, and the changes to it, by name.
//!
//! ```toml
//! base = "shipped"                    # the file built into the program, or a path beside this one
//!
//! [[change]]
//! in     = "composite.v2"             # the section
//! list   = "token"                    # which of its lists; not said: `pipeline`, or every list that has the name
//! insert = "cors"                     # one name, or a list of them
//! after  = "trace"                    # or `before`
//!
//! [[change]]
//! in      = "composite.v2"
//! replace = "tokens"
//! with    = "authtoken"
//!
//! [[change]]
//! in     = "pipeline.info"
//! remove = "samesite"
//!
//! [[change]]
//! in    = "server.api"
//! set   = { listen = "[::]:8774" }
//! unset = ["max_connections"]
//!
//! [[change]]
//! in   = "server.admin"
//! drop = true                         # the whole section
//! ```
//!
//! So a site keeps what is its own, and a later version of the base reaches it. Sections beside the
//! changes are added; both files share their names. A change whose section, list or name is not there any
//! more is an error: nothing is silently not done. `${name}` means what it means in its own file.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Section,
    parse::{Group, Raw},
    value::{Kind, Setting, Table, Value},
};
use crate::diagnostic::{Diagnostic, Report};

/// Sections by kind and name.
pub type Sections = BTreeMap<(Group, String), Raw>;

/// What a change may say. Values are read from the table itself, which knows their places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(rename = "in")]
    section: String,
    list: Option<String>,
    #[serde(rename = "insert")]
    _insert: Option<Names>,
    after: Option<String>,
    before: Option<String>,
    replace: Option<String>,
    #[serde(rename = "with")]
    _with: Option<Names>,
    remove: Option<String>,
    #[serde(rename = "set")]
    _set: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    unset: Vec<String>,
    #[serde(default)]
    drop: bool,
}

/// One name, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(#[allow(dead_code, reason = "the value is read from the table")] String),
    More(#[allow(dead_code, reason = "the value is read from the table")] Vec<String>),
}

/// Lays `own` sections and `changes` upon those of the base.
pub fn lay(mut base: Sections, own: Sections, changes: Vec<Section>, report: &mut Report) -> Sections {
    for change in changes {
        report.extend(change.gaps.values().cloned());
        if let Some(said) = report.take(change.parse::<Change>()) {
            apply(&mut base, &change, &said, report);
        }
    }
    for (key, raw) in own {
        if let Some(below) = base.get(&key) {
            let (group, name) = (key.0.as_str(), &key.1);
            let text = format!("[{group}.{name}] stands in the base already, at {}", below.place);
            let help =
                format!("change it: [[change]] with in = \"{group}.{name}\", and set, or drop = true before");
            report.push(Diagnostic::error(text).at(raw.place.clone()).help(help));
            continue;
        }
        base.insert(key, raw);
    }
    base
}

fn apply(base: &mut Sections, change: &Section, said: &Change, report: &mut Report) {
    let key =
        said.section.split_once('.').and_then(|(word, name)| Some((Group::named(word)?, name.to_owned())));
    let Some(key) = key.filter(|key| base.contains_key(key)) else {
        let names: Vec<String> =
            base.keys().map(|(group, name)| format!("{}.{name}", group.as_str())).collect();
        let wrong = change.wrong("in", format!("the base has no section `{}`", said.section));
        report.push(wrong.suggest(&said.section, names.iter().map(String::as_str)));
        return;
    };
    if said.drop {
        base.remove(&key);
        return;
    }
    let Some(raw) = base.get_mut(&key) else { return };
    let mut done = false;
    if let Some(Setting { value: Value { kind: Kind::Table(set), .. }, .. }) = change.settings.get("set") {
        for (key, setting) in set {
            raw.gaps.remove(key);
            raw.settings.insert(key.clone(), setting.clone());
        }
        done = true;
    }
    for name in &said.unset {
        let gone = raw.settings.remove(name).is_some() | raw.gaps.remove(name).is_some();
        if !gone {
            let wrong = change.wrong("unset", format!("[{}] says no `{name}`", said.section));
            report.push(wrong.suggest(name, raw.settings.keys().map(String::as_str)));
        }
        done = true;
    }
    let edits = [
        (&said.after, "after", Edit::After, "insert"),
        (&said.before, "before", Edit::Before, "insert"),
        (&said.replace, "replace", Edit::Replace, "with"),
        (&said.remove, "remove", Edit::Remove, ""),
    ];
    for (anchor, word, edit, new) in edits {
        let Some(anchor) = anchor else { continue };
        done = true;
        let new = match (new, change.settings.get(new)) {
            ("", _) => Vec::new(),
            (_, Some(setting)) => names(&setting.value),
            (new, None) => {
                report.push(
                    change.wrong(word, format!("`{word}` without `{new}`: there is nothing to put there")),
                );
                continue;
            }
        };
        if let Err(wrong) = list(&mut raw.settings, change, said, (anchor, word), edit, &new) {
            report.push(wrong);
        }
    }
    for (new, anchors) in [("insert", "`after` or `before`"), ("with", "`replace`")] {
        let anchored = match new {
            "insert" => said.after.is_some() || said.before.is_some(),
            _ => said.replace.is_some(),
        };
        if change.settings.contains_key(new) && !anchored {
            report.push(change.wrong(new, format!("`{new}` without {anchors}: it is not said where")));
            done = true;
        }
    }
    if !done {
        let text = "this changes nothing: say `insert`, `replace`, `remove`, `set`, `unset` or `drop`";
        report.push(change.wrong("in", text));
    }
}

#[derive(Clone, Copy)]
enum Edit {
    After,
    Before,
    Replace,
    Remove,
}

/// Changes the lists that were meant, around the name `anchor`.
fn list(
    settings: &mut Table,
    change: &Section,
    said: &Change,
    (anchor, word): (&str, &str),
    edit: Edit,
    new: &[Value],
) -> Result<(), Diagnostic> {
    let fixed = said.list.as_deref().or_else(|| said.section.starts_with("pipeline.").then_some("pipeline"));
    let mut found = false;
    for (_, setting) in settings.iter_mut().filter(|(key, _)| fixed.is_none_or(|it| it == *key)) {
        // Where one name may stand for a list of one, the list is named.
        if setting.value.as_text() == Some(anchor) && said.list.is_some() {
            let only = setting.value.clone();
            setting.value.kind = Kind::List(vec![only]);
        }
        let Kind::List(list) = &mut setting.value.kind else { continue };
        let Some(at) = list.iter().position(|it| it.as_text() == Some(anchor)) else { continue };
        found = true;
        let range = match edit {
            Edit::After => at + 1..at + 1,
            Edit::Before => at..at,
            Edit::Replace | Edit::Remove => at..at + 1,
        };
        list.splice(range, new.iter().cloned());
    }
    if found {
        return Ok(());
    }
    let meant = settings.iter().filter(|(key, _)| fixed.is_none_or(|it| it == *key));
    let lists = meant.filter_map(|(_, setting)| match &setting.value.kind {
        Kind::List(list) => Some(list),
        _ => None,
    });
    let known: Vec<&str> = lists.flatten().filter_map(Value::as_text).collect();
    let of = said.list.as_ref().map(|list| format!(" `{list}`")).unwrap_or_default();
    let wrong = change.wrong(word, format!("there is no `{anchor}` in [{}]{of}", said.section));
    Err(wrong.suggest(anchor, known))
}

fn names(value: &Value) -> Vec<Value> {
    match &value.kind {
        Kind::List(list) => list.clone(),
        _ => vec![value.clone()],
    }
}
