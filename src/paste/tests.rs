//! The bad files of `tests/paste`, the shipped file, and the points of Paste Deploy's own tests.
//!
//! Files are checked with filters of our own in the place of the compiled-in ones, so that a new
//! setting of a filter changes no expected text. `BLESS=1 cargo test -p pileus paste` writes the
//! expected texts anew.

mod bad_files;
mod catalog;
mod deploy;
mod garbage;
mod shipped;
