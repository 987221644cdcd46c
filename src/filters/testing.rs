//! What the unit tests of filters stand on: a section from text, an engine with a picture, a request.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use http::Method;
use pileus_model::{
    Actor, Beat, BoxFuture, Command, Engine, Explanation, History, ManualClock, Name, Output, Receipt,
    Refusal, Time, View,
};
use pileus_sdk::{
    Answer, Body, Caller, Context, Fault, Filter, Match, Mount, Request, Response, Route, Stack,
};
use serde_json::Value;
use tracing::{Dispatch, subscriber::NoSubscriber};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::{
    diagnostic::Diagnostic,
    logging::current::tagged,
    paste::Section,
    pipeline::{Deps, FilterKind},
    policy::Policy,
};

/// An engine that shows what a test gives it.
#[derive(Debug, Default)]
pub(super) struct Shown(pub(super) Mutex<Arc<View>>, pub(super) Mutex<Vec<String>>);

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

    fn events(&self, _: u64, _: usize, _: Option<Name>) -> BoxFuture<Result<History, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn explain(&self, _: &str) -> BoxFuture<Result<Option<Explanation>, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable) })
    }

    fn changed_since(&self, _: u64) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn beats(&self) -> Vec<Beat> {
        Vec::new()
    }

    fn problems(&self) -> Vec<String> {
        self.1.lock().unwrap().clone()
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
        kept: crate::kept::Kept::default(),
        watched: crate::pipeline::Watched::default(),
        logs: Arc::default(),
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
    Request::with(request.body(Body::Empty).unwrap(), Context::new(SocketAddr::from(([192, 0, 2, 1], 4711))))
}

/// The same, from a caller.
pub(super) fn called(method: Method, uri: &str, user: &str, project: &str) -> Request {
    let mut request = request(method, uri, &[]);
    let caller = Caller::new(user.into(), project.into(), Vec::new(), false);
    request.context_mut().caller = Some(Arc::new(caller));
    request
}

/// A request that has matched `/{project_id}/clouds/{id}` below `/v2`.
pub(super) fn matched(mut request: Request, rule: &'static str) -> Request {
    let path = request.uri().path().to_owned();
    let parts: Vec<_> = path.split('/').collect();
    let start = |part: usize| parts[..part].iter().map(|part| part.len() + 1).sum::<usize>() as u32;
    let range = |part: usize| start(part)..start(part) + parts[part].len() as u32;
    let route = Route {
        mount: Mount::Tenant,
        method: Method::GET,
        path: "/{project_id}/clouds/{id}".into(),
        params: vec!["project_id".into(), "id".into()],
        verb: None,
        resource: "clouds",
        action: "show",
        extension: "clouds",
        rule,
        also: &[],
        default_rule: "rule:admin",
        scope_types: &[],
        query: Vec::new(),
        about: "",
        handler: Arc::new(|_| Answer::now(Err(Fault::NoRoute))),
    };
    let found = Match {
        route: Arc::new(route),
        number: 0,
        params: [range(2), range(4)].into_iter().collect(),
        escaped: true,
    };
    request.context_mut().matched = Some(found);
    request
}

/// A log that a test can read.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        tagged(bytes, true, |line| self.0.lock().unwrap().extend_from_slice(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(super) fn start(&self, level: LevelFilter) -> tracing::subscriber::DefaultGuard {
        // While there is one subscriber alone, `tracing` asks that of the thread which writes a line first
        // whether anybody wants it: another test, which has none, would answer for this one.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let log = tracing_subscriber::fmt().json().without_time().with_max_level(level);
        tracing::subscriber::set_default(log.with_writer(self.clone()).finish())
    }

    pub(super) fn lines(&self) -> Vec<Value> {
        let text = self.0.lock().unwrap().clone();
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}
