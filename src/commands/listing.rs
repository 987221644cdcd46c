//! `pileus routes`, `pipeline`, `extensions`: what is loaded, as a table or as JSON.

use std::io::Write;

use comfy_table::{Table, presets::NOTHING};
use pileus_sdk::{QueryParam, query::Values};
use serde_json::{Value, json};

use super::{CONFIG, OK};
use crate::{cli::Listing, paste};

pub fn routes(listing: &Listing) -> u8 {
    let Some(checked) = super::checked(&listing.options) else { return CONFIG };
    let mut table = columns(&["MOUNT", "METHOD", "PATH", "KEY", "ACTION", "RULE", "EXTENSION"]);
    let mut all = Vec::new();
    for route in checked.extensions.routes() {
        let action = format!("{}.{}", route.resource, route.action);
        all.push(json!({
            "mount": route.mount.as_str(), "method": route.method.as_str(), "path": route.path,
            "verb": route.verb, "resource": route.resource, "action": route.action,
            "rule": route.rule, "also": route.also, "extension": route.extension, "about": route.about,
            "query": route.query.iter().map(param).collect::<Vec<_>>(),
        }));
        table.add_row([
            route.mount.as_str(),
            route.method.as_str(),
            &route.path,
            route.verb.unwrap_or_default(),
            &action,
            route.rule,
            route.extension,
        ]);
    }
    show(listing, &table.trim_fmt(), &Value::Array(all))
}

fn param(param: &QueryParam) -> Value {
    let (values, words) = match &param.values {
        Values::Text => ("text", None),
        Values::Integer => ("integer", None),
        Values::Boolean => ("boolean", None),
        Values::Word(words) => ("word", Some(words)),
        Values::Words(words) => ("words", Some(words)),
    };
    json!({
        "name": param.name, "values": values, "words": words, "repeats": param.repeats, "about": param.about,
    })
}

pub fn extensions(listing: &Listing) -> u8 {
    let Some(checked) = super::checked(&listing.options) else { return CONFIG };
    let mut table = columns(&["ALIAS", "STATUS", "ROUTES", "UPDATED", "DESCRIPTION"]);
    let mut all = Vec::new();
    for status in &checked.extensions.statuses {
        let it = status.extension;
        let word = if status.failed.is_none() { "loaded" } else { "failed" };
        all.push(json!({
            "alias": it.alias, "name": it.name, "status": word, "reason": status.failed,
            "routes": status.routes, "updated": it.updated, "description": it.description,
        }));
        let about = status.failed.as_deref().unwrap_or(it.description);
        table.add_row([it.alias, word, &status.routes.to_string(), it.updated, about]);
    }
    show(listing, &table.trim_fmt(), &Value::Array(all))
}

pub fn pipeline(listing: &Listing, graph: bool) -> u8 {
    let Some(checked) = super::checked(&listing.options) else { return CONFIG };
    if graph {
        return show(listing, paste::to_dot(&checked.plan).trim_end(), &Value::Null);
    }
    show(listing, paste::describe(&checked.plan).trim_end(), &paste::to_json(&checked.plan))
}

pub(super) fn columns(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(names.iter().copied());
    table
}

/// A closed pipe means that the reader has seen enough.
pub(super) fn show(listing: &Listing, text: &str, json: &Value) -> u8 {
    let mut out = std::io::stdout().lock();
    if listing.json { writeln!(out, "{json:#}") } else { writeln!(out, "{text}") }.ok();
    OK
}
