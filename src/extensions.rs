//! The list `EXTENSIONS`; selection; loading; and the `/extensions` resource that tells of it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use pileus_sdk::{
    Action, Call, Column, Extension, Fault, Mount, Page, Reply, Resource, Route, SortValue, extension::Deps,
    json, routes,
};
use serde_json::Value;

use crate::{diagnostic::Diagnostic, limits, router::Router, tokens};

/// Every extension that is compiled in. To add one: its crate, and its line here.
pub static EXTENSIONS: &[&Extension] = &[
    &pileus_ext_aliases::EXTENSION,
    &pileus_ext_clouds::EXTENSION,
    &pileus_ext_events::EXTENSION,
    &pileus_ext_jobs::EXTENSION,
    &pileus_ext_policy::EXTENSION,
    &pileus_ext_service::EXTENSION,
    &pileus_ext_users::EXTENSION,
    &pileus_ext_vms::EXTENSION,
];

/// The aliases that `extensions = [ … ]` of `pileus.toml` may list.
pub fn aliases() -> Vec<&'static str> {
    EXTENSIONS.iter().map(|extension| extension.alias).collect()
}

/// An extension that was selected, and what became of it.
#[derive(Debug, Clone)]
pub struct Status {
    /// The descriptor.
    pub extension: &'static Extension,
    /// Why it is not there; `None`: it is.
    pub failed: Option<String>,
    /// How many routes it brought.
    pub routes: usize,
}

/// What the selected extensions brought.
#[derive(Debug)]
pub struct Loaded {
    /// In the order of their aliases.
    pub statuses: Vec<Status>,
    /// A router for each mount.
    pub routers: BTreeMap<Mount, Arc<Router>>,
    /// Extensions that are not there although they were asked for.
    pub warnings: Vec<Diagnostic>,
}

impl Loaded {
    /// Every route of every mount.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routers.values().flat_map(|router| router.routes())
    }
}

/// The routes of every extension that is compiled in, selected or not: whom rules may be named after.
pub fn all_routes(deps: &Deps) -> Vec<Arc<Route>> {
    let of = |extension: &&Extension| {
        let built = || routes::routes(extension.alias, &(extension.resources)(deps));
        // Whoever selects it hears why it failed.
        catch_unwind(AssertUnwindSafe(built)).unwrap_or_default()
    };
    let core = [resource(Vec::new()), limits::resource(deps), tokens::resource(deps)];
    EXTENSIONS.iter().flat_map(of).chain(routes::routes("core", &core)).map(Arc::new).collect()
}

/// Builds the routes of the selected extensions. One that fails is left out and says why; two that
/// want the same route, or the same alias, are a mistake that names both.
pub fn load(selected: &[&'static Extension], deps: &Deps) -> Result<Loaded, Vec<Diagnostic>> {
    let mut extensions: Vec<_> = selected.to_vec();
    extensions.sort_by_key(|extension| extension.alias);
    let mut problems = Vec::new();
    for pair in extensions.windows(2) {
        if let [one, other] = pair
            && one.alias == other.alias
        {
            problems.push(Diagnostic::error(format!(
                "extensions `{}` and `{}` have the same alias `{}`",
                one.name, other.name, one.alias
            )));
        }
    }
    let mut routes: Vec<Arc<Route>> = Vec::new();
    let mut statuses: Vec<Status> = Vec::new();
    for extension in &extensions {
        let missing =
            extension.requires.iter().find(|alias| !extensions.iter().any(|other| other.alias == **alias));
        let built = match missing {
            Some(alias) => Err(format!("it requires the extension `{alias}`, which is not selected")),
            None => catch_unwind(AssertUnwindSafe(|| {
                routes::routes(extension.alias, &(extension.resources)(deps))
            }))
            .map_err(|_| "its descriptor panicked".to_owned()),
        };
        let (count, failed) = match built {
            Ok(built) => {
                let count = built.len();
                routes.extend(built.into_iter().map(Arc::new));
                (count, None)
            }
            Err(reason) => (0, Some(reason)),
        };
        statuses.push(Status { extension, failed, routes: count });
    }
    let core = [resource(statuses.clone()), limits::resource(deps), tokens::resource(deps)];
    routes.extend(routes::routes("core", &core).into_iter().map(Arc::new));
    let mut routers = BTreeMap::new();
    for mount in Mount::ALL {
        match Router::new(mount, &routes) {
            Ok(router) => drop(routers.insert(mount, Arc::new(router))),
            Err(clashes) => problems.extend(clashes),
        }
    }
    let warnings = statuses.iter().filter_map(|status| {
        let reason = status.failed.as_ref()?;
        Some(Diagnostic::warning(format!("extension `{}` failed: {reason}", status.extension.alias)))
    });
    let warnings = warnings.collect();
    if problems.is_empty() { Ok(Loaded { statuses, routers, warnings }) } else { Err(problems) }
}

/// Tells of the extensions that were selected, those that failed included.
struct Extensions(Vec<Status>);

fn resource(statuses: Vec<Status>) -> Resource {
    let it = Arc::new(Extensions(statuses));
    Resource {
        collection: "extensions",
        parent: None,
        actions: vec![
            Action::index("extensions:index", "Lists the extensions", &it, Extensions::index)
                .default_rule("rule:member")
                .pages(COLUMNS),
            Action::show("extensions:show", "Shows an extension by its alias", &it, Extensions::show)
                .default_rule("rule:member"),
        ],
    }
}

/// Sort keys of a list of extensions.
const COLUMNS: &[Column<Status>] = &[
    Column::id("alias", |status| SortValue::text(status.extension.alias)),
    Column::new("name", |status| SortValue::text(status.extension.name)),
    Column::new("updated", |status| SortValue::text(status.extension.updated)),
    Column::new("routes", |status| SortValue::number(status.routes)),
];

impl Extensions {
    async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        Page::of(&call)?.of_list(&self.0, COLUMNS, &[])?.map(document).reply(&call, "extensions")
    }

    async fn show(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let alias = call.id();
        let found = self.0.iter().find(|status| status.extension.alias == alias);
        let found = found.ok_or_else(|| Fault::NotFound { kind: "Extension", id: alias.to_string() })?;
        Reply::ok(&json!({ "extension": document(found) }))
    }
}

/// Nova's six members, and what Nova never told: whether it works.
fn document(status: &Status) -> Value {
    let it = status.extension;
    json!({
        "name": it.name, "alias": it.alias, "description": it.description,
        "namespace": it.namespace, "updated": it.updated, "links": [],
        "status": if status.failed.is_none() { "loaded" } else { "failed" },
        "reason": status.failed, "routes": status.routes,
    })
}
