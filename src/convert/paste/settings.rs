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
            let place = &option.place;
            let what = format!("[{}] `{key}`", section.name);
            if key == "use" || key == "filter-with" || PROTOCOLS.contains(&key) || known.contains(&key) {
                continue;
            }
            if self.ini.default.get(key).is_some() || matches!(key, "here" | "__file__") {
                let text =
                    "Paste took the one of [DEFAULT] for a global, and left this one out without a word";
                self.out.notes.add(place, what, Fate::Gone, text);
                continue;
            }
            let Some((source, name)) = self.setting_source(section, option, &what) else { continue };
            match factories::setting(factory, &name) {
                Some(Setting::Number(to)) => match number(self.ini, section, &source, &what) {
                    Ok(number) => {
                        // -1: Keystone is asked every time.
                        let number = if to == "token_cache_time" { number.max(0) } else { number };
                        lines.push(Line::new(to, number.to_string(), place, key));
                        self.out.notes.add(place, what, Fate::Carried, to);
                    }
                    Err(problem) => self.out.errors.push(problem),
                },
                Some(Setting::Limits(to)) => self.limits(section, &source, to, what, lines),
                Some(Setting::Text(to)) => {
                    let value = self.toml_text(section, &source);
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
        let says = lines.iter().any(|line| line.key == "limits" || line.key == "use");
        if factory == "ratelimit" && !says {
            self.default_limits(section, lines);
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
        let mut words = option.key.splitn(2, char::is_whitespace);
        let (first, name) = (words.next().unwrap_or_default(), words.next().map(str::trim));
        let place = &option.place;
        match (first, name) {
            ("set", Some(_)) => {
                let text = "no filter and no app sees globals here";
                self.out.notes.add(place, what, Fate::Gone, text);
                None
            }
            ("get", Some(name)) => {
                let global = option.value.as_str();
                let set = section.options.iter().find(|it| {
                    it.key
                        .strip_prefix("set")
                        .is_some_and(|rest| rest.starts_with(char::is_whitespace) && rest.trim() == global)
                });
                if set.is_none() {
                    self.got.insert(global.to_owned());
                }
                match set.or_else(|| self.ini.default.get(global)) {
                    Some(found) => Some((Opt { place: place.clone(), ..found.clone() }, name.to_owned())),
                    None => {
                        self.error(format!("{what}: there is no global `{global}`"), place);
                        None
                    }
                }
            }
            ("require", None) => {
                self.out.notes.add(place, what, Fate::Gone, "nothing here is written in Python");
                None
            }
            _ => Some((option.clone(), option.key.clone())),
        }
    }

    /// Options where none but the known ones have a meaning.
    pub(super) fn extras(&mut self, section: &Section, known: &[&str]) {
        for option in &section.options {
            let key = option.key.as_str();
            if known.contains(&key) || key == "use" || key == "filter-with" || PROTOCOLS.contains(&key) {
                continue;
            }
            let what = format!("[{}] `{key}`", section.name);
            let (fate, text) = match key.split_whitespace().next() {
                Some("set") => (Fate::Gone, "no filter and no app sees globals here"),
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
            if ["set", "get"].iter().any(|word| option.key.split_whitespace().next() == Some(word)) {
                self.out.notes.add(&option.place, what, Fate::Gone, "no filter and no app sees globals here");
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
