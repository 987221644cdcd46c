//! Filters: one file each. Their list is `crate::pipeline::FILTERS`.
//!
//! A stage that only looks at requests is a gate ([`Filter::gate`](pileus_sdk::Filter::gate)); one that
//! looks at answers stands around ([`Filter::around`](pileus_sdk::Filter::around)) and changes what comes
//! up by [`Answer::map`](pileus_sdk::Answer::map). Neither allocates. A `tower` layer becomes a filter by
//! [`Filter::new`](pileus_sdk::Filter::new).

pub mod authtoken;
pub mod compress;
pub mod conditional;
pub mod cors;
pub mod faultwrap;
pub mod healthcheck;
pub mod http_proxy_to_wsgi;
pub mod idempotency;
pub mod maintenance;
pub mod noauth;
pub mod policy;
pub mod ratelimit;
pub mod request_id;
pub mod samesite;
pub mod sizelimit;
#[cfg(test)]
mod testing;
pub mod timeout;
pub mod tokens;
pub mod trace;
