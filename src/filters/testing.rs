//! What the unit tests of filters stand on: a section from text, an engine with a picture, a request.

use std::sync::{Arc, Mutex};

use http::Method;
use pileus_model::{
    Actor, Beat, BoxFuture, Command, Engine, ManualClock, Output, Receipt, Refusal, Time, View,
};
use pileus_sdk::{Body, Caller, Context, Fault, Filter, Request, Response, Stack};

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Deps, FilterKind},
    policy::Policy,
};

/// An engine that shows what a test gives it.
#[derive(Debug, Default)]
pub(super) struct Shown(pub(super) Mutex<Arc<View>>);

impl Engine for Shown {
    fn view(&self) -> Arc<View> {
        self.0.lock().unwrap().clone()
    }

    fn submit(&self, _: Command, _: Actor) -> BoxFuture<Result<Receipt, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn output(&self, _: &str) -> BoxFuture<Result<Option<Output>, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn changed_since(&self, _: u64) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn beats(&self) -> Vec<Beat> {
        Vec::new()
    }
}

/// The surroundings of a filter, its clock and its engine.
pub(super) fn deps() -> (Deps, ManualClock, Arc<Shown>) {
    let clock = ManualClock::at(Time(1_311_272_226_000));
    let engine = Arc::new(Shown::default());
    let deps = Deps {
        clock: Arc::new(clock.clone()),
        engine: engine.clone(),
        policy: Arc::new(Policy::default()),
        router: None,
    };
    (deps, clock, engine)
}

/// Builds a filter from the text of its section.
pub(super) fn build(kind: FilterKind, text: &str, deps: &Deps) -> Result<Filter, Diagnostic> {
    (kind.factory)(&Section::from_text(&format!("filter.{}", kind.name), text), deps)
}

/// The filter above `app`.
pub(super) fn over<F, R>(kind: FilterKind, text: &str, deps: &Deps, app: F) -> Stack
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response, Fault>> + Send + 'static,
{
    build(kind, text, deps).unwrap().over(Stack::from_fn(app))
}

/// An app that answers 200 with nothing.
pub(super) async fn fine(_: Request) -> Result<Response, Fault> {
    Ok(Response::new(Body::Empty))
}

/// A request as the server makes it, from 192.0.2.1.
pub(super) fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::Empty).unwrap();
    request.extensions_mut().insert(Context::new("192.0.2.1:4711".parse().unwrap()));
    request
}

/// The same, from a caller.
pub(super) fn called(method: Method, uri: &str, user: &str, project: &str) -> Request {
    let mut request = request(method, uri, &[]);
    let caller = Caller::new(user.into(), project.into(), Vec::new(), false);
    Context::of(&mut request).caller = Some(Arc::new(caller));
    request
}
