//! Jobs: what users want run. `/v2/{project_id}/jobs`, and what the old ports say of them.
//!
//! A project sees its own jobs alone; `all_projects=1` is a policy rule. Depends on the SDK alone. The
//! server knows of this crate by [`EXTENSION`] alone.

mod body;
mod followers;
mod jobs;
mod old;
mod output;
mod range;

use std::{ops::RangeInclusive, sync::Arc};

use pileus_sdk::{
    Action, Deps, Extension, Memo, Method, Mount, Resource, ScopeType,
    action::Place::{Custom, MemberAction, Verb},
};

use crate::{
    jobs::{COLUMNS, Jobs, state_param},
    old::Old,
    output::{Outputs, follow_param, offset_param},
};

/// The descriptor.
pub static EXTENSION: Extension = Extension {
    alias: "jobs",
    name: "Jobs",
    namespace: "urn:pileus:ext:jobs:v1",
    updated: "2026-01-01T00:00:00Z",
    description: "Batch jobs: submitting, holding, releasing, removing them, and reading what they wrote",
    requires: &[],
    resources,
};

/// Sees the jobs of every project.
const ALL: &str = "jobs:index:all_projects";
/// Submits for another user.
const AS_USER: &str = "jobs:create:as_user";
/// Submits a job that runs before every normal one.
const HIGH_PRIORITY: &str = "jobs:create:high_priority";
/// Submits with a priority outside of [`PRIORITIES`].
const ANY_PRIORITY: &str = "jobs:create:any_priority";
/// Priorities that need no rule of their own.
const PRIORITIES: RangeInclusive<i64> = -100..=100;

fn resources(deps: &Deps) -> Vec<Resource> {
    let (engine, defaults) = (deps.engine.clone(), deps.job_defaults.clone());
    let it = Arc::new(Jobs { engine, defaults, shown: Memo::default() });
    let outputs =
        Arc::new(Outputs { engine: it.engine.clone(), clock: deps.clock.clone(), followers: Arc::default() });
    let bytes = |path| Custom(Mount::Tenant, path);
    let old = Arc::new(Old { deps: deps.clone() });
    let status = |path| Custom(Mount::CloudStatus, path);
    let (get, post) = (Method::GET, Method::POST);
    #[rustfmt::skip]
    let actions = vec![
        Action::index("jobs:index", "Lists jobs: id, state, end, exit code, links", &it, Jobs::index).default_rule("rule:member").pages(COLUMNS).scoped(&[ALL]).query(state_param()),
        Action::detail("jobs:detail", "Lists jobs in full", &it, Jobs::detail).default_rule("rule:member").pages(COLUMNS).scoped(&[ALL]).query(state_param()),
        Action::show("jobs:show", "Shows a job", &it, Jobs::show).default_rule("rule:member").scoped(&[ALL]),
        Action::create("jobs:create", "Submits a job", &it, Jobs::create).default_rule("rule:writer").scope_types(&[ScopeType::Project]).asks(&[AS_USER, HIGH_PRIORITY, ANY_PRIORITY]),
        Action::delete("jobs:delete", "Removes a job; one that runs is killed", &it, Jobs::delete).default_rule("rule:writer").scoped(&[ALL]),
        Action::new("hold", post.clone(), Verb, "jobs:hold", "Keeps a waiting job from running", &it, Jobs::hold).default_rule("rule:writer").scoped(&[ALL]),
        Action::new("release", post, Verb, "jobs:release", "Lets a held job wait again", &it, Jobs::release).default_rule("rule:writer").scoped(&[ALL]),
        Action::new("output", get.clone(), MemberAction, "jobs:output", "Shows what a job wrote, and how it ended", &it, Jobs::output).default_rule("rule:member").scoped(&[ALL]),
        Action::new("output_stdout", get.clone(), bytes("/jobs/{id}/output/stdout"), "jobs:output", "Sends what a job writes to standard output, also while it runs", &outputs, Outputs::stdout).default_rule("rule:member").scoped(&[ALL]).query(offset_param()).query(follow_param()),
        Action::new("output_stderr", get.clone(), bytes("/jobs/{id}/output/stderr"), "jobs:output", "Sends what a job writes to standard error, also while it runs", &outputs, Outputs::stderr).default_rule("rule:member").scoped(&[ALL]).query(offset_param()).query(follow_param()),
        Action::new("explain", get.clone(), MemberAction, "jobs:explain", "Tells why a job waits: clouds, shares, limits", &it, Jobs::explain).default_rule("rule:member").scoped(&[ALL]),
        Action::new("old_table", get.clone(), status("/jobs"), "cloud_status:jobs", "Jobs of a state as a table", &old, Old::table),
        Action::new("old_job", get.clone(), status("/jobs/{job}"), "cloud_status:job", "One job as a row", &old, Old::job),
        Action::new("old_job_json", get.clone(), status("/jobs/{job}.json"), "cloud_status:job", "One job as JSON", &old, Old::job_json),
        Action::new("old_job_pool", get.clone(), status("/job-pool.json"), "cloud_status:jobs", "Waiting and scheduled jobs as JSON", &old, Old::job_pool),
        Action::new("old_job_pools", get, status("/job_pools.json"), "cloud_status:jobs", "Waiting and scheduled jobs as JSON", &old, Old::job_pool),
    ];
    vec![Resource { collection: "jobs", parent: None, actions }]
}
