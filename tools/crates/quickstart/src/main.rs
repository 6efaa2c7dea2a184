//! `tandem-quickstart`: shows a cluster of real processes that loses a server and no byte.
//!
//! Whatever happens (success, failure, a signal, a timeout), the last thing it does is to stop
//! the cluster and to look whether a process is left; only `--keep` leaves it up.

mod compare;
mod data;
mod files;
mod recovery;
mod spread;
mod story;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tandem_local::{Cluster, Plan};
use tokio::signal::unix::{SignalKind, signal};

/// How long the whole story may take once the binary is built.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shows a Tandem cluster that loses a server and keeps every byte.
#[derive(Debug, Parser)]
struct Arguments {
    /// The built `tandem`.
    #[arg(long, hide = true)]
    binary: PathBuf,
    /// Where the cluster's files go.
    #[arg(long, hide = true)]
    folder: PathBuf,
    /// Leaves the cluster up at the end, and says how to use it.
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// Stops the cluster that --keep left up.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.stop { stop(&arguments) } else { show(&arguments) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe quick start failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stop(arguments: &Arguments) -> Result<()> {
    let mut cluster = Cluster::open(&arguments.binary, &arguments.folder)
        .context("no cluster was kept (tools/quickstart --keep leaves one up)")?;
    let count = cluster.processes()?.len();
    cluster.stop()?;
    println!("Stopped {count} processes; nothing is left running.");
    Ok(())
}

fn show(arguments: &Arguments) -> Result<()> {
    let mut cluster = create(&arguments.binary, &arguments.folder)?;
    println!("A cluster of real processes in {}:", cluster.directory().display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let told = runtime.block_on(until_interrupted(&mut cluster));
    drop(runtime);
    if told.is_ok() && arguments.keep {
        cluster.keep();
        explain(arguments, &cluster);
        return Ok(());
    }
    let stopped = cluster.stop();
    if told.is_err() {
        for log in cluster.logs() {
            eprintln!("logs: {}", log.display());
        }
    }
    told?;
    stopped?;
    println!("Stopped. Nothing is left running.");
    Ok(())
}

/// Makes the cluster in `folder`; certificates of an earlier run are kept, its state is not.
fn create(binary: &Path, folder: &Path) -> Result<Cluster> {
    let config = folder.join("cluster.toml");
    if config.exists() && !Cluster::open(binary, folder)?.processes()?.is_empty() {
        bail!("a cluster is up that --keep left; stop it first: tools/quickstart --stop");
    }
    for stale in ["state", "logs"].map(|name| folder.join(name)).iter().filter(|it| it.exists()) {
        std::fs::remove_dir_all(stale).with_context(|| format!("removing {}", stale.display()))?;
    }
    let plan = Plan { name: "quickstart".to_owned(), durable: true, ..Plan::default() };
    Cluster::create(binary, folder, &plan)
}

/// Tells the story, within its time and until a signal asks to stop.
async fn until_interrupted(cluster: &mut Cluster) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        told = tokio::time::timeout(PATIENCE, story::tell(cluster)) => {
            told.with_context(|| format!("it was not over after {PATIENCE:?}"))?
        }
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

fn explain(arguments: &Arguments, cluster: &Cluster) {
    let binary = arguments.binary.canonicalize().unwrap_or_else(|_| arguments.binary.clone());
    let binary = binary.display();
    let config = cluster.config().path().display();
    println!("The cluster stays up. Use it:");
    println!("  alias tandem='{binary} --role client --config {config}'");
    println!("  tandem put greeting hello && tandem get greeting");
    println!("  tandem status");
    println!("Stop it: tools/quickstart --stop");
}
