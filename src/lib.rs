//! The roof of Pileus: puts the floors together, and knows every name.
//!
//! Phases have names and an order, for start and reload alike: **parse → check → build → start**.
//! Only *start* may spawn a task or open a socket.

pub mod apps;
pub mod config;
pub mod diagnostic;
pub mod filters;
pub mod paste;
pub mod pipeline;
pub mod policy;
pub mod router;
