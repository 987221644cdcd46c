//! Sources bring jobs: one file each, and one line in [`SOURCES`].

pub mod queue;

use std::sync::Arc;

use pileus_model::{BoxFuture, Job, View};

/// Every source that there is.
pub static SOURCES: &[&str] = &[queue::NAME];

/// Why a source could not be read now. Holds no secret; shown to administrators and logged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Where jobs come from.
pub trait Source: Send + Sync {
    /// Its name in [`SOURCES`].
    fn name(&self) -> &'static str;

    /// The jobs that wait there and are not in `view` yet. A failed answer says nothing of any job.
    fn poll(&self, view: Arc<View>) -> BoxFuture<Result<Vec<Job>, SourceError>>;
}

/// Every source, ready to be asked.
pub fn all() -> Vec<Box<dyn Source>> {
    vec![Box::new(queue::Queue)]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_source_is_in_the_list() {
        assert_eq!(super::all().iter().map(|source| source.name()).collect::<Vec<_>>(), super::SOURCES);
    }
}
