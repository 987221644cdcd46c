//! Servers: those of the file, or else one for each app that no other app names.

use super::*;

/// A `[server.NAME]`.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) app: usize,
    pub(super) lines: Vec<Line>,
    pub(super) comment: String,
}

impl<'a> Paste<'a> {
    /// Servers, by `[server:NAME]`, or else one for each app that no other app names.
    pub(super) fn servers(&mut self, apps: &[usize]) -> Vec<Server> {
        let mut named: BTreeSet<usize> = BTreeSet::new();
        for app in apps {
            let Some(it) = self.defs.get(*app) else { continue };
            let section = it.section;
            let mut uses: Vec<(String, Place)> = Vec::new();
            if let Made::Like(name) = &it.made
                && it.kind != Kind::FilterApp
            {
                uses.push((name.clone(), section.place.clone()));
            }
            for key in ["pipeline", "next"] {
                if let Some(option) = section.get(key)
                    && matches!(it.kind, Kind::Pipeline | Kind::FilterApp)
                {
                    uses.extend(
                        option
                            .value
                            .split_whitespace()
                            .last()
                            .map(|it| (it.to_owned(), option.place.clone())),
                    );
                }
            }
            if matches!(self.is(*app), Some(Is::Urlmap { .. } | Is::Cascade | Is::Strategies)) {
                let members = self.members(*app).into_iter();
                uses.extend(
                    members.filter_map(|(option, names)| Some((names.last()?.clone(), option.place))),
                );
            }
            for (name, _) in uses {
                named.extend(self.defs.iter().position(|def| def.name == name && def.kind.is_app()));
            }
        }
        let roots: Vec<usize> = apps.iter().copied().filter(|app| !named.contains(app)).collect();
        let roots: Vec<usize> = roots.into_iter().filter(|app| self.left(*app) == Left::Yes).collect();
        let main = roots.iter().copied().find(|app| self.name(*app) == "main").or(roots.first().copied());
        let mut servers = Vec::new();
        for def in 0..self.defs.len() {
            let Some(it) = self.defs.get(def) else { continue };
            if it.kind == Kind::Server
                && let Some(app) = main
            {
                let (name, section) = (ours(&it.name), it.section);
                servers.push(self.server(name, section, app));
            }
        }
        if !servers.is_empty() {
            return servers;
        }
        for app in roots {
            let (name, port) = match self.name(app).as_str() {
                "osapi_compute" => ("api".to_owned(), 8774),
                "main" => ("main".to_owned(), 8080),
                other => (ours(other), 0),
            };
            let Some(it) = self.defs.get(app) else { continue };
            let (what, place) = (format!("[server.{name}]"), it.section.place.clone());
            self.out.notes.add(
                &place,
                what,
                Fate::Added,
                "nova.conf said where to listen; here api-paste.toml does",
            );
            let listen = write::text(&format!("127.0.0.1:{port}"));
            let comment = if port == 0 { "any port that is free" } else { "" };
            let line =
                |key: &str, value, comment: &str| Line { key: key.into(), value, comment: comment.into() };
            let mut lines =
                vec![line("listen", listen, comment), line("app", write::text(&ours(&self.name(app))), "")];
            if name == "api" {
                for (key, value) in self.service.server(self.out) {
                    lines.retain(|line| line.key != key);
                    lines.push(line(key, value, ""));
                }
            }
            servers.push(Server {
                name,
                app,
                lines,
                comment: "  # put in: nova.conf said where to listen".into(),
            });
        }
        servers
    }

    pub(super) fn server(&mut self, name: String, section: &'a Section, app: usize) -> Server {
        let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        for option in &section.options {
            let what = format!("[{}] `{}`", section.name, option.key);
            let place = &option.place;
            match option.key.as_str() {
                key if key == "use" || PROTOCOLS.contains(&key) => {
                    self.out.notes.add(place, what, Fate::Carried, "Pileus serves by itself");
                }
                "host" => match self.ini.interpolated(section, option) {
                    Ok(host) => match (host.parse::<IpAddr>(), host.as_str()) {
                        (Ok(ip), _) => {
                            address.set_ip(ip);
                            self.out.notes.add(place, what, Fate::Carried, "listen");
                        }
                        (Err(_), "localhost") => self.out.notes.add(place, what, Fate::Carried, "listen"),
                        (Err(_), host) => {
                            let text =
                                format!("`{}` is no address: 127.0.0.1 was put", write::one_line(host));
                            self.out.notes.add(place, what, Fate::Differs, text);
                        }
                    },
                    Err(problem) => self.out.errors.push(problem),
                },
                "port" => match number(self.ini, section, option, &what) {
                    Ok(port) => match u16::try_from(port) {
                        Ok(port) => {
                            address.set_port(port);
                            self.out.notes.add(place, what, Fate::Carried, "listen");
                        }
                        Err(_) => self.error(format!("{what}: {port} is no port"), place),
                    },
                    Err(problem) => self.out.errors.push(problem),
                },
                "threads" | "workers" | "threadpool_workers" | "use_threadpool" | "worker_class" => {
                    let text = "threads are as many as there are cores";
                    self.out.notes.add(place, what, Fate::Gone, text);
                }
                _ => self.out.notes.add(place, what, Fate::Unknown, "a server here has other settings"),
            }
        }
        let to = format!("[server.{}]", write::key(&name));
        self.out.notes.add(&section.place, format!("[{}]", section.name), Fate::Carried, to);
        let line = |key: &str, value| Line { key: key.into(), value, comment: String::new() };
        let lines = vec![
            line("listen", write::text(&address.to_string())),
            line("app", write::text(&ours(&self.name(app)))),
        ];
        Server { name, app, lines, comment: format!("  # {}", write::place(&section.place)) }
    }
}
