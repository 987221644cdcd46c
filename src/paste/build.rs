//! Phase *build*: makes the towers that a [`Plan`] describes. Starts no task and opens no socket.

use pileus_sdk::{Filter, Stack};

use super::{
    cascade::cascade,
    plan::{AppPlan, End, FilterPlan, Plan, Shape},
    server::ServerSettings,
    urlmap::{Key, urlmap},
};
use crate::{
    diagnostic::Report,
    pipeline::{BuildDeps, Deps, Fact},
};

/// A server that only has to be started.
#[derive(Debug, Clone)]
pub struct BuiltServer {
    /// `api`.
    pub name: String,
    /// Where it listens, and its limits.
    pub settings: ServerSettings,
    /// What answers.
    pub app: Stack,
    /// Its place in [`Plan::servers`].
    pub plan: usize,
}

/// Builds all servers. A server whose app has mistakes is left out; the report says why, also of
/// what factories dislike. In the end, a report with errors means that nothing may be started.
pub fn build(plan: &Plan, deps: &BuildDeps, report: &mut Report) -> Vec<BuiltServer> {
    // Every app stands behind those that it uses.
    let mut stacks: Vec<Option<Stack>> = Vec::with_capacity(plan.apps.len());
    for app in &plan.apps {
        let stack = one(plan, app, &stacks, deps, report);
        stacks.push(stack);
    }
    let built = plan.servers.iter().enumerate().filter_map(|(at, server)| {
        let app = stacks.get(server.app)?.clone()?;
        Some(BuiltServer { name: server.name.clone(), settings: server.settings.clone(), app, plan: at })
    });
    built.collect()
}

fn one(
    plan: &Plan,
    app: &AppPlan,
    stacks: &[Option<Stack>],
    deps: &BuildDeps,
    report: &mut Report,
) -> Option<Stack> {
    let stack = |at: usize| stacks.get(at).cloned().flatten();
    match &app.shape {
        Shape::Broken => None,
        Shape::App { kind, section } => report.take((kind.factory)(section, deps)),
        Shape::Urlmap(mounts) => {
            let mounts: Option<Vec<_>> = mounts
                .iter()
                .map(|mount| {
                    Some((Key { host: mount.host.clone(), path: mount.path.clone() }, stack(mount.app)?))
                })
                .collect();
            mounts.map(urlmap)
        }
        Shape::Cascade { apps, catch } => {
            let apps: Option<Vec<_>> = apps.iter().map(|(app, _)| stack(*app)).collect();
            apps.map(|apps| cascade(apps, catch.clone()))
        }
        Shape::Filters { filters, app: below, .. } => {
            let deps = match plan.end(*below) {
                End::Router(mount) => deps.above(Some(mount), &app.name),
                End::None | End::Broken => deps.above(None, &app.name),
            };
            // All of them, in the order of the file: each may have something to say.
            let filters: Vec<Option<Filter>> = filters.iter().map(|it| filter(it, &deps, report)).collect();
            let filters: Option<Vec<Filter>> = filters.into_iter().collect();
            Some(assemble(&filters?, stack(*below)?))
        }
    }
}

fn filter(filter: &FilterPlan, deps: &Deps, report: &mut Report) -> Option<Filter> {
    let kind = filter.kind.as_ref()?;
    let routeless = kind.needs.contains(&Fact::Route) && deps.router.is_none();
    if filter.broken || routeless {
        return None;
    }
    report.take((kind.factory)(&filter.section, deps))
}

/// Puts `filters` around `app`, the first one outermost: in the order in which one reads them.
pub fn assemble(filters: &[Filter], app: Stack) -> Stack {
    filters.iter().rfold(app, |inner, filter| filter.over(inner))
}
