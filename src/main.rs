//! The one binary: `tandem --role meta|server|client`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem::cli::run()
}
