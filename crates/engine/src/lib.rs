//! Floor 1: the scheduler. State, store, scheduling, reconcilers, drivers, sources. No HTTP server.

mod change;
mod clock;
mod command;
mod config;
pub mod desk;
pub mod drivers;
mod ids;
mod schedule;
pub mod sources;
mod state;
#[cfg(test)]
mod testing;

pub use clock::SystemClock;
pub use command::decide;
pub use config::{Algorithm, Config, Distribution, SchedulerConfig};
pub use ids::Ids;
pub use schedule::plan::{Intent, plan};
pub use state::apply;
