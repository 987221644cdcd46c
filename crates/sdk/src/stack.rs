//! What a pipeline is made of: stages of one erased type, each cheap to clone.
//!
//! A [`Filter`] is a `tower` [`Layer`], a [`Stack`] a `tower` [`Service`], and any other layer of
//! plain HTTP becomes a filter by [`Filter::new`]. `tower`'s own boxed services copy the whole tower
//! below at every clone; a stack is one reference count, whatever its height.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use crate::{Answer, Body, Fault, Request, Response};

type Call = dyn Fn(Request) -> Answer + Send + Sync;

/// An app with the stages above it. Never queues: it is always ready.
#[derive(Clone)]
pub struct Stack(Arc<Call>);

impl Stack {
    /// Erases a service. The service is cloned for every call, so its state is behind an `Arc`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = Response, Error = Fault> + Clone + Send + Sync + 'static,
        S::Future: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self::forward(move |request| Answer::soon(service.clone().call(request.into())))
    }

    /// An app from a function.
    pub fn from_fn<F, R>(app: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self::forward(move |request| Answer::soon(app(request)))
    }

    /// An app that makes its answers itself, or hands requests on to others.
    pub fn forward<F>(app: F) -> Self
    where
        F: Fn(Request) -> Answer + Send + Sync + 'static,
    {
        Self(Arc::new(app))
    }

    /// Sends a request down. What can be done at once is done before this returns.
    pub fn send(&self, request: Request) -> Answer {
        (self.0)(request)
    }
}

impl Service<http::Request<Body>> for Stack {
    type Response = Response;
    type Error = Fault;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.send(request.into())
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stack")
    }
}

/// A stage that is built and not yet put on a [`Stack`].
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(Stack) -> Stack + Send + Sync>);

impl Filter {
    /// Erases a `tower` layer of plain HTTP.
    pub fn new<L>(layer: L) -> Self
    where
        L: Layer<Stack> + Send + Sync + 'static,
        L::Service:
            Service<http::Request<Body>, Response = Response, Error = Fault> + Clone + Send + Sync + 'static,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
    {
        Self(Arc::new(move |inner| Stack::new(layer.layer(inner))))
    }

    /// A stage that looks at a request on its way down, and lets it pass or refuses.
    pub fn gate<F>(gate: F) -> Self
    where
        F: Fn(&mut Request) -> Result<(), Fault> + Clone + Send + Sync + 'static,
    {
        Self::around(move |inner, mut request| match gate(&mut request) {
            Ok(()) => inner.send(request),
            Err(fault) => Answer::refused(fault),
        })
    }

    /// A stage that decides for each request how the stack below answers it, if at all. It is cloned for each
    /// pipeline that it stands in.
    pub fn around<F>(stage: F) -> Self
    where
        F: Fn(&Stack, Request) -> Answer + Clone + Send + Sync + 'static,
    {
        Self(Arc::new(move |inner| {
            let stage = stage.clone();
            Stack::forward(move |request| stage(&inner, request))
        }))
    }

    /// Puts the stage on top of `inner`.
    pub fn over(&self, inner: Stack) -> Stack {
        (self.0)(inner)
    }
}

impl Layer<Stack> for Filter {
    type Service = Stack;

    fn layer(&self, inner: Stack) -> Stack {
        self.over(inner)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
