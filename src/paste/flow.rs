//! What has to hold along every way from a port to an app: each stage gets from those above what it
//! needs, whoever comes from another host is asked who he is, and no two servers want one address.

use std::collections::BTreeSet;

use super::{
    Listen,
    check::Catalog,
    plan::{AppId, End, FilterPlan, Plan, ServerPlan, Shape},
    value::Kind,
};
use crate::{
    diagnostic::{Diagnostic, Place, Report, words},
    pipeline::{Fact, FilterKind},
};

/// Checks every way of every server; `orphans` are the apps of servers that have mistakes of their
/// own.
pub fn check(plan: &Plan, orphans: &[(AppId, Place)], catalog: &Catalog, report: &mut Report) {
    for (app, place) in orphans {
        let mut walk = Walk { plan, catalog, report, seen: BTreeSet::new(), open: BTreeSet::new() };
        walk.app(*app, place, Facts::default(), false);
    }
    for (at, server) in plan.servers.iter().enumerate() {
        let listen = server.section.settings.get("listen").map(|setting| &setting.value.place);
        let listen = listen.unwrap_or(&server.section.place);
        if let Some(other) =
            plan.servers[..at].iter().find(|other| other.settings.listen.clashes(&server.settings.listen))
        {
            let address = &server.settings.listen;
            let what = if address.port().is_some() { "a port" } else { "a socket" };
            let help = format!("give each {what} of its own");
            let text =
                format!("[server.{}] and [server.{}] both listen on {address}", other.name, server.name);
            report.push(Diagnostic::error(text).at(listen.clone()).help(help));
        }
        let mut walk = Walk { plan, catalog, report, seen: BTreeSet::new(), open: BTreeSet::new() };
        // No web page reaches a Unix socket.
        let facts = match server.settings.listen {
            Listen::Unix { .. } => Facts::default().with(&[Fact::SameSite]),
            _ => Facts::default(),
        };
        walk.app(server.app, &server.app_place, facts, false);
        let open = walk.open;
        if !open.is_empty() && !server.settings.listen.is_local() && !server.settings.allow_unauthenticated {
            report.push(unauthenticated(server, catalog, &open).at(listen.clone()));
        }
    }
}

/// Returns, for each server of a plan, `true` if an app is reached without a filter that authenticates callers.
pub fn open_servers(plan: &Plan, catalog: &Catalog) -> Vec<bool> {
    let mut report = Report::default();
    let open = plan.servers.iter().map(|server| {
        let (seen, open) = (BTreeSet::new(), BTreeSet::new());
        let mut walk = Walk { plan, catalog, report: &mut report, seen, open };
        walk.app(server.app, &server.app_place, Facts::default(), false);
        !walk.open.is_empty()
    });
    open.collect()
}

/// Another host may call what asks nobody who he is.
fn unauthenticated(server: &ServerPlan, catalog: &Catalog, open: &BTreeSet<&str>) -> Diagnostic {
    let open: Vec<_> = open.iter().collect();
    // What systemd opens is not known here.
    let reached = if matches!(server.settings.listen, Listen::Systemd(_)) { "may" } else { "can" };
    let text = format!(
        "[server.{}] {reached} be reached by other hosts, and no filter on the way to {} proves who calls",
        server.name,
        words(&open, "and"),
    );
    let filters: Vec<_> =
        catalog.filters.iter().filter(|it| it.defaults().authenticates).map(|it| it.name).collect();
    let help = format!(
        "listen on 127.0.0.1, put {} into the pipeline, or say `allow_unauthenticated = true` here",
        words(&filters, "or"),
    );
    Diagnostic::error(text).help(help)
}

/// What the stages above have given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Facts(u8);

impl Facts {
    const ALL: Self = Self(u8::MAX);

    fn has(self, fact: Fact) -> bool {
        self.0 & (1 << fact as u8) != 0
    }

    fn with(self, facts: &[Fact]) -> Self {
        Self(facts.iter().fold(self.0, |all, fact| all | (1 << *fact as u8)))
    }
}

struct Walk<'a, 'r> {
    plan: &'a Plan,
    catalog: &'a Catalog,
    report: &'r mut Report,
    /// With few facts there are few ways to come to an app, however many paths lead there.
    seen: BTreeSet<(AppId, Facts, bool)>,
    /// Apps that are reached by somebody who has not proved who he is.
    open: BTreeSet<&'a str>,
}

impl<'a> Walk<'a, '_> {
    /// Comes to an app, which is named at `at`, with these facts; `proven`: some filter above let
    /// nobody pass who has not proved who he is.
    fn app(&mut self, app: AppId, at: &Place, facts: Facts, proven: bool) {
        if !self.seen.insert((app, facts, proven)) {
            return;
        }
        let plan = self.plan;
        let Some(it) = plan.apps.get(app) else { return };
        match &it.shape {
            Shape::Broken => {}
            Shape::App { kind, .. } => {
                let name = it.name.strip_prefix("app.").unwrap_or(&it.name);
                self.needs(name, kind.needs, facts, at, &[]);
                if !facts.has(Fact::Rules) && self.plan.end(app) != End::None {
                    self.report.push(without_rules(name).at(at.clone()));
                }
                if !kind.public && !proven {
                    self.open.insert(name);
                    if !facts.has(Fact::SameSite) {
                        self.report.push(open_to_pages(name).at(at.clone()));
                    }
                }
            }
            Shape::Urlmap(mounts) => {
                for mount in mounts {
                    self.app(mount.app, &mount.place, facts, proven);
                }
            }
            Shape::Cascade { apps, .. } => {
                let name = it.name.strip_prefix("composite.").unwrap_or(&it.name);
                self.needs(name, &[Fact::WholeBody], facts, at, &[]);
                for (app, place) in apps {
                    self.app(*app, place, facts, proven);
                }
            }
            Shape::Filters { filters, app, app_place, .. } => {
                let (facts, proven) = self.filters(filters, *app, facts, proven);
                self.app(*app, app_place, facts, proven);
            }
        }
    }

    fn filters(
        &mut self,
        filters: &[FilterPlan],
        app: AppId,
        mut facts: Facts,
        mut proven: bool,
    ) -> (Facts, bool) {
        let end = self.plan.end(app);
        for (at, filter) in filters.iter().enumerate() {
            let Some(kind) = &filter.kind else {
                // It might have given anything: what is missing below may be its fault.
                (facts, proven) = (Facts::ALL, true);
                continue;
            };
            let name = short(filter);
            let capabilities = (kind.capabilities)(&filter.section);
            if capabilities.requires.contains(&Fact::Route) && end == End::None {
                let text = format!("`{name}` needs a route, and at the end of this pipeline there is none");
                let help = "end it with a router: `cloud_status`, `cloud_admin`, or an app with factory = \"router\"";
                self.report.push(Diagnostic::error(text).at(filter.place.clone()).help(help));
            }
            self.needs(name, capabilities.requires, facts, &filter.place, &filters[at + 1..]);
            for fact in capabilities.precedes.iter().filter(|fact| facts.has(**fact)) {
                self.report.push(late(filter, *fact, &filters[..at]));
            }
            facts = facts.with(capabilities.provides);
            if capabilities.requires.contains(&Fact::SameSite) {
                // Where it was missing, that was reported: the apps below say nothing more of it.
                facts = facts.with(&[Fact::SameSite]);
            }
            proven |= capabilities.authenticates && !lets_nobody_pass(filter, &filters[at + 1..]);
        }
        (facts, proven)
    }

    /// Says what is missing for `name`, and who would give it.
    fn needs(&mut self, name: &str, needs: &[Fact], facts: Facts, at: &Place, below: &[FilterPlan]) {
        // Routes come from below.
        for fact in needs.iter().filter(|fact| **fact != Fact::Route && !facts.has(**fact)) {
            let wrong = Diagnostic::error(format!("`{name}` needs {}", fact.as_str())).at(at.clone());
            let help = match below.iter().find(|it| provides(it, *fact)) {
                Some(late) => format!("`{}` gives it: move it before `{name}`", short(late)),
                None => {
                    let gives = |kind: &&FilterKind| kind.defaults().provides.contains(fact);
                    let givers = self.catalog.filters.iter().filter(gives);
                    let givers: Vec<_> = givers.map(|kind| kind.name).collect();
                    format!("put {} before it", words(&givers, "or"))
                }
            };
            self.report.push(wrong.help(help));
        }
    }
}

/// The name of a filter as pipelines write it.
fn short(filter: &FilterPlan) -> &str {
    filter.name.strip_prefix("filter.").unwrap_or(&filter.name)
}

/// `true` if the filter provides this capability.
fn provides(filter: &FilterPlan, fact: Fact) -> bool {
    filter.kind.is_some_and(|kind| (kind.capabilities)(&filter.section).provides.contains(&fact))
}

/// Reports a filter that stands below the one that it has to precede.
fn late(filter: &FilterPlan, fact: Fact, above: &[FilterPlan]) -> Diagnostic {
    let name = short(filter);
    let text = format!("`{name}` has no effect below the filter that gives {}", fact.as_str());
    let help = match above.iter().find(|it| provides(it, fact)) {
        Some(early) => format!("move it before `{}`", short(early)),
        None => "move it into the pipeline above".to_owned(),
    };
    Diagnostic::error(text).at(filter.place.clone()).help(help)
}

/// Warns of an app whose actions no rule restricts.
fn without_rules(name: &str) -> Diagnostic {
    let text = format!("no `policy` on the way to `{name}`: every caller may do everything");
    Diagnostic::warning(text).help("put `policy` before it, so that the rules of policy.json hold")
}

/// Reports an app that every web page in a browser on this host can call.
fn open_to_pages(name: &str) -> Diagnostic {
    let text = format!("no filter on the way to `{name}` proves who calls, and web pages can call it");
    let help = "put `samesite` into the pipeline: by DNS rebinding a page calls a port as its own site";
    Diagnostic::error(text).help(help)
}

/// Whether a filter that knows callers lets go on whom it does not know, and no `policy` below refuses him.
fn lets_nobody_pass(filter: &FilterPlan, below: &[FilterPlan]) -> bool {
    let delays = filter.section.settings.get("delay_auth_decision");
    let delays = delays.is_some_and(|it| matches!(it.value.kind, Kind::Bool(true)));
    delays && !below.iter().any(|it| it.kind.is_some_and(|kind| kind.name == "policy"))
}
