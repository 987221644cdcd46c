//! `trace`: a span for each request, and one line in the access log when it is answered.
//!
//! Stands below `request_id` and above everything else. The line is the event `request answered` of
//! target `access` at `info`; where nobody listens to that, a request costs one check and nothing is
//! built. The query is never logged: it may hold a secret.
//!
//! By the time the reply comes up, the request has moved down and its context is gone. So this stage
//! leaves an empty [`Seen`] in the context, into which the authenticator and `policy` put caller and
//! route ([`Context::note`]): one allocation, and only while somebody listens.
//!
//! A reply that is a stream is reported when it ends, or when the client no longer wants it. A
//! request whose client hung up before there was a reply is `request abandoned`.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use pileus_model::Clock;
use pileus_sdk::{
    Answer, Body, Fault, Filter, Peer, Request, RequestId, Response, Seen,
    body::{BoxError, Stream},
};
use serde::Deserialize;
use tracing::{Id, Level, Span, enabled, event, info_span};

use super::request_id::global;
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "trace", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "trace"` may say: nothing. The log is set where all of it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    let clock = deps.clock.clone();
    Ok(Filter::around(move |inner, mut request| {
        if !enabled!(target: "access", Level::INFO) {
            return inner.send(request);
        }
        let report = Report::of(&mut request, clock.clone());
        let span = info_span!(target: "access", "request", request.id = report.id.as_str());
        let inner = span.in_scope(|| inner.send(request));
        match inner.ready() {
            Ok(answer) => report.answered(answer).into(),
            Err(inner) => Answer::later(Traced { inner, told: Some(Told { report, span }) }),
        }
    }))
}

/// An answer that will be reported, if anybody listens.
#[derive(Debug)]
pub struct Traced<F> {
    inner: F,
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    report: Box<Report>,
    span: Span,
}

impl<F: Future<Output = Result<Response, Fault>> + Unpin> Future for Traced<F> {
    type Output = Result<Response, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = {
            let _entered = this.told.as_ref().map(|told| told.span.enter());
            ready!(Pin::new(&mut this.inner).poll(cx))
        };
        Poll::Ready(match this.told.take() {
            Some(told) => told.report.answered(answer),
            None => answer,
        })
    }
}

/// What the log will say of a request. It says so when it is dropped.
struct Report {
    clock: Arc<dyn Clock>,
    start_us: i64,
    method: Method,
    uri: Uri,
    id: RequestId,
    global: Option<Box<str>>,
    peer: Peer,
    seen: Arc<Seen>,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    /// Of the body.
    bytes: u64,
}

impl Report {
    fn of(request: &mut Request, clock: Arc<dyn Clock>) -> Box<Self> {
        let seen = Arc::<Seen>::default();
        let global = global(request.headers()).map(Into::into);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let context = request.context_mut();
        context.seen = Some(seen.clone());
        context.note();
        let (id, peer) = (context.request_id, context.peer);
        let start_us = clock.now_us();
        Box::new(Self { clock, start_us, method, uri, id, global, peer, seen, status: None, bytes: 0 })
    }

    /// Reports at once, or when the stream ends.
    fn answered(mut self: Box<Self>, answer: Result<Response, Fault>) -> Result<Response, Fault> {
        let response = match answer {
            Ok(response) => response,
            Err(fault) => {
                self.status = Some(fault.code().0);
                return Err(fault);
            }
        };
        self.status = Some(response.status());
        let head = self.method == Method::HEAD;
        Ok(response.map(|body| match body {
            Body::Stream(inner) => Body::Stream(Box::pin(Counted { inner, report: self })),
            whole => {
                self.bytes = if head { 0 } else { whole.size_hint().lower() };
                whole
            }
        }))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let duration_us = self.clock.now_us().saturating_sub(self.start_us).max(0);
        let (method, path) = (self.method.as_str(), self.uri.path());
        let Some(status) = self.status else {
            event!(
                target: "access",
                parent: None::<Id>,
                Level::INFO,
                request.id = self.id.as_str(),
                method,
                path,
                duration_us,
                peer = %self.peer,
                "request abandoned"
            );
            return;
        };
        let caller = self.seen.caller.get();
        event!(
            target: "access",
            parent: None::<Id>,
            Level::INFO,
            request.id = self.id.as_str(),
            request.global_id = self.global.as_deref(),
            method,
            path,
            route = self.seen.route.get().map(|route| &*route.path),
            status = status.as_u16(),
            duration_us,
            bytes = self.bytes,
            user.id = caller.map(|caller| &*caller.user),
            project.id = caller.map(|caller| &*caller.project),
            peer = %self.peer,
            "request answered"
        );
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({:?})", self.id)
    }
}

/// A stream that counts its bytes for the report, which ends with it.
struct Counted {
    inner: Stream,
    report: Box<Report>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.report.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use http_body_util::BodyExt;
    use pileus_sdk::{Caller, Stack};
    use serde_json::{Value, json};
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::filters::{
        request_id,
        testing::{Log, build, deps, matched, request},
    };

    async fn app(mut request: Request) -> Result<Response, Fault> {
        let caller = Caller::new("ann".into(), "p1".into(), Vec::new(), false);
        let context = request.context_mut();
        context.caller = Some(Arc::new(caller));
        context.note();
        tracing::warn!("on its way");
        match request.uri().path() {
            "/fault" => Err(Fault::NoRoute),
            "/stream" => Ok(Response::new(Body::Stream(Box::pin(Parts(VecDeque::from(["ab", "cde"])))))),
            "/never" => std::future::pending().await,
            _ => Ok(Response::new(Body::from("hello"))),
        }
    }

    /// A stream of what is there.
    struct Parts(VecDeque<&'static str>);

    impl http_body::Body for Parts {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(Bytes::from(part)))))
        }
    }

    #[tokio::test]
    async fn one_line_says_what_was_answered() {
        let log = Log::default();
        let _guard = log.start(LevelFilter::INFO);
        let (deps, clock, _) = deps();
        let late = clock.clone();
        let inner = Stack::from_fn(move |request| {
            late.advance(Duration::from_millis(7));
            app(request)
        });
        let trace = build(KIND, "", &deps).unwrap().over(inner);
        let stack = build(request_id::KIND, "", &deps).unwrap().over(trace);
        let global = "req-0a1b2c3d-0000-4000-8000-abcdefabcdef";
        let path = "/v2/p1/clouds/west";
        let headers = [("x-openstack-request-id", global)];
        let sent = request(Method::GET, &format!("{path}?token=secret"), &headers);
        let response = stack.send(matched(sent, "clouds:show")).await.unwrap();
        let id = response.headers()["x-compute-request-id"].to_str().unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0]["span"]["request.id"], id, "what is logged below has the id");
        assert_eq!((&lines[1]["target"], &lines[1]["level"]), (&json!("access"), &json!("INFO")));
        assert_eq!(
            lines[1]["fields"],
            json!({
                "message": "request answered", "request.id": id, "request.global_id": global,
                "method": "GET", "path": path, "route": "/{project_id}/clouds/{id}", "status": 200, "duration_us": 7000, "bytes": 5,
                "user.id": "ann", "project.id": "p1", "peer": "192.0.2.1:4711",
            })
        );
    }

    #[tokio::test]
    async fn faults_streams_and_hang_ups_are_reported_once() {
        let log = Log::default();
        let _guard = log.start(LevelFilter::INFO);
        let (deps, ..) = deps();
        let stack = build(KIND, "", &deps).unwrap().over(Stack::from_fn(app));
        let report = |path: &str| {
            let lines = log.lines();
            let mut found = lines.iter().filter(|line| line["fields"]["path"] == path);
            let fields = found.next().map(|line| line["fields"].clone());
            assert_eq!(found.count(), 0, "{path} was reported twice");
            fields
                .map(|fields| (fields["message"].clone(), fields["status"].clone(), fields["bytes"].clone()))
        };
        assert!(stack.send(request(Method::GET, "/fault", &[])).await.is_err());
        assert_eq!(report("/fault"), Some((json!("request answered"), json!(404), json!(0))));

        let response = stack.send(request(Method::GET, "/stream", &[])).await.unwrap();
        assert_eq!(report("/stream"), None, "not before it has ended");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abcde");
        assert_eq!(report("/stream"), Some((json!("request answered"), json!(200), json!(5))));

        let waiting = tokio::time::timeout(Duration::ZERO, stack.send(request(Method::GET, "/never", &[])));
        assert!(waiting.await.is_err());
        assert_eq!(report("/never"), Some((json!("request abandoned"), Value::Null, Value::Null)));

        stack.send(request(Method::HEAD, "/head", &[])).await.unwrap();
        assert_eq!(report("/head"), Some((json!("request answered"), json!(200), json!(0))));
    }

    #[tokio::test]
    async fn nothing_is_built_where_nobody_listens() {
        let log = Log::default();
        let _guard = log.start(LevelFilter::WARN);
        let (deps, ..) = deps();
        let stack = build(KIND, "", &deps).unwrap().over(Stack::from_fn(|mut request: Request| {
            assert!(request.context_mut().seen.is_none());
            app(request)
        }));
        stack.send(request(Method::GET, "/", &[])).await.unwrap();
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["fields"]["message"], "on its way");
    }
}
