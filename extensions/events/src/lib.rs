//! Events: who changed what, when and why. `/v2/{project_id}/events`, as a list and as it happens.
//!
//! A project sees the events of its own VMs and jobs, whoever caused them, and those of clouds and
//! aliases, which are everybody's; `all_projects=1` is a policy rule. Depends on the SDK alone. The
//! server knows of this crate by [`EXTENSION`] alone.

mod document;
mod events;
mod follow;

use std::sync::Arc;

use pileus_sdk::{Action, Deps, Extension, Resource};

use crate::events::Events;

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "events",
    name: "Events",
    namespace: "urn:pileus:ext:events:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Who changed what, when and why: as a list, and live as server-sent events",
    requires: &[],
    resources,
};

/// Sees the events of every project, and those of tokens and limits of users.
const ALL: &str = "events:index:all_projects";

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Events { engine: deps.engine.clone(), clock: deps.clock.clone() });
    let about = "Lists events after `since`, or follows them live";
    let actions = vec![
        Action::index("events:index", about, &it, Events::index).default_rule("rule:member").asks(&[ALL]),
    ];
    vec![Resource { collection: "events", parent: None, actions }]
}
