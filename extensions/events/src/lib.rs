//! Events: who changed what, when and why. `/v2/{project_id}/events`, as a list and as it happens.
//!
//! A project sees the events of its own VMs and jobs, whoever caused them, and those of clouds and
//! aliases, which are everybody's; `all_projects=1` is a policy rule. Depends on the SDK alone. The
//! server knows of this crate by [`EXTENSION`] alone.

mod document;
mod events;
mod follow;
mod list;

use std::sync::Arc;

use pileus_sdk::{
    Action, Column, Deps, Extension, QueryParam, Resource, SortValue, model::Event, query::Values,
};

use crate::{document::KINDS, events::Events};

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

/// The one order of events.
const COLUMNS: &[Column<Event>] = &[Column::id("seq", |event| SortValue::number(event.seq))];

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Events { engine: deps.engine.clone(), clock: deps.clock.clone() });
    let about = "Lists events after `since`, or follows them live";
    let index = Action::index("events:index", about, &it, Events::index)
        .default_rule("rule:member")
        .scoped(&[ALL])
        .pages(COLUMNS)
        .query(QueryParam::new("since", Values::Integer, "Number of the event that the list follows"))
        .query(QueryParam::new("kind", Values::Words(KINDS.to_vec()), "Kinds of the events that are listed"))
        .query(QueryParam::flag("follow", "A stream of events as they happen"));
    vec![Resource { collection: "events", parent: None, actions: vec![index] }]
}
