//! Pipelines and composites: what is made of other things.

use super::*;

impl Paste<'_> {
    /// A pipeline's names: what is left of its filters, what has to be put in, its app. With
    /// `tokens`, something in front of it said who calls.
    pub(super) fn pipeline(&mut self, names: &[String], place: &Place, tokens: bool) -> Vec<String> {
        let Some((app, filters)) = names.split_last() else { return Vec::new() };
        let Some(app_name) = self.app_name(app, place) else { return Vec::new() };
        let mut list: Vec<(String, Option<&'static str>)> = Vec::new();
        if tokens {
            list.push((self.put_in("tokens"), Some("tokens")));
        }
        for name in filters {
            let def = match self.named(name, true, place) {
                Some(Named::Def(def)) => self.is(def),
                Some(Named::Factory(_, is)) => Some(is),
                _ => None,
            };
            if def == Some(Is::Authenticator)
                && let Some(Named::Def(at)) = self.named(name, true, place)
                && self.knows_keystone(at)
            {
                self.write(at);
                list.push((ours(&self.name(at)), Some("authtoken")));
                continue;
            }
            match (self.filter_name(name, place), def) {
                (Some(name), Some(Is::Filter(factory))) => list.push((name, Some(factory))),
                (Some(name), _) => list.push((name, None)),
                (None, Some(Is::Authenticator)) => list.push((self.put_in("tokens"), Some("tokens"))),
                (None, _) => {}
            }
        }
        // A web page must not call as whom it likes: `noauth` has `samesite` above.
        let believes = list.iter().position(|(_, factory)| *factory == Some("noauth"));
        if let Some(at) = believes
            && list[..at].iter().all(|(_, factory)| *factory != Some("samesite"))
        {
            self.added(place, "samesite", "it keeps web pages away from `noauth`");
            list.insert(at, (self.put_in("samesite"), Some("samesite")));
        }
        if self.routes(app) {
            let of = |factory: &Option<&str>| {
                let kind = FILTERS.iter().find(|it| Some(it.name) == *factory);
                kind.map_or(Capabilities::NONE, FilterKind::defaults)
            };
            let gives = |list: &[(String, Option<&str>)], fact: Fact| {
                list.iter().any(|(_, factory)| of(factory).provides.contains(&fact))
            };
            if !gives(&list, Fact::RequestId) {
                self.added(place, "request_id", "Nova named requests where it made their context");
                list.insert(0, (self.put_in("request_id"), Some("request_id")));
            }
            if !gives(&list, Fact::Caller) {
                self.added(place, "tokens", "no filter is left that says who calls");
                let needs = |(_, factory): &(_, Option<&str>)| of(factory).requires.contains(&Fact::Caller);
                let at = list.iter().position(needs).unwrap_or(list.len());
                list.insert(at, (self.put_in("tokens"), Some("tokens")));
            }
            // Below the authenticator: no byte of a body is read before the caller is known.
            if !gives(&list, Fact::WholeBody) {
                self.added(place, "sizelimit", "a body is read whole, up to a limit");
                let needs =
                    |(_, factory): &(_, Option<&str>)| of(factory).requires.contains(&Fact::WholeBody);
                let at = list.iter().position(needs).unwrap_or(list.len());
                list.insert(at, (self.put_in("sizelimit"), Some("sizelimit")));
            }
            if !list.iter().any(|(_, factory)| *factory == Some("policy")) {
                self.added(place, "policy", "Nova asked its rules inside of its code, here a filter does");
                list.push((self.put_in("policy"), Some("policy")));
            }
        }
        list.into_iter().map(|(name, _)| name).chain([app_name]).collect()
    }

    pub(super) fn added(&mut self, place: &Place, name: &str, why: &str) {
        self.out.notes.add(place, format!("`{name}`"), Fate::Added, why);
    }

    /// Whether an app has routes, without a pipeline between.
    pub(super) fn routes(&mut self, name: &str) -> bool {
        let def = self.defs.iter().position(|def| def.name == name && def.kind == Kind::App);
        match (def, known(name, true)) {
            (Some(def), _) => matches!(self.is(def), Some(Is::App("router", _))),
            (None, is) => matches!(is, Some(Is::App("router", _))),
        }
    }

    pub(super) fn composite(&mut self, def: usize, is: Is, lines: &mut Vec<Line>) {
        let Some(it) = self.defs.get(def) else { return };
        let section = it.section;
        let what = format!("[{}]", section.name);
        let members = self.members(def);
        let mut known: Vec<&str> = members.iter().map(|(option, _)| option.key.as_str()).collect();
        let line = |key: &str, value: String, from: Option<&Place>| {
            let comment = from.map(write::place).unwrap_or_default();
            Line { key: write::key(key), value, comment }
        };
        let left_out = "nothing of it is left";
        match is {
            Is::Urlmap { negotiates } => {
                lines.push(line("factory", write::text("urlmap"), None));
                for (option, names) in &members {
                    let app = names.last().and_then(|name| self.app_name(name, &option.place));
                    match app {
                        Some(app) => lines.push(line(&option.key, write::text(&app), Some(&option.place))),
                        None => {
                            let what = format!("{what} `{}`", option.key);
                            let text = format!("of `{}` {left_out}", names.join(" "));
                            self.out.notes.add(&option.place, what, Fate::Gone, text);
                        }
                    }
                }
                if negotiates && lines.len() > 1 {
                    let text = "the path alone chooses: `.json` and `.xml` at its end, and `version=` in `Accept` and \
                                `Content-Type`, are not looked at";
                    self.out.notes.add(&section.place, what.clone(), Fate::Differs, text);
                }
            }
            Is::Cascade => {
                lines.push(line("factory", write::text("cascade"), None));
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by(|one, two| one.0.key.cmp(&two.0.key));
                let mut apps = Vec::new();
                for (option, names) in sorted {
                    match names.last().and_then(|name| self.app_name(name, &option.place)) {
                        Some(app) => apps.push(app),
                        None => {
                            let what = format!("{what} `{}`", option.key);
                            self.out.notes.add(&option.place, what, Fate::Gone, left_out);
                        }
                    }
                }
                lines.push(line("apps", write::list(&apps), None));
                if section.get("filter-with").is_none() {
                    // Paste's own buffers the body, to send it more than once.
                    self.added(&section.place, "sizelimit", "a body that is sent twice is read whole before");
                    let name = self.put_in("sizelimit");
                    lines.push(line("filter-with", write::text(&name), None));
                }
                if let Some(option) = section.get("catch") {
                    known.push("catch");
                    let words = self.list(section, option);
                    let codes: Vec<u16> = words.iter().filter_map(|word| word.parse().ok()).collect();
                    if codes.len() < words.len() {
                        self.error(format!("{what} `catch` is a list of statuses"), &option.place);
                    }
                    lines.push(line("catch", format!("{codes:?}"), Some(&option.place)));
                }
            }
            _ => self.strategies(&members, lines),
        }
        let gives = is != Is::Strategies;
        self.extras(section, &known, gives.then_some(lines));
    }

    /// Every key is a strategy. What asks Keystone gets a sister with `tokens`, which the shipped
    /// `pileus.toml` chooses.
    pub(super) fn strategies(&mut self, members: &[(Opt, Vec<String>)], lines: &mut Vec<Line>) {
        lines.push(Line {
            key: "factory".into(),
            value: write::text("auth_strategy"),
            comment: String::new(),
        });
        let mut made = Vec::new();
        for (option, names) in members {
            let asks = self.asks_keystone(names, &option.place);
            let list = self.pipeline(names, &option.place, false);
            if !list.is_empty() {
                made.push((option, list, asks));
            }
        }
        let has_token = made.iter().any(|(option, ..)| option.key == "token");
        let chosen = made.iter().find(|(option, _, asks)| asks.is_some() && option.key == "keystone");
        let chosen = chosen.or_else(|| made.iter().find(|(_, _, asks)| asks.is_some())).or(made.first());
        if let Some((option, list, asks)) = chosen.filter(|_| !has_token) {
            let tokens = self.put_in("tokens");
            // `samesite` was added for `noauth` and goes with it: a service with tokens may have any name.
            let pages = self.own.get("samesite").filter(|_| asks.is_none()).cloned();
            let list: Vec<String> = list
                .iter()
                .filter(|name| pages.as_ref() != Some(*name))
                .map(|name| match asks {
                    Some(authtoken) if name == authtoken => tokens.clone(),
                    // Somebody who says who calls by believing it is no default.
                    None if self.believes(name) => tokens.clone(),
                    _ => name.clone(),
                })
                .collect();
            self.added(
                &option.place,
                "token",
                "the strategy of the shipped pileus.toml: tokens of this service",
            );
            let comment = "put in: the shipped pileus.toml chooses it".to_owned();
            lines.push(Line { key: "token".into(), value: write::list(&list), comment });
        }
        for (option, list, asks) in &made {
            let tokens = self.own.get("tokens").cloned().unwrap_or_else(|| "tokens".into());
            let list: Vec<String> = list
                .iter()
                .map(|it| asks.clone().filter(|_| *it == tokens).unwrap_or_else(|| it.clone()))
                .collect();
            let comment = write::place(&option.place);
            lines.push(Line { key: write::key(&option.key), value: write::list(&list), comment });
        }
    }

    /// The name of the filter among these that asks Keystone. Its section is written, whether it says all
    /// that is needed or not: `pileus check` says what is missing, once the strategy is chosen.
    pub(super) fn asks_keystone(&mut self, names: &[String], place: &Place) -> Option<String> {
        for name in names.split_last()?.1 {
            match self.named(name, true, place) {
                Some(Named::Def(def)) if self.is(def) == Some(Is::Authenticator) => {
                    self.write(def);
                    if !self.knows_keystone(def) && self.left.insert(def, Left::No).is_none() {
                        let what = self.defs.get(def).map(|it| it.what()).unwrap_or_default();
                        let at = self.defs.get(def).map_or(place, |it| &it.section.place).clone();
                        self.out.notes.add_help(&at, what, Fate::Differs, names::ELSEWHERE, names::HELP);
                    }
                    return Some(ours(&self.name(def)));
                }
                Some(Named::Factory(_, Is::Authenticator)) => return Some("authtoken".into()),
                _ => {}
            }
        }
        None
    }

    /// Whether an `authtoken` says where Keystone is, and who asks it.
    pub(super) fn knows_keystone(&self, def: usize) -> bool {
        let says = |keys: &[&str]| {
            keys.iter().any(|key| {
                let own = self.defs.get(def).is_some_and(|it| it.section.get(key).is_some());
                own || self.service.says("authtoken", key)
            })
        };
        says(&["auth_url", "identity_uri", "auth_host"])
            && says(&["username", "admin_user", "application_credential_id"])
    }

    pub(super) fn believes(&mut self, name: &str) -> bool {
        let def = self.defs.iter().position(|def| def.kind == Kind::Filter && ours(&def.name) == name);
        def.is_some_and(|def| self.is(def) == Some(Is::Filter("noauth")))
    }
}
