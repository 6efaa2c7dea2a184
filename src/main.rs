//! The one binary: `tandem --role meta|server|client`.

use std::process::ExitCode;

/// Small pieces of memory that come and go by the hundred thousand are what a server is made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tandem::cli::run()
}
