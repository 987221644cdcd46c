//! Pileus as its users meet it: real processes, real sockets, real files. One binary, one link.

// Other processes live on the real clock; so do these tests' time-outs. Helpers of tests may fail as
// loudly as tests.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod access_log;
mod bad_files;
mod before_the_body;
mod caching;
#[expect(dead_code, reason = "unit tests use the rest")]
#[path = "../../src/tls/testing.rs"]
mod certificates;
mod connection_limits;
mod convert;
mod crash;
mod events;
mod every_command;
mod explain;
mod filters;
mod floors;
mod full_disk;
mod http1;
mod http2;
mod http_edge;
mod idempotency;
mod isolation;
mod job_exec;
mod job_output;
mod keystone;
mod kills;
mod lists;
mod local_sockets;
mod lost_files;
mod main_job;
mod metrics;
mod myproxy;
mod names;
mod old_operations;
mod old_ports;
mod openstack_clients;
mod options;
mod pages;
mod paths;
mod policy;
mod queries;
mod reload;
mod service;
mod slow_http2;
mod state_commands;
mod state_folder;
mod support;
mod systemd;
mod tenants;
mod tls;
mod tokens;
mod traps;
mod wrong_files;
