//! The text of `api-paste.toml`, section by section, from the servers down.

use super::{servers::Server, *};

impl Paste<'_> {
    pub(super) fn text(mut self) -> Option<String> {
        let apps: Vec<usize> = (0..self.defs.len()).filter(|at| self.defs[*at].kind.is_app()).collect();
        for app in &apps {
            self.left(*app);
        }
        for def in 0..self.defs.len() {
            self.is(def);
        }
        let servers = self.servers(&apps);
        if self.out.errors.errors() > 0 {
            return None;
        }
        let mut text = String::from(
            "# Made by `pileus convert`. `pileus check` says what is wrong, `pileus pipeline` what it means.\n",
        );
        let roots: Vec<usize> = match servers.is_empty() {
            // Filters alone are part of something larger: another file names them.
            true if apps.is_empty() => {
                (0..self.defs.len()).filter(|at| self.defs[*at].kind != Kind::Server).collect()
            }
            true => Vec::new(),
            false => servers.iter().map(|server| server.app).collect(),
        };
        for root in roots {
            self.write(root);
        }
        self.unused();
        let defaults = self.default_lines();
        let served = servers
            .iter()
            .any(|server| server.name == "api" && self.defs[server.app].name == "osapi_compute");
        self.service.unread(&self.read, served, self.out);
        if let Some(place) =
            apps.first().and_then(|app| self.defs.get(*app)).map(|it| it.section.place.clone())
        {
            self.no_api(&place, servers.is_empty());
            if servers.is_empty() {
                return None;
            }
            if !self.api {
                text += "# No API is left of the file that it was made of.\n";
            }
        } else if !self.defs.is_empty() {
            let told = Diagnostic::warning("api-paste.toml is a part: it has filters and no server");
            self.out.notes.remains(told.help("name its sections in another file, `use = \"config:…\"`"));
        }
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
        Some(text)
    }

    /// Says that no API of the file is one that Pileus serves.
    fn no_api(&mut self, place: &Place, nothing: bool) {
        if self.api {
            return;
        }
        let text = match nothing {
            true => "no app of it is one that Pileus has: nothing was made of this file",
            false => "no API of it is one that Pileus serves: the made file answers no call of a client",
        };
        let help = "Pileus serves Nova's API: leave this service where it is";
        self.out.notes.add_help(place, "the API", Fate::Gone, text, help);
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
                self.api |= factory == "router";
                lines.push(line("factory", write::text(factory)));
                lines.extend(settings.iter().map(|(key, value)| line(key, write::text(value))));
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
            let kind = it.kind;
            if self.written.contains_key(&def) || kind == Kind::Server {
                continue;
            }
            let is = self.is(def);
            match (kind, is) {
                // One that stood somewhere without knowing Keystone has been spoken of.
                (Kind::Filter, Some(Is::Authenticator)) if self.left.contains_key(&def) => {}
                (Kind::Filter, Some(Is::Filter(_) | Is::Authenticator)) => {
                    self.section_gone(def, Fate::Gone, "no pipeline that is left names it");
                }
                (Kind::Filter, is) => self.filter_gone(def, is),
                (_, Some(Is::Gone(why))) => self.section_gone(def, Fate::Gone, why),
                (Kind::App, None) => {
                    let made = self.defs.get(def).map(|it| it.made.clone());
                    let factory = match made {
                        Some(Made::By(factory)) => write::one_line(&factory),
                        _ => self.name(def),
                    };
                    let text = format!("nothing here does what `{factory}` did");
                    self.section_gone(def, Fate::Unknown, &text);
                }
                _ if self.left(def) == Left::Yes => {
                    self.section_gone(def, Fate::Gone, "no server leads to it")
                }
                _ => self.section_gone(def, Fate::Gone, "nothing is left of what it is made of"),
            }
        }
    }
}
