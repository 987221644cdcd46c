//! The descriptor of an extension.

use std::{fmt, sync::Arc};

use pileus_model::{Clock, Engine, JobDefaults};

use crate::{Host, Resource};

/// What an extension gets to build its controllers with.
#[derive(Clone)]
pub struct Deps {
    /// The door to the engine.
    pub engine: Arc<dyn Engine>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// The process that serves.
    pub host: Arc<dyn Host>,
    /// What a job gets that does not say it.
    pub job_defaults: Arc<JobDefaults>,
    /// Facts that some extensions show: what else is loaded, and what failed.
    pub about: Arc<About>,
}

/// What the server says of itself.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The version of Pileus.
    pub version: &'static str,
}

/// What an extension is and brings: one `static` in its crate, one line in the server's list.
pub struct Extension {
    /// The unique key, used in URLs.
    pub alias: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// The namespace URI.
    pub namespace: &'static str,
    /// When it changed last, ISO 8601.
    pub updated: &'static str,
    /// What it is for; never empty.
    pub description: &'static str,
    /// Aliases of the extensions it cannot do without.
    pub requires: &'static [&'static str],
    /// Builds its controllers. Starts no task and opens no socket.
    pub resources: fn(&Deps) -> Vec<Resource>,
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({})", self.alias)
    }
}
