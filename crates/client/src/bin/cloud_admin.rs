//! `cloud_admin`; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pileus_client::main(&pileus_client::program::CLOUD_ADMIN)
}
