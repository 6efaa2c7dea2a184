//! How long a planned handover is felt: servers that stop in order, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;
use tandem::client::{Session, block_on};
use tandem::clock;
use tandem::protocol::meta::{ServerStatus, Status};
use tandem::protocol::placement;
use tandem::protocol::time::Span;
use tandem::protocol::types::KeySet;
use tandem_local::stage::{WHOLE, member};
use tandem_local::{Plan, Role, Stage};

use crate::{Ground, Output};

/// Key sets of the leaving server that are written to, each by a writer of its own.
const WRITERS: usize = 8;

/// How long a server may take to hand over and stop.
const STOPPED: Duration = Duration::from_secs(30);

/// Before the server is told to stop, writers are at work and the usual wait is seen.
const BEFORE: Duration = Duration::from_secs(1);

/// Stops servers in order and measures how long each key set's writes pause.
///
/// Each round, writers write to key sets of one server, one write after the other. The server is
/// then told to stop (SIGTERM): it hands the role of primary over, set by set. A key set's pause
/// is its writer's longest wait from then on, until the server is gone.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        Duration::from_secs(120) + WHOLE * 3 * u32::from(self.rounds)
    }
}

/// Runs all rounds and tells the row.
///
/// # Errors
/// A write failed, or the cluster does not become whole again.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let plan = Plan {
        name: "bench".to_owned(),
        key_sets: options.key_sets,
        spawn: false,
        ..Plan::default()
    };
    let mut stage = Stage::start(&ground.place, &plan)?;
    let (mut pauses, mut usual) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let status = stage.until_whole()?;
        let leaving = status.servers[usize::from(round) % status.servers.len()].clone();
        let keys = keys(&status, &leaving, options.key_sets)?;
        let waits = stop_under_writes(&mut stage, &leaving, &keys)?;
        pauses.extend(waits.iter().map(|it| it.during));
        usual.extend(waits.iter().map(|it| it.before));
        stage.cluster.start_server(leaving.id)?;
    }
    stage.until_whole()?;
    tell(ground, options, &mut pauses, &mut usual);
    Ok(())
}

fn tell(ground: &Ground, options: &Options, pauses: &mut [Span], usual: &mut [Span]) {
    pauses.sort_unstable();
    usual.sort_unstable();
    let ms = |sorted: &[Span], share: f64| {
        let place = ((sorted.len().saturating_sub(1)) as f64 * share) as usize;
        sorted.get(place).map_or(0.0, |it| (it.0 as f64 / 1e4).round() / 100.0)
    };
    let load = format!("{} servers stopped in order, {WRITERS} writers", options.rounds);
    match ground.output {
        Output::Text => println!(
            "{load}\n  pause of a key set's writes: median {:.2} ms, worst {:.2} ms\n  \
             longest wait in the second before: median {:.2} ms, worst {:.2} ms",
            ms(pauses, 0.5),
            ms(pauses, 1.0),
            ms(usual, 0.5),
            ms(usual, 1.0)
        ),
        Output::Json => println!(
            "{}",
            json!({
                "op": "handover",
                "load": load,
                "unit": "ms",
                "tandem": ms(pauses, 0.5),
                "tandem_worst": ms(pauses, 1.0),
                "longest_before_median": ms(usual, 0.5),
                "peer": null, "peer_name": null, "limit": null, "ratio": null,
                "share_of_limit": null,
            })
        ),
    }
}

/// Keys in key sets that `server` is primary of, spread over all of those.
fn keys(status: &Status, server: &ServerStatus, key_sets: u16) -> Result<Vec<String>> {
    let led: Vec<KeySet> = status
        .sets
        .iter()
        .filter(|it| it.configuration.as_ref().is_some_and(|it| it.primary == member(server)))
        .map(|it| it.set)
        .collect();
    let step = led.len().div_ceil(WRITERS).max(1);
    let key_of = |set: &KeySet| {
        (0..u32::MAX)
            .map(|number| format!("handover-{number}"))
            .find(|key| placement::key_set(key.as_bytes(), key_sets) == *set)
    };
    let keys: Option<Vec<String>> = led.iter().step_by(step).map(key_of).collect();
    keys.context("no key falls into a key set")
}

/// The longest wait of one writer.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    /// While nothing happened.
    before: Span,
    /// While the server stopped.
    during: Span,
}

fn stop_under_writes(
    stage: &mut Stage,
    leaving: &ServerStatus,
    keys: &[String],
) -> Result<Vec<Waits>> {
    let (stopping, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = stage.connect()?;
    let sessions: Vec<Session> = keys.iter().map(|_| client.session()).collect();
    std::thread::scope(|scope| {
        let writers: Vec<_> = keys
            .iter()
            .zip(sessions)
            .map(|(key, session)| scope.spawn(|| write(session, key, &stopping, &over)))
            .collect();
        std::thread::sleep(BEFORE);
        stopping.store(true, Ordering::Relaxed);
        let stopped = stage.cluster.terminate(Role::Server(leaving.id), STOPPED);
        over.store(true, Ordering::Relaxed);
        stopped?;
        let joined = writers.into_iter().map(|it| it.join());
        joined.map(|it| it.map_err(|_| anyhow!("a writer panicked"))?).collect()
    })
}

fn write(session: Session, key: &str, stopping: &AtomicBool, over: &AtomicBool) -> Result<Waits> {
    // The first write finds the way.
    block_on(session.put(key.to_owned(), "0"))?;
    let mut waits = Waits::default();
    while !over.load(Ordering::Relaxed) {
        let begun = clock::now();
        block_on(session.put(key.to_owned(), "1"))?;
        let wait = clock::now().since(begun);
        if stopping.load(Ordering::Relaxed) {
            waits.during = waits.during.max(wait);
        } else {
            waits.before = waits.before.max(wait);
        }
    }
    Ok(waits)
}
