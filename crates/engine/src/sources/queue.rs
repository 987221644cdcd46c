//! `queue`: jobs that were submitted to our own API. They are in the state from their first moment,
//! so that nothing is left to be fetched.

use std::sync::Arc;

use pileus_model::{BoxFuture, Job, View};

use super::{Source, SourceError};

/// Its name.
pub const NAME: &str = "queue";

/// The source.
#[derive(Debug, Clone, Copy)]
pub struct Queue;

impl Source for Queue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn poll(&self, _: Arc<View>) -> BoxFuture<Result<Vec<Job>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
