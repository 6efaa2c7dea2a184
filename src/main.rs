//! The one binary: `tandem --role meta|server|client`.

use std::process::ExitCode;

use tandem::cli::{self, Daemons};

fn main() -> ExitCode {
    cli::run(&Daemons { meta: None, server: None })
}
