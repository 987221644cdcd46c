//! What a pipeline is made of: stages of one erased type, each cheap to clone.
//!
//! `tower`'s own boxed services copy the whole tower below at every clone; a [`Stack`] is one
//! reference count, whatever its height.

use std::{
    fmt,
    future::{Future, ready},
    sync::Arc,
    task::{Context, Poll},
};

use pileus_model::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Body, Fault};

/// A request on its way down. Its [`Context`](crate::Context) rides in the extensions.
pub type Request = http::Request<Body>;

/// A reply on its way up.
pub type Response = http::Response<Body>;

/// What comes back from below.
pub type Answer = BoxFuture<Result<Response, Fault>>;

type Call = dyn Fn(Request) -> Answer + Send + Sync;

/// An app with the stages above it. Never queues: it is always ready.
#[derive(Clone)]
pub struct Stack(Arc<Call>);

impl Stack {
    /// Erases a service. The service is cloned for every call, so its state is behind an `Arc`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request, Response = Response, Error = Fault> + Clone + Send + Sync + 'static,
        S::Future: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(service.clone().call(request))))
    }

    /// An app from a function.
    pub fn from_fn<F, R>(app: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(app(request))))
    }

    /// An app that hands requests on to others: it makes no future of its own, and so costs no
    /// allocation.
    pub fn forward<F>(app: F) -> Self
    where
        F: Fn(Request) -> Answer + Send + Sync + 'static,
    {
        Self(Arc::new(app))
    }

    /// Sends a request down.
    pub fn send(&self, request: Request) -> Answer {
        (self.0)(request)
    }
}

impl Service<Request> for Stack {
    type Response = Response;
    type Error = Fault;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.send(request)
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
    /// Erases a `tower` layer.
    pub fn new<L>(layer: L) -> Self
    where
        L: Layer<Stack> + Send + Sync + 'static,
        L::Service: Service<Request, Response = Response, Error = Fault> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Self(Arc::new(move |inner| Stack::new(layer.layer(inner))))
    }

    /// A stage that looks at a request on its way down, and lets it pass or refuses. What passes costs
    /// no allocation, since what comes back from below is handed up as it is.
    pub fn gate<F>(gate: F) -> Self
    where
        F: Fn(&mut Request) -> Result<(), Fault> + Send + Sync + 'static,
    {
        Self::around(move |inner, mut request| match gate(&mut request) {
            Ok(()) => inner.send(request),
            Err(fault) => Box::pin(ready(Err(fault))),
        })
    }

    /// A stage that decides for each request how the stack below answers it, if at all.
    pub fn around<F>(stage: F) -> Self
    where
        F: Fn(&Stack, Request) -> Answer + Send + Sync + 'static,
    {
        let stage = Arc::new(stage);
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

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
