//! The command line: arguments are parsed, turned into values that can not be wrong, and handed
//! to the role.
//!
//! The exit code tells the outcome, so that scripts need not read words; see `roles::Exit`.

mod arguments;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use crate::config::ClusterConfig;
use crate::roles::{Exit, client, meta, server, start_logs};
use arguments::{Arguments, Invocation};

/// Does what this process's arguments say.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let invocation = match Invocation::new(arguments) {
        Ok(invocation) => invocation,
        // clap prints usage errors in its own way and ends the process with code 2.
        Err(message) => {
            Arguments::command().error(clap::error::ErrorKind::ValueValidation, message).exit()
        }
    };
    match invocation {
        Invocation::Meta { config } => serve(&config, meta::run),
        Invocation::Rebuild { config, wait, format } => rebuild(&config, wait, format),
        Invocation::Server { config, id } => serve(&config, |config| server::run(config, id)),
        Invocation::Client { config, request } => client::run_alone(&request)
            .unwrap_or_else(|| with_config(&config, |config| client::run(config, request))),
        Invocation::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "tandem", &mut io::stdout());
            Exit::Done
        }
    }
    .into()
}

/// Whether arguments, the program's name first, mean something. Nothing is done.
///
/// # Errors
/// What a person would be told.
pub fn check(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?;
    Invocation::new(arguments).map(|_| ())
}

fn with_config(path: &Path, then: impl FnOnce(&ClusterConfig) -> Exit) -> Exit {
    match ClusterConfig::load(path) {
        Ok(config) => then(&config),
        Err(error) => {
            eprintln!("tandem: {error}");
            Exit::Usage
        }
    }
}

/// Makes the metaserver's lost state anew.
fn rebuild(path: &Path, wait: Duration, format: client::Format) -> Exit {
    start_logs();
    with_config(path, |config| {
        meta::rebuild(config, wait, format).unwrap_or_else(|error| {
            eprintln!("tandem: {error:#}");
            Exit::Unavailable
        })
    })
}

/// Runs a role that serves until it is stopped.
fn serve(path: &Path, role: impl FnOnce(&ClusterConfig) -> anyhow::Result<()>) -> Exit {
    start_logs();
    with_config(path, |config| match role(config) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            Exit::Unavailable
        }
    })
}
