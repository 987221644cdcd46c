//! The engine as a whole: real store, fake clouds, a clock that the test moves. One binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers fail as tests do"
)]

mod crash;
mod fake;
mod fill;
mod jumps;
mod life;
mod proxies;
mod quotas;
mod rates;
mod trouble;
