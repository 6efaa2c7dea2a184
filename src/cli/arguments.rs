//! The arguments as people type them, and what they mean.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::protocol::message::Expect;
use crate::protocol::types::{Incarnation, KeySet, LossEpoch, Member, Op, Revision, ServerId};
use crate::roles::client::{Action, ClientRequest, Format, Input, ReviveSets};
use crate::roles::meta::REBUILD_WAIT;

/// The shortest time between two looks at the status.
const WATCH_MIN: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  tandem --role meta --config cluster.toml
  tandem --role server --config cluster.toml --id 1
  tandem --role meta rebuild --config cluster.toml
  tandem --role client put greeting hello
  tandem --role client get greeting
  tandem --role client put photo --file photo.jpg
  tandem --role client cas greeting --expect hello goodbye
  tandem --role client incr visits
  tandem --role client scan user/ --limit 10
  tandem --role client import ./src --prefix src/
  tandem --role client wait --ready --timeout 30s
  tandem --role client status --watch 500ms
  tandem --role client admin backup ./backup-2026-11-26
  tandem --role client admin stop-cluster

Exit codes of the client:
  0 done   1 not found, or a comparison failed   2 usage
  3 unavailable, surely not done   4 outcome unknown   5 refused";

const REBUILD: &str = "\
Examples:
  tandem --role meta rebuild --config cluster.toml
  tandem --role meta rebuild --config cluster.toml --wait 2m -o json

It needs an empty state directory of the metaserver, takes its place on its addresses, and waits
until every server of cluster.toml has answered, or for 30s. It writes only if every member of the
newest configuration of every key set answers, as the very process that it was. Start the
metaserver afterwards. A server that was started anew meanwhile can not answer for what it holds.

Should the lost state turn up, never start a metaserver with it: servers ignore what it decides,
but one that starts again under it loses its copies.

Exit codes: 0 rebuilt   3 somebody did not answer, nothing was written   5 refused, nothing was
written";

/// A strongly consistent key-value store that survives server failures.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, after_help = EXAMPLES, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    /// What this process is.
    #[arg(long, value_enum, default_value = "client")]
    role: Role,

    /// The cluster's configuration.
    #[arg(long, global = true, default_value = "cluster.toml", value_name = "FILE")]
    config: PathBuf,

    /// Which server this is; with --role server.
    #[arg(long, value_name = "N")]
    id: Option<u16>,

    /// Who to be: a client or admin of the configuration. By default the first that will do.
    #[arg(long = "as", global = true, value_name = "NAME")]
    name: Option<String>,

    /// How long a command may take, such as 500ms or 5s.
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// How results are printed: for people, or for programs.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Role {
    /// The metaserver: decides who holds which keys.
    Meta,
    /// A server: holds keys.
    Server,
    /// Runs one command against a cluster.
    Client,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum OutputFormat {
    /// Words and tables.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of KEY, byte for byte.
    Get { key: String },
    /// Store VALUE under KEY.
    Put {
        key: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        lifetime: Lifetime,
    },
    /// Delete KEY; exit code 1 if there is none.
    Delete { key: String },
    /// Store VALUE, or delete, only if KEY is as expected; exit code 1 if it is not.
    #[command(after_help = "Examples:\n  tandem cas lock --absent me\n  \
                            tandem cas lock --absent me --ttl 30s\n  \
                            tandem cas lock --expect me --delete\n  \
                            tandem cas page --revision 0.17 'new text'")]
    Cas(Cas),
    /// Add BY (1 if not given) to the number under KEY and print the sum.
    Incr {
        key: String,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// List the keys that start with PREFIX, in order, with their values. Each page of a key set
    /// is consistent in itself; there is no snapshot over the whole.
    Scan {
        #[arg(default_value = "")]
        prefix: String,
        /// Stop after this many.
        #[arg(long)]
        limit: Option<u64>,
        #[arg(long)]
        keys_only: bool,
    },
    /// Store all files of a directory under their relative paths, or the lines of a file, which
    /// hold a key, a tab and a value.
    Import {
        path: PathBuf,
        /// Put before every key.
        #[arg(long, default_value = "")]
        prefix: String,
        /// Operations in flight.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
        outstanding: u16,
    },
    /// Show servers, key sets and the last recoveries with the time of each of their steps.
    Status {
        /// List every key set instead of a summary.
        #[arg(long)]
        sets: bool,
        /// Show it again every TIME (1s if not given) until Ctrl-C; with -o json one object a
        /// line.
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "1s")]
        #[arg(value_parser = watch_interval)]
        watch: Option<Duration>,
    },
    /// Wait until something is so.
    Wait {
        /// Every key set answers and has all its copies.
        #[arg(long, required = true)]
        ready: bool,
    },
    /// Change the cluster; needs an admin's certificate.
    #[command(subcommand)]
    Admin(Admin),
    /// With --role meta, where the metaserver's state directory is lost and the servers live: asks
    /// them all, and writes that state anew if it is safe; if not it says what is missing and
    /// writes nothing. Stop the metaserver first; leave the servers running.
    #[command(after_help = REBUILD)]
    Rebuild {
        /// How long servers may take to answer.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        wait: Option<Duration>,
    },
    /// Print a script that completes these commands in SHELL.
    Completions { shell: clap_complete::Shell },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Source {
    /// The value itself; - reads it from standard input.
    value: Option<String>,
    /// Read the value from this file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Lifetime {
    /// Delete the value again after TIME, such as 30s, by the clock of the key's primary.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    ttl: Option<Duration>,
}

#[derive(Args, Debug)]
struct Cas {
    key: String,
    #[command(flatten)]
    expect: Expected,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    lifetime: Lifetime,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Expected {
    /// The value that KEY must have.
    #[arg(long, value_name = "VALUE")]
    expect: Option<String>,
    /// The revision that KEY must have, as get -o json prints it.
    #[arg(long, value_name = "L.OP", value_parser = revision)]
    revision: Option<Revision>,
    /// KEY must not exist.
    #[arg(long)]
    absent: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Wish {
    /// The new value; - reads it from standard input.
    value: Option<String>,
    /// Delete KEY.
    #[arg(long)]
    delete: bool,
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Reopen lost key sets, EMPTY. What they held is gone for good.
    Revive {
        #[command(flatten)]
        sets: Sets,
        /// Say that you accept the loss; without it nothing is done.
        #[arg(long, required = true)]
        accept_loss: bool,
    },
    /// Declare an incarnation dead, such as s2.7. Make sure first that its process is: the
    /// cluster takes your word.
    Fence {
        #[arg(value_parser = member)]
        member: Member,
    },
    /// End every server as it is, and then the metaserver. What durable servers hold is there
    /// again when all are started again.
    StopCluster {
        /// Where servers keep nothing: say that you accept the loss of everything.
        #[arg(long)]
        accept_loss: bool,
    },
    /// Write all keys into DIR, each key set as it is at one revision, while the cluster serves.
    /// DIR must be empty or new.
    Backup {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Write the keys of a backup into a cluster that holds none; its key sets and servers may be
    /// others than those of the backup's cluster.
    Restore {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Also into a cluster that holds keys: those that the backup has are replaced, all others
        /// stay.
        #[arg(long)]
        over: bool,
    },
    /// Read all of a backup, and tell what it holds; needs no cluster.
    VerifyBackup {
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Sets {
    /// The key set's number.
    #[arg(value_name = "KEYSET")]
    set: Option<u16>,
    /// All key sets that are lost.
    #[arg(long)]
    all: bool,
}

/// What the arguments mean.
#[derive(Debug, PartialEq)]
pub(super) enum Invocation {
    Meta { config: PathBuf },
    Rebuild { config: PathBuf, wait: Duration, format: Format },
    Server { config: PathBuf, id: ServerId },
    Client { config: PathBuf, request: ClientRequest },
    Completions { shell: clap_complete::Shell },
}

impl Invocation {
    /// # Errors
    /// Arguments that do not go together, in words for a person.
    pub(super) fn new(arguments: Arguments) -> Result<Invocation, String> {
        let Arguments { role, config, id, name, timeout, output, command } = arguments;
        let format = match output {
            OutputFormat::Table => Format::People,
            OutputFormat::Json => Format::Json,
        };
        match (role, command) {
            (Role::Meta, Some(Command::Rebuild { wait })) => {
                let wait = wait.unwrap_or(REBUILD_WAIT);
                Ok(Invocation::Rebuild { config, wait, format })
            }
            (Role::Meta | Role::Server, Some(_)) => {
                Err("commands are for the role client; leave the command or --role out".to_owned())
            }
            (Role::Meta, None) => Ok(Invocation::Meta { config }),
            (Role::Server, None) => match id {
                Some(id @ 1..) => Ok(Invocation::Server { config, id: ServerId(id) }),
                Some(0) | None => {
                    Err("--role server needs --id N, a server of the configuration".to_owned())
                }
            },
            (Role::Client, None) => Err("a client needs a command, such as `get KEY`; or say \
                                         which --role this process has; see --help"
                .to_owned()),
            (Role::Client, Some(Command::Completions { shell })) => {
                Ok(Invocation::Completions { shell })
            }
            (Role::Client, Some(command)) => {
                let request = ClientRequest { name, timeout, format, action: action(command)? };
                Ok(Invocation::Client { config, request })
            }
        }
    }
}

fn action(command: Command) -> Result<Action, String> {
    Ok(match command {
        Command::Get { key } => Action::Get { key: key.into() },
        Command::Put { key, source, lifetime } => {
            Action::Put { key: key.into(), value: input(source), lifetime: lifetime.ttl }
        }
        Command::Delete { key } => Action::Delete { key: key.into() },
        Command::Cas(Cas { key, expect, wish, lifetime }) => {
            if wish.delete && lifetime.ttl.is_some() {
                return Err("--delete stores nothing that --ttl could delete".to_owned());
            }
            let expect = match expect {
                Expected { expect: Some(value), .. } => Expect::Value(value.into()),
                Expected { revision: Some(revision), .. } => Expect::Revision(revision),
                Expected { .. } => Expect::Absent,
            };
            let value = wish.value.map(|value| input(Source { value: Some(value), file: None }));
            Action::Cas { key: key.into(), expect, value, lifetime: lifetime.ttl }
        }
        Command::Incr { key, by } => Action::Incr { key: key.into(), by },
        Command::Scan { prefix, limit, keys_only } => {
            Action::Scan { prefix: prefix.into(), limit, keys_only }
        }
        Command::Import { path, prefix, outstanding } => {
            Action::Import { path, prefix, outstanding: usize::from(outstanding) }
        }
        Command::Status { sets, watch } => Action::Status { sets, watch },
        Command::Wait { .. } => Action::WaitReady,
        Command::Admin(Admin::Revive { sets, .. }) => Action::Revive {
            sets: sets.set.map_or(ReviveSets::AllLost, |set| ReviveSets::One(KeySet(set))),
        },
        Command::Admin(Admin::Fence { member }) => Action::Fence { member },
        Command::Admin(Admin::StopCluster { accept_loss }) => Action::StopCluster { accept_loss },
        Command::Admin(Admin::Backup { folder }) => Action::Backup { folder },
        Command::Admin(Admin::Restore { folder, over }) => Action::Restore { folder, over },
        Command::Admin(Admin::VerifyBackup { folder }) => Action::VerifyBackup { folder },
        Command::Completions { .. } => return Err("completions need no cluster".to_owned()),
        Command::Rebuild { .. } => {
            return Err("rebuild is for --role meta: tandem --role meta rebuild".to_owned());
        }
    })
}

fn input(source: Source) -> Input {
    match source {
        Source { file: Some(path), .. } => Input::File(path),
        Source { value: Some(value), .. } if value == "-" => Input::Standard,
        Source { value, .. } => Input::Given(Bytes::from(value.unwrap_or_default())),
    }
}

/// The time between two looks at the status: each asks the metaserver.
fn watch_interval(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if every < WATCH_MIN {
        return Err(format!("at least {} must pass", humantime::format_duration(WATCH_MIN)));
    }
    Ok(every)
}

/// How long a value is to be there.
fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if lifetime < Duration::from_millis(1) {
        return Err("a value is there for at least 1ms".to_owned());
    }
    Ok(lifetime)
}

/// A revision as it is printed: loss epoch and op.
fn revision(text: &str) -> Result<Revision, String> {
    let parts = text.split_once('.').and_then(|(loss, op)| {
        Some(Revision { loss_epoch: LossEpoch(loss.parse().ok()?), op: Op(op.parse().ok()?) })
    });
    parts.ok_or_else(|| "a revision is two numbers, such as 0.17".to_owned())
}

/// A member as it is printed: server and incarnation.
fn member(text: &str) -> Result<Member, String> {
    let text = text.strip_prefix('s').unwrap_or(text);
    let parts = text.split_once('.').and_then(|(server, incarnation)| {
        let incarnation = Incarnation(incarnation.parse().ok()?);
        Some(Member { server: ServerId(server.parse().ok()?), incarnation })
    });
    parts.ok_or_else(|| "a member is a server and an incarnation, such as s2.7".to_owned())
}
