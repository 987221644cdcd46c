//! One call, as a controller sees it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header, request::Parts};
use pileus_model::{Actor, BoxFuture, Name};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    Caller, Context, Fault, Mount, Params, Request,
    body_json::{plain, unique_keys},
    request::Top,
};

/// A request that has found its route. Made by the router; a test makes it with
/// [`testing`](crate::testing).
pub struct Call {
    top: Box<Top>,
    query: Params,
    body: Bytes,
    comment: Option<Name>,
}

/// What the caller says of the change, for people who read of it later.
static COMMENT: HeaderName = HeaderName::from_static("x-pileus-comment");

/// Longest comment, in bytes.
pub const COMMENT_MAX: usize = 1024;

impl Call {
    /// From a request that was matched and whose body is whole. 400 for a query that its route does not
    /// accept, 415 for a body in a content coding.
    pub fn new(request: Request) -> Result<Self, Fault> {
        let Some(body) = request.body().bytes() else {
            return Err(Fault::internal("the pipeline has no sizelimit above its app"));
        };
        if !body.is_empty() {
            accept_coding(request.headers())?;
        }
        let mut call = Self { top: request.top, query: Params::default(), body, comment: None };
        if let Some(query) = call.head().uri.query() {
            call.query = call.read_query(query)?;
        }
        let mount = call.context().matched.as_ref().map(|matched| matched.route.mount);
        // What changes nothing needs no comment. On the old ports a GET may change something.
        if !call.head().method.is_safe() || mount != Some(Mount::Tenant) {
            call.comment = call.read_comment()?;
        }
        Ok(call)
    }

    /// The legacy ports ignore parameters that they do not read, as Cloud Scheduler does.
    #[cold]
    fn read_query(&self, query: &str) -> Result<Params, Fault> {
        match &self.context().matched {
            Some(matched) if matched.route.mount == Mount::Tenant => {
                Params::checked(query, &matched.route.query)
            }
            _ => Ok(Params::parse(query.as_bytes())),
        }
    }

    /// The header `X-Pileus-Comment`; on the old admin port the parameter `comment`.
    fn read_comment(&self) -> Result<Option<Name>, Fault> {
        let wrong = |problem: &str| Err(Fault::BadRequest(format!("The comment {problem}.")));
        let mount = self.context().matched.as_ref().map(|matched| matched.route.mount);
        let comment = match self.head().headers.get(&COMMENT) {
            Some(header) => match std::str::from_utf8(header.as_bytes()) {
                Ok(text) => text.trim().to_owned(),
                Err(_) => return wrong("must be UTF-8"),
            },
            None if mount == Some(Mount::CloudAdmin) => {
                self.query_or_form().get("comment").unwrap_or_default().trim().to_owned()
            }
            None => return Ok(None),
        };
        if comment.len() > COMMENT_MAX {
            return wrong(&format!("must not be longer than {COMMENT_MAX} bytes"));
        }
        if comment.contains('\0') {
            return wrong("must not hold a NUL character");
        }
        Ok((!comment.is_empty()).then(|| comment.into()))
    }

    /// Who calls, on what mount, by which route.
    pub fn context(&self) -> &Context {
        &self.top.context
    }

    /// The request's head.
    pub fn head(&self) -> &Parts {
        &self.top.head
    }

    /// The whole path, mounts included, in its [normal form](crate::path).
    pub fn path(&self) -> &str {
        self.head().uri.path()
    }

    /// A path parameter, percent-decoded; empty where the route has none of this name.
    pub fn param(&self, name: &str) -> Cow<'_, str> {
        let matched = self.context().matched.as_ref();
        matched.and_then(|matched| matched.param(self.path(), name)).unwrap_or_default()
    }

    /// Returns `http://host:port` as the client called the server; empty if no address is known, so that
    /// links are relative to it. [`Context::secure`] decides on the scheme.
    pub fn origin(&self) -> String {
        self.top.origin()
    }

    /// The host and port that the client called, as the client wrote them.
    pub(crate) fn host(&self) -> Option<&str> {
        self.top.host()
    }

    /// `true` if links start with `https`.
    pub(crate) fn secure(&self) -> bool {
        self.context().secure
    }

    /// The URL of a collection of this call's project: `http://host/v2/{project_id}/vms`.
    pub fn collection(&self, name: &str) -> String {
        let mut url = self.origin();
        // The project as it was sent: it is a segment of a path already.
        let project = self.context().matched.as_ref().and_then(|matched| matched.place("project_id"));
        let end = project.map_or(self.context().mounted, |project| project.end);
        url.push_str(self.path().get(..end as usize).unwrap_or_default());
        url.push('/');
        url.push_str(name);
        url
    }

    /// The path parameter `id`.
    pub fn id(&self) -> Cow<'_, str> {
        self.param("id")
    }

    /// The project in the path, which the router has compared with the caller's.
    pub fn project(&self) -> Cow<'_, str> {
        let matched = self.context().matched.as_ref();
        matched.and_then(|matched| matched.project(self.path())).unwrap_or_default()
    }

    /// Who calls; nobody where the pipeline has no authenticator.
    pub fn caller(&self) -> Option<&Caller> {
        self.context().caller.as_deref()
    }

    /// On whose behalf this call changes something.
    pub fn actor(&self) -> Actor {
        Actor { comment: self.comment.clone(), ..self.context().actor() }
    }

    /// Whether this request was done before, and is sent again because nobody heard the answer. The
    /// engine does none of its commands a second time.
    pub fn is_repeated(&self) -> bool {
        self.context().key.as_ref().is_some_and(|key| key.repeated)
    }

    /// Whether the caller may do what another rule guards. The action names it with
    /// [`Action::asks`](crate::Action::asks).
    pub fn may(&self, rule: &str) -> bool {
        let Some(policy) = &self.context().policy else { return false };
        policy.allows(rule, self.caller(), &[("project_id", &self.project())])
    }

    /// Whether the caller may do what a rule guards, to a target with these attributes; `None`: no rule
    /// has this name. May take a while: the rule may ask another server.
    pub fn ask(&self, rule: &str, target: Vec<(String, String)>) -> BoxFuture<Option<bool>> {
        match (&self.context().policy, &self.context().caller) {
            (Some(policy), Some(caller)) => policy.clone().ask(rule.to_owned(), caller.clone(), target),
            _ => Box::pin(std::future::ready(Some(false))),
        }
    }

    /// The query's parameters, decoded; on `/v2` those that the route accepts.
    pub fn query(&self) -> &Params {
        &self.query
    }

    /// The query's parameters and a form's, urlencoded or multipart; the query wins.
    pub fn query_or_form(&self) -> Params {
        let mut params = Params::default();
        let content_type = self.head().headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let content_type = content_type.unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            params = Params::parse(self.body());
        } else if media_type.eq_ignore_ascii_case("multipart/form-data") {
            params = crate::form::multipart(content_type, self.body()).into();
        }
        params.extend(self.query.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        params
    }

    /// The body's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The JSON body `{"KEY": null}` or `{"KEY": {}}` of a verb that takes nothing.
    pub fn nothing(&self, key: &str) -> Result<(), Fault> {
        self.json::<Option<Nothing>>(key).map(drop)
    }

    /// The JSON body `{"KEY": {…}}`. A mistake is a 400 that names the field: `job.cpu_cores`.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T, Fault> {
        if self.body().is_empty() {
            return Err(Fault::BadRequest(format!(
                "The body is empty: a JSON object with the one key `{key}` is needed."
            )));
        }
        let content_type = self.head().headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let media_type =
            content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
        // curl -d says urlencoded unless it is told otherwise; a body that is JSON is taken as JSON.
        if !matches!(
            media_type.to_ascii_lowercase().as_str(),
            "application/json"
                | "application/x-www-form-urlencoded"
                | "application/vnd.openstack.compute+json"
        ) {
            return Err(Fault::UnsupportedMediaType);
        }
        let malformed = |error: serde_json::Error| Fault::BadRequest(malformed(&error));
        unique_keys(self.body()).map_err(malformed)?;
        let top: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_slice(self.body()).map_err(malformed)?;
        let mut keys = top.iter();
        let (Some((found, inner)), None) = (keys.next(), keys.next()) else {
            let keys: Vec<_> = top.keys().map(|key| format!("`{key}`")).collect();
            return Err(Fault::BadRequest(format!(
                "The body needs the one key `{key}`, and has {}.",
                if keys.is_empty() { "none".into() } else { keys.join(", ") }
            )));
        };
        if found != key {
            return Err(Fault::BadRequest(format!("The body needs the one key `{key}`, and has `{found}`.")));
        }
        // serde would read an array as a struct's fields, one after the other.
        if inner.get().starts_with('[') {
            return Err(Fault::BadRequest(format!(
                "Invalid input for field `{key}`: invalid type: array, expected an object"
            )));
        }
        let mut from = serde_json::Deserializer::from_str(inner.get());
        serde_path_to_error::deserialize(&mut from).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { key.to_owned() } else { format!("{key}.{path}") };
            // The position is within the inner value; the field says more.
            let problem = plain(&error.inner().to_string());
            Fault::BadRequest(format!("Invalid input for field `{place}`: {problem}"))
        })
    }
}

/// Message for a body that is no JSON object, or has a key twice. Names no type of Rust.
pub fn malformed(error: &serde_json::Error) -> String {
    // A syntax error has a place in the body; other errors concern the whole body.
    let problem = error.to_string();
    format!("Malformed request body: {}", if error.is_data() { plain(&problem) } else { problem })
}

/// 415 for a body in a content coding: none is decoded here. Source: RFC 9110 §8.4, §15.5.16.
pub fn accept_coding(headers: &HeaderMap) -> Result<(), Fault> {
    // Among a few names it is found sooner than hashed.
    let codings = headers.iter().filter(|(name, _)| *name == header::CONTENT_ENCODING);
    for (_, value) in codings {
        let mut codings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Fault::UnsupportedCoding);
        }
    }
    Ok(())
}

/// `{}`: an object without a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Action, Body, Match, Reply, Resource,
        routes::routes,
        testing::{Bench, get, post},
    };

    struct Echo;

    impl Echo {
        async fn answer(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
            call.nothing("stop")?;
            Reply::text(call.id())
        }
    }

    fn resources(_: &crate::Deps) -> Vec<Resource> {
        let show = Action::show("things:show", "Shows a thing", &Arc::new(Echo), Echo::answer);
        let stop = Action::new(
            "stop",
            http::Method::POST,
            crate::action::Place::Verb,
            "things:stop",
            "Stops it",
            &Arc::new(Echo),
            Echo::answer,
        );
        vec![Resource { collection: "things", parent: None, actions: vec![show, stop] }]
    }

    static THINGS: crate::Extension = crate::Extension {
        alias: "things",
        name: "Things",
        namespace: "test",
        updated: "2026-01-01T00:00:00Z",
        description: "Things",
        requires: &[],
        resources,
    };

    /// A call of `/v2/{project_id}/things/{id}` with `p%201` and `x`.
    fn call(target: &str, host: Option<&str>, local: Option<&str>, secure: bool) -> Call {
        let deps = crate::Deps {
            job_defaults: Arc::default(),
            engine: Arc::new(pileus_model::Idle),
            clock: Arc::new(pileus_model::ManualClock::default()),
            host: Arc::new(crate::testing::FakeHost::default()),
            about: Arc::default(),
        };
        let route = Arc::new(routes("things", &resources(&deps)).remove(0));
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = target.parse().unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        }
        let params = crate::Places::from_iter([4..9, 17..18]);
        let context = request.context_mut();
        context.mounted = 3;
        context.secure = secure;
        context.local = local.map(|local| local.parse().unwrap());
        context.matched = Some(Match { route, number: 0, params, escaped: true });
        Call::new(request).unwrap()
    }

    #[test]
    fn links_begin_as_the_client_called_us() {
        let path = "/v2/p%201/things/x";
        let (v4, v6) = (Some("192.0.2.1:8774"), Some("[::ffff:192.0.2.1]:80"));
        let cases = [
            (path, Some("h:8774"), v4, false, "http://h:8774"),
            (path, Some("h:8774"), None, true, "https://h:8774"),
            (path, Some("[::1]:8774"), None, false, "http://[::1]:8774"),
            (path, None, None, false, ""),
            (path, None, v4, false, "http://192.0.2.1:8774"),
            (path, None, v6, true, "https://192.0.2.1:80"),
            (path, None, Some("[2001:db8::1]:1"), false, "http://[2001:db8::1]:1"),
            (path, Some("evil/../host"), v4, false, ""),
            (path, Some("user:secret@h"), None, false, "http://h"),
            // The target's scheme is what the client claims; the connection's is known.
            ("https://h2/v2/p%201/things/x", None, v4, false, "http://h2"),
            ("http://h2/v2/p%201/things/x", None, None, true, "https://h2"),
            ("http://h2/v2/p%201/things/x", Some("h"), None, false, "http://h2"),
        ];
        for (target, host, local, secure, origin) in cases {
            let call = call(target, host, local, secure);
            assert_eq!(call.origin(), origin, "{target} {host:?}");
            assert_eq!(call.collection("vms"), format!("{origin}/v2/p%201/vms"), "{target} {host:?}");
        }
    }

    #[tokio::test]
    async fn a_verb_that_takes_nothing_takes_null_and_the_empty_object() {
        let bench = Bench::new(&THINGS);
        assert_eq!(bench.complaints(), Vec::<String>::new());
        for (body, status) in [
            (r#"{"stop": null}"#, 200),
            (r#"{"stop": {}}"#, 200),
            (r#"{"stop": {"now": true}}"#, 400),
            (r#"{"stop": []}"#, 400),
            (r#"{"stop": "now"}"#, 400),
            (r#"{"stop": null, "go": null}"#, 400),
            (r#"["stop"]"#, 400),
            ("", 400),
        ] {
            let reply = bench.send(post("/p1/things/a%2Fb/action", body)).await;
            assert_eq!(reply.status, status, "{body}: {}", reply.text);
            assert!(status != 200 || reply.text == "a/b", "{}", reply.text);
        }
        // A bench refuses what has no route, and what is not allowed.
        assert_eq!(bench.send(get("/p1/things/1/2")).await.status, 404);
        assert_eq!(bench.send(get("/p1/things/1/action")).await.status, 405);
        bench.deny("things:show");
        assert_eq!(bench.send(get("/p1/things/1")).await.status, 403);
    }
}
