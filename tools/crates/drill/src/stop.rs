//! Servers stopped in order under load; each round's longest wait beside an undisturbed one's.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tandem::clock;
use tandem::protocol::placement;
use tandem::protocol::time::Span;
use tandem_local::stage::WHOLE;
use tandem_local::{Place, Plan, Role, Stage};

use crate::pace::{bar, pass};
use crate::report::{Report, median, ms};

/// How long a server may take to hand over and stop.
const STOPPED: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Clients, each with a writer and a reader.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    pub fn time_max(&self) -> Duration {
        WHOLE * 3 * u32::from(self.rounds)
    }
}

/// Runs the drill.
///
/// # Errors
/// A promise was broken, or the cluster does not become whole again.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let plan = Plan { key_sets: options.key_sets, spawn: false, ..Plan::default() };
    let mut stage = Stage::start(place, &plan)?;
    let load = stage.load(usize::from(options.clients))?;
    let bar = bar("stop", u64::from(options.rounds))?;
    let (mut disturbed, mut undisturbed, mut stopping) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let status = stage.until_whole()?;
        stage.until_progress(&load, 20)?;
        let busiest = status.servers.iter().max_by_key(|it| it.primary_of);
        let leaving = busiest.context("a cluster has servers")?;
        let _ = load.take_slowest();
        let begun = clock::now();
        stage.cluster.terminate(Role::Server(leaving.id), STOPPED)?;
        let stopped = clock::now().since(begun);
        stage.cluster.start_server(leaving.id)?;
        stage.until_whole()?;
        let length = clock::now().since(begun);
        let with = load.take_slowest();
        pass(Duration::from(length), &indicatif::ProgressBar::hidden())?;
        let without = load.take_slowest();
        load.check()?;
        bar.suspend(|| {
            println!(
                "  round {round:>2}: server {} primary of {} stopped in {:.1} ms, whole after \
                 {:.1} ms; longest wait {:.1} ms, undisturbed {:.1} ms; {} requests failed",
                leaving.id.0,
                leaving.primary_of,
                ms(stopped),
                ms(length),
                ms(with.wait),
                ms(without.wait),
                load.tally().failed()
            );
            let set = placement::key_set(with.key.as_bytes(), options.key_sets);
            println!("            the longest: {} in key set {set}", with.what);
        });
        disturbed.push(with.wait);
        undisturbed.push(without.wait);
        stopping.push(stopped);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failure = load.first_failure();
    let tally = load.finish(&stage.client)?;
    let worst = |spans: &[Span]| ms(spans.iter().max().copied().unwrap_or_default());
    let mut report = Report::default();
    report.figure("rounds", options.rounds);
    report.figure("longest_wait_ms", worst(&disturbed));
    report.figure("longest_wait_undisturbed_ms", worst(&undisturbed));
    report.figure("stop_median_ms", ms(median(&stopping)));
    report.figure("reads", tally.reads);
    report.figure("writes", tally.writes);
    report.figure("requests_failed", tally.failed());
    report.demand(
        tally.failed() == 0,
        format!("{} requests failed; the first: {}", tally.failed(), failure.unwrap_or_default()),
    );
    Ok(report)
}
