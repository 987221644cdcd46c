//! The programs as they are run, against a server that answers from a script.

#![allow(clippy::unwrap_used, reason = "all of it is tests, helpers included")]

mod admin;
mod bench;
mod failures;
mod files;
mod native;
mod script;
mod status;
mod teach;
mod watch;
