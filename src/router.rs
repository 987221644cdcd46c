//! `matchit` over all routes.

use std::sync::Arc;

use pileus_sdk::{Fault, Request, Stack};

/// The routes of one mount.
#[derive(Debug, Default)]
pub struct Router {}

impl Router {
    /// Finds the request's route and leaves it in the context, unless a stage above did. Where a
    /// caller is known, a project in the path that is not his is refused (400, as Nova does).
    pub fn matched(&self, request: &mut Request) -> Result<(), Fault> {
        let _ = request;
        Err(Fault::NoRoute)
    }

    /// The app that answers by these routes.
    pub fn app(self: Arc<Self>) -> Stack {
        Stack::from_fn(move |mut request| {
            let matched = self.matched(&mut request);
            async move { Err(matched.err().unwrap_or(Fault::NoRoute)) }
        })
    }
}
