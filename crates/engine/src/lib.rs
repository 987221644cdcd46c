//! Floor 1: the scheduler. State, store, scheduling, reconcilers, drivers, sources. No HTTP server.

pub mod desk;
pub mod drivers;
