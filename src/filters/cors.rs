//! `cors`: lets web pages of named sites read answers, as browsers ask for it.
//!
//! Stands above an authenticator: a browser's question (`OPTIONS` with `Access-Control-Request-Method`)
//! bears no token, and is answered here. Settings are oslo.middleware's. It refuses by silence: a
//! foreign site gets no `Access-Control-*` header at all, and its browser keeps the answer from it. What
//! is no such question, `OPTIONS` for `Allow` among it, goes down.
//!
//! Faults get the headers too: one that met no `faultwrap` becomes a response here, or a page could not
//! read why it was refused. `tower_http::cors` takes every `OPTIONS` for a question, tells foreign sites
//! which methods there are, and panics on settings that contradict each other.
//! Source: Fetch, <https://fetch.spec.whatwg.org/#http-cors-protocol>; oslo.middleware, `cors.py`.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use pileus_sdk::{Answer, Body, Filter, Request, Response};
use serde::Deserialize;

use super::request_id::{into_response, stamp};
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "cors", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "cors"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sites, `https://dashboard.example.org`; `*` for all of them.
    pub allowed_origin: Vec<String>,
    /// Whether browsers may send cookies and the like. Tokens in headers do not need it.
    pub allow_credentials: bool,
    /// Headers that a page may send, beside those that it always may.
    pub allow_headers: Vec<String>,
    /// Methods that a page may use.
    pub allow_methods: Vec<String>,
    /// Headers of answers that a page may read, beside those that it always may.
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer to its question, in seconds.
    pub max_age_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            allowed_origin: Vec::new(),
            allow_credentials: false,
            allow_headers: list(&[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "If-None-Match",
                "X-Auth-Token",
                "X-OpenStack-Request-Id",
            ]),
            allow_methods: list(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            expose_headers: list(&[
                "Allow",
                "ETag",
                "Location",
                "Pileus-Output-Gap",
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Compute-Request-Id",
                "X-OpenStack-Request-Id",
            ]),
            max_age_s: 3600,
        }
    }
}

/// Headers that oslo.middleware lets a page send in any case.
const SIMPLE: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_LANGUAGE,
    header::CONTENT_TYPE,
];

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let rules = Arc::new(Rules::new(section)?);
    Ok(Filter::around(move |inner, request| {
        let origin = rules.allowed(request.headers());
        if *request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ORIGIN)
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Answer::now(Ok(rules.preflight(origin, &request)));
        }
        let rules = rules.clone();
        let Some(origin) = origin else {
            return inner.send(request).map(move |answer| {
                let mut response = answer?;
                rules.vary(response.headers_mut());
                Ok(response)
            });
        };
        let (id, media) = (request.context().request_id, request.context().media);
        inner.send(request).map(move |answer| {
            let mut response = answer.unwrap_or_else(|fault| {
                let mut response = into_response(fault, media, &id);
                stamp(response.headers_mut(), &id);
                response
            });
            let headers = response.headers_mut();
            rules.allow(origin, headers);
            rules.vary(headers);
            if let Some(exposed) = &rules.exposed {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
            Ok(response)
        })
    }))
}

/// The settings, as they are compared and written.
struct Rules {
    /// `None`: all of them.
    origins: Option<Vec<HeaderValue>>,
    credentials: bool,
    methods: Vec<Method>,
    headers: Vec<HeaderName>,
    told_methods: HeaderValue,
    told_headers: HeaderValue,
    exposed: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl Rules {
    fn new(section: &Section) -> Result<Self, Diagnostic> {
        let config: Config = section.parse()?;
        let any = config.allowed_origin.iter().any(|origin| origin == "*");
        if any && (config.allow_credentials || config.allowed_origin.len() > 1) {
            let wrong = "`*` stands alone, and without `allow_credentials`: name the sites";
            return Err(section.wrong("allowed_origin", wrong));
        }
        let mut origins = Vec::new();
        for (index, text) in config.allowed_origin.iter().enumerate().filter(|_| !any) {
            let form = "as in `https://dashboard.example.org` or `http://localhost:3000`, without a path";
            let wrong = || {
                section.wrong(&format!("allowed_origin.{index}"), format!("`{text}` is no origin, {form}"))
            };
            origins.push(origin(text).ok_or_else(wrong)?);
        }
        fn each<T>(
            section: &Section,
            key: &str,
            names: &[String],
            read: impl Fn(&str) -> Option<T>,
        ) -> Result<Vec<T>, Diagnostic> {
            let one = |(index, name): (usize, &String)| {
                let wrong = || section.wrong(&format!("{key}.{index}"), format!("`{name}` is none"));
                read(name).ok_or_else(wrong)
            };
            names.iter().enumerate().map(one).collect()
        }
        let header = |name: &str| name.parse::<HeaderName>().ok();
        let method = |name: &str| name.parse::<Method>().ok();
        let methods = each(section, "allow_methods", &config.allow_methods, method)?;
        let headers = each(section, "allow_headers", &config.allow_headers, header)?;
        each(section, "expose_headers", &config.expose_headers, header)?;
        let told = |key: &str, names: &[String]| {
            HeaderValue::from_str(&names.join(", ")).map_err(|error| section.wrong(key, error))
        };
        Ok(Self {
            origins: (!any).then_some(origins),
            credentials: config.allow_credentials,
            methods,
            headers,
            told_methods: told("allow_methods", &config.allow_methods)?,
            told_headers: told("allow_headers", &config.allow_headers)?,
            exposed: Some(told("expose_headers", &config.expose_headers)?).filter(|it| !it.is_empty()),
            max_age: HeaderValue::from(config.max_age_s),
        })
    }

    /// What a request's site is told to be: `None` where it may not read the answer.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(origins) => origins.iter().find(|it| *it == origin).cloned(),
        }
    }

    fn allow(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Also where nobody asked from a site: a cache may show the answer to one that does.
    fn vary(&self, headers: &mut HeaderMap) {
        if self.origins.is_some() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The answer to a browser's question.
    fn preflight(&self, origin: Option<HeaderValue>, request: &Request) -> Response {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        self.vary(headers);
        if let Some(origin) = origin.filter(|_| self.holds(request.headers())) {
            self.allow(origin, headers);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.told_methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.told_headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        response
    }

    /// Whether a page may send what its browser asks about.
    fn holds(&self, asked: &HeaderMap) -> bool {
        let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let method = method.is_some_and(|asked| self.methods.iter().any(|it| it.as_str() == asked));
        let known = |name: &str| {
            let name = name.trim();
            let known = |it: &HeaderName| it.as_str().eq_ignore_ascii_case(name);
            name.is_empty() || SIMPLE.iter().chain(&self.headers).any(known)
        };
        let mut lists = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
        method && lists.all(|list| list.to_str().is_ok_and(|list| list.split(',').all(known)))
    }
}

/// An origin as browsers write it: lower case, no path, no default port.
fn origin(text: &str) -> Option<HeaderValue> {
    let uri: Uri = text.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let bare = format!("{scheme}://{authority}");
    let plain = bare == text && bare == bare.to_ascii_lowercase() && !bare.contains('@');
    let value = HeaderValue::from_str(text).ok()?;
    (plain && (authority.port_u16().is_none() || authority.port_u16() != default)).then_some(value)
}

#[cfg(test)]
mod tests {
    use pileus_sdk::Fault;

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    const ONE: &str = "allowed_origin = ['https://one.example', 'http://localhost:3000']";

    /// Answers, or refuses at `/no`.
    async fn app(request: Request) -> Result<Response, Fault> {
        match request.uri().path() {
            "/no" => Err(Fault::Forbidden("no".into())),
            _ => Ok(http::Response::builder().header("vary", "accept").body(Body::from("seen")).unwrap()),
        }
    }

    #[tokio::test]
    async fn a_question_is_answered_for_named_sites_alone() {
        let (deps, ..) = deps();
        let (cookies, any) = (&format!("{ONE}\nallow_credentials = true"), "allowed_origin = ['*']");
        let narrow =
            &format!("{ONE}\nallow_methods = ['GET']\nallow_headers = ['X-A', 'X-B']\nmax_age_s = 5");
        let cases = [
            // settings, origin, method, headers, allowed origin, credentials
            ("", "https://one.example", "GET", "", None, false),
            (ONE, "https://one.example", "GET", "", Some("https://one.example"), false),
            (ONE, "http://localhost:3000", "DELETE", "x-auth-token", Some("http://localhost:3000"), false),
            (ONE, "http://localhost:3001", "GET", "", None, false),
            (ONE, "http://one.example", "GET", "", None, false),
            (ONE, "null", "GET", "", None, false),
            (cookies, "https://one.example", "GET", "", Some("https://one.example"), true),
            (cookies, "https://two.example", "GET", "", None, false),
            (any, "https://two.example", "PATCH", "", Some("*"), false),
            (narrow, "https://one.example", "GET", "X-B, x-a,accept", Some("https://one.example"), false),
            (narrow, "https://one.example", "PUT", "", None, false),
            (narrow, "https://one.example", "get", "", None, false),
            (narrow, "https://one.example", "GET", "x-c", None, false),
        ];
        for (text, origin, method, headers, allowed, credentials) in cases {
            let stack = over(KIND, text, &deps, app);
            let asked = [
                ("origin", origin),
                ("access-control-request-method", method),
                ("access-control-request-headers", headers),
            ];
            let response = stack.send(request(Method::OPTIONS, "/no", &asked)).await.unwrap();
            let what = format!("{text} {origin} {method} {headers}");
            assert_eq!(response.status(), 204, "{what}");
            let header = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap());
            assert_eq!(header("access-control-allow-origin"), allowed, "{what}");
            assert_eq!(header("access-control-allow-credentials").is_some(), credentials, "{what}");
            assert_eq!(header("access-control-allow-methods").is_some(), allowed.is_some(), "{what}");
            assert_eq!(header("vary").is_some(), text != any, "{what}");
            if text == narrow.as_str() && allowed.is_some() {
                assert_eq!(header("access-control-allow-methods"), Some("GET"));
                assert_eq!(header("access-control-allow-headers"), Some("X-A, X-B"));
                assert_eq!(header("access-control-max-age"), Some("5"));
            }
        }
    }

    #[tokio::test]
    async fn answers_and_faults_can_be_read_by_named_sites() {
        let (deps, ..) = deps();
        let stack = over(KIND, ONE, &deps, app);
        let cases = [
            (Method::GET, "/", Some("https://one.example"), Ok(true)),
            (Method::GET, "/", Some("https://two.example"), Ok(false)),
            (Method::GET, "/", None, Ok(false)),
            (Method::OPTIONS, "/", Some("https://one.example"), Ok(true)), // no question: it goes down
            (Method::GET, "/no", Some("https://one.example"), Ok(true)),
            (Method::GET, "/no", Some("https://two.example"), Err(403)),
            (Method::GET, "/no", None, Err(403)),
        ];
        for (method, path, origin, expected) in cases {
            let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            let answer = stack.send(request(method, path, &headers)).await;
            let seen = answer.map_err(|fault| fault.code().0.as_u16()).map(|response| {
                let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
                assert_eq!(vary.last().unwrap(), &"origin");
                assert_eq!(response.status(), if path == "/no" { 403 } else { 200 });
                let exposed = response.headers().contains_key("access-control-expose-headers");
                assert_eq!(response.headers().contains_key("access-control-allow-origin"), exposed);
                exposed
            });
            assert_eq!(seen, expected, "{path} {origin:?}");
        }
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        assert!(build(KIND, "", &deps).is_ok());
        for (text, expected) in [
            ("allowed_origin = ['https://a/']", "`https://a/` is no origin"),
            ("allowed_origin = ['https://a:443']", "is no origin"),
            ("allowed_origin = ['https://A']", "is no origin"),
            ("allowed_origin = ['a.example']", "is no origin"),
            ("allowed_origin = ['https://u@a']", "is no origin"),
            ("allowed_origin = ['*', 'https://a']", "`*` stands alone"),
            ("allowed_origin = ['*']\nallow_credentials = true", "`*` stands alone"),
            ("allow_headers = ['a b']", "`a b` is none"),
            ("allow_methods = ['']", "`` is none"),
            ("max_age = 5", "unknown field `max_age`"),
        ] {
            let error = build(KIND, text, &deps).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
    }
}
