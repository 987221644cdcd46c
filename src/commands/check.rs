//! `pileus check`: parse, check and build; everything that can be wrong, in one run.

use super::{CONFIG, OK};
use crate::{cli::Listing, diagnostic::Report};

pub fn run(listing: &Listing) -> u8 {
    if listing.json {
        let mut report = Report::default();
        let checked = crate::check(&listing.options, &mut report);
        println!("{:#}", report.to_json());
        return if checked.is_some() && report.errors() == 0 { OK } else { CONFIG };
    }
    let Some(checked) = super::checked(&listing.options) else { return CONFIG };
    let servers = checked.plan.servers.len();
    let filters = crate::pipeline::FILTERS.len();
    println!(
        "ok: {servers} servers, {} routes of {} extensions, {} rules, {filters} filters known",
        checked.extensions.routes().count(),
        checked.extensions.statuses.len(),
        checked.policy.rules().count(),
    );
    OK
}
