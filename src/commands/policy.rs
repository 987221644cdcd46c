//! `pileus policy list`, `check`, `explain` and `test`: the rules, without a server.

use std::{fs, io::Write, path::PathBuf, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    CONFIG, FAILED, OK, SOFTWARE, USAGE,
    listing::{columns, show},
};
use crate::{
    cli::{ExplainRule, Listing, Options},
    config_file,
    diagnostic::{Place, Report},
    file_kind::{self, Kind},
    policy::{DefaultRule, Policy, run_files},
};

/// Routes that a row of the table names; JSON has them all.
const ROUTES_SHOWN: usize = 2;

pub fn list(listing: &Listing) -> u8 {
    let Some(checked) = super::checked(&listing.options) else { return CONFIG };
    let policy = &checked.policy;
    let mut table = columns(&["RULE", "CHECK", "FROM", "ASKED BY"]);
    let mut all = Vec::new();
    for (name, check) in policy.rules() {
        let (origin, default) = (policy.origin(name), policy.defaults().get(name));
        let place = origin.and_then(|origin| origin.place.as_ref());
        let over = origin.map(|origin| &*origin.over).unwrap_or_default();
        let mut from = place.map_or("code".to_owned(), ToString::to_string);
        for earlier in over.iter().rev() {
            from += &format!(" over {earlier}");
        }
        let routes: Vec<String> = default.map(routes).unwrap_or_default();
        let mut shown = routes.iter().take(ROUTES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if let Some(more) = routes.len().checked_sub(ROUTES_SHOWN).filter(|more| *more > 0) {
            shown += &format!(" and {more} more");
        }
        let words = default.map(|it| it.scope_types.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
        all.push(json!({
            "rule": name, "check": check, "from": place.map_or_else(|| json!({ "code": true }), at),
            "over": over.iter().map(at).collect::<Vec<_>>(), "default": default.map(|it| it.expression),
            "scope_types": words.unwrap_or_default(), "refers_to": policy.refers_to(name), "routes": routes,
        }));
        table.add_row([name, &check, &from, &shown]);
    }
    show(listing, &table.trim_fmt(), &Value::Array(all))
}

fn at(place: &Place) -> Value {
    json!({ "file": place.source.name, "line": place.line() })
}

/// `GET /{project_id}/clouds`, `POST /{project_id}/clouds/{id}/action (enable)`; of the old ports with their mount.
fn routes(rule: &DefaultRule) -> Vec<String> {
    let route = |route: &Arc<pileus_sdk::Route>| {
        let verb = route.verb.map_or_else(String::new, |verb| format!(" ({verb})"));
        let mount = match route.mount {
            pileus_sdk::Mount::Tenant => String::new(),
            other => format!("{}: ", other.as_str()),
        };
        format!("{mount}{} {}{verb}", route.method, route.path)
    };
    rule.routes.iter().map(route).collect()
}

pub fn check(files: &[PathBuf], options: &Options) -> u8 {
    let mut report = Report::default();
    let read = |path: &PathBuf| {
        let source = config_file::source(path).map_err(|error| error.diagnostic())?;
        file_kind::check(&source, Kind::Policy).map(|()| source)
    };
    let sources: Vec<_> = files.iter().filter_map(|path| report.take(read(path))).collect();
    let policy = crate::policy_of(&sources, options, &mut report);
    super::say(&report);
    if report.errors() > 0 {
        return CONFIG;
    }
    let own = policy.rules().filter(|(name, _)| policy.origin(name).is_some_and(|it| it.place.is_some()));
    super::print(format_args!("ok: {} rules, {} with those in code", own.count(), policy.rules().count()));
    OK
}

pub fn explain(asked: &ExplainRule) -> u8 {
    let (creds, target) = match (object("--creds", &asked.creds), object("--target", &asked.target)) {
        (Ok(creds), Ok(target)) => (Value::Object(creds), target),
        (Err(wrong), _) | (_, Err(wrong)) => {
            super::tell(format_args!("error: {wrong}"));
            return USAGE;
        }
    };
    let Some(checked) = super::checked(&asked.options) else { return CONFIG };
    let policy: &Policy = &checked.policy;
    let (decision, tree) = match asked.ask {
        false => policy.explain(&asked.rule, &creds, &target),
        true => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(policy.explain_asking(&asked.rule, &creds, &target)),
            Err(error) => {
                super::tell(format_args!("error: no network: {error}"));
                return SOFTWARE;
            }
        },
    };
    let mut out = std::io::stdout().lock();
    // A closed pipe means that the reader has seen enough.
    write!(out, "{tree}").ok();
    if decision.allowed() { OK } else { FAILED }
}

/// A JSON object: the text itself, or that of a file.
fn object(option: &str, said: &str) -> Result<Map<String, Value>, String> {
    let text = match said.strip_prefix('@') {
        Some(path) => {
            fs::read_to_string(path).map_err(|error| format!("{option}: {path} cannot be read: {error}"))?
        }
        None => said.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        format!("{option} has to be a JSON object, as in '{{\"project_id\": \"p1\"}}': {error}")
    })
}

pub fn test(files: &[PathBuf]) -> u8 {
    let mut out = std::io::stdout().lock();
    match run_files(files, &mut out).and_then(|summary| out.flush().map(|()| summary)) {
        Ok(summary) if summary.failed == 0 => OK,
        // Whoever closed the pipe has read enough.
        Ok(_) | Err(_) => FAILED,
    }
}
