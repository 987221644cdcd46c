//! The lists `FILTERS`, `APPS`, `COMPOSITES`; assembling; the order check.

use std::sync::Arc;

use pileus_model::{Clock, Engine};
use pileus_sdk::Filter;

use crate::{diagnostic::Diagnostic, filters, paste::Section, policy::Policy, router::Router};

/// What a stage needs from the stages above it, or gives to those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A request id.
    RequestId,
    /// Faults from below become responses: needed by nobody, given by `faultwrap`.
    Faults,
    /// The whole body in memory.
    WholeBody,
    /// Who calls.
    Caller,
    /// A router at the pipeline's end. Given by the app, from below.
    Route,
}

/// What a filter's factory gets.
#[derive(Clone)]
pub struct Deps {
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// The door to the engine.
    pub engine: Arc<dyn Engine>,
    /// The rules of `policy.json`.
    pub policy: Arc<Policy>,
    /// The router at the end of the pipeline, where there is one.
    pub router: Option<Arc<Router>>,
}

/// Builds a stage from its section. Starts no task and opens no socket.
pub type Factory = fn(&Section, &Deps) -> Result<Filter, Diagnostic>;

/// A filter that `factory = "…"` may name.
#[derive(Debug, Clone, Copy)]
pub struct FilterKind {
    /// The word in the file.
    pub name: &'static str,
    /// What stages above it have to give.
    pub needs: &'static [Fact],
    /// What it gives to stages below.
    pub gives: &'static [Fact],
    /// Whether it says who calls: a pipeline without one is open to everybody.
    pub authenticates: bool,
    /// Builds it.
    pub factory: Factory,
}

/// Every filter. To add one: its file, and its line here.
pub static FILTERS: &[FilterKind] = &[
    filters::faultwrap::KIND,
    filters::noauth::KIND,
    filters::policy::KIND,
    filters::ratelimit::KIND,
    filters::request_id::KIND,
    filters::samesite::KIND,
    filters::sizelimit::KIND,
    filters::tokens::KIND,
    filters::trace::KIND,
];
