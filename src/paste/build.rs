//! Phase *build*: makes the towers that a [`Plan`] describes. Starts no task and opens no socket.
//!
//! Each tower is made twice, of the same filters and apps: bare, and with a look at the clock above every one
//! of them. See [`crate::metrics`].

use std::sync::Arc;

use pileus_sdk::{Filter, Stack};

use super::{
    cascade::cascade,
    describe::short,
    plan::{AppId, AppPlan, End, FilterPlan, Plan, Shape},
    server::ServerSettings,
    urlmap::{Key, urlmap},
};
use crate::{
    diagnostic::Report,
    metrics::ServerCounts,
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
    /// The same, with every stage timed.
    pub timed: Stack,
    /// What it counts.
    pub counts: Arc<ServerCounts>,
    /// Its place in [`Plan::servers`].
    pub plan: usize,
}

/// The same app twice.
#[derive(Debug, Clone)]
struct Twice {
    plain: Stack,
    timed: Stack,
}

/// Builds all servers. A server whose app has mistakes is left out; the report says why, also of
/// what factories dislike. In the end, a report with errors means that nothing may be started.
pub fn build(plan: &Plan, deps: &BuildDeps, report: &mut Report) -> Vec<BuiltServer> {
    // Every app stands behind those that it uses.
    let mut built = Built { plan, deps, apps: Vec::with_capacity(plan.apps.len()) };
    for app in &plan.apps {
        let app = built.one(app, report);
        built.apps.push(app);
    }
    let servers = plan.servers.iter().enumerate().filter_map(|(at, server)| {
        let app = built.below(&format!("server.{}", server.name), server.app)?;
        let counts = deps.host.metrics.server(&server.name, &deps.clock);
        let timed = counts.times.clone().above(app.timed);
        let (name, settings) = (server.name.clone(), server.settings.clone());
        Some(BuiltServer { name, settings, app: app.plain, timed, counts, plan: at })
    });
    servers.collect()
}

/// The apps that are built already, in the order of the plan.
struct Built<'a> {
    plan: &'a Plan,
    deps: &'a BuildDeps,
    apps: Vec<Option<Twice>>,
}

impl Built<'_> {
    /// An app where the section `above` names it. One that is no composite is a stage of that section.
    fn below(&self, above: &str, app: AppId) -> Option<Twice> {
        let Twice { plain, timed } = self.apps.get(app)?.clone()?;
        let plan = self.plan.apps.get(app)?;
        let timed = match plan.shape {
            Shape::App { .. } => self.timed(above, &plan.name, timed),
            _ => timed,
        };
        Some(Twice { plain, timed })
    }

    fn timed(&self, pipeline: &str, name: &str, stage: Stack) -> Stack {
        self.deps.host.metrics.stage(pipeline, short(name), &self.deps.clock).above(stage)
    }

    fn one(&self, app: &AppPlan, report: &mut Report) -> Option<Twice> {
        match &app.shape {
            Shape::Broken => None,
            Shape::App { kind, section } => {
                let plain = report.take((kind.factory)(section, self.deps))?;
                Some(Twice { timed: plain.clone(), plain })
            }
            Shape::Urlmap(mounts) => {
                let mut twice = (Vec::new(), Vec::new());
                for mount in mounts {
                    let below = self.below(&app.name, mount.app)?;
                    let key = Key { host: mount.host.clone(), path: mount.path.clone() };
                    twice.0.push((key.clone(), below.plain));
                    twice.1.push((key, below.timed));
                }
                Some(Twice { plain: urlmap(twice.0), timed: urlmap(twice.1) })
            }
            Shape::Cascade { apps, catch } => {
                let below = apps.iter().map(|(at, _)| self.below(&app.name, *at));
                let below: Vec<Twice> = below.collect::<Option<_>>()?;
                let (plain, timed) = below.into_iter().map(|it| (it.plain, it.timed)).unzip();
                Some(Twice { plain: cascade(plain, catch.clone()), timed: cascade(timed, catch.clone()) })
            }
            Shape::Filters { filters, app: below, .. } => {
                let deps = match self.plan.end(*below) {
                    End::Router(mount) => self.deps.above(Some(mount), &app.name),
                    End::None | End::Broken => self.deps.above(None, &app.name),
                };
                // All of them, in the order of the file: each may have something to say.
                let built: Vec<Option<Filter>> = filters.iter().map(|it| filter(it, &deps, report)).collect();
                let built: Option<Vec<Filter>> = built.into_iter().collect();
                let Twice { plain, timed } = self.below(&app.name, *below)?;
                let built = built?;
                let timed = filters.iter().zip(&built).rfold(timed, |inner, (plan, filter)| {
                    self.timed(&app.name, &plan.name, filter.over(inner))
                });
                Some(Twice { plain: assemble(&built, plain), timed })
            }
        }
    }
}

fn filter(filter: &FilterPlan, deps: &Deps, report: &mut Report) -> Option<Filter> {
    let kind = filter.kind.as_ref()?;
    let capabilities = (kind.capabilities)(&filter.section);
    let routeless = capabilities.requires.contains(&Fact::Route) && deps.router.is_none();
    if filter.broken || routeless {
        return None;
    }
    report.take((kind.factory)(&filter.section, deps))
}

/// Puts `filters` around `app`, the first one outermost: in the order in which one reads them.
pub fn assemble(filters: &[Filter], app: Stack) -> Stack {
    filters.iter().rfold(app, |inner, filter| filter.over(inner))
}
