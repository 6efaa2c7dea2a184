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
use tandem::protocol::types::{Epoch, KeySet};
use tandem_local::stage::{WHOLE, member};
use tandem_local::{Role, Stage};

use crate::Ground;
use crate::series::Series;
use crate::told::Told;

/// Rounds unless said otherwise.
const ROUNDS: u16 = 10;

/// How long a server may take to hand over and stop.
const STOPPED: Duration = Duration::from_secs(30);

/// Before the server is told to stop, writers are at work and the usual wait is seen.
const BEFORE: Duration = Duration::from_secs(1);

/// Stops servers in order and measures how long each key set's writes pause.
///
/// Each round, writers write to key sets of one server, one write after the other. The server is
/// then told to stop (SIGTERM): it hands the role of primary over, set by set. A key set's pause
/// is the whole wait of the write that met the change: the last one answered in an epoch or the
/// first one in the next, whichever waited longer. Nothing is taken off it. Beside it stands each
/// writer's longest wait until the server is gone, whatever it waited for, and in the second
/// before: where all processors are busy any operation may wait long for its turn.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    series: Series,
    /// Key sets of the leaving server that are written to, each by a writer of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    writers: u16,
}

impl Options {
    /// So many rounds of the usual load.
    #[must_use]
    pub fn of(rounds: u16, key_sets: u16) -> Options {
        Options { series: Series::of(rounds, key_sets), writers: 8 }
    }

    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        Duration::from_secs(120) + WHOLE * 3 * u32::from(self.rounds())
    }

    fn rounds(&self) -> u16 {
        self.series.rounds(ROUNDS)
    }
}

/// Runs all rounds and tells the row.
///
/// # Errors
/// A write failed, or the cluster does not become whole again.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let mut stage = Stage::start(&ground.place, &options.series.plan(false))?;
    let mut waits = Vec::new();
    for round in 0..options.rounds() {
        let status = stage.until_whole()?;
        let leaving = status.servers[usize::from(round) % status.servers.len()].clone();
        let keys = keys(&status, &leaving, options)?;
        waits.extend(stop_under_writes(&mut stage, &leaving, &keys)?);
        stage.cluster.start_server(leaving.id)?;
    }
    stage.until_whole()?;
    stage.cluster.stop()?;
    told(options, &waits).tell(ground.output);
    Ok(())
}

fn told(options: &Options, waits: &[Waits]) -> Told {
    let [pause, longest, before] = [Waits::pause, Waits::longest, Waits::before].map(|of| {
        let mut sorted: Vec<Span> = waits.iter().map(of).collect();
        sorted.sort_unstable();
        let ms = |it: Option<&Span>| it.map_or(0.0, |it| (it.0 as f64 / 1e4).round() / 100.0);
        (ms(sorted.get(sorted.len().saturating_sub(1) / 2)), ms(sorted.last()))
    });
    let (rounds, writers) = (options.rounds(), options.writers);
    let words = |(median, worst): (f64, f64)| format!("median {median:.2} ms, worst {worst:.2} ms");
    Told {
        op: "handover",
        load: format!("{rounds} servers stopped in order, {writers} writers"),
        unit: "ms",
        tandem: pause.0,
        peer: None,
        limit: None,
        share_of_limit: None,
        beside: vec![
            ("tandem_worst", json!(pause.1)),
            ("longest_median", json!(longest.0)),
            ("longest_worst", json!(longest.1)),
            ("longest_before_median", json!(before.0)),
            ("longest_before_worst", json!(before.1)),
        ],
        words: format!(
            "  pause of a key set's writes:         {}\n  \
             longest wait while the server stops: {}\n  \
             longest wait in the second before:   {}",
            words(pause),
            words(longest),
            words(before)
        ),
    }
}

/// Keys in key sets that `server` is primary of, spread over all of those.
fn keys(status: &Status, server: &ServerStatus, options: &Options) -> Result<Vec<String>> {
    let led: Vec<KeySet> = status
        .sets
        .iter()
        .filter(|it| it.configuration.as_ref().is_some_and(|it| it.primary == member(server)))
        .map(|it| it.set)
        .collect();
    let step = led.len().div_ceil(usize::from(options.writers)).max(1);
    let key_of = |set: &KeySet| {
        (0..u32::MAX)
            .map(|number| format!("handover-{number}"))
            .find(|key| placement::key_set(key.as_bytes(), options.series.key_sets) == *set)
    };
    let keys: Option<Vec<String>> = led.iter().step_by(step).map(key_of).collect();
    keys.context("no key falls into a key set")
}

/// The waits of one writer.
#[derive(Clone, Debug, Default)]
struct Waits {
    /// The longest before the server was told to stop, and from then on.
    before: Span,
    longest: Span,
    /// The longest of those that met a change of epoch.
    pause: Span,
    /// The last write's epoch and wait.
    last: Option<(Epoch, Span)>,
}

impl Waits {
    fn pause(&self) -> Span {
        self.pause
    }

    fn longest(&self) -> Span {
        self.longest
    }

    fn before(&self) -> Span {
        self.before
    }

    /// Counts a write that was answered in `epoch`.
    fn count(&mut self, epoch: Epoch, wait: Span, stopping: bool) {
        let longest = if stopping { &mut self.longest } else { &mut self.before };
        *longest = wait.max(*longest);
        // A write that the old primary had taken in is still answered in the old epoch.
        if let Some((_, before)) = self.last.filter(|&(last, _)| stopping && last != epoch) {
            self.pause = self.pause.max(wait).max(before);
        }
        self.last = Some((epoch, wait));
    }
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
        let written = block_on(session.put(key.to_owned(), "1"))?;
        let wait = clock::now().since(begun);
        waits.count(written.position.epoch, wait, stopping.load(Ordering::Relaxed));
    }
    Ok(waits)
}

#[cfg(test)]
mod tests {
    //! Goal: a pause is the wait of whichever write met the change of epoch.
    //! Method: waits counted by hand.

    use super::*;

    #[test]
    fn the_write_that_met_the_change_counts() {
        let mut waits = Waits::default();
        let mut count = |epoch, ms, stopping| {
            waits.count(Epoch(epoch), Span::from_millis(ms), stopping);
            waits.pause
        };
        count(1, 9, false);
        assert_eq!(count(1, 8, true), Span::ZERO, "merely slow");
        count(1, 5, true);
        assert_eq!(count(2, 1, true), Span::from_millis(5), "taken in by the old primary");
        assert_eq!(count(3, 7, true), Span::from_millis(7));
        assert_eq!((waits.before, waits.longest), (Span::from_millis(9), Span::from_millis(8)));
    }
}
