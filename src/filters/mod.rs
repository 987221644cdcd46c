//! Filters: one file each. Their list is `crate::pipeline::FILTERS`.
//!
//! A stage that only looks at requests is a gate ([`Filter::gate`](pileus_sdk::Filter::gate)), and costs
//! no allocation. One that waits for the answer is a `tower` layer: its future has a name, and costs
//! the one allocation of [`Stack`](pileus_sdk::Stack). What comes from below is boxed and so may be
//! moved, which is why these stages ask for `S::Future: Unpin` and need no pin projection.

pub mod faultwrap;
pub mod idempotency;
pub mod noauth;
pub mod policy;
pub mod ratelimit;
pub mod request_id;
pub mod samesite;
pub mod sizelimit;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod trace;
