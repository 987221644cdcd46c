//! `pileus check`: parse, check and build; everything that can be wrong, in one run.

use super::{CONFIG, OK};
use crate::cli::Options;

pub fn run(options: &Options) -> u8 {
    let Some(checked) = super::checked(options) else { return CONFIG };
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
