//! Floor 1: the scheduler. State, store, scheduling, reconcilers, drivers, sources. No HTTP server.
//!
//! [`start()`] opens the state folder and sets everybody to work; [`Running::engine`] is the door for
//! the floors above. Inside, every change takes one way: work for the writer → [`decide`] or
//! the like → events → durable → [`apply`] → published → answered.

#[cfg(test)]
mod bounded_wait;
mod change;
mod clock;
mod clock_set;
mod command;
mod config;
mod death;
pub mod desk;
pub mod drivers;
mod files;
mod fleet;
mod health;
mod history;
mod hub;
mod ids;
mod insight;
mod output;
mod owner;
mod proxies;
mod reconcile;
pub mod regular_file;
mod schedule;
pub mod secret_file;
#[cfg(test)]
mod simulation;
pub mod sources;
mod start;
mod state;
mod store;
mod supervise;
mod tail;
#[cfg(test)]
mod testing;
mod timeline;
#[cfg(test)]
mod two_days;
#[cfg(test)]
mod vectors;
mod waiting;
mod writer;

pub use change::Change;
pub use clock::SystemClock;
pub use command::{check_job_defaults, decide};
pub use config::{Algorithm, Config, Distribution, Metric, SchedulerConfig, Weight};
pub use death::Death;
pub use files::{FileError, check_files};
pub use fleet::DriverFactory;
pub use ids::Ids;
pub use proxies::{CredentialsConfig, UserCredentials};
pub use schedule::{
    assign::assign,
    cleanup::cleanup,
    plan::{Intent, plan},
    rebalance::rebalance,
};
pub use start::{Running, StartError, open, start};
pub use state::apply;
pub use store::{OpenError, STORES, backup};
