//! Filters: one file each. Their list is `crate::pipeline::FILTERS`.
//!
//! A stage awaits nothing where it can: then its future has a name, and the stage costs the one
//! allocation of [`Stack`](pileus_sdk::Stack). That future is boxed and so may be moved, which is why
//! the stages ask for `S::Future: Unpin` and need no pin projection.

pub mod faultwrap;
pub mod noauth;
pub mod policy;
pub mod ratelimit;
pub mod request_id;
pub mod samesite;
pub mod sizelimit;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod trace;

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use pileus_sdk::{Fault, Response};

/// What a stage gives that decides at once: its own answer, or what comes from below.
#[derive(Debug)]
pub enum Answer<F> {
    /// The stage's own.
    Now(Ready<Result<Response, Fault>>),
    /// The rest of the tower's.
    Below(F),
}

impl<F> Answer<F> {
    /// The stage's own answer.
    pub fn now(answer: Result<Response, Fault>) -> Self {
        Self::Now(ready(answer))
    }
}

impl<F: Future<Output = Result<Response, Fault>> + Unpin> Future for Answer<F> {
    type Output = Result<Response, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(answer) => Pin::new(answer).poll(cx),
            Self::Below(inner) => Pin::new(inner).poll(cx),
        }
    }
}
