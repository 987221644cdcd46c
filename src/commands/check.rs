//! `pileus check`: parse, check and build; everything that can be wrong, in one run.

use pileus_sdk::host::Protection;

use super::{CONFIG, OK, serve::protections};
use crate::{
    cli::{Listing, Options},
    diagnostic::{Diagnostic, Report},
    log_settings::LogSettings,
};

pub fn run(listing: &Listing) -> u8 {
    let mut report = Report::default();
    LogSettings::from_environment(&mut report);
    state(&listing.options, &mut report);
    let checked = crate::check(&listing.options, &mut report);
    let checked = checked.filter(|_| report.errors() == 0);
    if listing.json {
        let mut json = report.to_json();
        if let (Some(checked), Some(object)) = (&checked, json.as_object_mut()) {
            let protections = protections(&checked.confinement);
            object.insert("protections".into(), serde_json::to_value(protections).unwrap_or_default());
        }
        super::print(format_args!("{json:#}"));
        return if checked.is_some() { OK } else { CONFIG };
    }
    super::say(&report);
    let Some(checked) = checked else { return CONFIG };
    let servers = checked.plan.servers.len();
    let filters = crate::pipeline::FILTERS.len();
    super::print(format_args!(
        "ok: {servers} servers, {} routes of {} extensions, {} rules, {filters} filters known",
        checked.extensions.routes().count(),
        checked.extensions.statuses.len(),
        checked.policy.rules().count(),
    ));
    for Protection { name, in_force, how } in protections(&checked.confinement) {
        let state = if in_force { "protected from jobs" } else { "not protected from jobs" };
        super::print(format_args!("{state}: {name} ({how})"));
    }
    OK
}

/// Reports a state folder that is no folder. One that is not there is made by `serve`.
fn state(options: &Options, report: &mut Report) {
    let path = options.state();
    if path.exists() && !path.is_dir() {
        let text = format!("the state folder {} is no folder", path.display());
        report.push(Diagnostic::error(text).help("name a folder by `--state`"));
    }
}
