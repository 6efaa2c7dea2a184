//! `tandem-drill`: puts a cluster under load, failure, flood and attack, and measures it.
//!
//! A drill runs on a thread of its own; the main thread waits for its end, a signal or the time
//! limit. Whatever comes first, the last thing is to stop the cluster and to look whether a
//! process is left. What must hold and does not makes the exit code 1.

mod absence;
mod attack;
mod flood;
mod kill;
mod pace;
mod report;
mod stop;
mod throughput;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use tandem_local::{Place, supervise};

use crate::report::Report;

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
    /// Restart every process in turn under load, from an older program to this one: no request
    /// fails.
    Upgrade(upgrade::Options),
    /// Measure reads and writes a second.
    Load(throughput::Options),
}

impl Drill {
    fn name(&self) -> &'static str {
        match self {
            Drill::Kill(_) => "kill",
            Drill::Stop(_) => "stop",
            Drill::Upgrade(_) => "upgrade",
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
            Drill::Upgrade(options) => MINUTE * 2 + options.time_max(),
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
            Drill::Upgrade(options) => upgrade::run(place, options),
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
    let (ground, time_max) = (place.clone(), drill.time_max());
    let ended = supervise(time_max, move || ground.clear(), {
        let place = place.clone();
        move || drill.run(&place)
    });
    match ended {
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
