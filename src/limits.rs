//! `GET /v2/{project_id}/limits`: what the caller may do how often, and how much of it.
//!
//! `absolute` has Nova's names: `maxTotalInstances` is the user's limit of VMs, `total…Used` what his VMs
//! take (memory in MiB). The project has `…WaitingJobs…` and `…WaitingJobBytes…`: jobs that wait or are held, and
//! the bytes of their commands and names.

use std::sync::Arc;

use pileus_sdk::{
    Action, Call, Fault, QueryParam, Reply, Resource, extension::Deps, json, model::Engine, query::Values,
};
use serde_json::{Map, Value};

/// Shows the rate limits that the pipeline's `ratelimit` left, and the caller's own limit of VMs.
struct Limits {
    engine: Arc<dyn Engine>,
}

/// The resource.
pub fn resource(deps: &Deps) -> Resource {
    let it = Arc::new(Limits { engine: deps.engine.clone() });
    let index =
        Action::index("limits:index", "Shows the caller's rate and absolute limits", &it, Limits::index);
    // Both are what Nova's clients send.
    let index = index
        .default_rule("rule:member")
        .query(QueryParam::new("tenant_id", Values::Text, "Project of the token; there are no others here"))
        .query(QueryParam::flag("reserved", "Accepted and without effect: nothing is reserved here"));
    Resource { collection: "limits", parent: None, actions: vec![index] }
}

impl Limits {
    async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let project = call.project();
        if let Some(other) = call.query().get("tenant_id").filter(|tenant| *tenant != project) {
            let text = format!(
                "Limits are those of the caller: tenant_id is `{other}`, and the token is for `{project}`."
            );
            return Err(Fault::BadRequest(text));
        }
        let rate =
            call.context().rate_limits.as_ref().map_or_else(|| json!([]), |limits| limits(call.context()));
        let view = self.engine.view();
        let mut absolute: Map<String, Value> = Map::new();
        if let Some(caller) = call.caller() {
            // A limit is a user's, in whatever project his VMs are.
            let mine = view.vms.values().filter(|vm| vm.user == caller.user);
            let (vms, cores, mib) = mine.fold((0_u64, 0_u64, 0_u64), |(vms, cores, mib), vm| {
                (vms + 1, cores + u64::from(vm.cpu_cores), mib.saturating_add(vm.memory_mib))
            });
            absolute.insert("totalInstancesUsed".into(), vms.into());
            absolute.insert("totalCoresUsed".into(), cores.into());
            absolute.insert("totalRAMUsed".into(), mib.into());
            // Nova leaves out what has no limit.
            if let Some(limit) = view.user_limits.get(&caller.user) {
                absolute.insert("maxTotalInstances".into(), (*limit).into());
            }
        }
        let waiting = view.waiting.get(&*project).copied().unwrap_or_default();
        absolute.insert("totalWaitingJobsUsed".into(), waiting.jobs.into());
        absolute.insert("totalWaitingJobBytesUsed".into(), waiting.bytes.into());
        if let Some(max) = self.engine.waiting_max() {
            absolute.insert("maxTotalWaitingJobs".into(), max.jobs.into());
            absolute.insert("maxTotalWaitingJobBytes".into(), max.bytes.into());
        }
        Reply::ok(&json!({ "limits": { "rate": rate, "absolute": absolute } }))
    }
}
