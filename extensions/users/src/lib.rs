//! Users: who has jobs and VMs, how many VMs each may have, and how long their proxies last.
//! `/v2/{project_id}/users`, and what the admin port says of limits and does to proxies.
//!
//! Depends on the SDK alone. The server knows of this crate by [`EXTENSION`] alone.

mod old;
mod users;

use std::sync::Arc;

use pileus_sdk::{
    Action, Deps, Extension, Method, Mount, Resource,
    action::Place::{BulkVerb, Custom, Verb},
};

use crate::{
    old::Old,
    users::{Users, columns},
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "users",
    name: "Users",
    namespace: "urn:pileus:ext:users:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Users of jobs and VMs, the most VMs that each may have, and their proxies",
    requires: &[],
    resources,
};

/// Counts over every project.
const ALL: &str = "users:index:all_projects";

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Users { engine: deps.engine.clone() });
    let old = Arc::new(Old { engine: deps.engine.clone() });
    let limits = Custom(Mount::CloudAdmin, "/user-limits");
    #[rustfmt::skip]
    let actions = vec![
        Action::index("users:index", "Lists users: VMs, limit, jobs by state", &it, Users::index).default_rule("rule:member").pages(&columns()).scoped(&[ALL]),
        Action::show("users:show", "Shows a user", &it, Users::show).default_rule("rule:member").scoped(&[ALL]),
        Action::update("users:update", "Sets or takes away a user's limit of VMs", &it, Users::update).scoped(&[ALL]),
        Action::new("refresh", Method::POST, Verb, "users:refresh", "Renews a proxy of a user", &it, Users::refresh).scoped(&[ALL]),
        Action::new("reload", Method::POST, BulkVerb, "users:reload", "Reads the limit file again", &it, Users::reload),
        Action::new("old_limits", Method::GET, limits.clone(), "cloud_admin:user_limits", "Limits as a Python dict", &old, Old::limits),
        Action::new("old_reload_limits", Method::POST, limits, "cloud_admin:reload_user_limits", "Reads the limit file again", &old, Old::reload),
        Action::new("old_refresh", Method::POST, Custom(Mount::CloudAdmin, "/users/{user}"), "cloud_admin:refresh_user", "Renews a proxy of a user", &old, Old::refresh),
    ];
    vec![Resource { collection: "users", parent: None, actions }]
}
