//! Cloud Scheduler's old wire, as far as several extensions speak it: Python's ways of writing, which
//! VMs a cloud lists, and a VM's JSON. Each old text stands with the controller that answers it.
//!
//! Source: Cloud Scheduler 1.13.2, observed on loopback.

pub mod python;

mod fleet;
mod vm;

pub use fleet::{Fleet, pool};
pub use vm::VmJson;

use pileus_model::Cloud;

/// Where a cloud is: `localhost` for one on this host; empty where its settings name no address.
pub fn address(cloud: &Cloud) -> &'static str {
    if cloud.spec.driver == "local" { "localhost" } else { "" }
}
