//! What is said of names that mean nothing, and of sections that nobody names.

use pileus_sdk::Mount;

use super::{
    check::{APP_LIKE, Checker},
    parse::Group,
    resolve::{Id, Reference, look_up},
    value::Value,
};
use crate::diagnostic::{Diagnostic, nearest, shortened};

impl Checker<'_> {
    /// There is nothing of this name; says so, and what there is instead.
    pub fn unknown(&mut self, name: &str, reference: &Value, wanted: &[Group]) -> Diagnostic {
        let filter_wanted = wanted == [Group::Filter];
        let (noun, other, others): (_, _, &[Group]) = match filter_wanted {
            true => ("filter", "an app, and stands where a filter", &APP_LIKE),
            false => ("app", "a filter, and stands where an app", &[Group::Filter]),
        };
        let is_other = match look_up(self.files, reference, others) {
            Ok(Reference::Section(id)) => {
                // Used wrongly, yet used.
                self.used.insert(id);
                true
            }
            _ if filter_wanted => {
                self.catalog.app(name).is_some() || Mount::ALL.iter().any(|mount| mount.as_str() == name)
            }
            _ => self.catalog.filter(name).is_some(),
        };
        let place = reference.place.clone();
        if is_other {
            return Diagnostic::error(format!("`{name}` is {other} has to stand"))
                .at(place)
                .help("the last name of a pipeline is its app, all others are filters");
        }
        let wrong = Diagnostic::error(format!("there is no {noun} `{}`", shortened(name))).at(place.clone());
        if self.report.is_full() {
            return wrong;
        }
        let file = self.files.of(&place).unwrap_or(0);
        let keys = self.files.files.get(file).map(|file| file.sections.keys()).into_iter().flatten();
        let sections = keys.filter(|(group, _)| wanted.contains(group));
        let mut names: Vec<&str> = sections.clone().map(|(_, name)| name.as_str()).collect();
        match filter_wanted {
            true => names.extend(self.catalog.filters.iter().map(|it| it.name)),
            false => {
                names.extend(self.catalog.apps.iter().map(|it| it.name).filter(|it| *it != "router"));
                names.extend(Mount::ALL.map(Mount::as_str));
            }
        }
        names.sort_unstable();
        names.dedup();
        if let Some(near) = nearest(name, names.iter().copied())
            && let Some((group, _)) = sections.clone().find(|(_, it)| it == near)
        {
            // It was meant: that nobody uses it is no second mistake.
            self.used.insert(Id { file, group: *group, name: near.to_owned() });
        }
        wrong.suggest(name, names)
    }

    /// Says which globals are set and nobody gets.
    pub fn set_for_nobody(&mut self) {
        // A `get` with a mistake may have meant one.
        if self.lost || self.report.errors() > 0 {
            return;
        }
        for (name, place) in self.set.iter().filter(|(name, _)| !self.got.contains(*name)) {
            let wrong = Diagnostic::warning(format!("nobody gets the global `{name}`")).at(place.clone());
            let help = format!(
                "who wants it says `get = {{ setting = \"{name}\" }}`; `${{{name}}}` does not see it"
            );
            self.report.push(wrong.help(help));
        }
    }

    /// Says which sections of the first file nobody uses.
    pub fn unused(&mut self) {
        let Some(file) = self.files.files.first() else { return };
        if self.lost {
            return;
        }
        for ((group, name), raw) in &file.sections {
            let used = |group: &Group| self.used.contains(&Id { file: 0, group: *group, name: name.clone() });
            // Of two apps with one name, only the first can be used; that was said.
            if used(group) || group.is_app() && APP_LIKE.iter().any(used) {
                continue;
            }
            // What a base has for others is not this file's fault.
            if file.is_bases(&raw.place) {
                continue;
            }
            let word = group.as_str();
            let warning = Diagnostic::warning(format!("nobody uses [{word}.{name}]")).at(raw.place.clone());
            let compiled_in: Vec<&str> = match group {
                Group::Filter => self.catalog.filters.iter().map(|it| it.name).collect(),
                _ => Vec::new(),
            };
            let known = compiled_in.contains(&name.as_str());
            self.report.push(match nearest(name, compiled_in) {
                Some(near) if !known => warning.help(format!("did you mean `[{word}.{near}]`?")),
                _ if *group == Group::Filter => {
                    warning.help(format!("name `{name}` in a pipeline, or delete the section"))
                }
                _ => warning.help(format!("name `{name}` where an app is wanted, or delete the section")),
            });
        }
    }
}
