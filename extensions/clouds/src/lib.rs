//! Clouds: where VMs are booted. `/v2/{project_id}/clouds`, and what the old ports say of them.
//!
//! Clouds belong to no project: every project sees the same ones, and administrators change them.
//! Depends on the SDK alone. The server knows of this crate by [`EXTENSION`] alone.

mod body;
mod clouds;
mod old;

use std::sync::Arc;

use pileus_sdk::{
    Action, Deps, Extension, Memo, Method, Mount, Resource,
    action::Place::{Custom, Verb},
};

use crate::{
    clouds::{COLUMNS, Clouds},
    old::Old,
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "clouds",
    name: "Clouds",
    namespace: "urn:pileus:ext:clouds:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Clouds that boot VMs: what they have, what is used, and whether they take more",
    requires: &[],
    resources,
};

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Clouds { engine: deps.engine.clone(), shown: Memo::default() });
    let old = Arc::new(Old { deps: deps.clone() });
    let status = |path| Custom(Mount::CloudStatus, path);
    let admin = |path| Custom(Mount::CloudAdmin, path);
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    #[rustfmt::skip]
    let actions = vec![
        Action::index("clouds:index", "Lists clouds: id, name, links", &it, Clouds::index).default_rule("rule:member").pages(COLUMNS),
        Action::detail("clouds:detail", "Lists clouds in full", &it, Clouds::detail).default_rule("rule:member").pages(COLUMNS),
        Action::show("clouds:show", "Shows a cloud: settings, slots, what is used and free", &it, Clouds::show).default_rule("rule:member"),
        Action::create("clouds:create", "Adds a cloud", &it, Clouds::create),
        Action::update("clouds:update", "Changes a cloud's settings", &it, Clouds::update),
        Action::delete("clouds:delete", "Retires a cloud: its VMs drain, then it goes", &it, Clouds::delete),
        Action::new("enable", post.clone(), Verb, "clouds:enable", "Lets new VMs be booted", &it, Clouds::enable),
        Action::new("disable", post.clone(), Verb, "clouds:disable", "Lets no new VM be booted", &it, Clouds::disable),
        Action::new("drain", post.clone(), Verb, "clouds:drain", "Lets running jobs end, and starts nothing more", &it, Clouds::drain),
        Action::new("set_slots", post, Verb, "clouds:set_slots", "Sets how many VMs it may have", &it, Clouds::set_slots),
        Action::new("old_version", get.clone(), status("/"), "cloud_status:version", "The version line", &old, Old::version),
        Action::new("old_pool", get.clone(), status("/cloud"), "cloud_status:pool", "Table of clouds", &old, Old::pool),
        Action::new("old_clusters", get.clone(), status("/clusters"), "cloud_status:clusters", "Clouds, a table each", &old, Old::clusters),
        Action::new("old_clusters_json", get.clone(), status("/clusters.json"), "cloud_status:clusters", "Clouds and VMs as JSON", &old, Old::clusters_json),
        Action::new("old_cluster", get.clone(), status("/clusters/{cloud}"), "cloud_status:cluster", "One cloud's table", &old, Old::cluster),
        Action::new("old_cluster_json", get.clone(), status("/clusters/{cloud}.json"), "cloud_status:cluster", "One cloud and its VMs as JSON", &old, Old::cluster_json),
        Action::new("old_heart_beats", get, status("/thread-heart-beats"), "cloud_status:heart_beats", "Seconds since each reconciler's last cycle", &old, Old::heart_beats),
        Action::new("old_set", put, admin("/clouds/{cloud}"), "cloud_admin:set_cloud", "Enables, disables, or sets allocations", &old, Old::set),
    ];
    vec![Resource { collection: "clouds", parent: None, actions }]
}
