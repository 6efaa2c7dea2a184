//! The command line: arguments are parsed, turned into values that can not be wrong, and handed
//! to the role.
//!
//! The exit code tells the outcome, so that scripts need not read words; see `roles::Exit`.

mod arguments;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::ClusterConfig;
use crate::protocol::types::ServerId;
use crate::roles::{Exit, client};

use arguments::{Arguments, Invocation};

/// The roles that serve until they are stopped.
pub struct Daemons {
    /// None in a build without this role.
    pub meta: Option<fn(&ClusterConfig) -> anyhow::Result<()>>,
    /// None in a build without this role.
    pub server: Option<fn(&ClusterConfig, ServerId) -> anyhow::Result<()>>,
}

/// Does what this process's arguments say.
#[must_use]
pub fn run(daemons: &Daemons) -> ExitCode {
    let arguments = Arguments::parse();
    let invocation = match Invocation::new(arguments) {
        Ok(invocation) => invocation,
        // clap prints usage errors in its own way and ends the process with code 2.
        Err(message) => {
            Arguments::command().error(clap::error::ErrorKind::ValueValidation, message).exit()
        }
    };
    match invocation {
        Invocation::Meta { config } => with_config(&config, |config| match daemons.meta {
            Some(meta) => served(meta(config)),
            None => absent("meta"),
        }),
        Invocation::Server { config, id } => with_config(&config, |config| match daemons.server {
            Some(server) => served(server(config, id)),
            None => absent("server"),
        }),
        Invocation::Client { config, request } => {
            with_config(&config, |config| client::run(config, request))
        }
        Invocation::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "tandem", &mut io::stdout());
            Exit::Done
        }
    }
    .into()
}

fn with_config(path: &std::path::Path, then: impl FnOnce(&ClusterConfig) -> Exit) -> Exit {
    match ClusterConfig::load(path) {
        Ok(config) => then(&config),
        Err(error) => {
            eprintln!("tandem: {error}");
            Exit::Usage
        }
    }
}

fn served(result: anyhow::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("tandem: {error:#}");
            Exit::Unavailable
        }
    }
}

fn absent(role: &str) -> Exit {
    eprintln!("tandem: this build does not have the role {role}; build it with default features");
    Exit::Usage
}
