//! `metrics`: what this process counts and measures, as Prometheus reads it.
//!
//! It names servers, pipelines, clouds and how many jobs there are, and nobody's own. That is for who runs the
//! service: it is not public, and who is on another host has to prove who he is, like anywhere else.
//!
//! ```toml
//! [pipeline.scrape]
//! pipeline = ["samesite", "metrics"]        # it has no settings
//! ```

use http::{HeaderValue, Method, header};
use pileus_sdk::{Answer, Body, Fault, Response, Stack};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    metrics::{CONTENT_TYPE, Sources, page},
    paste::Section,
    pipeline::{AppKind, BuildDeps},
};

/// How [`APPS`](crate::pipeline::APPS) knows it.
pub const KIND: AppKind = AppKind { name: "metrics", needs: &[], public: false, mount: |_| None, factory };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

fn factory(section: &Section, deps: &BuildDeps) -> Result<Stack, Diagnostic> {
    let Config {} = section.parse()?;
    let sources = Sources { engine: deps.engine.clone(), host: deps.host.clone() };
    Ok(Stack::forward(move |request| {
        let below = request.uri().path().get(request.context().mounted as usize..);
        if !matches!(below, Some("" | "/")) {
            return Answer::refused(Fault::NoRoute);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let method = request.method().clone();
            return Answer::refused(Fault::MethodNotAllowed { method, allow: "GET, HEAD".into() });
        }
        let sources = sources.clone();
        Answer::later(async move {
            // It reads files, and every job there is.
            let text = tokio::task::spawn_blocking(move || page(&sources)).await;
            let text = text.map_err(|error| Fault::internal(error.to_string()))?;
            let mut response = Response::new(Body::from(text));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        })
    }))
}
