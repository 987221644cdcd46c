//! The text of `api-paste.toml`, section by section, from the servers down.

use super::{servers::Server, *};

impl Paste<'_> {
    pub(super) fn text(mut self) -> String {
        let apps: Vec<usize> = (0..self.defs.len()).filter(|at| self.defs[*at].kind.is_app()).collect();
        for app in &apps {
            self.left(*app);
        }
        for def in 0..self.defs.len() {
            self.is(def);
        }
        let servers = self.servers(&apps);
        if self.out.errors.errors() > 0 {
            return String::new();
        }
        let mut text = String::from(
            "# Made by `pileus convert`. `pileus check` says what is wrong, `pileus pipeline` what it means.\n",
        );
        let roots: Vec<usize> = match servers.is_empty() {
            // Part of something larger: another file names what is in it.
            true => (0..self.defs.len()).filter(|at| self.defs[*at].kind != Kind::Server).collect(),
            false => servers.iter().map(|server| server.app).collect(),
        };
        for root in roots {
            self.write(root);
        }
        self.unused();
        let defaults = self.default_lines();
        if !defaults.is_empty() {
            text += "\n[default]\n";
            text += &write::lines(&defaults, "");
        }
        for Server { name, lines, comment, .. } in &servers {
            text += &format!("\n[server.{}]{comment}\n{}", write::key(name), write::lines(lines, ""));
        }
        for wants_filter in [false, true] {
            for (def, section) in &self.written {
                if self.defs.get(*def).is_some_and(|it| (it.kind == Kind::Filter) == wants_filter) {
                    text += section;
                }
            }
        }
        for (factory, name) in &self.own {
            if name != factory {
                text += &format!("\n[filter.{name}]\nfactory = {}\n", write::text(factory));
            }
        }
        text
    }

    /// `[default]`, as far as somebody names it.
    pub(super) fn default_lines(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut done: BTreeSet<String> = BTreeSet::new();
        // What is named may name others.
        while let Some(key) = self.defaults.difference(&done).next().cloned() {
            done.insert(key.clone());
            if let Some(option) = self.ini.default.get(&key) {
                let value = match self.by_name.contains(&key) {
                    true => self.typed(&self.ini.default.clone(), option),
                    false => self.toml_text(&self.ini.default.clone(), option),
                };
                let place = option.place.clone();
                lines.push((place.span.start, Line::new(&key, value, &place, &option.key)));
                self.out.notes.add(&place, format!("[DEFAULT] `{key}`"), Fate::Carried, "[default]");
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        for option in self.ini.default.options.iter().filter(|option| !done.contains(&option.key)) {
            if self.got.contains(&option.key) {
                let what = format!("[DEFAULT] `{}`", option.key);
                self.out.notes.add(&option.place, what, Fate::Carried, "where a `get` wanted it");
                continue;
            }
            let text = "only `${name}` and `get` read globals here, and nobody says that";
            self.out.notes.add(&option.place, format!("[DEFAULT] `{}`", option.key), Fate::Gone, text);
        }
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// A value in TOML, its names as ours: `%(name)s` of `[DEFAULT]` is `${name}`.
    pub(super) fn toml_text(&mut self, section: &Section, option: &Opt) -> String {
        let mut out = String::new();
        self.expand(section, &option.value, 0, &mut out);
        write::long_text(&out)
    }

    pub(super) fn expand(&mut self, section: &Section, value: &str, depth: usize, out: &mut String) {
        for piece in pieces(value) {
            match piece {
                Piece::Text(text) => out.push_str(&text.replace("${", "$${")),
                Piece::Name("here") => out.push_str("${here}"),
                Piece::Name(name) => {
                    let in_default = section.name == "DEFAULT" || section.get(name).is_none();
                    match section.get(name).or_else(|| self.ini.default.get(name)) {
                        Some(_) if in_default => {
                            self.defaults.insert(name.to_owned());
                            out.push_str(&format!("${{{name}}}"));
                        }
                        Some(inner) if depth < 10 => {
                            let inner = inner.value.clone();
                            self.expand(section, &inner, depth + 1, out);
                        }
                        _ => out.push_str(&format!("%({name})s")),
                    }
                }
            }
        }
    }

    /// Writes a section, and what it names.
    pub(super) fn write(&mut self, def: usize) {
        let Some(it) = self.defs.get(def) else { return };
        if self.written.contains_key(&def) || it.kind.is_app() && self.left(def) == Left::No {
            return;
        }
        let Some(it) = self.defs.get(def) else { return };
        let (kind, section, name, made) = (it.kind, it.section, ours(&it.name), it.made.clone());
        self.written.insert(def, String::new());
        let mut text_kind = kind;
        let mut lines = Vec::new();
        let is = self.is(def);
        let line = |key: &str, value: String| Line { key: write::key(key), value, comment: String::new() };
        match (kind, &made, is) {
            (Kind::Pipeline, ..) => {
                let names =
                    section.get("pipeline").map(|option| (option.clone(), self.list(section, option)));
                if let Some((option, names)) = names {
                    let list = self.pipeline(&names, &option.place, false);
                    lines.push(line("pipeline", write::list(&list)));
                }
                self.extras(section, &["pipeline"], Some(&mut lines));
            }
            (_, Made::Elsewhere(reference), _) => {
                lines.push(line("use", write::text(reference)));
                self.foreign(section, &mut lines);
            }
            (Kind::FilterApp, ..) => {
                let Some(option) = section.get("next").cloned() else { return };
                let next = self.list(section, &option);
                match is {
                    Some(Is::Filter(factory)) => {
                        lines.extend(self.origin(&made, factory, kind));
                        self.settings(section, factory, &["next"], &mut lines);
                        if factory == "noauth" && section.get("filter-with").is_none() {
                            self.added(&section.place, "samesite", "it keeps web pages away from `noauth`");
                            let name = self.put_in("samesite");
                            lines.push(line("filter-with", write::text(&name)));
                        }
                        if let Some(next) = next.last().and_then(|name| self.app_name(name, &option.place)) {
                            lines.push(line("next", write::text(&next)));
                        }
                    }
                    _ => {
                        // Without its filter it is its app.
                        self.filter_gone(def, is);
                        text_kind = Kind::Pipeline;
                        let list = self.pipeline(&next, &option.place, is == Some(Is::Authenticator));
                        lines.push(line("pipeline", write::list(&list)));
                    }
                }
            }
            (Kind::Filter, _, Some(Is::Filter(factory))) => {
                lines.extend(self.origin(&made, factory, kind));
                self.settings(section, factory, &[], &mut lines);
            }
            (Kind::Filter, _, Some(Is::Authenticator)) => {
                lines.extend(self.origin(&made, "authtoken", kind));
                self.settings(section, "authtoken", &[], &mut lines);
            }
            (Kind::App | Kind::Composite, Made::Like(other), _) => {
                text_kind = Kind::Pipeline;
                let place = section.place.clone();
                let list: Vec<String> = self.app_name(other, &place).into_iter().collect();
                lines.push(line("pipeline", write::list(&list)));
                self.extras(section, &["use"], Some(&mut lines));
            }
            (_, _, Some(Is::App(factory, settings))) => {
                text_kind = Kind::App;
                lines.push(line("factory", write::text(factory)));
                lines.extend(settings.iter().map(|(key, value)| line(key, write::text(value))));
                if factory == "versions" && !settings.is_empty() {
                    let text = "it answers with the list of all versions, there are no more, instead of this one alone";
                    self.out.notes.add(&section.place, format!("[{}]", section.name), Fate::Differs, text);
                }
                self.settings(section, factory, &[], &mut lines);
            }
            (_, _, Some(is @ (Is::Urlmap { .. } | Is::Cascade | Is::Strategies))) => {
                text_kind = Kind::Composite;
                self.composite(def, is, &mut lines);
            }
            _ => {}
        }
        self.filter_with(section, &mut lines);
        let place = write::place(&section.place);
        let to = format!("[{}.{}]", text_kind.as_str(), write::key(&name));
        self.out.notes.add(&section.place, format!("[{}]", section.name), Fate::Carried, to.clone());
        // A filter without settings needs no section.
        let same = match is {
            Some(Is::Filter(factory)) => factory == name,
            Some(Is::Authenticator) => name == "authtoken",
            _ => false,
        };
        let bare = kind == Kind::Filter && same && lines.len() == 1;
        let text =
            if bare { String::new() } else { format!("\n{to}  # {place}\n{}", write::lines(&lines, "")) };
        self.written.insert(def, text);
    }

    /// What no server reaches.
    pub(super) fn unused(&mut self) {
        for def in 0..self.defs.len() {
            let Some(it) = self.defs.get(def) else { continue };
            let (what, place, kind) = (it.what(), it.section.place.clone(), it.kind);
            if self.written.contains_key(&def) || kind == Kind::Server {
                continue;
            }
            let is = self.is(def);
            match (kind, is) {
                // One that stood somewhere without knowing Keystone has been spoken of.
                (Kind::Filter, Some(Is::Authenticator)) if self.left.contains_key(&def) => {}
                (Kind::Filter, Some(Is::Filter(_) | Is::Authenticator)) => {
                    self.out.notes.add(&place, what, Fate::Gone, "no pipeline that is left names it");
                }
                (Kind::Filter, is) => self.filter_gone(def, is),
                (_, Some(Is::Gone(why))) => self.out.notes.add(&place, what, Fate::Gone, why),
                (Kind::App, None) => {
                    let made = self.defs.get(def).map(|it| it.made.clone());
                    let factory = match made {
                        Some(Made::By(factory)) => write::one_line(&factory),
                        _ => self.name(def),
                    };
                    let text = format!("nothing here does what `{factory}` did");
                    self.out.notes.add(&place, what, Fate::Unknown, text);
                }
                _ if self.left(def) == Left::Yes => {
                    self.out.notes.add(&place, what, Fate::Gone, "no server leads to it");
                }
                _ => self.out.notes.add(&place, what, Fate::Gone, "nothing is left of what it is made of"),
            }
        }
    }
}
