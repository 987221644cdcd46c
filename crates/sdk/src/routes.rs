//! From resources to routes: every action finds its path. The router and the test kit both call this.
//!
//! Source: Nova's routes, as `map.resource` of Python's Routes makes them; without `new`, `edit` and
//! format suffixes, which no Nova controller ever answered.

use std::{collections::HashMap, fmt};

use crate::{Mount, Route, action::Place, action::Resource};

/// The routes of an extension's resources, in the order of its lists.
pub fn routes(extension: &'static str, resources: &[Resource]) -> Vec<Route> {
    let mut routes = Vec::with_capacity(resources.iter().map(|resource| resource.actions.len()).sum());
    for resource in resources {
        let mut collection = String::from("/{project_id}");
        if let Some(parent) = resource.parent {
            collection += &format!("/{}/{{{}_id}}", parent.collection, parent.member);
        }
        collection += &format!("/{}", resource.collection);
        for action in &resource.actions {
            let (mount, path, verb) = match action.place {
                Place::Collection => (Mount::Tenant, collection.clone(), None),
                Place::CollectionAction => (Mount::Tenant, format!("{collection}/{}", action.name), None),
                Place::Member => (Mount::Tenant, format!("{collection}/{{id}}"), None),
                Place::MemberAction => (Mount::Tenant, format!("{collection}/{{id}}/{}", action.name), None),
                Place::Verb => (Mount::Tenant, format!("{collection}/{{id}}/action"), Some(action.name)),
                Place::BulkVerb => (Mount::Tenant, format!("{collection}/action"), Some(action.name)),
                Place::Custom(Mount::Tenant, path) => (Mount::Tenant, format!("/{{project_id}}{path}"), None),
                Place::Custom(mount, path) => (mount, path.to_owned(), None),
            };
            routes.push(Route {
                mount,
                method: action.method.clone(),
                params: params(&path),
                path,
                verb,
                resource: resource.collection,
                action: action.name,
                extension,
                rule: action.rule,
                also: action.also,
                default_rule: action.default_rule,
                scope_types: action.scope_types,
                query: action.query.clone(),
                about: action.about,
                handler: action.handler.clone(),
            });
        }
    }
    routes
}

/// The names in `{…}`, in their order; of a catch-all `{*rest}` without the star.
fn params(path: &str) -> Vec<Box<str>> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.map(|name| name.trim_start_matches('*').into()).collect()
}

/// What a path matches, whatever its parameters are called: `/{}/clouds/{}`.
pub fn shape(path: &str) -> String {
    let mut parts = path.split('{');
    let mut shape = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        shape += if name.starts_with('*') { "{*}" } else { "{}" };
        shape += rest;
    }
    shape
}

/// Two routes that the same request would match. `Display` names both parties.
#[derive(Debug, Clone, Copy)]
pub struct Duplicate<'a> {
    /// The one that came first.
    pub first: &'a Route,
    /// The one that came later.
    pub second: &'a Route,
}

impl fmt::Display for Duplicate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second } = self;
        write!(f, "{} {}", second.method, second.path)?;
        if let Some(verb) = second.verb {
            write!(f, " with `{verb}`")?;
        }
        write!(
            f,
            " of {} is brought twice: by `{}.{}` of extension `{}`, and by `{}.{}` of extension `{}`",
            second.mount.as_str(),
            first.resource,
            first.action,
            first.extension,
            second.resource,
            second.action,
            second.extension,
        )
    }
}

/// Every route that repeats an earlier one: same mount, method, shape of path, and verb.
pub fn duplicates(routes: &[Route]) -> Vec<Duplicate<'_>> {
    let mut seen: HashMap<_, &Route> = HashMap::with_capacity(routes.len());
    let mut found = Vec::new();
    for second in routes {
        let key = (second.mount, &second.method, shape(&second.path), second.verb);
        match seen.get(&key) {
            Some(first) => found.push(Duplicate { first, second }),
            None => {
                seen.insert(key, second);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::{Action, Call, Fault, Parent, Reply};

    struct Empty;

    impl Empty {
        async fn answer(self: Arc<Self>, _: Call) -> Result<Reply, Fault> {
            Reply::text("")
        }
    }

    fn action(name: &'static str, method: Method, place: Place) -> Action {
        Action::new(name, method, place, "rule", "about", &Arc::new(Empty), Empty::answer)
    }

    #[test]
    fn every_place_has_its_path() {
        let nested = Some(Parent { member: "cloud", collection: "clouds" });
        let get = |place| action("name", Method::GET, place);
        let cases = [
            (None, Place::Collection, "/{project_id}/vms", None, "project_id"),
            (None, Place::CollectionAction, "/{project_id}/vms/name", None, "project_id"),
            (None, Place::Member, "/{project_id}/vms/{id}", None, "project_id id"),
            (None, Place::MemberAction, "/{project_id}/vms/{id}/name", None, "project_id id"),
            (None, Place::Verb, "/{project_id}/vms/{id}/action", Some("name"), "project_id id"),
            (None, Place::BulkVerb, "/{project_id}/vms/action", Some("name"), "project_id"),
            (nested, Place::Collection, "/{project_id}/clouds/{cloud_id}/vms", None, "project_id cloud_id"),
            (None, Place::Custom(Mount::Tenant, "/x/{y}"), "/{project_id}/x/{y}", None, "project_id y"),
            (None, Place::Custom(Mount::CloudStatus, "/x/{y}.json"), "/x/{y}.json", None, "y"),
            (None, Place::Custom(Mount::CloudAdmin, "/{*rest}"), "/{*rest}", None, "rest"),
        ];
        for (parent, place, path, verb, params) in cases {
            let resource = Resource { collection: "vms", parent, actions: vec![get(place.clone())] };
            let routes = routes("ext", &[resource]);
            assert_eq!(routes.len(), 1);
            assert_eq!((routes[0].path.as_str(), routes[0].verb), (path, verb), "{place:?}");
            assert_eq!(routes[0].params.join(" "), params, "{place:?}");
            let tenant = !matches!(place, Place::Custom(Mount::CloudStatus | Mount::CloudAdmin, _));
            assert_eq!(routes[0].mount == Mount::Tenant, tenant, "{place:?}");
        }
    }

    #[test]
    fn duplicates_name_both_parties() {
        let resource = |collection, actions| Resource { collection, parent: None, actions };
        let status = |path| Place::Custom(Mount::CloudStatus, path);
        let mut all = routes(
            "one",
            &[resource(
                "vms",
                vec![
                    action("show", Method::GET, Place::Member),
                    action("update", Method::PUT, Place::Member),
                    action("stop", Method::POST, Place::Verb),
                    action("start", Method::POST, Place::Verb),
                    action("old", Method::GET, status("/clusters/{cloud}")),
                    action("old_json", Method::GET, status("/clusters/{cloud}.json")),
                ],
            )],
        );
        assert!(duplicates(&all).is_empty());
        all.extend(routes(
            "two",
            &[resource(
                "machines",
                vec![
                    action("mine", Method::GET, status("/clusters/{name}")),
                    action("other", Method::GET, Place::Custom(Mount::CloudAdmin, "/clusters/{name}")),
                    action("show", Method::GET, Place::Custom(Mount::Tenant, "/vms/{vm}")),
                ],
            )],
        ));
        let found: Vec<_> = duplicates(&all).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "GET /clusters/{name} of cloud_status is brought twice: by `vms.old` of extension `one`, and by \
                 `machines.mine` of extension `two`",
                "GET /{project_id}/vms/{vm} of tenant is brought twice: by `vms.show` of extension `one`, and \
                 by `machines.show` of extension `two`",
            ]
        );
        all.truncate(4);
        all.push(all[2].clone());
        let found = duplicates(&all)[0].to_string();
        assert!(found.starts_with("POST /{project_id}/vms/{id}/action with `stop` of tenant"), "{found}");
    }
}
