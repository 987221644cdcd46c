//! VMs: what the scheduler booted. `/v2/{project_id}/vms`, a cloud's VMs, and what the old ports say
//! of them and do to them.
//!
//! A project sees its own VMs alone; `all_projects=1` is a policy rule. Depends on the SDK alone. The
//! server knows of this crate by [`EXTENSION`] alone.

mod body;
mod old_admin;
mod old_info;
mod verbs;
mod vms;

use std::sync::Arc;

use pileus_sdk::{
    Action, Deps, Extension, Memo, Method, Mount, Parent, Resource,
    action::Place::{BulkVerb, Custom, Verb},
};

use crate::{
    old_admin::OldAdmin,
    old_info::OldInfo,
    verbs::{Deed, Verbs},
    vms::{COLUMNS, Vms},
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "vms",
    name: "VMs",
    namespace: "urn:pileus:ext:vms:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Virtual machines: their states, and shutting down, retiring, forgetting, resetting them",
    requires: &["clouds"],
    resources,
};

/// Sees the VMs of every project.
const ALL: &str = "vms:index:all_projects";

fn resources(deps: &Deps) -> Vec<Resource> {
    let it = Arc::new(Vms { engine: deps.engine.clone(), shown: Memo::default() });
    let verbs = |deed| Arc::new(Verbs { engine: deps.engine.clone(), deed });
    let (stop, retire) = (verbs(Deed::Shutdown), verbs(Deed::ForceRetire));
    let (remove, reset) = (verbs(Deed::Remove), verbs(Deed::Reset));
    let info = Arc::new(OldInfo { engine: deps.engine.clone() });
    let admin = Arc::new(OldAdmin { deps: deps.clone() });
    let status = |path| Custom(Mount::CloudStatus, path);
    let cloud_vms = Custom(Mount::CloudAdmin, "/clouds/{cloud}/vms");
    let cloud_vm = Custom(Mount::CloudAdmin, "/clouds/{cloud}/vms/{vm}");
    let (get, put, post, delete) = (Method::GET, Method::PUT, Method::POST, Method::DELETE);
    #[rustfmt::skip]
    let mut actions = vec![
        Action::index("vms:index", "Lists VMs: id, state, links", &it, Vms::index).default_rule("rule:member").pages(COLUMNS),
        Action::detail("vms:detail", "Lists VMs in full", &it, Vms::detail).default_rule("rule:member").pages(COLUMNS),
        Action::show("vms:show", "Shows a VM", &it, Vms::show).default_rule("rule:member"),
        Action::new("shutdown", post.clone(), Verb, "vms:shutdown", "Destroys a VM at once; its job goes back to the queue", &stop, Verbs::one).default_rule("rule:writer"),
        Action::new("force_retire", post.clone(), Verb, "vms:force_retire", "Lets a VM finish its job, then destroys it", &retire, Verbs::one).default_rule("rule:writer"),
        Action::new("remove", post.clone(), Verb, "vms:remove", "Forgets a VM", &remove, Verbs::one),
        Action::new("reset_override_state", post.clone(), Verb, "vms:reset_override_state", "Takes back what was laid over a VM's state", &reset, Verbs::one),
        Action::new("shutdown", post.clone(), BulkVerb, "vms:bulk_shutdown", "Destroys VMs at once", &stop, Verbs::many).default_rule("rule:writer"),
        Action::new("force_retire", post.clone(), BulkVerb, "vms:bulk_force_retire", "Lets VMs finish their jobs, then destroys them", &retire, Verbs::many).default_rule("rule:writer"),
        Action::new("remove", post.clone(), BulkVerb, "vms:bulk_remove", "Forgets VMs", &remove, Verbs::many),
        Action::new("reset_override_state", post.clone(), BulkVerb, "vms:bulk_reset_override_state", "Takes back what was laid over VMs' states", &reset, Verbs::many),
    ];
    // All of these see the VMs of one project, or ask for all.
    actions = actions.into_iter().map(|action| action.scoped(&[ALL])).collect();
    #[rustfmt::skip]
    actions.extend([
        Action::new("old_table", get.clone(), status("/vms"), "cloud_status:vms", "VMs as a table, or a metric of them", &info, OldInfo::vms),
        Action::new("old_resources", get.clone(), status("/vms/resources"), "cloud_status:vms", "VMs as a table", &info, OldInfo::table),
        Action::new("old_cluster_vms", get.clone(), status("/clusters/{cloud}/vms"), "cloud_status:vms", "A metric of a cloud's VMs", &info, OldInfo::cluster_vms),
        Action::new("old_vm", get.clone(), status("/clusters/{cloud}/vms/{vm}"), "cloud_status:vm", "One VM as a row", &info, OldInfo::vm),
        Action::new("old_vm_json", get.clone(), status("/clusters/{cloud}/vms/{vm}.json"), "cloud_status:vm", "One VM as JSON", &info, OldInfo::vm_json),
        Action::new("old_ips", get, status("/ips"), "cloud_status:ips", "Addresses of VMs for munin", &info, OldInfo::ips),
        Action::new("old_set_vms", put.clone(), cloud_vms.clone(), "cloud_admin:set_vms", "Shuts down, retires or forgets VMs of a cloud", &admin, OldAdmin::put_vms),
        Action::new("old_post_vms", post.clone(), cloud_vms.clone(), "cloud_admin:set_vms", "Retires VMs of a cloud", &admin, OldAdmin::post_vms),
        Action::new("old_delete_vms", delete.clone(), cloud_vms, "cloud_admin:set_vms", "Forgets all VMs of a cloud", &admin, OldAdmin::delete_vms),
        Action::new("old_set_vm", put, cloud_vm.clone(), "cloud_admin:set_vm", "Shuts down, retires, forgets or resets a VM", &admin, OldAdmin::put_vm),
        Action::new("old_post_vm", post, cloud_vm.clone(), "cloud_admin:set_vm", "Retires a VM", &admin, OldAdmin::post_vm),
        Action::new("old_delete_vm", delete, cloud_vm, "cloud_admin:set_vm", "Forgets a VM", &admin, OldAdmin::delete_vm),
    ]);
    let of_cloud = Action::index("clouds:vms", "Lists a cloud's VMs", &it, Vms::of_cloud)
        .default_rule("rule:member")
        .pages(COLUMNS)
        .scoped(&[ALL]);
    let parent = Parent { member: "cloud", collection: "clouds" };
    vec![
        Resource { collection: "vms", parent: None, actions },
        Resource { collection: "vms", parent: Some(parent), actions: vec![of_cloud] },
    ]
}
