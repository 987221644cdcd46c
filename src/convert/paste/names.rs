//! Names in pipelines: what is written for them, and what is said where nothing is.

use super::*;

/// Of an `authtoken` that does not know Keystone.
pub(super) const ELSEWHERE: &str =
    "it does not say where Keystone is and who asks it, as [keystone_authtoken] of another file did";
pub(super) const HELP: &str = "`tokens` knows the tokens of this service (`/v2/{project_id}/tokens`), not those of Keystone: fill [filter.authtoken] as the shipped api-paste.toml shows it, and name it";

impl Paste<'_> {
    /// `factory`, or `use` of what was used.
    pub(super) fn origin(&mut self, made: &Made, factory: &str, kind: Kind) -> Option<Line> {
        let (key, value) = match made {
            Made::Like(other) if kind != Kind::App => {
                if let Some(def) =
                    self.defs.iter().position(|def| def.name == *other && def.kind == Kind::Filter)
                {
                    self.write(def);
                }
                ("use", ours(other))
            }
            _ => ("factory", factory.to_owned()),
        };
        Some(Line { key: key.into(), value: write::text(&value), comment: String::new() })
    }

    pub(super) fn filter_with(&mut self, section: &Section, lines: &mut Vec<Line>) {
        let Some(option) = section.get("filter-with").cloned() else { return };
        for name in self.list(section, &option) {
            if let Some(name) = self.filter_name(&name, &option.place) {
                lines.push(Line {
                    key: "filter-with".into(),
                    value: write::text(&name),
                    comment: String::new(),
                });
            } else {
                let what = format!("[{}] `filter-with`", section.name);
                self.out.notes.add(&option.place, what, Fate::Gone, format!("of `{name}` nothing is left"));
            }
        }
    }

    /// The app of this name, as we write it; `None`: nothing of it is left.
    pub(super) fn app_name(&mut self, name: &str, place: &Place) -> Option<String> {
        match self.named(name, false, place)? {
            Named::Def(def) if self.left(def) == Left::Yes => {
                self.write(def);
                Some(ours(&self.name(def)))
            }
            Named::Def(_) => None,
            Named::Elsewhere(reference) => {
                self.api = true;
                let text = "which kind of app it is stands in the other file: `app.` is a guess";
                self.out.notes.add(place, format!("`{name}`"), Fate::Differs, text);
                Some(reference)
            }
            Named::Factory(_, Is::App(factory, _)) => {
                self.api |= factory == "router";
                Some(if factory == "router" { "tenant" } else { factory }.into())
            }
            Named::Factory(..) => None,
        }
    }

    /// The filter of this name, as we write it; `None`: there is none here.
    pub(super) fn filter_name(&mut self, name: &str, place: &Place) -> Option<String> {
        match self.named(name, true, place)? {
            Named::Def(def) => match (self.is(def), self.defs.get(def).map(|it| it.made.clone())) {
                (Some(Is::Filter(_)), _) | (_, Some(Made::Elsewhere(_))) => {
                    self.write(def);
                    Some(ours(&self.name(def)))
                }
                (is, _) => {
                    self.filter_gone(def, is);
                    None
                }
            },
            Named::Elsewhere(reference) => Some(reference),
            Named::Factory(_, Is::Filter(factory)) => Some(factory.into()),
            Named::Factory(factory, is) => {
                self.gone(place, format!("`{name}`"), &factory, Some(is).filter(|it| *it != Is::Gone("")));
                None
            }
        }
    }

    /// Says, once, why a filter is not there.
    pub(super) fn filter_gone(&mut self, def: usize, is: Option<Is>) {
        if self.left.insert(def, Left::No).is_none()
            && let Some(it) = self.defs.get(def)
        {
            let place = it.section.place.clone();
            let factory = match &it.made {
                Made::By(factory) => factory.clone(),
                _ => it.name.clone(),
            };
            let what = self.with_settings(def);
            self.gone(&place, what, &factory, is);
            self.settings_gone(def);
        }
    }

    /// Says that a section is left out, with its settings.
    pub(super) fn section_gone(&mut self, def: usize, fate: Fate, text: &str) {
        let Some(place) = self.defs.get(def).map(|it| it.section.place.clone()) else { return };
        let what = self.with_settings(def);
        self.out.notes.add(&place, what, fate, text);
        self.settings_gone(def);
    }

    /// Settings of a section that is left out: each has its note, and the section's names them.
    fn settings_gone(&mut self, def: usize) {
        let Some(it) = self.defs.get(def) else { return };
        for option in self.own_settings(def) {
            let what = format!("[{}] `{}`", it.section.name, option.key);
            self.out.notes.add_within(&option.place, what, Fate::Gone, "its section is left out");
        }
    }

    fn with_settings(&self, def: usize) -> String {
        let Some(it) = self.defs.get(def) else { return String::new() };
        let settings: Vec<String> = self.own_settings(def).into_iter().map(|it| it.key).collect();
        match settings.is_empty() {
            true => it.what(),
            false => format!("{} with {}", it.what(), words(&settings, "and")),
        }
    }

    /// Options of a section that are neither its origin nor its structure.
    fn own_settings(&self, def: usize) -> Vec<Opt> {
        let Some(it) = self.defs.get(def) else { return Vec::new() };
        let structure = |key: &str| match it.kind {
            Kind::Pipeline => key == "pipeline",
            Kind::FilterApp => key == "next",
            Kind::Composite => key != "require" && !key.starts_with("set "),
            _ => false,
        };
        let own = |option: &&Opt| {
            let key = option.key.as_str();
            !matches!(key, "use" | "filter-with") && !PROTOCOLS.contains(&key) && !structure(key)
        };
        it.section.options.iter().filter(own).cloned().collect()
    }

    pub(super) fn gone(&mut self, place: &Place, what: String, factory: &str, is: Option<Is>) {
        match is {
            Some(Is::Gone(why)) => self.out.notes.add(place, what, Fate::Gone, why),
            Some(Is::Authenticator) => {
                self.out.notes.add_help(
                    place,
                    what,
                    Fate::NotYet,
                    format!("{ELSEWHERE}: `tokens` stands in its place"),
                    HELP,
                );
            }
            Some(_) => self.out.notes.add(place, what, Fate::Gone, "an app stands where a filter has to"),
            None => {
                let text = format!("nothing here does what `{}` did", write::one_line(factory));
                let help = "where it kept somebody out, nothing does so now";
                self.out.notes.add_help(place, what, Fate::Unknown, text, help);
            }
        }
    }

    /// The name of a filter that is put in: its own, unless the old file means something else by it.
    pub(super) fn put_in(&mut self, factory: &'static str) -> String {
        let taken = self.defs.iter().position(|def| def.kind == Kind::Filter && ours(&def.name) == factory);
        let same =
            taken.is_none_or(|def| self.is(def) == Some(Is::Filter(factory)) || self.is(def).is_none());
        let plain = taken.is_none() || same && factory != "ratelimit";
        let name = if plain { factory.to_owned() } else { format!("own_{factory}") };
        self.own.insert(factory, name.clone());
        name
    }
}
