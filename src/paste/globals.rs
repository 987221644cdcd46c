//! `set` and `get`: values that a section gives to whatever is loaded through it.
//!
//! ```toml
//! [pipeline.admin]
//! pipeline = ["audit", "cloud_admin"]
//! set      = { log_level = "debug" }      # for the pipeline, its filters, its app, and those below
//!
//! [filter.audit]
//! get = { level = "log_level" }           # the setting `level` is what the global `log_level` is here
//! ```
//!
//! A global is looked for in the section itself, then in those through which it was reached, the nearest
//! one first, then in the `[default]` of the file that was asked for, and last in that of the file in which
//! the `get` stands. `use` inherits both words, and an outer one replaces an inner one; a `get` and a
//! setting of one name replace each other in the same manner.
//!
//! `${name}` is not concerned: it is replaced where it is written, by whatever way a section is reached.
//! An app below which somebody gets what was set is made once for each way with other values.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Section,
    parse::Files,
    resolve::{Id, Resolved},
    value::{Kind, Setting, Table, Value},
};
use crate::diagnostic::{Diagnostic, Report};

/// The sections that have set something on the way to where we are, the nearest one last.
#[derive(Debug, Clone, Default)]
pub struct Scope(Vec<(Id, Arc<Table>)>);

impl Scope {
    /// Which sections: the same ones have set the same values.
    pub fn ids(&self) -> Vec<Id> {
        self.0.iter().map(|(id, _)| id.clone()).collect()
    }

    /// How many there are, for [`Scope::leave`].
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// From here on, what `section` sets holds too.
    pub fn enter(&mut self, id: &Id, section: &Resolved) {
        if !section.set.is_empty() {
            self.0.push((id.clone(), section.set.clone()));
        }
    }

    /// It holds no more.
    pub fn leave(&mut self, depth: usize) {
        self.0.truncate(depth);
    }

    /// Puts what `it` gets among its settings.
    pub fn give(&self, files: &Files, it: &mut Resolved, report: &mut Report) {
        for (key, asked) in std::mem::take(&mut it.get) {
            match self.find(files, &it.section, &asked.value) {
                Ok(value) => {
                    it.section.settings.insert(key, Setting { key: asked.key, value });
                }
                Err(problem) => {
                    it.section.gaps.insert(key, problem.clone());
                    report.push(problem);
                    it.broken = true;
                }
            }
        }
    }

    /// The global that `asked` names.
    fn find(&self, files: &Files, section: &Section, asked: &Value) -> Result<Value, Diagnostic> {
        let wrong =
            |text: String| Diagnostic::error(format!("[{}] {text}", section.name)).at(asked.place.clone());
        let Some(name) = asked.as_text() else {
            return Err(wrong(format!("expected the name of a global, found {}", asked.kind_name())));
        };
        let own = files.of(&asked.place).filter(|file| *file > 0);
        let defaults: Vec<_> = [Some(0), own]
            .into_iter()
            .flatten()
            .filter_map(|at| files.files.get(at))
            .map(|it| &it.default)
            .collect();
        let sets = self.0.iter().rev().map(|(_, set)| &**set);
        let tables: Vec<&Table> = sets.chain(defaults.iter().map(|it| &it.settings)).collect();
        if let Some(found) = tables.iter().find_map(|table| table.get(name)) {
            // It stands where it was asked for, like one that `${name}` brings.
            return Ok(Value { place: asked.place.clone(), ..found.value.clone() });
        }
        if let Some(problem) = defaults.iter().find_map(|it| it.gaps.get(name)) {
            return Err(problem.clone());
        }
        let text =
            format!("there is no global `{name}`: neither [default] has it, nor a `set` on the way here");
        let names: BTreeSet<&str> =
            tables.iter().flat_map(|table| table.keys()).map(String::as_str).collect();
        Err(wrong(text).suggest(name, names))
    }
}

/// The table `set` or `get` of a section, or what is wrong with it.
pub fn table<'a>(settings: &'a Table, word: &str, section: &str) -> Result<Option<&'a Table>, Diagnostic> {
    match settings.get(word).map(|setting| &setting.value) {
        None => Ok(None),
        Some(Value { kind: Kind::Table(table), .. }) => Ok(Some(table)),
        Some(other) => {
            let form = match word {
                "set" => "write `set = { name = \"value\" }`",
                _ => "write `get = { setting = \"name\" }`",
            };
            let text = format!("[{section}] `{word}`: expected a table, found {}", other.kind_name());
            Err(Diagnostic::error(text).at(other.place.clone()).help(form))
        }
    }
}
