//! `healthcheck`: tells load balancers whether to send requests here; the filter of the same name as an
//! app, for a place in a `urlmap`.
//!
//! ```toml
//! [app.healthcheck]                          # may be left out; the settings are the filter's
//! backends             = ["disable_by_file"]
//! disable_by_file_path = "/run/pileus/out-of-rotation"
//! ```

use http::Method;
use pileus_sdk::{Answer, Fault, Stack};

use crate::{
    diagnostic::Diagnostic,
    filters::healthcheck::Health,
    paste::Section,
    pipeline::{AppKind, BuildDeps},
};

/// How [`APPS`](crate::pipeline::APPS) knows it.
pub const KIND: AppKind = AppKind { name: "healthcheck", needs: &[], public: true, mount: |_| None, factory };

fn factory(section: &Section, deps: &BuildDeps) -> Result<Stack, Diagnostic> {
    let health = Health::new(section, deps.clock.clone(), deps.engine.clone())?;
    Ok(Stack::forward(move |request| {
        let below = request.uri().path().get(request.context().mounted as usize..);
        if !health.answers(&request) || !matches!(below, Some("" | "/")) {
            return Answer::refused(Fault::NoRoute);
        }
        Answer::now(match *request.method() {
            Method::GET | Method::HEAD => Ok(health.answer(&request)),
            ref method => {
                Err(Fault::MethodNotAllowed { method: method.clone(), allow: "GET, HEAD, OPTIONS".into() })
            }
        })
    }))
}
