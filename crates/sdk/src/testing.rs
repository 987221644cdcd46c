//! A bench on which an extension's controllers run: no server, no pipeline, no engine.
//!
//! ```
//! # async fn example(extension: &'static pileus_sdk::Extension) {
//! use pileus_sdk::testing::{Bench, get};
//!
//! let bench = Bench::new(extension);
//! let reply = bench.send(get("/p1/clouds?limit=1").by("ada", "p1", &["admin"])).await;
//! assert_eq!((reply.status, reply.top()), (200, "clouds".to_owned()));
//! # }
//! ```
//!
//! The bench matches routes and asks policy rules as the server does; only the order of its answers
//! to *no such path* and *not allowed* may differ. Every rule is allowed until a test denies it.

mod engine;
mod host;
mod samples;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::Body as _;
use pileus_model::{JobDefaults, ManualClock, Time};
use serde_json::Value;

pub use engine::FakeEngine;
pub use host::FakeHost;
pub use samples::{cloud, job, put_cloud, put_job, put_vm, vm};

use crate::{
    Body, Call, Caller, Context, Decide, Deps, Extension, Fault, Match, Mount, Request, Route,
    extension::About,
    routes::{duplicates, routes},
};

/// An extension, mounted: its tenant-scoped routes at `/v2`, the old ports' at `/`.
#[derive(Debug)]
pub struct Bench {
    /// The engine that the controllers speak to.
    pub engine: Arc<FakeEngine>,
    /// The process that they believe to be in.
    pub host: Arc<FakeHost>,
    /// The clock, which stands still at 2026-01-31T12:00:00Z until the test moves it.
    pub clock: ManualClock,
    routes: Vec<Arc<Route>>,
    policy: Arc<Denials>,
}

impl Bench {
    /// Builds the extension's controllers over an empty picture.
    pub fn new(extension: &Extension) -> Self {
        Self::with_job_defaults(extension, JobDefaults::default())
    }

    /// The same where the deployer has settled what jobs get.
    pub fn with_job_defaults(extension: &Extension, defaults: JobDefaults) -> Self {
        let engine = Arc::new(FakeEngine::default());
        let host = Arc::new(FakeHost::default());
        let clock = ManualClock::at(Time(1_769_860_800_000));
        let deps = Deps {
            engine: engine.clone(),
            clock: Arc::new(clock.clone()),
            host: host.clone(),
            job_defaults: Arc::new(defaults),
            about: Arc::new(About { version: "0.0.0-test" }),
        };
        let routes = routes(extension.alias, &(extension.resources)(&deps));
        Self {
            engine,
            host,
            clock,
            routes: routes.into_iter().map(Arc::new).collect(),
            policy: Arc::default(),
        }
    }

    /// The extension's routes.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// What is wrong with the routes, in words: duplicates, rules and lines that are missing.
    /// A test holds this empty.
    pub fn complaints(&self) -> Vec<String> {
        let routes: Vec<Route> = self.routes.iter().map(|route| (**route).clone()).collect();
        let mut complaints: Vec<_> = duplicates(&routes).iter().map(ToString::to_string).collect();
        for route in &routes {
            let named = std::iter::once(&route.rule).chain(route.also);
            if named.clone().any(|rule| rule.split(':').filter(|part| !part.is_empty()).count() < 2) {
                complaints.push(format!("{route:?}: a rule is named `collection:action`"));
            }
            if route.about.is_empty() || route.about.contains('\n') {
                complaints.push(format!("{route:?}: `about` is one line for people"));
            }
        }
        complaints
    }

    /// From now on nobody may do what `rule` guards.
    pub fn deny(&self, rule: &str) {
        self.policy.0.lock().unwrap_or_else(PoisonError::into_inner).insert(rule.to_owned());
    }

    /// Sends a call and waits for its answer.
    pub async fn send(&self, ask: Ask) -> Answer {
        let response = match self.answer(ask).await {
            Ok(reply) => reply.into_response(),
            Err(fault) => fault.into_response(),
        };
        let (head, body) = response.into_parts();
        let text = body.bytes().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        Answer { status: head.status.as_u16(), headers: head.headers, text, body }
    }

    async fn answer(&self, ask: Ask) -> Result<crate::Reply, Fault> {
        let mounted = if ask.mount == Mount::Tenant { "/v2" } else { "" };
        let path = ask.uri.split('?').next().unwrap_or_default();
        let found = self.find(&ask, path)?;
        let params = found.1.into_iter().map(|at| {
            let shift = |at: usize| u32::try_from(at + mounted.len()).unwrap_or(u32::MAX);
            Range { start: shift(at.start), end: shift(at.end) }
        });
        let mut context = Context::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        context.request_id = crate::RequestId::new("req-test");
        context.mounted = u32::try_from(mounted.len()).unwrap_or(0);
        context.caller = ask.caller.map(Arc::new);
        context.matched =
            Some(Match { route: found.0.clone(), number: 0, params: params.collect(), escaped: true });
        context.policy = Some(self.policy.clone());
        let mut request = http::Request::new(Body::from(ask.body));
        *request.method_mut() = ask.method;
        *request.uri_mut() = format!("{mounted}{}", ask.uri).parse().map_err(Fault::internal)?;
        *request.headers_mut() = ask.headers;
        let call = Call::new(Request::with(request, context))?;
        if !call.may(found.0.rule) {
            return Err(Fault::denied(found.0.rule));
        }
        (found.0.handler)(call).await.map(crate::Reply::from)
    }

    /// The route, and where its parameters stand in the path. A static segment goes before one with a
    /// suffix, and that before a bare parameter, from left to right, as in `matchit`.
    fn find(&self, ask: &Ask, path: &str) -> Result<(&Arc<Route>, Vec<Range<usize>>), Fault> {
        let mut verb = None;
        let at_path = self.routes.iter().filter(|route| route.mount == ask.mount);
        let mut found: Vec<_> =
            at_path.filter_map(|route| Some((matches(&route.path, path)?, route))).collect();
        let Some(best) = found.iter().map(|((score, _), _)| score.clone()).max() else {
            return Err(Fault::NoRoute);
        };
        found.retain(|((score, _), _)| *score == best);
        let mut methods: Vec<_> = found.iter().map(|(_, route)| route.method.to_string()).collect();
        found.retain(|(_, route)| route.method == ask.method);
        if found.is_empty() {
            methods.dedup();
            return Err(Fault::MethodNotAllowed { method: ask.method.clone(), allow: methods.join(", ") });
        }
        if found.iter().any(|(_, route)| route.verb.is_some()) {
            let body: Value = serde_json::from_slice(&ask.body).unwrap_or_default();
            verb =
                body.as_object().filter(|keys| keys.len() == 1).and_then(|keys| keys.keys().next().cloned());
        }
        let chosen = found.into_iter().find(|(_, route)| route.verb == verb.as_deref());
        let ((_, params), route) =
            chosen.ok_or_else(|| Fault::BadRequest("There is no such action.".into()))?;
        Ok((route, params))
    }
}

/// How well a pattern fits a path, segment by segment, and where the parameters stand.
fn matches(pattern: &str, path: &str) -> Option<(Vec<usize>, Vec<Range<usize>>)> {
    let (mut score, mut params, mut at) = (Vec::new(), Vec::new(), 0);
    if pattern.split('/').count() != path.split('/').count() {
        return None;
    }
    for (pattern, segment) in pattern.split('/').zip(path.split('/')) {
        match pattern.split_once('{') {
            None if pattern == segment => score.push(usize::MAX),
            None => return None,
            Some((prefix, rest)) => {
                let suffix = rest.split_once('}').map_or("", |(_, suffix)| suffix);
                let value = segment.strip_prefix(prefix)?.strip_suffix(suffix)?;
                if value.is_empty() {
                    return None;
                }
                let start = at + prefix.len();
                params.push(start..start + value.len());
                score.push(prefix.len() + suffix.len());
            }
        }
        at += segment.len() + 1;
    }
    Some((score, params))
}

/// A call to send.
#[derive(Debug, Clone)]
pub struct Ask {
    mount: Mount,
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
    caller: Option<Caller>,
}

/// `GET` of a tenant-scoped path, from `ada` of the project `p1`.
pub fn get(uri: &str) -> Ask {
    ask(Method::GET, uri, "")
}

/// `POST`.
pub fn post(uri: &str, body: &str) -> Ask {
    ask(Method::POST, uri, body)
}

/// `PUT`.
pub fn put(uri: &str, body: &str) -> Ask {
    ask(Method::PUT, uri, body)
}

/// `DELETE`.
pub fn delete(uri: &str) -> Ask {
    ask(Method::DELETE, uri, "")
}

fn ask(method: Method, uri: &str, body: &str) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, header::HeaderValue::from_static("api.example:8774"));
    let caller = Caller::new("ada".into(), "p1".into(), vec!["member".into()], false);
    let (uri, body) = (uri.to_owned(), Bytes::copy_from_slice(body.as_bytes()));
    Ask { mount: Mount::Tenant, method, uri, headers, body, caller: Some(caller) }
}

impl Ask {
    /// By somebody else.
    pub fn by(mut self, user: &str, project: &str, roles: &[&str]) -> Self {
        let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
        let is_admin = roles.iter().any(|role| role == "admin");
        self.caller = Some(Caller::new(user.into(), project.into(), roles, is_admin));
        self
    }

    /// By nobody.
    pub fn by_nobody(mut self) -> Self {
        self.caller = None;
        self
    }

    /// To another router.
    pub fn on(mut self, mount: Mount) -> Self {
        self.mount = mount;
        self
    }

    /// With this header; one that no header can hold is left out.
    pub fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The body as a form: what `cloud_admin` sends.
    pub fn form(self) -> Self {
        self.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body; empty where it is a stream.
    pub text: String,
    body: Body,
}

impl Answer {
    /// Bytes that a streamed body has now, and whether it has ended.
    pub fn streamed(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut cx = task::Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut self.body).poll_frame(&mut cx) {
                Poll::Pending => return (bytes, false),
                Poll::Ready(None | Some(Err(_))) => return (bytes, true),
                Poll::Ready(Some(Ok(frame))) => bytes.extend(frame.data_ref().into_iter().flatten()),
            }
        }
    }

    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The one key, or the first of several, at the top of a JSON body; else empty.
    pub fn top(&self) -> String {
        let top = self.json();
        top.as_object().and_then(|keys| keys.keys().next().cloned()).unwrap_or_default()
    }

    /// A header; empty where it is missing.
    pub fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Allows every rule but some.
#[derive(Debug, Default)]
struct Denials(Mutex<BTreeSet<String>>);

impl Decide for Denials {
    fn allows(&self, rule: &str, _: Option<&Caller>, _: &[(&str, &str)]) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_matchit_does() {
        let cases: &[(&str, &str, Option<&[&str]>)] = &[
            ("/", "/", Some(&[])),
            ("/clusters/{c}", "/clusters/a%2Fb", Some(&["a%2Fb"])),
            ("/clusters/{c}.json", "/clusters/a.b.json", Some(&["a.b"])),
            ("/clusters/{c}.json", "/clusters/.json", None),
            ("/clusters/{c}.json", "/clusters/a%2Ejson", None),
            ("/clusters/{c}", "/clusters/", None),
            ("/clusters/{c}", "/clusters/a/", None),
            ("/{p}/vms/{id}", "/p/vms/1", Some(&["p", "1"])),
        ];
        for (pattern, path, expected) in cases {
            let found = matches(pattern, path).map(|(_, params)| params);
            let found = found.map(|params| params.into_iter().map(|at| &path[at]).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), *expected, "{pattern} {path}");
        }
        let score = |pattern| matches(pattern, "/a.json").map(|(score, _)| score);
        assert!(score("/a.json") > score("/{x}.json") && score("/{x}.json") > score("/{x}"));
    }
}
