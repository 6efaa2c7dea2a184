//! Servers killed under load, one after the other, each once the cluster is whole again.
//!
//! Where the metaserver started the servers itself, the kernel tells it of the death at once; with
//! `--no-spawn` it has to suspect the silent one first.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tandem_local::stage::WHOLE;
use tandem_local::{Place, Plan, Stage, kill};

use crate::pace::bar;
use crate::report::{Report, median, ms};

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
        let killed = kill(&mut stage, &load, round - 1, spawn)?;
        bar.suspend(|| {
            println!(
                "  round {round:>2}: server {} primary of {}; first write {:>6.1} ms, on all {} \
                 probed sets {:>6.1} ms; steps {:?} ms; whole {:>7.1} ms",
                killed.victim.id.0,
                killed.victim.primary_of,
                ms(killed.first()),
                killed.waits.len(),
                ms(killed.last()),
                killed.recovery.took_ms.map(Option::unwrap_or_default),
                ms(killed.whole)
            );
        });
        firsts.push(killed.first());
        lasts.push(killed.last());
        wholes.push(killed.whole);
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
