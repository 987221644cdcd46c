//! `timeout`: gives up an answer that does not begin in time (503, with `Retry-After`).
//!
//! Shorter than the server's `request_timeout_s`, for one pipeline, and as a fault below `trace` and
//! `faultwrap`. What the engine was told to change goes on: submitting does not hang on the request. A
//! streamed answer has begun with its headers, and may take as long as it likes.
//!
//! An answer that is there at once, as most are, costs no timer and no allocation.

use std::{num::NonZeroU32, time::Duration};

use pileus_sdk::{Answer, Fault, Filter};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "timeout", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "timeout"` may say.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Until an answer begins, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_s: NonZeroU32,
    /// When the client may try again, in seconds.
    #[serde(default = "default_retry_after")]
    pub retry_after_s: NonZeroU32,
}

const fn default_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(29)
}

const fn default_retry_after() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config { timeout_s, retry_after_s } = section.parse()?;
    let clock = deps.clock.clone();
    let limit = Duration::from_secs(timeout_s.get().into());
    let retry_after = Duration::from_secs(retry_after_s.get().into());
    Ok(Filter::around(move |inner, request| match inner.send(request).ready() {
        Ok(answer) => Answer::now(answer),
        Err(awaited) => {
            let alarm = clock.sleep(limit);
            Answer::later(async move {
                tokio::select! {
                    // An answer that comes with the alarm is one.
                    biased;
                    answer = awaited => answer,
                    () = alarm => Err(Fault::Unavailable {
                        reason: format!("The request was not answered within {timeout_s} s."),
                        retry_after,
                    }),
                }
            })
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use http::Method;
    use pileus_sdk::{Body, Request, Response};

    use super::*;
    use crate::filters::testing::{build, deps, fine, over, request};

    #[tokio::test]
    async fn an_answer_begins_in_time_or_is_given_up() {
        let (deps, clock, _) = deps();
        let stack = over(KIND, "timeout_s = 5\nretry_after_s = 7", &deps, {
            let clock = deps.clock.clone();
            move |request: Request| {
                let clock = clock.clone();
                async move {
                    let seconds = request.uri().path().trim_start_matches('/').parse().unwrap();
                    clock.sleep(Duration::from_secs(seconds)).await;
                    Ok(Response::new(Body::Empty))
                }
            }
        });
        // What the app takes, and the status once five seconds have passed.
        for (seconds, status) in [(1, 200), (5, 200), (6, 503), (600, 503)] {
            let mut answer = stack.send(request(Method::GET, &format!("/{seconds}"), &[]));
            let mut poll =
                || Future::poll(std::pin::Pin::new(&mut answer), &mut Context::from_waker(Waker::noop()));
            assert!(poll().is_pending());
            clock.advance(Duration::from_millis(999));
            assert!(poll().is_pending());
            clock.advance(Duration::from_millis(4001));
            let Poll::Ready(answer) = poll() else { panic!("{seconds}: still waiting") };
            let response = answer.unwrap_or_else(Fault::into_response);
            assert_eq!(response.status(), status, "{seconds}");
            let after = response.headers().get("retry-after").map(|it| it.to_str().unwrap());
            assert_eq!(after, (status == 503).then_some("7"), "{seconds}");
        }
        let there = over(KIND, "", &deps, fine).send(request(Method::GET, "/", &[]));
        assert!(there.ready().is_ok(), "no timer for what is there");
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        for wrong in ["timeout_s = 0", "timeout_s = 1.5", "retry_after_s = 0", "timeout = 5"] {
            assert!(build(KIND, wrong, &deps).is_err(), "{wrong}");
        }
    }
}
