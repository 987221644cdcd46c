//! What a plan means, for people and for programs: `pileus pipeline`, and `--json`.
//!
//! Values that came from the environment are shown as they were written, `${env:NAME}`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Section,
    plan::{AppId, AppPlan, FilterPlan, Plan, ServerPlan, Shape, Way},
    value::{Setting, in_order},
};
use crate::diagnostic::Place;

/// What is longer, in characters, pushes its own line aside, not those of all the others.
const LONG: usize = 80;

/// For people: servers, and below each its apps, filters and settings, with the line that says so.
///
/// ```text
/// server api on 127.0.0.1:8774           api-paste.toml:28
///   composite.api                        api-paste.toml:42
///     / → versions                       defaults
///     /v2 → composite.v2 (token)         api-paste.toml:47
///       request_id                       defaults
///       sizelimit                        api-paste.toml:92
///         max_request_body_size = 114688 api-paste.toml:93
///       osapi                            api-paste.toml:65
///         routes = "tenant"              api-paste.toml:67
/// ```
pub fn describe(plan: &Plan) -> String {
    let mut text = Text { plan, rows: Vec::new(), seen: BTreeSet::new() };
    for server in &plan.servers {
        let head = format!("server {} on {}", server.name, server.settings.listen);
        text.row(0, head, Some(server_place(server)));
        text.settings(1, &server.section, &["listen", "app"]);
        text.app(1, "", server.app, foreign(&server.app_place, &server.section.place));
    }
    let widest = text.rows.iter().map(Row::width).filter(|width| *width <= LONG).max().unwrap_or_default();
    text.rows.iter().fold(String::new(), |mut all, row| {
        let before = 2 * row.depth;
        let between = (widest + 2).saturating_sub(row.width()).max(2);
        all += &format!("{0:before$}{1}{0:between$}{2}\n", "", row.text, row.from);
        all
    })
}

/// For programs: `{"servers": [{"name", "listen", "from", "settings", "app"}]}`. An app has `name`,
/// `from` (`api-paste.toml:12`, or null for what is compiled in), and according to its kind
/// `settings`, `filters`, `mounts`, `apps` or `app`. A setting is `{"value", "from"}`. An app that
/// stands here a second time has `name` and `from` alone.
pub fn to_json(plan: &Plan) -> Value {
    let mut seen = BTreeSet::new();
    let servers = plan.servers.iter().map(|server| {
        json!({
            "name": server.name,
            "listen": server.settings.listen.to_string(),
            "from": server_place(server).to_string(),
            "settings": settings(&server.section),
            "app": app(plan, server.app, foreign(&server.app_place, &server.section.place), &mut seen),
        })
    });
    json!({ "servers": servers.collect::<Vec<_>>() })
}

/// The way of a request: `{"server", "way", "filters", "app"}`, each with `from`.
pub fn way_to_json(server: &ServerPlan, way: &Way<'_>) -> Value {
    let step = |app: &&AppPlan, takes: Option<&String>| {
        let mut step = json!({ "name": app.name, "from": from(&app.name, &app.place, None), "takes": takes });
        if let Shape::Filters { strategy: Some(strategy), .. } = &app.shape {
            step["auth_strategy"] = json!(strategy);
        }
        step
    };
    let mut takes = way.takes.iter();
    let named_in = way.apps.iter().rev().nth(1).map_or(&server.section.place, |above| &above.place);
    let filters = way.apps.iter().flat_map(|app| match &app.shape {
        Shape::Filters { filters, .. } => filters.iter().map(|it| filter(it, &app.place)).collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let filters: Vec<Value> = filters.collect();
    let (last, above) = way.apps.split_last().map_or((None, &[][..]), |(last, above)| (Some(last), above));
    let above = above.iter().map(|app| {
        let takes = matches!(app.shape, Shape::Urlmap(_)).then(|| takes.next()).flatten();
        step(app, takes)
    });
    json!({
        "server": {
            "name": server.name, "listen": server.settings.listen.to_string(),
            "from": server_place(server).to_string(),
        },
        "way": above.collect::<Vec<_>>(),
        "filters": filters,
        "app": last.map(|app| {
            let named = foreign(&app.place, named_in);
            json!({ "name": short(&app.name), "from": from(&app.name, &app.place, named) })
        }),
    })
}

/// For Graphviz: servers, what they lead to, and the filters between.
pub fn to_dot(plan: &Plan) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut dot =
        String::from("digraph pileus {\n  rankdir = LR\n  node [shape = box, fontname = \"sans-serif\"]\n");
    for (at, server) in plan.servers.iter().enumerate() {
        let label = quoted(&format!("{}\n{}", server.name, server.settings.listen)).replace('\n', "\\n");
        dot += &format!("  server{at} [shape = house, label = {label}]\n  server{at} -> app{}\n", server.app);
    }
    for (at, app) in plan.apps.iter().enumerate() {
        let mut label = vec![short(&app.name).to_owned()];
        let mut edges: Vec<(AppId, String)> = Vec::new();
        match &app.shape {
            Shape::App { .. } | Shape::Broken => {}
            Shape::Filters { strategy, filters, app, .. } => {
                label.extend(strategy.iter().map(|strategy| format!("({strategy})")));
                label.extend(filters.iter().map(|filter| short(&filter.name).to_owned()));
                edges.push((*app, String::new()));
            }
            Shape::Urlmap(mounts) => {
                edges.extend(mounts.iter().map(|mount| (mount.app, mount.shown())));
            }
            Shape::Cascade { apps, catch } => {
                let caught = |at: usize| if at == 0 { String::new() } else { format!("on {catch:?}") };
                edges.extend(apps.iter().enumerate().map(|(at, (app, _))| (*app, caught(at))));
            }
        }
        let label = quoted(&label.join("\n")).replace('\n', "\\n");
        dot += &format!("  app{at} [label = {label}]\n");
        for (to, label) in edges {
            dot += &format!("  app{at} -> app{to} [label = {}]\n", quoted(&label));
        }
    }
    dot + "}\n"
}

struct Row {
    depth: usize,
    text: String,
    from: String,
}

impl Row {
    fn width(&self) -> usize {
        2 * self.depth + self.text.chars().count()
    }
}

struct Text<'a> {
    plan: &'a Plan,
    rows: Vec<Row>,
    seen: BTreeSet<AppId>,
}

impl Text<'_> {
    fn row(&mut self, depth: usize, text: String, from: Option<&Place>) {
        let from = from.map_or_else(|| "defaults".into(), Place::to_string);
        self.rows.push(Row { depth, text, from });
    }

    fn settings(&mut self, depth: usize, section: &Section, but: &[&str]) {
        for (key, setting) in in_order(&section.settings) {
            if !in_file(&section.name) || but.contains(&key.as_str()) {
                continue;
            }
            let line = format!("{key} = {}", setting.value);
            match setting.value.as_list() {
                // A long list is read down, each element with its own line in the file.
                Some(list) if line.len() > LONG => {
                    self.row(depth, format!("{key} ="), Some(&setting.key));
                    for value in list {
                        self.row(depth + 1, value.to_string(), Some(&value.place));
                    }
                }
                _ => self.row(depth, line, Some(&setting.key)),
            }
        }
    }

    /// `named`: the line that names the app, if another file than that of the section above it does.
    fn app(&mut self, depth: usize, before: &str, id: AppId, named: Option<&Place>) {
        let plan = self.plan;
        let Some(app) = plan.apps.get(id) else { return };
        let from = in_file(&app.name).then_some(&app.place).or(named);
        let name = match &app.shape {
            Shape::App { .. } => short(&app.name).to_owned(),
            Shape::Filters { strategy: Some(strategy), .. } => format!("{} ({strategy})", app.name),
            Shape::Broken => "(has mistakes)".into(),
            _ => app.name.clone(),
        };
        if !self.seen.insert(id) && !matches!(app.shape, Shape::App { .. } | Shape::Broken) {
            return self.row(depth, format!("{before}{name}, as above"), from);
        }
        self.row(depth, format!("{before}{name}"), from);
        match &app.shape {
            Shape::Broken => {}
            Shape::App { section, .. } => self.settings(depth + 1, section, &[]),
            Shape::Filters { filters, app: below, app_place, .. } => {
                for filter in filters {
                    let from = in_file(&filter.name).then_some(&filter.section.place);
                    let from = from.or_else(|| foreign(&filter.place, &app.place));
                    self.row(depth + 1, short(&filter.name).to_owned(), from);
                    self.settings(depth + 2, &filter.section, &[]);
                }
                self.app(depth + 1, "", *below, foreign(app_place, &app.place));
            }
            Shape::Urlmap(mounts) => {
                for mount in mounts {
                    let named = foreign(&mount.place, &app.place);
                    self.app(depth + 1, &format!("{} → ", mount.shown()), mount.app, named);
                }
            }
            Shape::Cascade { apps, catch } => {
                for (at, (below, place)) in apps.iter().enumerate() {
                    let before = if at == 0 { String::new() } else { format!("on {catch:?} → ") };
                    self.app(depth + 1, &before, *below, foreign(place, &app.place));
                }
            }
        }
    }
}

fn app(plan: &Plan, id: AppId, named: Option<&Place>, seen: &mut BTreeSet<AppId>) -> Value {
    let Some(it) = plan.apps.get(id) else { return Value::Null };
    let mut value = json!({ "name": it.name, "from": from(&it.name, &it.place, named) });
    if !seen.insert(id) {
        return value;
    }
    match &it.shape {
        Shape::Broken => {}
        Shape::App { kind, section } => {
            value["factory"] = json!(kind.name);
            value["settings"] = settings(section);
        }
        Shape::Filters { strategy, filters, app: below, app_place } => {
            if let Some(strategy) = strategy {
                value["auth_strategy"] = json!(strategy);
            }
            value["filters"] = filters.iter().map(|filter| self::filter(filter, &it.place)).collect();
            value["app"] = app(plan, *below, foreign(app_place, &it.place), seen);
        }
        Shape::Urlmap(mounts) => {
            let one = |mount: &super::Mounted| {
                let named = foreign(&mount.place, &it.place);
                json!({ "path": mount.shown(), "app": app(plan, mount.app, named, seen) })
            };
            value["mounts"] = mounts.iter().map(one).collect();
        }
        Shape::Cascade { apps, catch } => {
            value["catch"] = json!(catch);
            value["apps"] = apps
                .iter()
                .map(|(below, place)| app(plan, *below, foreign(place, &it.place), seen))
                .collect();
        }
    }
    value
}

fn filter(filter: &FilterPlan, above: &Place) -> Value {
    json!({
        "name": short(&filter.name),
        "factory": filter.kind.map(|kind| kind.name),
        "from": from(&filter.name, &filter.section.place, foreign(&filter.place, above)),
        "settings": settings(&filter.section),
    })
}

fn settings(section: &Section) -> Value {
    let one = |(key, setting): (&String, &Setting)| {
        let from = from(&section.name, &setting.key, None);
        (key.clone(), json!({ "value": setting.value.to_json(), "from": from }))
    };
    section.settings.iter().map(one).collect()
}

fn from(name: &str, place: &Place, named: Option<&Place>) -> Option<String> {
    in_file(name).then_some(place).or(named).map(Place::to_string)
}

/// Returns the line that names something in the section `above`, if a site's file has put it there: a section of
/// a base shows its own line alone.
fn foreign<'a>(place: &'a Place, above: &Place) -> Option<&'a Place> {
    (place.source.name != above.source.name).then_some(place)
}

/// Returns the line of a server: that of its `listen` where a site's file has set it.
fn server_place(server: &ServerPlan) -> &Place {
    let section = &server.section;
    let listen = section.settings.get("listen").and_then(|listen| foreign(&listen.key, &section.place));
    listen.unwrap_or(&section.place)
}

/// Whether it is a section, and not compiled-in code with its defaults.
fn in_file(name: &str) -> bool {
    name.contains('.')
}

/// Filters and apps are known by their bare names.
pub(crate) fn short(name: &str) -> &str {
    name.strip_prefix("filter.").or_else(|| name.strip_prefix("app.")).unwrap_or(name)
}
