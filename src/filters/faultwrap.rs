//! `faultwrap`: turns whatever goes wrong below into a response as Nova writes it.
//!
//! Stands below `request_id` and `trace`, above everything that may refuse. A [`Fault`] becomes its
//! JSON, a panic a 500 that says nothing of its cause: that is logged, once, with the request's id.
//! A fault response has the request id already here, so that it does not depend on who stands above.
//! Responses pass through as they are. A client that wants XML (`Accept: application/xml`, or a path
//! that ends in `.xml`) reads faults in Nova's XML; what else it may want, JSON.
//!
//! On the old ports the setting `format = "cloud_scheduler"` writes what Cloud Scheduler's own server
//! wrote: `not found`, `None` with `Allow`, `internal server error`, as HTML that is none.
//! Source: Nova, `nova/api/openstack/wsgi.py`, `Fault`; web.py 0.38, `web/webapi.py`.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

use http::{HeaderValue, header};
use pileus_model::BoxFuture;
use pileus_sdk::{Answer, Body, Fault, Filter, Media, RequestId, Response};
use serde::Deserialize;

use super::request_id::{into_response, stamp};
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "faultwrap", capabilities: |_| Capabilities::NONE.provides(&[Fact::Faults]), factory };

/// What a section with `factory = "faultwrap"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who reads the faults.
    #[serde(default)]
    pub format: Format,
}

/// How a fault is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{"itemNotFound": {"code": 404, "message": "…"}}`, or the same in XML for who wants that.
    #[default]
    Nova,
    /// `not found`.
    CloudScheduler,
}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let Config { format } = section.parse()?;
    Ok(Filter::around(move |inner, request| {
        let (id, media) = (request.context().request_id, request.context().media);
        // What a panic leaves half done is dropped: this request's answer, and nothing else.
        let answer = catch_unwind(AssertUnwindSafe(|| inner.send(request)));
        let mut answer = answer.unwrap_or_else(|panic| Answer::refused(panicked(&*panic)));
        if answer.response_mut().is_some() {
            return answer;
        }
        rewrapped(answer, format, media, id)
    }))
}

/// The same for what is no response yet.
#[inline(never)]
fn rewrapped(answer: Answer, format: Format, media: Media, id: RequestId) -> Answer {
    match answer.ready() {
        Ok(answer) => Answer::now(Ok(wrapped(answer, format, media, &id))),
        Err(inner) => {
            let unpanicked = Unpanicked { inner };
            Answer::later(async move { Ok(wrapped(unpanicked.await, format, media, &id)) })
        }
    }
}

/// An answer that is awaited; a panic meanwhile is a fault.
struct Unpanicked {
    inner: BoxFuture<Result<Response, Fault>>,
}

impl Future for Unpanicked {
    type Output = Result<Response, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

fn wrapped(answer: Result<Response, Fault>, format: Format, media: Media, id: &RequestId) -> Response {
    answer.unwrap_or_else(|fault| {
        let mut response = match format {
            Format::Nova => into_response(fault, media, id),
            Format::CloudScheduler => as_of_old(fault, id),
        };
        stamp(response.headers_mut(), id);
        response
    })
}

/// As web.py wrote it; what web.py had no word for is said in plain text.
fn as_of_old(fault: Fault, id: &RequestId) -> Response {
    let (mime, text) = match fault.kind() {
        Fault::NoRoute | Fault::NotFound { .. } => ("text/html", "not found".to_owned()),
        Fault::MethodNotAllowed { .. } => ("text/html", "None".to_owned()),
        Fault::Internal(_) => ("text/html", "internal server error".to_owned()),
        other => ("text/plain; charset=utf-8", other.to_string()),
    };
    // The status and the headers are the same for everybody; so is what is logged.
    let mut response = into_response(fault, Media::Json, id);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    *response.body_mut() = Body::from(text);
    response
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::internal(format!("panicked: {}", text.unwrap_or("for no reason that is a text")))
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use pileus_sdk::{Body, Request, Stack};
    use serde_json::{Value, json};

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    async fn body(response: Response) -> Value {
        serde_json::from_slice(&response.body().bytes().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_old_ports_get_what_they_always_got() {
        let (deps, ..) = deps();
        let stack = over(KIND, "format = \"cloud_scheduler\"", &deps, |request: Request| async move {
            Err(match request.uri().path() {
                "/route" => Fault::NoRoute,
                "/method" => Fault::MethodNotAllowed { method: Method::PUT, allow: "GET, HEAD".into() },
                "/size" => Fault::TooLarge { limit: 5 },
                _ => Fault::internal("the password is 1234"),
            })
        });
        let cases = [
            ("/route", 404, "text/html", "not found"),
            ("/method", 405, "text/html", "None"),
            ("/bug", 500, "text/html", "internal server error"),
            (
                "/size",
                413,
                "text/plain; charset=utf-8",
                "Request is too large. At most 5 bytes are accepted.",
            ),
        ];
        for (path, status, mime, text) in cases {
            let response = stack.send(request(Method::GET, path, &[])).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], mime, "{path}");
            assert_eq!(response.body().bytes().unwrap(), text.as_bytes(), "{path}");
        }
        let response = stack.send(request(Method::GET, "/method", &[])).await.unwrap();
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
    }

    #[tokio::test]
    async fn faults_and_panics_become_nova_responses() {
        let (deps, ..) = deps();
        let stack = over(KIND, "", &deps, |request: Request| async move {
            // A stage that fails only after it has waited once.
            tokio::task::yield_now().await;
            match request.uri().path() {
                "/missing" => Err(Fault::NotFound { kind: "Cloud", id: "west".into() }),
                "/cause" => Err(Fault::internal("the password is 1234")),
                "/panic" => panic!("the password is {}", 1234),
                "/odd" => std::panic::panic_any(5),
                _ => Ok(http::Response::builder().status(418).body(Body::from("tea")).unwrap()),
            }
        });
        let unexpected = "Unexpected error. Quote the request id when you report it.";
        let fault = |name: &str, code: u16, message: &str| json!({name: {"code": code, "message": message}});
        let cases = [
            ("/missing", 404, fault("itemNotFound", 404, "Cloud west could not be found.")),
            ("/cause", 500, fault("computeFault", 500, unexpected)),
            ("/panic", 500, fault("computeFault", 500, unexpected)),
            ("/odd", 500, fault("computeFault", 500, unexpected)),
        ];
        for (path, status, expected) in cases {
            let mut sent = request(Method::GET, path, &[]);
            sent.context_mut().request_id = RequestId::new("req-7");
            let response = stack.send(sent).await.unwrap();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{path}");
            assert_eq!(response.headers()["x-compute-request-id"], "req-7", "{path}");
            assert_eq!(response.headers()["x-openstack-request-id"], "req-7", "{path}");
            assert_eq!(response.headers()["content-type"], "application/json", "{path}");
            assert_eq!(body(response).await, expected, "{path}");
        }
        let response = stack.send(request(Method::GET, "/", &[])).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().len()), (418, 0), "passes as it is");
        let response = stack.send(request(Method::GET, "/missing", &[])).await.unwrap();
        assert!(!response.headers().contains_key("x-compute-request-id"), "no id was given");
    }

    #[tokio::test]
    async fn a_panic_before_there_is_a_future_is_caught_too() {
        let (deps, ..) = deps();
        let stack =
            build(KIND, "", &deps).unwrap().over(Stack::forward(|_| panic!("before there is a future")));
        for _ in 0..2 {
            let response = stack.send(request(Method::GET, "/", &[])).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
