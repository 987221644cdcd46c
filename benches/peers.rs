//! The peers of the load benchmark: what the same answer costs without Pileus.

pub mod floor;
pub mod hand;
