//! The `chatto` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    chatto::cli::run(std::env::args_os())
}
