//! Apps: what stands at the end of a pipeline. One file each; their list is
//! [`crate::pipeline::APPS`].

pub mod healthcheck;
pub mod metrics;
pub mod router;
pub mod version;
pub mod versions;
