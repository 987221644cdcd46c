//! `router`: the routes of one mount.
//!
//! ```toml
//! [app.osapi]
//! factory = "router"
//! routes  = "tenant"        # or "cloud_status", "cloud_admin"
//! ```

use pileus_sdk::{Mount, Stack};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{AppKind, BuildDeps, Fact},
};

/// How [`APPS`](crate::pipeline::APPS) knows it.
pub const KIND: AppKind =
    AppKind { name: "router", needs: &[Fact::WholeBody], public: false, mount, factory };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    routes: Routes,
}

/// [`Mount`], with the words of the file.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Routes {
    Tenant,
    CloudStatus,
    CloudAdmin,
}

fn mount(section: &Section) -> Option<Mount> {
    let routes = section.settings.get("routes")?.value.as_text()?;
    Mount::ALL.into_iter().find(|mount| mount.as_str() == routes)
}

fn factory(section: &Section, deps: &BuildDeps) -> Result<Stack, Diagnostic> {
    let mount = match section.parse::<Config>()?.routes {
        Routes::Tenant => Mount::Tenant,
        Routes::CloudStatus => Mount::CloudStatus,
        Routes::CloudAdmin => Mount::CloudAdmin,
    };
    match deps.routers.get(&mount) {
        Some(router) => Ok(router.clone().app()),
        None => Err(section.wrong("routes", format!("the routes `{}` were not built", mount.as_str()))),
    }
}
