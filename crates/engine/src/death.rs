//! Reasons for which the engine ends the process.
//!
//! A part that has ended for good would leave a service that answers and does nothing. The process ends
//! instead: what was acknowledged is durable, VMs go on, and the next start takes them over.

/// Reason for the end of the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// A part that works as long as the process has ended. A bug: exit code 70.
    #[error("{part} has ended: {why}. Start the service again, and report this with the log")]
    Ended {
        /// The writer, the store, a reconciler.
        part: String,
        /// The panic's message, or what was seen.
        why: String,
    },
    /// Another process writes to the state folder, or the folder is not what it was: exit code 69.
    #[error("{0}")]
    StateTaken(String),
}

impl Death {
    /// A part that has ended.
    pub fn ended(part: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Ended { part: part.into(), why: why.into() }
    }
}
