//! The store: one table of events is the truth; snapshots only save time at start.

mod acknowledged;
pub mod backup;
mod claim;
pub mod compact;
mod folder;
mod outputs;
mod reserve;
mod snapshot;
pub mod sqlite;
#[cfg(test)]
mod tests;
mod upgrade;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_model::{BoxFuture, Event, History, Name, Output, OutputPart, OutputRange, Refusal, View};

use crate::death::Death;

/// Every store that `store = "…"` may name.
pub static STORES: &[&str] = &["sqlite"];

/// What becomes durable together, or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In order, and going on right after the last one that was appended.
    pub events: Vec<Event>,
    /// What jobs wrote, by the job's id.
    pub outputs: Vec<(Name, Output)>,
}

/// Keeps events, outputs and snapshots.
pub trait Store: Send + Sync {
    /// Appends a batch; answers once it is durable. After a failure nothing of it is kept, and the
    /// same sequence numbers may be given out again.
    fn append(&self, batch: Arc<Batch>) -> BoxFuture<Result<(), StoreError>>;

    /// Keeps the picture, so that the next start need not fold all events again.
    fn snapshot(&self, view: Arc<View>) -> BoxFuture<Result<(), StoreError>>;

    /// What a finished job wrote; `None` where there is nothing.
    fn output(&self, job: Name) -> BoxFuture<Result<Option<Output>, StoreError>>;

    /// Piece of a stream of a finished job; `None` where nothing is kept of the job.
    fn output_part(&self, job: Name, range: OutputRange)
    -> BoxFuture<Result<Option<OutputPart>, StoreError>>;

    /// What happened after the event `after` and up to `last`, at most `limit` events: what a project
    /// owns and what is everybody's, or all of it. Fewer where they are long, but one at least.
    fn events(
        &self,
        after: u64,
        last: u64,
        limit: usize,
        project: Option<Name>,
    ) -> BoxFuture<Result<History, StoreError>>;

    /// Number of events that the start found after the last snapshot.
    fn folded(&self) -> usize {
        0
    }

    /// Tries whether something can be written, after a write that failed.
    fn probe(&self) -> BoxFuture<Result<(), StoreError>> {
        self.append(Arc::default())
    }

    /// Ends if the store can never write again, and says why. Pending while it works, and once it is
    /// closed.
    fn death(&self) -> BoxFuture<Death> {
        Box::pin(std::future::pending())
    }

    /// Reason why nothing can be written now, seen without a write; `None` while there is none.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Last event that may be deleted by these bounds; 0: none.
    fn deletable(&self, bounds: compact::Bounds) -> BoxFuture<Result<u64, StoreError>> {
        let _ = bounds;
        Box::pin(async { Ok(0) })
    }

    /// Deletes some events up to `last`; `true`: none is left to delete. `last` comes from
    /// [`deletable`](Store::deletable).
    fn compact(&self, last: u64) -> BoxFuture<Result<bool, StoreError>> {
        let _ = last;
        Box::pin(async { Ok(true) })
    }

    /// Gives all free space back to the file system. Nothing else is written meanwhile.
    fn shrink(&self) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Sequence number of the last event that was deleted; 0: none was.
    fn compacted(&self) -> u64 {
        0
    }

    /// Makes a consistent copy of the state in one file that has no name. One at a time.
    fn backup(&self) -> BoxFuture<Result<std::fs::File, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable) })
    }

    /// `true` while the disk is full: there is room for what ends or removes something alone.
    fn is_tight(&self) -> bool {
        false
    }

    /// Finishes what was begun and lets go of the folder. Everything fails afterwards.
    fn close(&self) -> BoxFuture<()>;
}

/// Why the store could not do it now. The cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space is left; works again once there is.
    #[error("the disk is full")]
    Full,
    /// Another process writes the same state. Final: nothing is written any more.
    #[error("another process writes the same state")]
    Fenced,
    /// Anything else.
    #[error("the store does not answer as it should")]
    Unavailable,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Fenced | StoreError::Unavailable => Self::Unavailable,
        }
    }
}

/// Why a state folder cannot be used. Nothing in it was changed.
#[allow(missing_docs, reason = "a variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `store` names none of [`STORES`].
    #[error("the store `{name}` is unknown; there is `{}`", STORES.join("`, `"))]
    Unknown { name: String },
    /// Another process works with it.
    #[error(
        "the state folder {} is in use by another process: stop that one, or name another folder",
        dir.display()
    )]
    InUse { dir: PathBuf },
    /// It cannot be made, read or written.
    #[error(
        "the state folder {} cannot be used ({cause}): make it a folder that this user may write, or name \
         another one",
        dir.display()
    )]
    Unusable { dir: PathBuf, cause: io::Error },
    /// Other users may read it, and it cannot be closed to them.
    #[error(
        "the state folder {} is open to other users (mode {mode:o}) and {why}: run `chmod 700` on it if it is for \
         Pileus alone, or name another folder",
        dir.display()
    )]
    Open { dir: PathBuf, mode: u32, why: String },
    /// Parts of the state are missing.
    #[error(
        "the state folder {} has lost a part of its state ({cause}): restore the missing files or a backup of the \
         folder, or {other_way}",
        dir.display()
    )]
    Lost { dir: PathBuf, cause: String, other_way: String },
    /// A newer Pileus wrote it.
    #[error(
        "the state folder {} has schema version {found} and this program knows up to {known}: run the newer \
         program that wrote it, or name another folder",
        dir.display()
    )]
    Newer { dir: PathBuf, found: u32, known: u32 },
    /// What is in it is not a state, or a damaged one.
    #[error(
        "the state folder {} cannot be read ({cause}): restore it from a backup, or name another folder",
        dir.display()
    )]
    Damaged { dir: PathBuf, cause: String },
}

/// Opens the store of this name in `dir`, which is made where it is not there, and reads the state.
/// Blocks. The folder belongs to this process until the store is closed or dropped.
pub fn open(name: &str, dir: &Path) -> Result<(Arc<dyn Store>, View), OpenError> {
    match name {
        "sqlite" => {
            let (store, view) = sqlite::Sqlite::open(dir)?;
            Ok((Arc::new(store), view))
        }
        _ => Err(OpenError::Unknown { name: name.to_owned() }),
    }
}
