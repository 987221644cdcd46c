//! Cloud aliases: names that stand for clouds, where a job says on which it may run.
//! `/v2/{project_id}/cloud-aliases`, and what the admin port says of them.
//!
//! Aliases belong to no project, as the clouds. Depends on the SDK alone. The server knows of this
//! crate by [`EXTENSION`] alone.

mod aliases;
mod old;

use std::sync::Arc;

use pileus_sdk::{
    Action, Deps, Extension, Method, Mount, Resource,
    action::Place::{BulkVerb, Custom},
};

use crate::{
    aliases::{Aliases, columns},
    old::Old,
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "aliases",
    name: "Cloud aliases",
    namespace: "urn:pileus:ext:aliases:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Names that stand for a list of clouds",
    requires: &["clouds"],
    resources,
};

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Aliases { engine: deps.engine.clone() });
    let old = Arc::new(Old { engine: deps.engine.clone() });
    let path = Custom(Mount::CloudAdmin, "/cloud-aliases");
    #[rustfmt::skip]
    let actions = vec![
        Action::index("cloud-aliases:index", "Lists aliases", &it, Aliases::index).default_rule("rule:member").pages(&columns()),
        Action::show("cloud-aliases:show", "Shows an alias", &it, Aliases::show).default_rule("rule:member"),
        Action::create("cloud-aliases:create", "Adds an alias", &it, Aliases::create),
        Action::update("cloud-aliases:update", "Replaces an alias's clouds", &it, Aliases::update),
        Action::delete("cloud-aliases:delete", "Forgets an alias", &it, Aliases::delete),
        Action::new("reload", Method::POST, BulkVerb, "cloud-aliases:reload", "Reads the alias file again", &it, Aliases::reload),
        Action::new("old_aliases", Method::GET, path.clone(), "cloud_admin:cloud_aliases", "Aliases as a Python dict", &old, Old::aliases),
        Action::new("old_reload_aliases", Method::POST, path, "cloud_admin:reload_cloud_aliases", "Reads the alias file again", &old, Old::reload),
    ];
    vec![Resource { collection: "cloud-aliases", parent: None, actions }]
}
