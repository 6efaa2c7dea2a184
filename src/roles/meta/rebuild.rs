//! `--role meta rebuild`: the metaserver's state is lost, and is made anew from what the servers
//! say, or nothing is written and what is missing is named.

use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::{LocalSet, spawn_local};

use super::hearing::Hearing;
use crate::config::ClusterConfig;
use crate::net::{Endpoint, EndpointOptions};
use crate::process::StateDir;
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::meta::rebuild::{Gap, Rebuild, RebuildSettings, Rebuilt, sets_in_words};
use crate::protocol::types::{KeySet, Member, ServerId};
use crate::roles::Exit;
use crate::roles::client::Format;
use crate::store::journal::Journal;

/// How long servers have to answer, unless it is said.
pub const WAIT: Duration = Duration::from_secs(30);

/// Hears the servers for at most `wait`, and writes the metaserver's state if that is safe.
///
/// # Errors
/// It can not begin, or the state can not be written; in words that say what to do.
pub fn run(config: &ClusterConfig, wait: Duration, format: Format) -> Result<Exit> {
    let credentials = super::credentials(config)?;
    let state = StateDir::lock(&config.meta().state)?;
    let (mut journal, records) = Journal::open(state.path())?;
    if !is_empty(&records) {
        eprintln!("tandem: {}", not_empty(config));
        return Ok(Exit::Refused);
    }
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    let rebuild = Rebuild::new(RebuildSettings {
        servers: config.servers().iter().map(|it| it.id).collect(),
        copies: small(config.replicas()),
        min_write_copies: small(config.min_write_copies()),
    });
    let options =
        EndpointOptions { reset_seed: Some(state.reset_seed()?), ..EndpointOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let bind = |address| Endpoint::bind(address, credentials.clone(), options.clone());
        let endpoint = Rc::new(bind(config.meta().listen)?);
        // Held, so that no metaserver runs beside this; clients ask the servers meanwhile.
        let clients = bind(config.meta().client_listen)?;
        let hearing = Hearing::new(rebuild);
        let (listener, acceptor) = (endpoint.clone(), Rc::new(hearing.clone()));
        spawn_local(async move { listener.serve(acceptor).await });
        let mut progress = Progress::new();
        let judged = hearing.judge(wait, |heard| progress.show(heard)).await;
        progress.end();
        if let Ok(rebuilt) = &judged {
            journal.commit(&rebuilt.records).context("nothing is rebuilt")?;
        }
        let exit = report(config, format, &judged)?;
        clients.shutdown().await;
        endpoint.shutdown().await;
        Ok(exit)
    })
}

/// Whether no server was ever registered under these rows.
fn is_empty(records: &[MetaRecord]) -> bool {
    records.iter().all(|record| match record {
        // What a metaserver leaves that was started without its state, and refused everybody.
        MetaRecord::Cluster(row) => !row.born,
        MetaRecord::Server(_)
        | MetaRecord::Set(_)
        | MetaRecord::Recovery(_)
        | MetaRecord::RecoveryForgotten(_) => false,
    })
}

fn not_empty(config: &ClusterConfig) -> String {
    format!(
        "{} holds the state of a metaserver, which is not rebuilt over: start the metaserver with \
         it; only if you know that it is not the newest move it away, and never use it again",
        config.meta().state.display()
    )
}

/// Who has answered, on a terminal as a bar, elsewhere as lines.
struct Progress {
    bar: Option<ProgressBar>,
    shown: Option<Vec<ServerId>>,
}

impl Progress {
    fn new() -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            match ProgressStyle::with_template("{bar:40} {pos}/{len} servers answered; {msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Progress { bar, shown: None }
    }

    fn show(&mut self, heard: &Rebuild) {
        let (silent, expected) = (heard.silent(), heard.expected().len());
        // What is asked again was answered.
        if self.shown.as_ref() == Some(&silent) || heard.round() > 1 {
            return;
        }
        let waits: Vec<String> = silent.iter().map(|it| it.0.to_string()).collect();
        let words = match waits.as_slice() {
            [] => "asking again".to_owned(),
            waits => format!("waiting for server {}", waits.join(", ")),
        };
        let answered = expected - silent.len();
        match &self.bar {
            Some(bar) => {
                bar.set_length(expected as u64);
                bar.set_position(answered as u64);
                bar.set_message(words);
            }
            None => eprintln!("tandem: {answered} of {expected} servers answered; {words}"),
        }
        self.shown = Some(silent);
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Tells what was done, or what is missing.
fn report(
    config: &ClusterConfig,
    format: Format,
    judged: &Result<Rebuilt, Vec<Gap>>,
) -> Result<Exit> {
    let mut out = io::stdout().lock();
    let exit = match judged {
        Ok(_) => Exit::Done,
        Err(gaps) if gaps.iter().all(Gap::may_pass) => Exit::Unavailable,
        Err(_) => Exit::Refused,
    };
    match (format, judged) {
        (Format::Json, Ok(rebuilt)) => writeln!(out, "{}", rebuilt_json(rebuilt))?,
        (Format::Json, Err(gaps)) => writeln!(out, "{}", gaps_json(gaps))?,
        (Format::People, Ok(rebuilt)) => say_rebuilt(&mut out, config, rebuilt)?,
        (Format::People, Err(gaps)) => {
            for gap in gaps {
                eprintln!("tandem: {gap}");
            }
            eprintln!("tandem: nothing was written; the servers go on as they were");
        }
    }
    Ok(exit)
}

fn say_rebuilt(out: &mut impl Write, config: &ClusterConfig, rebuilt: &Rebuilt) -> io::Result<()> {
    let servers: Vec<String> = rebuilt.servers.iter().map(Member::to_string).collect();
    writeln!(
        out,
        "the metaserver's state is rebuilt: cluster {}, {} key sets in {} copies, servers {}",
        rebuilt.cluster,
        rebuilt.sets,
        rebuilt.copies,
        servers.join(", ")
    )?;
    if !rebuilt.below_floor.is_empty() {
        writeln!(
            out,
            "{} had too few copies to take writes: until they are copied, only the members that \
             they have now can save them",
            sets_in_words(&rebuilt.below_floor)
        )?;
    }
    if !rebuilt.lost.is_empty() {
        writeln!(out, "{} were LOST, and still are", sets_in_words(&rebuilt.lost))?;
    }
    writeln!(
        out,
        "start the metaserver: tandem --role meta --config {}\n\
         never start one again with the state that was lost, should it turn up",
        config.path().display()
    )
}

fn numbers(sets: &[KeySet]) -> Vec<u16> {
    sets.iter().map(|it| it.0).collect()
}

fn rebuilt_json(rebuilt: &Rebuilt) -> Value {
    let member = |it: &Member| json!({ "server": it.server.0, "incarnation": it.incarnation.0 });
    json!({
        "rebuilt": true,
        "cluster": rebuilt.cluster.to_string(),
        "servers": rebuilt.servers.iter().map(member).collect::<Vec<_>>(),
        "key_sets": rebuilt.sets,
        "copies": rebuilt.copies,
        "below_write_floor": numbers(&rebuilt.below_floor),
        "lost": numbers(&rebuilt.lost),
    })
}

fn gaps_json(gaps: &[Gap]) -> Value {
    let gap = |it: &Gap| {
        json!({
            "reason": it.name(),
            "server": it.server().map(|it| it.0),
            "key_sets": numbers(it.sets()),
            "words": it.to_string(),
        })
    };
    json!({ "rebuilt": false, "missing": gaps.iter().map(gap).collect::<Vec<_>>() })
}
