//! What the admin port does to the service itself.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback. Kept: a level that there is not is 500, where
//! any other unknown word is 404. Mended: `quick_shutdown` takes `value=on|off` beside its toggle; `reconfig` brings all of the file in or nothing of it, and a file that is broken answers
//! with a sentence that says where, where there the pool was lost.

use std::sync::Arc;

use pileus_sdk::{
    Body, Call, Deps, Fault, Reply, Response, StatusCode, header, host::LogLevel, model::Refusal,
};

use crate::service::{reconfigure, set_log_level, set_quick_shutdown};

pub struct OldAdmin {
    pub deps: Deps,
}

impl OldAdmin {
    /// `PUT /` with `log_level=WORD`: an empty body.
    pub async fn set_log_level(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        let word = params.get("log_level").ok_or(Fault::NoRoute)?;
        let Some(level) = LogLevel::from_word(word) else { return Ok(unknown_level()) };
        set_log_level(&self.deps, level, call.actor()).await?.map_err(Fault::internal)?;
        Reply::text("")
    }

    /// `POST /` with `action=quick_shutdown` or `action=reconfig`: an empty body where it was done.
    pub async fn post(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let params = call.query_or_form();
        match params.get("action") {
            Some("quick_shutdown") => {
                let on = match params.get("value") {
                    None => None,
                    Some(word) if word.eq_ignore_ascii_case("on") => Some(true),
                    Some(word) if word.eq_ignore_ascii_case("off") => Some(false),
                    Some(_) => return Err(Fault::NoRoute),
                };
                set_quick_shutdown(&self.deps, on, call.actor()).await?;
                Reply::text("")
            }
            Some("reconfig") => match reconfigure(&self.deps, call.actor()).await {
                Ok(_) => Reply::text(""),
                Err(refusal @ (Refusal::Full | Refusal::Unavailable)) => Err(refusal.into()),
                Err(refusal) => Reply::text(format!("Reconfig failed, nothing was changed: {refusal}")),
            },
            _ => Err(Fault::NoRoute),
        }
    }
}

/// As a mistake of ours would look, and without a line in the log: it is the caller's.
fn unknown_level() -> Reply {
    let mut response = Response::new(Body::from("internal server error"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let html = header::HeaderValue::from_static("text/html");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response.into()
}
