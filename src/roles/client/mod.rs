//! The role client: one command against a cluster.
//!
//! Results go to standard output, words about failures to standard error, and the outcome is the
//! exit code.

mod backup;
mod data;
mod import;
mod operate;
mod report;
mod status;
mod stop;
mod watch;

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

pub use import::records;

use crate::client::{Client, ClientOptions, ConnectError, Error, NotDone, block_on};
use crate::config::ClusterConfig;
use crate::protocol::message::Expect;
use crate::protocol::types::{Key, KeySet, Member};
use crate::roles::Exit;

/// The time that a command has, unless it is given another.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The same for `wait`.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for `admin stop-cluster`: longer than the metaserver waits for its servers.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    People,
    Json,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    Given(Bytes),
    File(PathBuf),
    Standard,
}

/// Which key sets to reopen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReviveSets {
    One(KeySet),
    AllLost,
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    Get {
        key: Key,
    },
    Put {
        key: Key,
        value: Input,
        lifetime: Option<Duration>,
    },
    Delete {
        key: Key,
    },
    /// Without a value it deletes.
    Cas {
        key: Key,
        expect: Expect,
        value: Option<Input>,
        lifetime: Option<Duration>,
    },
    Incr {
        key: Key,
        by: i64,
    },
    Scan {
        prefix: Bytes,
        limit: Option<u64>,
        keys_only: bool,
    },
    Import {
        path: PathBuf,
        prefix: String,
        outstanding: usize,
    },
    /// With `watch`, again and again, this often.
    Status {
        sets: bool,
        watch: Option<Duration>,
    },
    WaitReady,
    Revive {
        sets: ReviveSets,
    },
    Fence {
        member: Member,
    },
    StopCluster {
        accept_loss: bool,
    },
    Backup {
        folder: PathBuf,
    },
    /// With `over`, also where there are keys already.
    Restore {
        folder: PathBuf,
        over: bool,
    },
    /// Needs no cluster.
    VerifyBackup {
        folder: PathBuf,
    },
}

/// A command, by whom, and in which time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientRequest {
    /// None = the first client of the configuration that may do it.
    pub name: Option<String>,
    pub timeout: Option<Duration>,
    pub format: Format,
    pub action: Action,
}

/// What a command runs with.
struct Context {
    client: Client,
    timeout: Duration,
    format: Format,
}

/// Why a command did not succeed: its exit code and, unless all was said, words.
struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    fn usage(words: String) -> Failure {
        Failure { exit: Exit::Usage, words }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { exit: exit_of(&error), words: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure { exit: Exit::Usage, words: format!("can not write the result: {error}") }
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::NotDone { why: NotDone::Refused(_), .. } | Error::Rejected { .. } => Exit::Refused,
        Error::NotDone { why: NotDone::Deadline { .. } | NotDone::TooMany { .. }, .. }
        | Error::NotDone { why: NotDone::Misfit, .. }
        | Error::Closed { sent: false, .. } => Exit::Unavailable,
        Error::Unknown { .. } | Error::Closed { sent: true, .. } => Exit::Unknown,
    }
}

/// Runs a command that needs no cluster; none if this one does.
#[must_use]
pub fn run_alone(request: &ClientRequest) -> Option<Exit> {
    let Action::VerifyBackup { folder } = &request.action else { return None };
    let failed = |Failure { exit, words }| {
        eprintln!("tandem: {words}");
        exit
    };
    Some(backup::verify(folder, request.format).unwrap_or_else(failed))
}

/// Runs one command.
#[must_use]
pub fn run(config: &ClusterConfig, request: ClientRequest) -> Exit {
    let client = match connect(config, &request) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("tandem: {error}");
            return Exit::Usage;
        }
    };
    let timeout = request.timeout.unwrap_or(match request.action {
        Action::WaitReady => WAIT_TIMEOUT,
        Action::StopCluster { .. } => STOP_TIMEOUT,
        _ => TIMEOUT,
    });
    let context = Context { client, timeout, format: request.format };
    let exit = match perform(&context, request.action) {
        Ok(exit) => exit,
        Err(Failure { exit, words }) => {
            eprintln!("tandem: {words}");
            let lost = matches!(exit, Exit::Unavailable | Exit::Unknown);
            if let Some(reason) = context.client.last_failure().filter(|_| lost) {
                eprintln!("tandem: the last connection that failed: {reason}");
            }
            exit
        }
    };
    block_on(context.client.close());
    exit
}

fn connect(config: &ClusterConfig, request: &ClientRequest) -> Result<Client, ConnectError> {
    let (may, names) = match request.action {
        Action::Revive { .. }
        | Action::Fence { .. }
        | Action::StopCluster { .. }
        | Action::Backup { .. }
        | Action::Restore { .. } => ("admin", config.admins()),
        _ => ("client", config.clients()),
    };
    let name = match (&request.name, names.first()) {
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => format!("(any {may})"),
    };
    let mut options = ClientOptions::from_config(config, &name)?;
    if let Some(timeout) = request.timeout {
        options.timeout = timeout;
    }
    Client::connect(options)
}

fn perform(context: &Context, action: Action) -> Result<Exit, Failure> {
    match action {
        Action::Get { key } => data::get(context, key),
        Action::Put { key, value, lifetime } => data::put(context, key, read(value)?, lifetime),
        Action::Delete { key } => data::delete(context, key),
        Action::Cas { key, expect, value, lifetime } => {
            data::cas(context, key, expect, value.map(read).transpose()?, lifetime)
        }
        Action::Incr { key, by } => data::incr(context, key, by),
        Action::Scan { prefix, limit, keys_only } => data::scan(context, &prefix, limit, keys_only),
        Action::Import { path, prefix, outstanding } => {
            import::run(context, &path, &prefix, outstanding)
        }
        Action::Status { sets, watch: None } => operate::status(context, sets),
        Action::Status { sets, watch: Some(every) } => watch::run(context, sets, every),
        Action::WaitReady => operate::wait_ready(context),
        Action::Revive { sets } => operate::revive(context, sets),
        Action::Fence { member } => operate::fence(context, member),
        Action::StopCluster { accept_loss } => stop::stop_cluster(context, accept_loss),
        Action::Backup { folder } => backup::take(context, &folder),
        Action::Restore { folder, over } => backup::restore(context, &folder, over),
        Action::VerifyBackup { folder } => backup::verify(&folder, context.format),
    }
}

fn read(input: Input) -> Result<Bytes, Failure> {
    match input {
        Input::Given(value) => Ok(value),
        Input::File(path) => std::fs::read(&path)
            .map(Bytes::from)
            .map_err(|error| Failure::usage(format!("can not read {}: {error}", path.display()))),
        Input::Standard => {
            let mut value = Vec::new();
            io::stdin()
                .read_to_end(&mut value)
                .map_err(|error| Failure::usage(format!("can not read standard input: {error}")))?;
            Ok(value.into())
        }
    }
}
