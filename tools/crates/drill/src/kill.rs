//! Servers killed under load, one after the other, each once the cluster is whole again.
//!
//! At the moment of the kill a probe writer waits on key sets that lost their primary; the time
//! to its acknowledgement is what clients notice of the failure. Where the metaserver started the
//! servers itself, the kernel tells it of the death at once; with `--no-spawn` it has to suspect
//! the silent one first, and the drill starts that server again once the probes are through: a
//! new process that registers would be a proof of death by itself.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use tandem::client::{Client, block_on};
use tandem::clock;
use tandem::protocol::meta::{ServerStatus, Status};
use tandem::protocol::placement;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::KeySet;
use tandem_local::{Load, Plan};

use crate::report::{Report, median, ms};
use crate::stage::{Place, Stage, WHOLE, bar, member};

/// Lost key sets on which probes wait; with more, these are spread over them.
const PROBES_MAX: usize = 16;

/// How long a probe may wait.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct Options {
    /// How often a server is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Clients, each with a writer and a reader.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
    /// Let the drill start the servers, and the killed one again: the metaserver learns of a
    /// death from the silence alone (heartbeat and grace), not from the kernel.
    #[arg(long)]
    no_spawn: bool,
}

impl Options {
    pub fn time_max(&self) -> Duration {
        WHOLE * u32::from(self.rounds)
    }
}

/// Runs the drill.
///
/// # Errors
/// A promise was broken, or the cluster does not recover.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let spawn = !options.no_spawn;
    let plan = Plan { key_sets: options.key_sets, spawn, ..Plan::default() };
    let mut stage = Stage::start(place, &plan)?;
    let load = stage.load(usize::from(options.clients))?;
    let bar = bar("kill", u64::from(options.rounds))?;
    let (mut firsts, mut lasts, mut wholes) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let status = stage.until_whole()?;
        stage.until_progress(&load, 20)?;
        let victim = &status.servers[usize::from(round - 1) % status.servers.len()];
        let keys = keys(&status, victim, round)?;
        let begun = clock::now();
        stage.kill(victim)?;
        let waits = probe(&stage.client, &load, &keys, begun)
            .with_context(|| format!("round {round}, server {}", victim.id.0))?;
        if !spawn {
            stage.cluster.start_server(victim.id)?;
        }
        let recovery = stage.until_recovered(member(victim))?;
        let whole = clock::now().since(begun);
        load.check()?;
        let first = waits.iter().min().copied().unwrap_or_default();
        let last = waits.iter().max().copied().unwrap_or_default();
        bar.suspend(|| {
            println!(
                "  round {round:>2}: server {} primary of {}; first write {:>6.1} ms, on all {} \
                 probed sets {:>6.1} ms; steps {:?} ms; whole {:>7.1} ms",
                victim.id.0,
                victim.primary_of,
                ms(first),
                keys.len(),
                ms(last),
                recovery.took_ms.map(Option::unwrap_or_default),
                ms(whole)
            );
        });
        firsts.push(first);
        lasts.push(last);
        wholes.push(whole);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failure = load.first_failure();
    let tally = load.finish(&stage.client)?;
    let mut report = Report::default();
    report.figure("rounds", options.rounds);
    report.figure("servers_started_by_metaserver", spawn);
    report.figure("first_write_median_ms", ms(median(&firsts)));
    report.figure("first_write_worst_ms", ms(firsts.into_iter().max().unwrap_or_default()));
    report.figure("all_probed_sets_median_ms", ms(median(&lasts)));
    report.figure("all_probed_sets_worst_ms", ms(lasts.into_iter().max().unwrap_or_default()));
    report.figure("whole_median_ms", ms(median(&wholes)));
    report.figure("whole_worst_ms", ms(wholes.into_iter().max().unwrap_or_default()));
    report.figure("reads", tally.reads);
    report.figure("writes", tally.writes);
    report.figure("requests_not_done", tally.not_done);
    report.figure("requests_unknown", tally.unknown);
    report.figure("first_failed_request", failure.unwrap_or_default());
    report.figure("writes_lost_or_reads_stale", 0);
    Ok(report)
}

/// Keys of this round, each in another key set that `victim` is primary of.
fn keys(status: &Status, victim: &ServerStatus, round: u16) -> Result<Vec<String>> {
    let count = u16::try_from(status.sets.len()).context("a cluster has at most 4096 key sets")?;
    let lost: Vec<KeySet> = status
        .sets
        .iter()
        .filter(|it| it.configuration.as_ref().is_some_and(|it| it.primary == member(victim)))
        .map(|it| it.set)
        .collect();
    let step = lost.len().div_ceil(PROBES_MAX).max(1);
    let keys: Option<Vec<String>> = lost
        .iter()
        .step_by(step)
        .map(|set| {
            (0..u32::MAX)
                .map(|number| format!("probe-{round}-{number}"))
                .find(|key| placement::key_set(key.as_bytes(), count) == *set)
        })
        .collect();
    let keys = keys.context("no key falls into a key set")?;
    anyhow::ensure!(!keys.is_empty(), "server {} is primary of nothing", victim.id.0);
    Ok(keys)
}

/// Writes each of `keys`, all at once, and gives the time from `begun` to each acknowledgement.
fn probe(client: &Client, load: &Load, keys: &[String], begun: Time) -> Result<Vec<Span>> {
    std::thread::scope(|scope| {
        let probes: Vec<_> = keys
            .iter()
            .map(|key| {
                let session = client.session().with_timeout(PROBE_TIMEOUT);
                scope.spawn(move || -> Result<Span> {
                    load.ledger().on_attempt(key, 1);
                    block_on(session.put(key.clone(), "1"))?;
                    let wait = clock::now().since(begun);
                    load.ledger().on_acknowledged(key, 1);
                    Ok(wait)
                })
            })
            .collect();
        probes.into_iter().map(|it| it.join().map_err(|_| anyhow!("a probe panicked"))?).collect()
    })
}
