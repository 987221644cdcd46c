//! The engine as a whole: real store, fake clouds, a clock that the test moves. One binary.

mod crash;
mod fake;
mod life;
mod trouble;
