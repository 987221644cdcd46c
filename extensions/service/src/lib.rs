//! The service itself: its log, its flag of quick shutdown, its configured clouds, and what it tells
//! of its own thoughts. `/v2/{project_id}/service`, and what the old ports say of the same.
//!
//! All of it is an administrator's: it concerns every project. Depends on the SDK alone. The server
//! knows of this crate by [`EXTENSION`] alone.

mod body;
mod old_admin;
mod old_info;
mod record;
mod service;

use std::sync::Arc;

use pileus_sdk::{
    Action, Deps, Extension, Method, Mount, Resource,
    action::Place::{BulkVerb, Collection, CollectionAction, Custom},
};

use crate::{
    old_admin::OldAdmin,
    old_info::OldInfo,
    service::{STRAY_COLUMNS, Service},
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "service",
    name: "Service",
    namespace: "urn:pileus:ext:service:v1",
    updated: "2026-11-22T00:00:00Z",
    description: "The service itself: log level, quick shutdown, configuration, shares, failures",
    requires: &["clouds"],
    resources,
};

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Service { deps: deps.clone() });
    let admin = Arc::new(OldAdmin { deps: deps.clone() });
    let info = Arc::new(OldInfo { deps: deps.clone() });
    let status = |path| Custom(Mount::CloudStatus, path);
    let root = || Custom(Mount::CloudAdmin, "/");
    let (get, put, post) = (Method::GET, Method::PUT, Method::POST);
    #[rustfmt::skip]
    let actions = vec![
        Action::new("show", get.clone(), Collection, "service:show", "Shows the service: log, quick shutdown, reconcilers, process", &it, Service::show),
        Action::new("config", get.clone(), CollectionAction, "service:config", "Shows the configured clouds as they are on disk now", &it, Service::config),
        Action::new("shares", get.clone(), CollectionAction, "service:shares", "Shows who has which share of all VMs, and should have", &it, Service::shares),
        Action::new("failures", get.clone(), CollectionAction, "service:failures", "Shows why jobs got no VM, and which VM types do not come up where", &it, Service::failures),
        Action::new("strays", get.clone(), CollectionAction, "service:strays", "Shows machines that no VM matched when their driver looked last", &it, Service::strays).pages(STRAY_COLUMNS),
        Action::new("timings", get.clone(), CollectionAction, "service:timings", "Shows how long requests took in each filter, of those that were timed", &it, Service::timings),
        Action::new("backup", get.clone(), CollectionAction, "service:backup", "Sends a consistent copy of the whole state", &it, Service::backup),
        Action::new("reconfig", post.clone(), BulkVerb, "service:reconfig", "Reads the configured clouds again, all or nothing", &it, Service::reconfig),
        Action::new("reload", post.clone(), BulkVerb, "service:reload", "Reads all files again and goes on with what they say, all or nothing", &it, Service::reload),
        Action::new("quick_shutdown", post.clone(), BulkVerb, "service:quick_shutdown", "Says whether VMs live on when the service stops", &it, Service::quick_shutdown),
        Action::new("set_log_level", post.clone(), BulkVerb, "service:set_log_level", "Says how much the log tells", &it, Service::set_log_level),
        Action::new("old_set_log_level", put, root(), "cloud_admin:set_log_level", "Says how much the log tells", &admin, OldAdmin::set_log_level),
        Action::new("old_service", post, root(), "cloud_admin:service", "Quick shutdown, or reads the configured clouds again", &admin, OldAdmin::post),
        Action::new("old_config", get.clone(), status("/cloud/config"), "cloud_status:config", "The configured clouds as they are on disk now", &info, OldInfo::config),
        Action::new("old_developer_info", get.clone(), status("/developer-info"), "cloud_status:developer_info", "Memory and tasks of this process", &info, OldInfo::developer_info),
        Action::new("old_developer_info_page", get.clone(), status("/developer_info"), "cloud_status:developer_info", "Memory and tasks of this process", &info, OldInfo::developer_info),
        Action::new("old_diff_types", get.clone(), status("/diff-types"), "cloud_status:diff_types", "Shares: their differences, as they are, as they should be", &info, OldInfo::diff_types),
        Action::new("old_boot_failures", get.clone(), status("/failures/boot"), "cloud_status:failures", "Why jobs got no VM", &info, OldInfo::boot_failures),
        Action::new("old_image_failures", get.clone(), status("/failures/image"), "cloud_status:failures", "Which VM types do not come up where", &info, OldInfo::image_failures),
        Action::new("old_failures", get.clone(), status("/failures"), "cloud_status:failures", "Either of the two", &info, OldInfo::failures),
        Action::new("old_shared_objs", get, status("/shared-objs"), "cloud_status:shared_objs", "What each reconciler holds", &info, OldInfo::shared_objs),
    ];
    vec![Resource { collection: "service", parent: None, actions }]
}
