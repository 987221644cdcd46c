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
    diagnostic::{Diagnostic, words},
    paste::Section,
    pipeline::{AppKind, BuildDeps, Fact},
};

/// How [`APPS`](crate::pipeline::APPS) knows it.
pub const KIND: AppKind =
    AppKind { name: "router", needs: &[Fact::WholeBody], public: false, mount, factory };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    routes: String,
}

fn mount(section: &Section) -> Option<Mount> {
    let routes = section.settings.get("routes")?.value.as_text()?;
    Mount::ALL.into_iter().find(|mount| mount.as_str() == routes)
}

fn factory(section: &Section, deps: &BuildDeps) -> Result<Stack, Diagnostic> {
    let Config { routes } = section.parse()?;
    let names = Mount::ALL.map(Mount::as_str);
    let Some(mount) = mount(section) else {
        let text = format!("there are no routes `{routes}`, expected {}", words(&names, "or"));
        return Err(section.wrong("routes", text).suggest(&routes, names));
    };
    match deps.routers.get(&mount) {
        Some(router) => Ok(router.clone().app()),
        None => Err(section.wrong("routes", format!("the routes `{routes}` were not built"))),
    }
}
