//! Filters: one file each. Their list is `crate::pipeline::FILTERS`.

pub mod faultwrap;
pub mod noauth;
pub mod policy;
pub mod ratelimit;
pub mod request_id;
pub mod samesite;
pub mod sizelimit;
pub mod tokens;
pub mod trace;
