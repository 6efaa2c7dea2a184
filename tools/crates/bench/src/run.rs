//! One workload on Tandem alone.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;
use tandem::config::KEY_SETS;
use tandem_local::Plan;

use crate::load::{self, Choice, Found, Kind, Mix, Pace, Work};
use crate::scene::{Peers, Scene, Shape, System};
use crate::{Ground, Output, scan};

/// Starting up and filling.
const AROUND: Duration = Duration::from_secs(600);

/// Runs one workload on a Tandem cluster of its own: a metaserver and servers on this machine.
///
/// Without --rate the loop is closed: a session begins an operation when one ends, and the
/// figure to look at is the throughput. With --rate it is open: operations begin by the clock,
/// each wait counts from when the operation was due, and the figures to look at are the waits.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is done.
    #[arg(value_enum)]
    workload: Workload,
    /// Shares of operations for `mixed`, as YCSB's workloads of that letter.
    #[arg(long, value_enum, default_value = "a")]
    mix: Mix,
    /// How keys are chosen; `mixed --mix d` reads the newest unless you say otherwise.
    #[arg(long = "keys", value_enum)]
    choice: Option<Choice>,
    /// Client sessions, and operations that each keeps in flight; with --rate, how many of those
    /// that are due it is given at a time.
    #[arg(long, default_value = "50x16")]
    load: Shape,
    /// Operations a second over all sessions, in an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Give each session of the client a connection to each server of its own.
    #[arg(long)]
    own_connections: bool,
    /// Bytes of a value; 100, for `bulk` 65536.
    #[arg(long)]
    value: Option<usize>,
    /// Keys that are stored before; 100000, for `bulk` 2000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    key_count: Option<u64>,
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// What comes before and does not count.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    servers: u16,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    replicas: u16,
    #[arg(long, default_value_t = KEY_SETS, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
    /// Workers (threads) of each server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Servers keep what they hold on the disk, and sync it before they acknowledge it.
    #[arg(long)]
    durable: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Workload {
    /// Reads.
    Get,
    /// Writes.
    Put,
    /// Reads and writes, see --mix.
    Mixed,
    /// Scans of everything, in order, again and again.
    Scan,
    /// Large values written one after the other (64 KiB unless --value says otherwise).
    Bulk,
}

impl Options {
    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        AROUND + self.warm_up + self.length
    }

    fn work(&self) -> Work {
        match self.workload {
            Workload::Get => Work::Get,
            Workload::Put | Workload::Bulk => Work::Put,
            Workload::Scan => Work::Get,
            Workload::Mixed => Work::Mixed(self.mix),
        }
    }

    fn choice(&self) -> Choice {
        let newest = self.work() == Work::Mixed(Mix::D);
        self.choice.unwrap_or(match self.workload {
            Workload::Bulk => Choice::Sequential,
            _ if newest => Choice::Latest,
            _ => Choice::Uniform,
        })
    }

    fn value(&self) -> usize {
        let large = self.workload == Workload::Bulk;
        self.value.unwrap_or(if large { 65_536 } else { 100 })
    }

    fn key_count(&self) -> u64 {
        let large = self.workload == Workload::Bulk;
        self.key_count.unwrap_or(if large { 2_000 } else { 100_000 })
    }
}

/// Runs the workload and tells its figures.
///
/// # Errors
/// The cluster does not come up, or an operation failed.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let plan = Plan {
        name: "bench".to_owned(),
        servers: options.servers,
        replicas: options.replicas,
        key_sets: options.key_sets,
        workers: options.workers,
        durable: options.durable,
        ..Plan::default()
    };
    let scene = Scene::start(ground, &plan, options.key_count(), options.value(), Peers::None)?;
    scene.fill()?;
    let system = if options.own_connections { System::TandemOwn } else { System::Tandem };
    let pace = Pace {
        outstanding: options.load.outstanding,
        rate: options.rate,
        warm_up: options.warm_up,
        length: options.length,
    };
    if options.workload == Workload::Scan {
        return scan(ground, options, &scene, pace);
    }
    let load = (options.work(), options.choice());
    let found = scene.measure(system, options.load, load, pace, options.seed)?;
    let mistaken = scene.false_failovers()?;
    match ground.output {
        Output::Text => {
            print_text(options, &found);
            if options.rate.is_some_and(|it| !found.kept_up(it)) {
                println!("  it did not keep up with this rate");
            }
            println!("  {mistaken} servers were taken for dead, and none was");
        }
        Output::Json => print_json(options, &found, mistaken),
    }
    Ok(())
}

fn scan(ground: &Ground, options: &Options, scene: &Scene, pace: Pace) -> Result<()> {
    let scanned = load::on_this_thread(async {
        let client = scene.stage.connect()?;
        let sessions = (0..options.load.sessions).map(|_| client.session()).collect();
        let scanned = scan::drive(sessions, scene.keys, pace).await;
        client.close().await;
        scanned
    })?;
    let scan::Scanned { records_per_second, bytes_per_second, scans } = scanned;
    match ground.output {
        Output::Text => println!(
            "{records_per_second:.0} records a second, {:.1} MB/s, {scans} scans of everything",
            bytes_per_second / 1e6
        ),
        Output::Json => println!(
            "{}",
            json!({
                "op": "scan", "load": options.load.sessions, "scans": scans,
                "per_second": records_per_second, "bytes_per_second": bytes_per_second,
            })
        ),
    }
    Ok(())
}

fn print_text(options: &Options, found: &Found) {
    let bytes = found.per_second() * options.value() as f64;
    println!("{:.0} operations a second, {:.1} MB/s of values", found.per_second(), bytes / 1e6);
    for (kind, waits) in found.kinds() {
        let us = |share: f64| waits.value_at_quantile(share) as f64 / 1e3;
        println!(
            "  {:<18} {:>10} operations; waits in us: p50 {:.1}, p99 {:.1}, p99.9 {:.1}, \
             longest {:.1}",
            name(kind),
            waits.len(),
            us(0.5),
            us(0.99),
            us(0.999),
            waits.max() as f64 / 1e3
        );
    }
}

fn print_json(options: &Options, found: &Found, mistaken: usize) {
    for (kind, waits) in found.kinds() {
        let us = |share: f64| waits.value_at_quantile(share) as f64 / 1e3;
        println!(
            "{}",
            json!({
                "op": name(kind),
                "load": options.load.to_string(),
                "count": waits.len(),
                "per_second": found.per_second() * waits.len() as f64 / found.count() as f64,
                "p50_us": us(0.5),
                "p99_us": us(0.99),
                "p999_us": us(0.999),
                "longest_us": waits.max() as f64 / 1e3,
                "false_failovers": mistaken,
                "kept_up": options.rate.map(|it| found.kept_up(it)),
            })
        );
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::ReadModifyWrite => "read-modify-write",
    }
}
