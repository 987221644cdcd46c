//! Pileus as its users meet it: real processes, real sockets, real files. One binary, one link.

// Other processes live on the real clock; so do these tests' time-outs.
#![allow(clippy::disallowed_methods)]

mod bad_files;
mod crash;
mod floors;
mod http_edge;
mod main_job;
mod old_ports;
mod support;
mod tenants;
