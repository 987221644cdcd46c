//! Planning of what is made of other apps: pipelines, filter-apps, and the composites `urlmap`,
//! `auth_strategy` and `cascade`.

use serde::Deserialize;

use super::{
    check::Checker,
    plan::{AppId, FilterPlan, Mounted, Shape},
    resolve::Resolved,
    urlmap,
    value::{Kind, Value, in_order},
};
use crate::{
    diagnostic::{Diagnostic, Place},
    pipeline::{COMPOSITES, Composite},
};

/// `[pipeline.NAME]`.
pub fn pipeline(checker: &mut Checker<'_>, it: Resolved) -> Shape {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(rename = "pipeline")]
        _pipeline: Vec<String>,
    }
    if !it.broken {
        checker.report.take(it.section.parse::<Config>());
    }
    match it.section.settings.get("pipeline").map(|setting| &setting.value) {
        Some(list) if names(list).is_some() => filters(checker, list, None),
        _ => lost(checker),
    }
}

/// `[filter-app.NAME]`: a pipeline of one filter.
pub fn filter_app(checker: &mut Checker<'_>, mut it: Resolved) -> Shape {
    let next = it.section.settings.remove("next").map(|setting| setting.value);
    let place = it.section.place.clone();
    let name = it.section.name.clone();
    let gap = it.section.gaps.contains_key("next");
    let filter = checker.filter_plan(it, place.clone());
    let Some(next) = next else {
        if gap {
            return lost(checker);
        }
        let text = format!("[{name}] missing field `next`: the app below the filter");
        checker.report.push(Diagnostic::error(text).at(place));
        return lost(checker);
    };
    let app = checker.app(&next);
    Shape::Filters { strategy: None, filters: vec![filter], app, app_place: next.place }
}

/// `[composite.NAME]`.
pub fn composite(checker: &mut Checker<'_>, it: Resolved) -> Shape {
    let find = |name: &str| COMPOSITES.iter().find(|it| it.0 == name).map(|it| it.1);
    let kind = checker.factory(&it, find, &|| COMPOSITES.iter().map(|it| it.0).collect());
    match kind {
        _ if it.broken => lost(checker),
        None => lost(checker),
        Some(Composite::Urlmap) => urlmap(checker, &it),
        Some(Composite::AuthStrategy) => auth_strategy(checker, &it),
        Some(Composite::Cascade) => cascade(checker, &it),
    }
}

/// Every key is the start of a path, and its value names an app.
fn urlmap(checker: &mut Checker<'_>, it: &Resolved) -> Shape {
    let mut mounts: Vec<Mounted> = Vec::new();
    for (key, setting) in in_order(&it.section.settings) {
        let wrong = |text: String| Diagnostic::error(format!("[{}] {text}", it.section.name));
        let app = checker.app(&setting.value);
        // What is mounted nowhere is what is mounted at `/`.
        let rest = key == "not_found_app";
        let is_root = |key: &String| urlmap::key(key).is_ok_and(|it| it.host.is_none() && it.path.is_empty());
        if rest && it.section.settings.keys().any(is_root) {
            let wrong = Diagnostic::warning(format!("[{}] `not_found_app` is never asked", it.section.name));
            let wrong = wrong
                .at(setting.key.clone())
                .help("`/` takes whatever is mounted nowhere else: delete one of them");
            checker.report.push(wrong);
            continue;
        }
        let key = if rest { "/" } else { key };
        let urlmap::Key { host, path } = match urlmap::key(key) {
            Ok(key) => key,
            Err(text) => {
                let help = match key.contains(' ') {
                    true => "a key is a path, or `http://HOST:PORT/PATH`".to_owned(),
                    false => format!("a urlmap has paths for keys: write `\"/{key}\"`"),
                };
                checker.report.push(wrong(text).at(setting.key.clone()).help(help));
                urlmap::Key { host: None, path: urlmap::normal(key) }
            }
        };
        if let Some(other) = mounts.iter().find(|mount| mount.path == path && mount.host == host) {
            let text = format!("`{key}` is mounted already, in line {}", other.place.line());
            let help = "slashes at the end make no difference";
            checker.report.push(wrong(text).at(setting.key.clone()).help(help));
        } else {
            mounts.push(Mounted { host, path, app, place: setting.value.place.clone() });
        }
    }
    if it.section.settings.is_empty() && it.section.gaps.is_empty() {
        let text = format!("[{}] has no paths", it.section.name);
        let help = "write `\"/\" = \"…\"` with the name of an app";
        checker.report.push(Diagnostic::error(text).at(it.section.place.clone()).help(help));
        return Shape::Broken;
    }
    Shape::Urlmap(mounts)
}

/// Every key is a strategy, and its value a pipeline.
fn auth_strategy(checker: &mut Checker<'_>, it: &Resolved) -> Shape {
    let mut chosen = None;
    for (key, setting) in in_order(&it.section.settings) {
        if names(&setting.value).is_none() {
            let text = format!("[{}] `{key}`: {}", it.section.name, not_names(&setting.value));
            checker.report.push(Diagnostic::error(text).at(setting.value.place.clone()));
            continue;
        }
        if key == checker.strategy.name {
            chosen = Some(&setting.value);
        } else {
            checker.quietly(|quiet| {
                filters(quiet, &setting.value, None);
            });
        }
    }
    let name = checker.strategy.name;
    match chosen {
        Some(list) => filters(checker, list, Some(name.to_owned())),
        // It is there, and wrong; that was said.
        None if it.section.settings.contains_key(name) || it.section.gaps.contains_key(name) => lost(checker),
        None if !checker.strategy.known => lost(checker),
        None => {
            let text = format!("[{}] has no pipeline for auth_strategy = {name:?}", it.section.name);
            let keys: Vec<&str> = it.section.settings.keys().map(String::as_str).collect();
            let mut wrong = Diagnostic::error(text).suggest(name, keys.iter().copied());
            let header = &it.section.place;
            // Two files could be at fault; the word is wrong more often than the section.
            if let Some(place) = checker.strategy.place {
                let help = wrong.help.take().map(|help| help + " ").unwrap_or_default();
                wrong = wrong.at(place.clone()).help(format!("{help}The section stands at {header}"));
            } else {
                wrong = wrong.at(header.clone());
            }
            checker.report.push(wrong);
            Shape::Broken
        }
    }
}

/// `apps`, and the statuses to `catch`.
fn cascade(checker: &mut Checker<'_>, it: &Resolved) -> Shape {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(rename = "apps")]
        _apps: Vec<String>,
        #[serde(default = "not_found")]
        catch: Vec<u16>,
    }
    fn not_found() -> Vec<u16> {
        vec![404]
    }
    let config = checker.report.take(it.section.parse::<Config>());
    let list = it.section.settings.get("apps").map(|setting| &setting.value);
    let Some(list) = list.filter(|list| names(list).is_some()) else { return lost(checker) };
    let apps: Vec<(AppId, Place)> = list
        .as_list()
        .unwrap_or_default()
        .iter()
        .map(|name| (checker.app(name), name.place.clone()))
        .collect();
    if apps.is_empty() {
        let text = format!("[{}] has no apps", it.section.name);
        checker.report.push(Diagnostic::error(text).at(list.place.clone()));
        return Shape::Broken;
    }
    config.map_or(Shape::Broken, |config| Shape::Cascade { apps, catch: config.catch })
}

/// A list of names: filters, and last an app.
fn filters(checker: &mut Checker<'_>, list: &Value, strategy: Option<String>) -> Shape {
    let Some((app, names)) = list.as_list().and_then(<[Value]>::split_last) else {
        let text = "the pipeline is empty: it needs an app at its end";
        checker.report.push(Diagnostic::error(text).at(list.place.clone()));
        return Shape::Broken;
    };
    let mut filters: Vec<FilterPlan> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].iter().any(|other| other.as_text() == name.as_text()) {
            let text = format!("`{}` stands in this pipeline twice", name.as_text().unwrap_or_default());
            let help = "each has counters of its own, and every request passes both";
            checker.report.push(Diagnostic::warning(text).at(name.place.clone()).help(help));
        }
        filters.extend(checker.filter(name));
    }
    let below = checker.app(app);
    Shape::Filters { strategy, filters, app: below, app_place: app.place.clone() }
}

/// The list, where it is one of names.
fn names(value: &Value) -> Option<&[Value]> {
    value.as_list().filter(|list| list.iter().all(|name| name.as_text().is_some()))
}

/// Why it is not.
fn not_names(value: &Value) -> String {
    match &value.kind {
        Kind::Text(text) => {
            let list: Vec<&str> = text.split_whitespace().collect();
            format!("expected a list of names, as in `{list:?}`")
        }
        Kind::List(list) => {
            let wrong = list.iter().find(|name| name.as_text().is_none());
            let found = wrong.map_or("nothing", Value::kind_name);
            format!("expected a list of names, and one of them is {found}")
        }
        _ => format!("expected a list of names, found {}", value.kind_name()),
    }
}

/// Something that may name others could not be read.
fn lost(checker: &mut Checker<'_>) -> Shape {
    checker.lost = true;
    Shape::Broken
}
