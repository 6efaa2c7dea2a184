//! `tandem-chaos`: tortures a cluster of real processes on a network of its own, and judges every
//! answer that clients got.
//!
//! The program runs itself again inside fresh namespaces (`topology`). There the main thread waits
//! for the end of the run, a signal or the time limit; whatever comes first, the processes end,
//! and if this one is killed the kernel ends them.

mod cluster;
mod judge;
mod load;
mod nemesis;
mod nodes;
mod observer;
mod picture;
mod relay;
mod returns;
mod run;
mod summary;
mod timeline;
mod topology;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, ValueEnum};
use serde_json::json;
use tandem::clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::nemesis::Kind;
use crate::summary::Summary;

/// Tortures a real cluster on a network of its own, and judges every answer that clients got.
///
/// Every process has a network namespace (no root needed); a relay between them cuts links, and
/// loses, delays, reorders, duplicates and corrupts packets, for each direction by itself. Servers
/// are killed, paused and restarted, the metaserver too, all at random from a seed. Clients write
/// and read few keys, so that they meet; their history is checked for linearizability.
///
/// With `--nemesis power` servers are durable, and all processes are killed at once, `--rounds`
/// times: nothing that was acknowledged may be gone when they are back.
///
/// Exits 0 only if nothing acknowledged was lost, nothing stale was read, no process ended by
/// itself, and the cluster served what it had to serve. The same seed gives the same schedule;
/// what happens then is up to the machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "tools/chaos")]
pub struct Arguments {
    /// The built `tandem`.
    #[arg(long, hide = true)]
    binary: PathBuf,
    /// Where the cluster's files go.
    #[arg(long, hide = true)]
    folder: PathBuf,
    /// Only measures what the relay costs.
    #[arg(long)]
    measure_relay: bool,
    /// How long the load runs; start, healing and judging come on top.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..))]
    seconds: u16,
    /// Kinds of faults, with commas between them; all but `power` unless told.
    #[arg(long, value_delimiter = ',', value_enum)]
    nemesis: Vec<Kind>,
    /// Power cuts of `--nemesis power`: every process killed at once, and all started again.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    rounds: u16,
    /// With `--nemesis power`: at every cut all disks lose what they had synced last. The run must
    /// fail; it shows that what is lost is found.
    #[arg(long)]
    disks_lie: bool,
    /// Of the schedule and the load; a new one unless told.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the history in this file (JSON lines).
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Draws the run into this file (SVG).
    #[arg(long, value_name = "FILE.svg")]
    report: Option<PathBuf>,
    /// How the end is told: in words, or as one JSON object on the last line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    servers: u8,
    /// Copies of each key set.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=9))]
    replicas: u8,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    key_sets: u16,
    /// Client nodes, each with a session for every key set.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    clients: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Arguments {
    /// The kinds of faults, each once.
    fn kinds(&self) -> Vec<Kind> {
        let asked = |kind: &Kind| self.nemesis.is_empty() || self.nemesis.contains(kind);
        if self.cuts_power() {
            vec![Kind::Power]
        } else {
            Kind::ALL.into_iter().filter(asked).collect()
        }
    }

    /// Whether the power is cut, and nothing else happens.
    fn cuts_power(&self) -> bool {
        self.nemesis.contains(&Kind::Power)
    }

    /// How the run is told from others of its kind: its length.
    fn length_words(&self) -> String {
        if self.cuts_power() {
            format!("{} power cuts", self.rounds)
        } else {
            format!("{} s", self.seconds)
        }
    }

    /// How long it may take at the very most.
    fn time_max(&self) -> Duration {
        let rounds = if self.cuts_power() { u64::from(self.rounds) } else { 0 };
        Duration::from_secs(420 + 2 * u64::from(self.seconds) + 10 * rounds)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !topology::is_inside() {
        let Err(error) = topology::enter();
        eprintln!("The chaos did not begin: {error:#}");
        return ExitCode::FAILURE;
    }
    if arguments.measure_relay {
        return match relay::measure() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("The relay was not measured: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let seed = arguments.seed.unwrap_or_else(|| clock::now().0 % 1_000_000_007);
    let json = arguments.output == Output::Json;
    match supervise(arguments.clone(), seed) {
        Ok(summary) => {
            summary.print(json);
            if summary.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("The chaos failed (seed {seed}): {error:#}");
            eprintln!("logs: {}/logs", arguments.folder.display());
            if json {
                let broken = [format!("{error:#}")];
                println!(
                    "{}",
                    json!({"chaos": "failed", "seed": seed, "holds": false, "broken": broken})
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs until the end, a signal, or the time limit.
fn supervise(arguments: Arguments, seed: u64) -> Result<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let time_max = arguments.time_max();
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("chaos".to_owned()).spawn(move || {
        // Nobody listens any more only when the process is about to end.
        let _ = done.send(run::run(&arguments, seed));
    })?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        tokio::select! {
            summary = ended => summary.map_err(|_| anyhow!("its thread panicked"))?,
            () = tokio::time::sleep(time_max) => bail!("it was not over after {time_max:?}"),
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}
