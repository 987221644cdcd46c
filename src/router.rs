//! `matchit` over all routes of one mount; the app at the end of a pipeline.
//!
//! One matcher per method, so that `PUT …/clouds/detail` finds the cloud `detail` although
//! `GET …/clouds/detail` is another route. Paths are matched as they were sent, percent-encoded,
//! and parameters decoded afterwards: a name may hold any character, `/` included.
//!
//! Unlike Routes of 2012: 405 with `Allow` where a path has other methods, `HEAD` wherever there is
//! `GET`, `OPTIONS`, no `?_method=`, no `.format` suffix that eats ids.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use http::Method;
use percent_encoding::percent_decode_str;
use pileus_sdk::{Answer, Call, Context, Fault, Match, Mount, Places, Request, Route, Stack};
use serde::de::IgnoredAny;

use crate::diagnostic::Diagnostic;

/// What a path and a method lead to: a route, by its number, or, where `verbs` is not empty, the one of
/// them that the body's one key chooses (`POST …/action`).
struct Leaf {
    first: usize,
    verbs: BTreeMap<&'static str, usize>,
    /// How many bytes stand before each of the path's parameters, from the one before it on; `None`: one of
    /// them is more or less than a segment.
    gaps: Option<Box<[usize]>>,
}

/// `/{project_id}/clouds/{id}`: 1 and 8.
fn gaps(path: &str) -> Option<Box<[usize]>> {
    let (mut gaps, mut gap) = (Vec::new(), 0);
    for segment in path.strip_prefix('/')?.split('/') {
        gap += 1;
        if !segment.contains(['{', '}']) {
            gap += segment.len();
            continue;
        }
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        if name.contains(['{', '}', '*']) {
            return None;
        }
        gaps.push(std::mem::take(&mut gap));
    }
    Some(gaps.into())
}

/// What a method and a path lead to.
#[derive(Debug)]
pub struct Found<'a> {
    /// The route, or the first of them.
    pub route: &'a Route,
    /// The routes that a body's one key chooses from; none where there is nothing to choose.
    pub verbs: Vec<&'a Route>,
    /// Names of the path's parameters and their values, decoded.
    pub params: Vec<(String, serde_json::Value)>,
}

impl<'a> Found<'a> {
    /// The route, or those that may be chosen.
    pub fn routes(&self) -> impl Iterator<Item = &'a Route> {
        let one = self.verbs.is_empty().then_some(self.route);
        one.into_iter().chain(self.verbs.iter().copied())
    }
}

/// The routes of one mount.
pub struct Router {
    mount: Mount,
    /// In the order in which `Allow` lists them.
    methods: Vec<(Method, matchit::Router<Leaf>)>,
    routes: Vec<Arc<Route>>,
}

/// The order of the old servers' `Allow`; what is not in it comes last.
const ALLOW_ORDER: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];

impl Router {
    /// Puts those of `routes` that belong to `mount` into matchers. Two routes for one path and
    /// method are a mistake that names both extensions.
    pub fn new(mount: Mount, routes: &[Arc<Route>]) -> Result<Self, Vec<Diagnostic>> {
        let mut leaves: BTreeMap<(usize, &str), Leaf> = BTreeMap::new();
        let mut methods: Vec<Method> = Vec::new();
        let mut problems = Vec::new();
        let routes: Vec<_> = routes.iter().filter(|route| route.mount == mount).cloned().collect();
        for (number, route) in routes.iter().enumerate() {
            let index = methods.iter().position(|method| method == route.method);
            let index = index.unwrap_or_else(|| {
                methods.push(route.method.clone());
                methods.len() - 1
            });
            let leaf = leaves.get_mut(&(index, route.path.as_str()));
            let taken = match (leaf, route.verb) {
                (None, verb) => {
                    let verbs = verb.map(|verb| (verb, number)).into_iter().collect();
                    let gaps = gaps(&route.path);
                    leaves.insert((index, &route.path), Leaf { first: number, verbs, gaps });
                    None
                }
                (Some(leaf), Some(verb)) if !leaf.verbs.is_empty() => leaf.verbs.insert(verb, number),
                (Some(leaf), _) => Some(leaf.first),
            };
            if let Some(other) = taken.and_then(|other| routes.get(other)) {
                problems.push(clash(route, other, "the same path and method"));
            }
        }
        let mut matchers: Vec<_> = methods.into_iter().map(|it| (it, matchit::Router::new())).collect();
        for ((index, path), leaf) in leaves {
            let first = leaf.first;
            if let Err(error) = matchers[index].1.insert(path, leaf)
                && let Some(route) = routes.get(first)
            {
                problems.push(Diagnostic::error(format!(
                    "extension `{}`: the route {} {path} cannot be added: {error}",
                    route.extension, route.method,
                )));
            }
        }
        let rank = |method: &Method| ALLOW_ORDER.iter().position(|it| it == method).unwrap_or(usize::MAX);
        matchers.sort_by_key(|(method, _)| rank(method));
        if problems.is_empty() { Ok(Self { mount, methods: matchers, routes }) } else { Err(problems) }
    }

    /// Every route.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// Which routes these are.
    pub fn mount(&self) -> Mount {
        self.mount
    }

    /// The app at the end of a pipeline.
    pub fn app(self: Arc<Self>) -> Stack {
        Stack::forward(move |request| self.answer(request))
    }

    /// Finds the request's route and leaves it in the context, unless a stage above did. Where a
    /// caller is known, a project in the path that is not his is refused (400, as Nova does).
    pub fn matched(&self, request: &mut Request) -> Result<(), Fault> {
        if request.context().matched.is_some() {
            return Ok(());
        }
        let found = self.find(request)?;
        let context = request.context_mut();
        context.matched = Some(found);
        context.note();
        if self.mount != Mount::Tenant {
            return Ok(());
        }
        let Context { caller: Some(caller), matched: Some(matched), .. } = request.context() else {
            return Ok(());
        };
        match matched.project(request.uri().path()) {
            Some(project) if *project != *caller.project => Err(not_the_callers(&project, &caller.project)),
            _ => Ok(()),
        }
    }

    /// All that a method and a path below the mount lead to, for `pileus explain`.
    pub fn look(&self, method: &Method, path: &str) -> Result<Found<'_>, Fault> {
        let found = self.matcher(method).and_then(|matcher| matcher.at(path).ok());
        let found = found.ok_or_else(|| self.no_route(method, path))?;
        let decoded = |value: &str| percent_decode_str(value).decode_utf8_lossy().into_owned();
        let params = found.params.iter().map(|(name, value)| (name.to_owned(), decoded(value).into()));
        let verbs = found.value.verbs.values().filter_map(|number| self.routes.get(*number));
        Ok(Found {
            route: self.route(found.value.first)?,
            verbs: verbs.map(|route| &**route).collect(),
            params: params.collect(),
        })
    }

    /// The route of a method and a path below the mount, for tests.
    pub fn find_path(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        self.routes.get(self.matcher(method)?.at(path).ok()?.value.first)
    }

    /// The route of this number: that of a leaf is always one of ours.
    fn route(&self, number: usize) -> Result<&Arc<Route>, Fault> {
        self.routes.get(number).ok_or(Fault::NoRoute)
    }

    fn find(&self, request: &Request) -> Result<Match, Fault> {
        let path = request.uri().path();
        let below = path.get(request.context().mounted as usize..).unwrap_or_default();
        let found = self.matcher(request.method()).and_then(|matcher| matcher.at(below).ok());
        let Some(found) = found else { return Err(self.no_route(request.method(), below)) };
        // The parameters are slices of the path: keep where they stand, not copies of them.
        let mounted = path.len() - below.len();
        let (mut params, escaped) = (Places::new(), below.as_bytes().contains(&b'%'));
        let mut keep = |start: usize, value: &str| {
            // What is no text is the name of nothing, and no rule may be asked about it.
            if escaped && percent_decode_str(value).decode_utf8().is_err() {
                let of_project = self.mount == Mount::Tenant && params.is_empty();
                return Err(if of_project { not_text() } else { Fault::NoRoute });
            }
            let start = (mounted + start) as u32;
            params.push(start..start + value.len() as u32);
            Ok(())
        };
        if let Some(gaps) = &found.value.gaps {
            // What stands between them is known: to look each of them up by its name costs twice as much.
            let mut start = 0;
            for gap in gaps {
                start += gap;
                let rest = below.get(start..).ok_or(Fault::NoRoute)?;
                let length = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
                keep(start, rest.get(..length).unwrap_or_default())?;
                start += length;
            }
        } else {
            for name in &self.route(found.value.first)?.params {
                let value = found.params.get(name).ok_or(Fault::NoRoute)?;
                keep((value.as_ptr() as usize).saturating_sub(below.as_ptr() as usize), value)?;
            }
        }
        let leaf = found.value;
        let number = if leaf.verbs.is_empty() {
            leaf.first
        } else {
            pileus_sdk::call::accept_coding(request.headers())?;
            let body = request.body().bytes();
            choose(&leaf.verbs, &body.ok_or_else(|| Fault::internal("no sizelimit above the router"))?)?
        };
        Ok(Match { route: self.route(number)?.clone(), number, params, escaped })
    }

    fn matcher(&self, method: &Method) -> Option<&matchit::Router<Leaf>> {
        let of =
            |wanted: &Method| self.methods.iter().find(|(it, _)| it == wanted).map(|(_, matcher)| matcher);
        match *method {
            Method::HEAD => of(&Method::HEAD).or_else(|| of(&Method::GET)),
            _ => of(method),
        }
    }

    /// 405 where the path has other methods, else 404.
    #[cold]
    fn no_route(&self, method: &Method, below: &str) -> Fault {
        let mut allow = String::new();
        for (other, matcher) in &self.methods {
            if matcher.at(below).is_ok() {
                let names = if *other == Method::GET { "GET, HEAD" } else { other.as_str() };
                allow.push_str(if allow.is_empty() { "" } else { ", " });
                allow.push_str(names);
            }
        }
        if allow.is_empty() {
            return Fault::NoRoute;
        }
        if self.mount == Mount::Tenant {
            allow.push_str(", OPTIONS");
        }
        Fault::MethodNotAllowed { method: method.clone(), allow }
    }

    fn answer(&self, mut request: Request) -> Answer {
        let called = self.matched(&mut request).and_then(|()| {
            let matched = request.context().matched.as_ref();
            // A stage above may have matched it with a router of its own: then its routes are not ours.
            let ours = matched
                .and_then(|it| self.routes.get(it.number).filter(|route| Arc::ptr_eq(route, &it.route)));
            Ok((ours.ok_or(Fault::NoRoute)?, Call::new(request)?))
        });
        match called {
            Ok((route, call)) => (route.handler)(call),
            Err(fault) => Answer::refused(fault),
        }
    }
}

/// A project in the path that is not the caller's; it begins with Nova's words.
#[cold]
fn not_the_callers(project: &str, own: &str) -> Fault {
    let names = format!("the project in the path is `{project}`, and the token is for `{own}`");
    Fault::BadRequest(format!("Malformed request url: {names}"))
}

/// A project in the path that is no UTF-8.
#[cold]
fn not_text() -> Fault {
    Fault::BadRequest("Malformed request url: the project in the path is not UTF-8".into())
}

/// `POST …/action` needs exactly one key, which names the action.
fn choose(verbs: &BTreeMap<&'static str, usize>, body: &[u8]) -> Result<usize, Fault> {
    let known = || verbs.keys().map(|verb| format!("`{verb}`")).collect::<Vec<_>>().join(", ");
    let keys: BTreeMap<Cow<'_, str>, IgnoredAny> = serde_json::from_slice(body).map_err(|error| {
        let problem = pileus_sdk::call::malformed(&error);
        Fault::BadRequest(format!("{problem}. An action is a JSON object with one key of {}.", known()))
    })?;
    let mut names = keys.keys();
    match (names.next(), names.next()) {
        (Some(name), None) => verbs.get(name.as_ref()).copied().ok_or_else(|| {
            Fault::BadRequest(format!("There is no such action: {name}. There are {}.", known()))
        }),
        _ => Err(Fault::BadRequest(format!(
            "Malformed request body: an action is a JSON object with one key of {}, not {}.",
            known(),
            keys.len()
        ))),
    }
}

fn clash(route: &Route, other: &Route, what: &str) -> Diagnostic {
    Diagnostic::error(format!(
        "extensions `{}` ({}.{}) and `{}` ({}.{}) have {what}: {} {}",
        other.extension,
        other.resource,
        other.action,
        route.extension,
        route.resource,
        route.action,
        route.method,
        route.path,
    ))
    .help("leave one of them out of `extensions` in pileus.toml")
}

impl Default for Router {
    /// No routes at all, of the tenant's mount.
    fn default() -> Self {
        Self { mount: Mount::Tenant, methods: Vec::new(), routes: Vec::new() }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({}, {} routes)", self.mount.as_str(), self.routes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_whole_segments_are_known_by_what_stands_between_them() {
        let cases: [(&str, Option<&[usize]>); 9] = [
            ("/{project_id}/clouds/{id}", Some(&[1, 8])),
            ("/{project_id}/clouds/{cloud_id}/vms/{id}/action", Some(&[1, 8, 5])),
            ("/{a}/{b}", Some(&[1, 1])),
            ("/clusters", Some(&[])),
            ("/", Some(&[])),
            ("/clusters/{id}.json", None),
            ("/v{version}/clouds", None),
            ("/files/{*path}", None),
            ("/{a}{b}", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(gaps(path).as_deref(), wanted, "{path}");
        }
    }
}
