//! The programs as they are run, against a server that answers from a script.

mod admin;
mod bench;
mod failures;
mod files;
mod native;
mod script;
mod status;
mod teach;
mod watch;
