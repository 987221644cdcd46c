//! What a pipeline is made of: stages of one erased type, each cheap to clone.
//!
//! `tower`'s own boxed services copy the whole tower below at every clone; a [`Stack`] is one
//! reference count, whatever its height.

use std::{
    fmt,
    future::Future,
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

type Call = dyn Fn(Request) -> BoxFuture<Result<Response, Fault>> + Send + Sync;

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

    /// Sends a request down.
    pub fn send(&self, request: Request) -> BoxFuture<Result<Response, Fault>> {
        (self.0)(request)
    }
}

impl Service<Request> for Stack {
    type Response = Response;
    type Error = Fault;
    type Future = BoxFuture<Result<Response, Fault>>;

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
