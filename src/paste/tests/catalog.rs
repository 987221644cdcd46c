//! Filters and apps for tests: each leaves its mark on the request as it passes.

use std::{
    future::ready,
    num::NonZeroU32,
    path::Path,
    sync::Arc,
    task::{self, Poll},
};

use http::{HeaderValue, header::HeaderName};
use pileus_model::BoxFuture;
use pileus_sdk::{Body, Fault, Filter, Mount, Request, Response, Stack};
use serde::Deserialize;
use tower_layer::layer_fn;
use tower_service::Service;

use crate::{
    apps,
    diagnostic::{Diagnostic, Report},
    filters,
    paste::{BuiltServer, Catalog, Files, Plan, Section, Strategy, build, check},
    pipeline::{AppKind, BuildDeps, Deps, FilterKind},
    router::Router,
};

/// Filters with the names and capabilities of the compiled-in ones.
static FILTERS: &[FilterKind] = &[
    FilterKind { factory: mark, ..filters::faultwrap::KIND },
    FilterKind { factory: mark, ..filters::noauth::KIND },
    FilterKind { factory: mark, ..filters::policy::KIND },
    FilterKind { factory: limit, ..filters::ratelimit::KIND },
    FilterKind { factory: mark, ..filters::request_id::KIND },
    FilterKind { factory: mark, ..filters::samesite::KIND },
    FilterKind { factory: mark, ..filters::sizelimit::KIND },
    FilterKind { factory: mark, ..filters::tokens::KIND },
    FilterKind { factory: mark, ..filters::trace::KIND },
];

static APPS: &[AppKind] = &[
    apps::metrics::KIND,
    apps::router::KIND,
    apps::version::KIND,
    apps::versions::KIND,
    AppKind { name: "echo", needs: &[], public: true, mount: |_| None, factory: echo },
];

pub const CATALOG: Catalog = Catalog { filters: FILTERS, apps: APPS };

static WAY: HeaderName = HeaderName::from_static("way");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    mark: Option<String>,
}

/// Adds its name, or its setting `mark`, to the way of the request, and of the answer.
fn mark(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let config: Mark = section.parse()?;
    let mark = HeaderValue::from_str(&config.mark.unwrap_or_else(|| section.name.clone()))
        .map_err(|_| section.wrong("mark", "no header can hold this"))?;
    Ok(Filter::new(layer_fn(move |inner| Marked { inner, mark: mark.clone() })))
}

#[derive(Clone)]
struct Marked {
    inner: Stack,
    mark: HeaderValue,
}

impl Service<http::Request<Body>> for Marked {
    type Response = Response;
    type Error = Fault;
    type Future = BoxFuture<Result<Response, Fault>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.headers_mut().append(&WAY, self.mark.clone());
        let (answer, mark) = (self.inner.call(request), self.mark.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().append(&WAY, mark);
            Ok(response)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    #[serde(default, rename = "limits")]
    _limits: Vec<Limit>,
    #[serde(rename = "key")]
    _key: Option<String>,
    #[serde(rename = "count")]
    _count: Option<String>,
    #[serde(default, rename = "exempt_roles")]
    _exempt_roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    #[serde(rename = "verb")]
    _verb: String,
    #[serde(rename = "value")]
    _value: NonZeroU32,
    #[serde(rename = "unit")]
    _unit: Unit,
    #[serde(default, rename = "roles")]
    _roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Second,
    Minute,
}

/// A filter with settings of every kind.
fn limit(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let _: Limits = section.parse()?;
    Ok(Filter::new(layer_fn(|inner| inner)))
}

/// Answers with the request's way, its setting, and what is mounted.
fn echo(section: &Section, _: &BuildDeps) -> Result<Stack, Diagnostic> {
    let text = section.settings.get("text").map(|it| it.value.to_string()).unwrap_or_default();
    Ok(Stack::from_fn(move |mut request: Request| {
        let mounted = request.context_mut().mounted as usize;
        let text = format!("{} | {text} | {}", way(request.headers()), &request.uri().path()[..mounted]);
        ready(Ok(Response::new(Body::from(text))))
    }))
}

fn way(headers: &http::HeaderMap) -> String {
    headers.get_all(&WAY).iter().map(|it| it.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// The environment of all tests.
pub fn environment(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "s3cret".to_owned())
}

/// What the filters of all tests get.
pub fn deps() -> BuildDeps {
    let routers = Mount::ALL.map(|mount| (mount, Arc::new(Router::new(mount, &[]).unwrap()))).into();
    BuildDeps { routers, ..BuildDeps::idle() }
}

/// Check and build, as `pileus check` does it.
pub fn run(files: Option<Files>, strategy: &str, report: &mut Report) -> (Plan, Vec<BuiltServer>) {
    run_with(&CATALOG, files, strategy, report)
}

/// The same with other filters.
pub fn run_with(
    catalog: &Catalog,
    files: Option<Files>,
    strategy: &str,
    report: &mut Report,
) -> (Plan, Vec<BuiltServer>) {
    let Some(files) = files else { return (Plan::default(), Vec::new()) };
    let plan = check(&files, catalog, Strategy { name: strategy, place: None, known: true }, report);
    let built = build(&plan, &deps(), report);
    (plan, built)
}

/// What a server answers, with the way of the answer behind it; a fault by its status.
pub async fn ask(server: &BuiltServer, path: &str) -> String {
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = path.parse().unwrap();
    match server.app.send(request).await {
        Err(fault) => fault.code().0.as_str().to_owned(),
        Ok(response) => {
            let way = way(response.headers());
            format!("{} | {way}", String::from_utf8_lossy(&response.into_body().bytes().unwrap()))
        }
    }
}

/// A text that has no mistakes, built.
pub fn good(text: &str, folder: &Path) -> Vec<BuiltServer> {
    let mut report = Report::default();
    let files = Files::from_text("test.toml", text, folder, &environment, &mut report);
    let (_, built) = run(files, "token", &mut report);
    assert_eq!(report.render(false), "0 errors, 0 warnings\n", "{text}");
    built
}
