//! Settings of filters and apps.

use super::*;

impl<'a> Paste<'a> {
    /// Settings of a filter or an app.
    pub(super) fn settings(
        &mut self,
        section: &'a Section,
        factory: &str,
        known: &[&str],
        lines: &mut Vec<Line>,
    ) {
        for option in &section.options {
            let key = option.key.as_str();
            if key == "use" || key == "filter-with" || PROTOCOLS.contains(&key) || known.contains(&key) {
                continue;
            }
            let place = &option.place;
            let what = format!("[{}] `{key}`", section.name);
            if self.ini.default.get(key).is_some() || matches!(key, "here" | "__file__") {
                let text =
                    "Paste took the one of [DEFAULT] for a global, and left this one out without a word";
                self.out.notes.add(place, what, Fate::Gone, text);
                continue;
            }
            if let Some(("set", name)) = global(key) {
                self.set(section, option, name, what, Some(&mut *lines));
                continue;
            }
            let Some((source, name)) = self.setting_source(section, option, &what) else { continue };
            let known = factories::setting(factory, &name);
            if let Some(("get", _)) = global(key)
                && let Some(Setting::Number(to) | Setting::Bool(to) | Setting::Text(to)) = known
                && self.set_on_the_way(section, &option.value)
            {
                self.by_name.insert(option.value.clone());
                self.defaults.insert(option.value.clone());
                lines.push(dotted("get", to, write::text(&option.value), option));
                self.out.notes.add(place, what, Fate::Carried, "get");
                continue;
            }
            self.setting(section, &source, option, factory, &name, lines);
        }
        self.service_settings(section, factory, lines);
        let says = lines.iter().any(|line| line.key == "limits" || line.key == "use");
        if factory == "ratelimit" && !says {
            self.default_limits(section, lines);
        }
    }

    /// Settings that a service's own file has for a filter. Those of `section` go first.
    pub(super) fn service_settings(&mut self, section: &Section, factory: &str, lines: &mut Vec<Line>) {
        let service = self.service;
        let Some((factory, sections)) = service.filters.get_key_value(factory) else { return };
        // Filters of one kind share these settings; one note is enough.
        let again = !self.read.insert(factory);
        let before = self.out.notes.count();
        for other in sections {
            for option in other.options.iter().filter(|option| section.get(&option.key).is_none()) {
                if let Some(Setting::Secret("password", _)) = factories::setting(factory, &option.key) {
                    let value = write::text("${here}/keystone-password");
                    lines.push(Line::new("password_file", value, &option.place, &option.key));
                    let what = format!("[{}] `{}`", other.name, option.key);
                    let text = "secrets are not carried over: it is read from a file";
                    let help = "write it into `keystone-password` beside api-paste.toml, mode 0600";
                    self.out.notes.add_help(&option.place, what, Fate::Differs, text, help);
                    continue;
                }
                self.setting(other, option, option, factory, &option.key, lines);
            }
        }
        // Two options of that file may be one setting here: the first one holds.
        let mut keys = BTreeSet::new();
        lines.retain(|line| keys.insert(line.key.clone()));
        if again {
            self.out.notes.truncate(before);
        }
    }

    /// Writes what one setting becomes. `source` says its value, `option` where it stands.
    pub(super) fn setting(
        &mut self,
        section: &Section,
        source: &Opt,
        option: &Opt,
        factory: &str,
        name: &str,
        lines: &mut Vec<Line>,
    ) {
        let (key, place) = (option.key.as_str(), &option.place);
        let what = format!("[{}] `{key}`", section.name);
        match factories::setting(factory, name) {
            Some(Setting::Number(to)) => match number(self.ini, section, source, &what) {
                Ok(number) => {
                    // -1: Keystone is asked every time.
                    let number = if to == "token_cache_time" { number.max(0) } else { number };
                    lines.push(Line::new(to, number.to_string(), place, key));
                    self.out.notes.add(place, what, Fate::Carried, to);
                }
                Err(problem) => self.out.errors.push(problem),
            },
            Some(Setting::Limits(to)) => self.limits(section, source, to, what, lines),
            Some(Setting::Text(to)) => {
                let value = self.toml_text(section, source);
                self.say(to, value, place, key, what, lines);
            }
            Some(Setting::Bool(to)) => match boolean(source.value.trim()) {
                Some(is) => self.say(to, is.to_string(), place, key, what, lines),
                None => self.error(format!("{what} is neither true nor false"), place),
            },
            Some(Setting::Words(to)) => {
                let words: Vec<String> = source.value.split(',').map(|it| it.trim().to_owned()).collect();
                let words: Vec<String> = words.into_iter().filter(|it| !it.is_empty()).collect();
                self.say(to, write::list(&words), place, key, what, lines);
            }
            Some(Setting::OneOf(to, all)) => {
                let names = source.value.split([',', ' ', '\n']).map(str::trim).filter(|it| !it.is_empty());
                let (known, other): (Vec<&str>, Vec<&str>) = names.partition(|it| all.contains(it));
                lines.push(Line::new(to, write::list(&known), place, key));
                match other.is_empty() {
                    true => self.out.notes.add(place, what, Fate::Carried, to),
                    false => {
                        let text = format!("there is no {} here", words(&other, "and"));
                        self.out.notes.add(place, what, Fate::Differs, text);
                    }
                }
            }
            Some(Setting::Proxies(to)) => match boolean(source.value.trim()) {
                Some(true) => {
                    lines.push(Line::new(to, write::list(&["127.0.0.1", "::1"]), place, key));
                    let text = "there every caller was believed to be a proxy; here those that are named, and \
                                written are those of this host";
                    let help = "put the addresses of your proxies into `trusted_proxies`";
                    self.out.notes.add_help(place, what, Fate::Differs, text, help);
                }
                Some(false) => self.out.notes.add(place, what, Fate::Carried, "no proxy is believed"),
                None => self.error(format!("{what} is neither true nor false"), place),
            },
            Some(Setting::Secret(to, variable)) => {
                let value = write::text(&format!("${{env:{variable}}}"));
                lines.push(Line::new(to, value, place, key));
                let text =
                    format!("secrets are not carried over: it comes from the environment, in {variable}");
                self.out.notes.add(place, what, Fate::Differs, text);
            }
            Some(Setting::KeystoneHost) => {
                let beside = |name: &str, default: &str| {
                    section.get(name).map_or(default.to_owned(), |it| it.value.trim().to_owned())
                };
                // Its own defaults.
                let (protocol, port) = (beside("auth_protocol", "https"), beside("auth_port", "35357"));
                let value = format!("{protocol}://{}:{port}", source.value.trim());
                let value = self.toml_text(section, &Opt { value, ..source.clone() });
                self.say("auth_url", value, place, key, what, lines);
            }
            Some(Setting::BesideHost) if section.get("auth_host").is_some() => {
                self.out.notes.add(place, what, Fate::Carried, "auth_url");
            }
            Some(Setting::BesideHost) => {
                self.out.notes.add(place, what, Fate::Gone, "there is no `auth_host` beside it");
            }
            Some(Setting::NotYet(why)) => self.out.notes.add(place, what, Fate::NotYet, why),
            Some(Setting::Gone(why)) => self.out.notes.add(place, what, Fate::Gone, why),
            None => {
                let text = format!("`{factory}` has no such setting");
                self.out.notes.add(place, what, Fate::Unknown, text);
            }
        }
    }

    fn say(
        &mut self,
        to: &str,
        value: String,
        place: &Place,
        key: &str,
        what: String,
        lines: &mut Vec<Line>,
    ) {
        lines.push(Line::new(to, value, place, key));
        self.out.notes.add(place, what, Fate::Carried, to);
    }

    /// What an option says, and under which name: `get x = y` says what `set y` or `[DEFAULT]` says.
    pub(super) fn setting_source(
        &mut self,
        section: &Section,
        option: &Opt,
        what: &str,
    ) -> Option<(Opt, String)> {
        let place = &option.place;
        match global(&option.key) {
            Some(("get", name)) => {
                let wanted = option.value.as_str();
                let set = set_in(section, wanted);
                if set.is_none() {
                    self.got.insert(wanted.to_owned());
                }
                let set_above = || self.set_anywhere(wanted);
                match set.or_else(|| self.ini.default.get(wanted)).or_else(set_above) {
                    Some(found) => Some((Opt { place: place.clone(), ..found.clone() }, name.to_owned())),
                    None => {
                        self.error(format!("{what}: there is no global `{wanted}`"), place);
                        None
                    }
                }
            }
            _ if option.key == "require" => {
                self.out.notes.add(place, what, Fate::Gone, "nothing here is written in Python");
                None
            }
            _ => Some((option.clone(), option.key.clone())),
        }
    }

    /// `set NAME`. Without `lines`: of what gives it to nobody.
    fn set(
        &mut self,
        section: &Section,
        option: &Opt,
        name: &str,
        what: String,
        lines: Option<&mut Vec<Line>>,
    ) {
        let gets = |it: &&Section| {
            let mut words = it.options.iter().map(|it| (global(&it.key), it.value.as_str()));
            words.any(|(word, value)| matches!(word, Some(("get", _))) && value == name)
        };
        let mut getters = self.ini.sections.iter().filter(gets);
        let (own, other) = (gets(&section), getters.any(|it| it.name != section.name));
        let (fate, text) = match lines {
            Some(lines) if other => {
                let value = self.typed(section, option);
                lines.push(dotted("set", name, value, option));
                (Fate::Carried, "set")
            }
            _ if own => (Fate::Carried, "where a `get` wanted it"),
            None => (Fate::Gone, "Nova's own composite gives it to nobody"),
            Some(_) => (Fate::Gone, "nobody gets it"),
        };
        self.out.notes.add(&option.place, what, fate, text);
    }

    /// Whether another section sets this global, so that it depends on the way what a `get` gets.
    fn set_on_the_way(&self, section: &Section, wanted: &str) -> bool {
        set_in(section, wanted).is_none() && self.set_anywhere(wanted).is_some()
    }

    fn set_anywhere(&self, wanted: &str) -> Option<&'a Opt> {
        self.ini.sections.iter().find_map(|it| set_in(it, wanted))
    }

    /// A value as its text looks: Paste knows nothing but texts.
    pub(super) fn typed(&mut self, section: &Section, option: &Opt) -> String {
        let text = option.value.trim();
        match (text.parse::<i64>(), boolean(text)) {
            (Ok(number), _) => number.to_string(),
            (Err(_), Some(is)) => is.to_string(),
            (Err(_), None) => self.toml_text(section, option),
        }
    }

    /// Options where none but the known ones have a meaning. `lines`: where to write what is set for others.
    pub(super) fn extras(&mut self, section: &Section, known: &[&str], mut lines: Option<&mut Vec<Line>>) {
        for option in &section.options {
            let key = option.key.as_str();
            if known.contains(&key) || key == "use" || key == "filter-with" || PROTOCOLS.contains(&key) {
                continue;
            }
            let what = format!("[{}] `{key}`", section.name);
            if let Some(("set", name)) = global(key) {
                self.set(section, option, name, what, lines.as_deref_mut());
                continue;
            }
            let (fate, text) = match key.split_whitespace().next() {
                Some("domain" | "port") => (Fate::Unknown, "a urlmap has keys of another form"),
                Some("require") => (Fate::Gone, "nothing here is written in Python"),
                _ => (Fate::Unknown, "Paste refuses it, or takes no notice of it"),
            };
            self.out.notes.add(&option.place, what, fate, text);
        }
    }

    /// Settings of something that another file explains.
    pub(super) fn foreign(&mut self, section: &Section, lines: &mut Vec<Line>) {
        for option in section.options.iter().filter(|it| it.key != "use" && it.key != "filter-with") {
            let what = format!("[{}] `{}`", section.name, option.key);
            if let Some((word, name)) = global(&option.key) {
                let value =
                    if word == "set" { self.typed(section, option) } else { write::text(&option.value) };
                lines.push(dotted(word, name, value, option));
                self.out.notes.add(&option.place, what, Fate::Carried, word);
            } else if crate::convert::ini::is_secret(&option.key) {
                let text = "secrets are not carried over";
                self.out.notes.add(&option.place, what, Fate::Gone, text);
            } else {
                let value = self.toml_text(section, option);
                lines.push(Line::new(&option.key, value, &option.place, &option.key));
                let text = "it is text: what it has to be stands in the other file";
                self.out.notes.add(&option.place, what, Fate::Differs, text);
            }
        }
    }

    /// Nova's text of limits.
    pub(super) fn limits(
        &mut self,
        section: &Section,
        source: &Opt,
        to: &str,
        what: String,
        lines: &mut Vec<Line>,
    ) {
        let groups: Vec<&str> = source.value.split(';').map(str::trim).collect();
        if groups == [""] {
            // Nova's own quirk: an empty text means the defaults.
            return self.out.notes.add(
                &source.place,
                what,
                Fate::Carried,
                "Nova's own limits, as when it is not said",
            );
        }
        let value = self.toml_text(section, source);
        lines.push(Line { key: to.into(), value, comment: write::place(&source.place) });
        let dead = groups.iter().any(|group| {
            let regex = group.split(',').nth(2).map(str::trim).unwrap_or_default();
            regex.starts_with("^/") || regex.starts_with('/')
        });
        match dead {
            true => {
                let text = "a regex that begins with `/` never matched there, where it was compared with the whole URL; here \
                            it is compared with the path, and holds";
                self.out.notes.add(&source.place, what, Fate::Differs, text);
            }
            false => self.out.notes.add(&source.place, what, Fate::Carried, to),
        }
    }

    pub(super) fn default_limits(&mut self, section: &Section, lines: &mut Vec<Line>) {
        let limits = if self.folsom { LIMITS_2012 } else { LIMITS_2013 };
        let tables: Vec<String> = limits
            .iter()
            .map(|(verb, uri, regex, value)| {
                format!(
                    "    {{ verb = {}, uri = {}, regex = {}, value = {value}, unit = \"minute\" }},",
                    write::text(verb),
                    write::text(uri),
                    write::text(regex)
                )
            })
            .collect();
        let value = format!("[ # Nova's own: its file says none\n{}\n]", tables.join("\n"));
        lines.push(Line { key: "limits".into(), value, comment: String::new() });
        self.out.notes.add(&section.place, "`limits`", Fate::Added, "Nova's own, since its file says none");
    }
}

/// `set NAME` and `get NAME`.
fn global(key: &str) -> Option<(&str, &str)> {
    let (word, name) = key.split_once(char::is_whitespace)?;
    matches!(word, "set" | "get").then_some((word, name.trim()))
}

/// Where a section sets this global.
fn set_in<'a>(section: &'a Section, wanted: &str) -> Option<&'a Opt> {
    section.options.iter().find(|it| global(&it.key) == Some(("set", wanted)))
}

/// `set.NAME = …`
fn dotted(word: &str, name: &str, value: String, from: &Opt) -> Line {
    let line = Line::new(name, value, &from.place, &from.key);
    Line { key: format!("{word}.{}", line.key), ..line }
}
