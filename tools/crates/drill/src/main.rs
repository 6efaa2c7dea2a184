//! `tandem-drill`: puts a cluster under load, failure, flood and attack, and measures it.
//!
//! A drill runs on a thread of its own; the main thread waits for its end, a signal or the time
//! limit. Whatever comes first, the last thing is to stop the cluster and to look whether a
//! process is left. What must hold and does not makes the exit code 1.

mod absence;
mod attack;
mod flood;
mod kill;
mod report;
mod stage;
mod stop;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tandem_local::Cluster;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::report::Report;
use crate::stage::Place;

/// Puts a Tandem cluster on this machine under load, failure, flood and attack, and measures it.
#[derive(Debug, Parser)]
#[command(name = "tools/drill")]
struct Arguments {
    /// The built `tandem`.
    #[arg(long, hide = true)]
    binary: PathBuf,
    /// Where the cluster's files go.
    #[arg(long, hide = true)]
    folder: PathBuf,
    /// How the end is told: in words, or as one JSON object on the last line.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Drill {
    /// Kill a server under load, again and again: nothing acknowledged is lost, nothing stale
    /// read; measures the time to the first write on the key sets that lost their primary.
    Kill(kill::Options),
    /// Stop a server in order under load: no request fails.
    Stop(stop::Options),
    /// Take the metaserver away under load: no request fails, new clients find their way.
    Absence(absence::Options),
    /// Flood the metaserver with view requests and handshakes: nobody is suspected.
    Flood(flood::Options),
    /// Attack server and metaserver: everything is refused, and memory does not grow.
    Attack(attack::Options),
    /// Measure reads and writes a second.
    Load(throughput::Options),
}

impl Drill {
    fn name(&self) -> &'static str {
        match self {
            Drill::Kill(_) => "kill",
            Drill::Stop(_) => "stop",
            Drill::Absence(_) => "absence",
            Drill::Flood(_) => "flood",
            Drill::Attack(_) => "attack",
            Drill::Load(_) => "load",
        }
    }

    /// How long it may take at the very most.
    fn time_max(&self) -> Duration {
        const MINUTE: Duration = Duration::from_secs(60);
        match self {
            Drill::Kill(options) => MINUTE + options.time_max(),
            Drill::Stop(options) => MINUTE + options.time_max(),
            Drill::Absence(options) => MINUTE * 4 + options.length(),
            Drill::Flood(options) => MINUTE * 2 + options.length(),
            Drill::Attack(options) => MINUTE + options.time_max(),
            Drill::Load(options) => MINUTE * 2 + options.length() * 2,
        }
    }

    fn run(&self, place: &Place) -> Result<Report> {
        match self {
            Drill::Kill(options) => kill::run(place, options),
            Drill::Stop(options) => stop::run(place, options),
            Drill::Absence(options) => absence::run(place, options),
            Drill::Flood(options) => flood::run(place, options),
            Drill::Attack(options) => attack::run(place, options),
            Drill::Load(options) => throughput::run(place, options),
        }
    }
}

fn main() -> ExitCode {
    let Arguments { binary, folder, output, drill } = Arguments::parse();
    let name = drill.name();
    let place = Place { binary, folder: folder.join(name) };
    clear_on_panic(&place);
    let ended = supervise(drill, place.clone());
    let cleared = clear(&place);
    match ended.and_then(|report| cleared.map(|()| report)) {
        Ok(report) => {
            report.print(name, output == Output::Json);
            if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("The drill '{name}' failed: {error:#}");
            eprintln!("logs: {}/logs and {0}/state/*", place.folder.display());
            if output == Output::Json {
                println!("{}", Report::failed(name, &error));
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs the drill until it ends, a signal asks to stop, or its time is over.
fn supervise(drill: Drill, place: Place) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let time_max = drill.time_max();
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("drill".to_owned()).spawn(move || {
        // Nobody listens any more only when the process is about to end.
        let _ = done.send(drill.run(&place));
    })?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
        let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        tokio::select! {
            report = ended => report.map_err(|_| anyhow!("its thread panicked"))?,
            () = tokio::time::sleep(time_max) => bail!("it was not over after {time_max:?}"),
            _ = interrupted.recv() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}

/// Stops what runs from the drill's folder.
fn clear(place: &Place) -> Result<()> {
    match Cluster::open(&place.binary, &place.folder) {
        Ok(mut cluster) => cluster.stop(),
        // The drill ended before there was a cluster.
        Err(_) => Ok(()),
    }
}

/// A release aborts on a panic and runs no destructors: the cluster must not outlive that.
fn clear_on_panic(place: &Place) {
    let (place, told) = (place.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        if let Err(error) = clear(&place) {
            eprintln!("the cluster was not stopped: {error:#}");
        }
    }));
}

/// Whether `folder` is where a drill may remove files.
fn is_drills_own(folder: &Path) -> bool {
    !folder.exists() || folder.join("cluster.toml").exists()
}
