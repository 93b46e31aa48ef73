//! The `parksync` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    parksync::cli::run()
}
