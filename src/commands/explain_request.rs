//! `pileus explain METHOD PATH`: the way of a request through the files, without a server.

use std::{fmt::Write as _, io::Write};

use http::Method;
use pileus_sdk::{Fault, path};
use serde_json::{Value, json};

use super::{CONFIG, FAILED, OK, USAGE, api_server, explain_time};
use crate::{
    Checked,
    cli::ExplainRequest,
    client::Target,
    diagnostic::words,
    paste::{self, Plan, ServerPlan, Shape},
    router::Found,
};

pub fn run(asked: &ExplainRequest) -> u8 {
    let (Some(method), Some(target)) = (&asked.method, &asked.path) else { return USAGE };
    let Ok(method) = method.to_uppercase().parse::<Method>() else {
        super::tell(format_args!("error: `{method}` is no method of HTTP"));
        return USAGE;
    };
    // What is asked may be pasted as it was called: `http://127.0.0.1:8111/vms?user=ada`.
    let mut uri = match target.parse::<http::Uri>() {
        Ok(uri) if uri.path().starts_with('/') => uri,
        _ => {
            super::tell(format_args!(
                "error: `{target}` is no path: it begins with `/`, and blanks in it are `%20`"
            ));
            return USAGE;
        }
    };
    if let Err(fault) = path::normalize(&mut uri) {
        super::tell(format_args!("error: {}: {fault}", fault.code().0));
        return FAILED;
    }
    let Some(checked) = super::checked(&asked.options) else { return CONFIG };
    let servers = &checked.plan.servers;
    let usual = || servers.iter().find(|server| server.name == "api").or(servers.first());
    let server = match (&asked.server, uri.port_u16()) {
        (Some(name), _) => servers.iter().find(|server| server.name == *name),
        (None, Some(port)) => {
            let of_port = servers.iter().find(|server| server.settings.listen.port() == Some(port));
            // The files may leave the port to the start, or to systemd; the server that is asked is named.
            of_port.or_else(|| usual().filter(|_| asked.time))
        }
        (None, None) => usual(),
    };
    let Some(server) = server else {
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        super::tell(format_args!("error: there is no such server; there is {}", words(&names, "and")));
        return USAGE;
    };
    let mut told = explain(&checked, server, &method, &uri);
    let text = if asked.time {
        let stages = stages(&checked, server, &uri);
        let of_api = || api(asked, &checked.plan, server, &uri);
        match explain_time::fetch(asked, of_api, &server.name, &stages) {
            Ok(times) if asked.json => {
                told["times"] = times;
                format!("{told:#}\n")
            }
            Ok(times) => format!("{method} {}\n\n{}", uri.path(), explain_time::shown(&times)),
            Err((code, text)) => return super::explain::fail(code, &text),
        }
    } else if asked.json {
        format!("{told:#}\n")
    } else {
        shown(&told)
    };
    // A closed pipe means that the reader has seen enough.
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
    if told["problem"].is_null() { OK } else { FAILED }
}

/// The server to ask for times: of `--url`; else that of the path's own host and port, if the API is there; else
/// the one that the files describe.
fn api(
    asked: &ExplainRequest,
    plan: &Plan,
    server: &ServerPlan,
    uri: &http::Uri,
) -> Result<Target, (u8, String)> {
    match (&asked.url, uri.authority()) {
        (Some(url), _) => api_server::by_url(url),
        (None, Some(authority)) if api_server::mounts_api(plan, server) => {
            let url = format!("{}://{authority}", uri.scheme_str().unwrap_or("http"));
            api_server::called_by(&url, plan)
        }
        (None, _) => api_server::described(plan),
    }
}

fn way<'a>(checked: &'a Checked, server: &ServerPlan, uri: &http::Uri) -> paste::Way<'a> {
    let usual = if server.settings.tls.is_some() { 443 } else { 80 };
    let host = uri.host().map(|host| (host.to_lowercase(), uri.port_u16().unwrap_or(usual)));
    checked.plan.way(server, host.as_ref(), uri.path())
}

/// Pipelines and their filters on the way of a request, by the names under which they are timed.
fn stages(checked: &Checked, server: &ServerPlan, uri: &http::Uri) -> Vec<(String, String)> {
    let mut stages: Vec<(String, String)> = Vec::new();
    let mut above = format!("server.{}", server.name);
    for app in way(checked, server, uri).apps {
        match &app.shape {
            Shape::App { .. } => stages.push((above.clone(), paste::short(&app.name).to_owned())),
            Shape::Filters { filters, .. } => {
                let names = filters.iter().map(|filter| paste::short(&filter.name).to_owned());
                stages.extend(names.map(|name| (app.name.clone(), name)));
            }
            Shape::Urlmap(_) | Shape::Cascade { .. } | Shape::Broken => {}
        }
        above = app.name.clone();
    }
    stages
}

/// `{"method", "path", "server", "way", "filters", "app", "route", "rules", "problem"}`.
fn explain(checked: &Checked, server: &ServerPlan, method: &Method, uri: &http::Uri) -> Value {
    let (path, way) = (uri.path(), way(checked, server, uri));
    let mut told = paste::way_to_json(server, &way);
    told["method"] = json!(method.as_str());
    told["path"] = json!(path);
    told["rules"] = json!([]);
    let problem = match way.apps.last().map(|app| &app.shape) {
        Some(Shape::App { kind, section }) => match (kind.mount)(section) {
            // It answers whatever comes.
            None => None,
            Some(mount) => {
                let router = checked.extensions.routers.get(&mount);
                let below = path.get(way.mounted..).unwrap_or_default();
                match router.map(|router| router.look(method, below)) {
                    Some(Ok(found)) => {
                        matched(checked, &found, &mut told);
                        None
                    }
                    Some(Err(Fault::MethodNotAllowed { allow, .. })) => {
                        Some(format!("405 Method Not Allowed: there is {allow}"))
                    }
                    Some(Err(fault)) => Some(format!("{}: {fault}", fault.code().0)),
                    None => Some("the routes of this app were not built".into()),
                }
            }
        },
        Some(Shape::Cascade { .. }) => {
            Some("a cascade asks its apps one after the other: ask for each".into())
        }
        Some(Shape::Urlmap(_)) => Some("404: nothing is mounted there".into()),
        _ => Some("the way ends nowhere".into()),
    };
    told["problem"] = json!(problem);
    told
}

fn matched(checked: &Checked, found: &Found<'_>, told: &mut Value) {
    let route = found.route;
    let keys: Vec<_> = found.verbs.iter().map(|route| route.verb.unwrap_or_default()).collect();
    told["route"] = json!({
        "mount": route.mount.as_str(), "method": route.method.as_str(), "path": route.path,
        "params": found.params.iter().cloned().collect::<serde_json::Map<_, _>>(),
        "actions": found.routes().map(|route| json!({
            "key": route.verb, "action": format!("{}.{}", route.resource, route.action),
            "extension": route.extension, "about": route.about, "rule": route.rule, "also": route.also,
        })).collect::<Vec<_>>(),
        "keys": keys,
    });
    let text_of = |rule: &str| {
        let text = checked.policy.rules().find(|(name, _)| *name == rule).map(|(_, text)| text);
        json!({ "rule": rule, "text": text })
    };
    let mut rules: Vec<&str> = Vec::new();
    for rule in found.routes().flat_map(|route| std::iter::once(&route.rule).chain(route.also)) {
        if !rules.contains(rule) {
            rules.push(rule);
        }
    }
    told["rules"] = rules.into_iter().map(text_of).collect();
}

/// For people: the request, then its way from the outside in.
fn shown(told: &Value) -> String {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let from = |it: &Value| it["from"].as_str().unwrap_or("defaults").to_owned();
    let mut out = format!("{} {}\n\n", text(&told["method"]), text(&told["path"]));
    let mut rows: Vec<(String, String)> = Vec::new();
    let server = &told["server"];
    rows.push((format!("server   {} on {}", text(&server["name"]), text(&server["listen"])), from(server)));
    for step in told["way"].as_array().into_iter().flatten() {
        let takes = step["takes"].as_str().map(|takes| format!(", takes {takes}")).unwrap_or_default();
        let strategy = step["auth_strategy"].as_str().map(|it| format!(" ({it})")).unwrap_or_default();
        rows.push((format!("through  {}{strategy}{takes}", text(&step["name"])), from(step)));
    }
    for filter in told["filters"].as_array().into_iter().flatten() {
        rows.push((format!("filter   {}", text(&filter["name"])), from(filter)));
        for (key, setting) in filter["settings"].as_object().into_iter().flatten() {
            let value = setting["value"].to_string();
            let value = match value.char_indices().nth(40) {
                Some((end, _)) => format!("{}…", &value[..end]),
                None => value,
            };
            rows.push((format!("           {key} = {value}"), from(setting)));
        }
    }
    rows.push((format!("app      {}", text(&told["app"]["name"])), from(&told["app"])));
    let widest = rows.iter().map(|(row, _)| row.chars().count()).max().unwrap_or(0) + 2;
    for (row, from) in &rows {
        writeln!(out, "  {row:widest$}{from}").ok();
    }
    let route = &told["route"];
    if route.is_object() {
        writeln!(out, "  route    {} {}", text(&route["method"]), text(&route["path"])).ok();
        for (name, value) in route["params"].as_object().into_iter().flatten() {
            writeln!(out, "           {name} = {}", text(value)).ok();
        }
        for action in route["actions"].as_array().into_iter().flatten() {
            let key = action["key"].as_str().map(|key| format!("body has `{key}`: ")).unwrap_or_default();
            writeln!(
                out,
                "  action   {key}{} of extension {}: {}",
                text(&action["action"]),
                text(&action["extension"]),
                text(&action["about"])
            )
            .ok();
        }
    }
    for rule in told["rules"].as_array().into_iter().flatten() {
        let said = rule["text"].as_str().unwrap_or("no file defines it: `default` decides");
        writeln!(out, "  rule     {}: {said}", text(&rule["rule"])).ok();
    }
    if let Some(problem) = told["problem"].as_str() {
        writeln!(out, "\n  {problem}").ok();
    }
    out
}
