//! `pileus check`: parse, check and build; everything that can be wrong, in one run.

use super::{CONFIG, OK};
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
        super::print(format_args!("{:#}", report.to_json()));
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
