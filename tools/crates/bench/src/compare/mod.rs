//! Tandem, Redis and the bare network under the same load, in turn, round after round.
//!
//! All systems are up all the time and idle while another is measured. Within a round they
//! follow one another, so that what else happens on the machine meets all of them; every figure
//! is the median over the rounds.

mod picture;
mod row;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tandem_local::Plan;

use crate::load::{Choice, Found, Pace, Work};
use crate::scene::{Peers, Scene, Shape, System};
use crate::{Ground, Output, bulk, failover, handover, memory};

pub use row::Row;

/// The load of the rows that measure one operation after the other.
const ALONE: Shape = Shape { sessions: 1, outstanding: 1 };

/// Sessions of the open loop.
const OPEN_SESSIONS: usize = 50;

/// Starting up, filling, and slack.
const AROUND: Duration = Duration::from_secs(180);

/// Measures Tandem, Redis and a bare QUIC echo under the same load, in turn.
///
/// Up at the same time: Tandem (a metaserver and three servers, two copies of everything, every
/// link mutually authenticated QUIC), Redis (a master and a replica, every link mutually
/// authenticated TLS) and the bare echo (frames of a value's length over Tandem's own QUIC
/// connections, answered by another process): what the network allows with nothing above it.
///
/// "50x16" is 50 client sessions in one process with 16 operations in flight each. Tandem has two
/// figures: with the sessions sharing the connections of one client, as its library does in real
/// use, and with a client (thread and connections) of its own for each session. Redis gets a
/// connection a session.
///
/// Throughput is higher with a ratio above 1; a wait is shorter with a ratio below 1.
///
/// Then, each in a cluster of its own: failover (few kills; `tools/bench failover` does 50 each
/// way), handover, bulk, and memory, which stores its keys in Tandem and in Redis.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How often everything is measured; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The length of one measurement.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// What comes before each and does not count.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Only these rows.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Op::ALL)]
    only: Vec<Op>,
    /// The loads of get and put.
    #[arg(long, value_delimiter = ',', default_values = ["50x1", "50x16", "8x128"])]
    loads: Vec<Shape>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
    /// Where the picture (SVG) of the rows beside the peers goes; unless said, beside the folder
    /// of the processes' files.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Leave out the figures with connections of each session's own.
    #[arg(long)]
    shared_only: bool,
    /// Servers killed each way for `failover`; `tools/bench failover` takes more time and 50.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    kills: u16,
    /// Servers stopped in order for `handover`.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..))]
    stops: u16,
    /// Servers copied anew for `bulk`.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    copies: u16,
    /// Keys for `memory`, in Tandem and in Redis.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    memory_keys: u64,
}

/// What a row measures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Op {
    /// Reads a second.
    Get,
    /// Writes a second that both copies have.
    Put,
    /// The median wait of a lone read.
    P50Get,
    /// The median wait of a lone write.
    P50Put,
    /// The wait that 99 % do not exceed at half of the peer's peak, reads and writes.
    P99HalfLoad,
    /// From a server's death to the first write on a key set that it led.
    Failover,
    /// The pause of a key set whose server stops in order.
    Handover,
    /// Bytes a second at which a server is copied anew.
    Bulk,
    /// Bytes of memory over key and value, a copy.
    Memory,
}

impl Op {
    const ALL: [Op; 9] = [
        Op::Get,
        Op::Put,
        Op::P50Get,
        Op::P50Put,
        Op::P99HalfLoad,
        Op::Failover,
        Op::Handover,
        Op::Bulk,
        Op::Memory,
    ];

    /// The rows of one cluster with its peers; each other one has a cluster of its own.
    const BESIDE_PEERS: [Op; 5] = [Op::Get, Op::Put, Op::P50Get, Op::P50Put, Op::P99HalfLoad];

    /// Its name in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Put => "put",
            Op::P50Get => "p50_get",
            Op::P50Put => "p50_put",
            Op::P99HalfLoad => "p99_half_load",
            Op::Failover => "failover",
            Op::Handover => "handover",
            Op::Bulk => "bulk",
            Op::Memory => "memory",
        }
    }

    /// Whether it is a wait, of which less is better.
    #[must_use]
    pub fn is_wait(self) -> bool {
        match self {
            Op::Get | Op::Put | Op::Bulk | Op::Memory => false,
            Op::P50Get | Op::P50Put | Op::P99HalfLoad | Op::Failover | Op::Handover => true,
        }
    }
}

impl Options {
    fn plan(&self) -> Plan {
        Plan { name: "bench".to_owned(), key_sets: self.key_sets, ..Plan::default() }
    }

    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        let rows = 2 * self.loads.len() as u32 + 4;
        let systems = 5;
        let each = self.warm_up + self.length + Duration::from_secs(3);
        let beside_peers = AROUND + each * rows * systems * u32::from(self.rounds);
        let others = [
            self.failover().time_max(),
            self.handover().time_max(),
            self.bulk().time_max(),
            self.memory().time_max(),
        ];
        beside_peers + others.into_iter().sum::<Duration>()
    }

    fn failover(&self) -> failover::Options {
        failover::Options::of(self.kills, self.key_sets)
    }

    fn handover(&self) -> handover::Options {
        handover::Options::of(self.stops, self.key_sets)
    }

    fn bulk(&self) -> bulk::Options {
        bulk::Options::of(self.copies, self.key_sets)
    }

    fn memory(&self) -> memory::Options {
        memory::Options::of(self.memory_keys, self.value, self.key_sets)
    }

    fn pace(&self, outstanding: usize, rate: Option<f64>) -> Pace {
        Pace { outstanding, rate, warm_up: self.warm_up, length: self.length }
    }

    fn wants(&self, op: Op) -> bool {
        self.only.contains(&op)
    }
}

/// Runs the comparison and tells its results.
///
/// # Errors
/// Redis is missing, something does not come up, or an operation failed.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    if Op::BESIDE_PEERS.iter().any(|&op| options.wants(op)) {
        beside_peers(ground, options)?;
    }
    if options.wants(Op::Failover) {
        failover::run(ground, &options.failover())?;
    }
    if options.wants(Op::Handover) {
        handover::run(ground, &options.handover())?;
    }
    if options.wants(Op::Bulk) {
        bulk::run(ground, &options.bulk())?;
    }
    if options.wants(Op::Memory) {
        memory::run(ground, &options.memory())?;
    }
    Ok(())
}

/// The rows of one cluster, beside Redis and the echo.
fn beside_peers(ground: &Ground, options: &Options) -> Result<()> {
    let scene = Scene::start(ground, &options.plan(), options.keys, options.value, Peers::All)?;
    scene.fill()?;
    let version = scene.redis.as_ref().map(|it| it.version.clone()).unwrap_or_default();
    let peer = format!("Redis {version} TLS");
    let output = ground.output;
    let mut rounds = Rounds { scene: &scene, options, peer, output, failed: Cell::new(0) };
    if ground.output == Output::Text {
        row::print_header(&rounds.peer);
    }
    let mut rows = Vec::new();
    for (op, work) in [(Op::Get, Work::Get), (Op::Put, Work::Put)] {
        rows.extend(rounds.of(op, work)?);
    }
    let (failed, mistaken) = (rounds.failed.get(), scene.false_failovers()?);
    if failed > 0 || mistaken > 0 {
        eprintln!(
            "{failed} measurements failed and have no figure; {mistaken} servers were taken for \
             dead and replaced: this machine has not enough time for what runs on it"
        );
    }
    if ground.output == Output::Text {
        row::print_guarantees(&rounds.peer);
    }
    scene.end(ground)?;
    draw(ground, options, &rows)
}

/// Beside the processes' files, which the next cluster's take the place of.
fn draw(ground: &Ground, options: &Options, rows: &[Row]) -> Result<()> {
    let beside = ground.place.folder.with_extension("svg");
    let path = options.picture.clone().unwrap_or(beside);
    std::fs::write(&path, picture::draw(rows))
        .with_context(|| format!("writing {}", path.display()))?;
    if ground.output == Output::Text {
        println!("\nThe picture: {}\n", path.display());
    }
    Ok(())
}

/// The measurements of one run.
struct Rounds<'a> {
    scene: &'a Scene,
    options: &'a Options,
    peer: String,
    output: Output,
    /// Measurements that failed so far.
    failed: Cell<u32>,
}

impl Rounds<'_> {
    /// All rows of reads, or of writes.
    fn of(&mut self, op: Op, work: Work) -> Result<Vec<Row>> {
        let (mut rows, mut peak) = (Vec::new(), 0.0_f64);
        for &shape in &self.options.loads {
            // Half of the peer's peak needs the peak, whether its rows are wanted or not.
            if self.options.wants(op) || self.options.wants(Op::P99HalfLoad) {
                let row = self.throughput(op, work, shape)?;
                peak = peak.max(row.peer);
                rows.push(row);
            }
        }
        let alone = if work == Work::Get { Op::P50Get } else { Op::P50Put };
        if self.options.wants(alone) {
            rows.push(self.alone(alone, work)?);
        }
        if self.options.wants(Op::P99HalfLoad) {
            rows.push(self.half_load(op, work, peak / 2.0)?);
        }
        Ok(rows)
    }

    /// A row of throughput.
    fn throughput(&mut self, op: Op, work: Work, shape: Shape) -> Result<Row> {
        let mut systems = vec![System::Tandem, System::Redis, System::Echo];
        if !self.options.shared_only {
            systems.extend([System::TandemOwn, System::EchoOwn]);
        }
        let pace = self.options.pace(shape.outstanding, None);
        let name = format!("{} {shape}", op.name());
        let medians = self.medians(&name, &systems, shape, work, pace, Found::per_second)?;
        self.told(op, shape.to_string(), medians)
    }

    /// A row of lone operations: sessions that share connections are the same as ones with their
    /// own here.
    fn alone(&mut self, op: Op, work: Work) -> Result<Row> {
        let systems = [System::Tandem, System::Redis, System::Echo];
        let pace = self.options.pace(ALONE.outstanding, None);
        let medians =
            self.medians(op.name(), &systems, ALONE, work, pace, |found| found.wait_us(0.5))?;
        self.told(op, ALONE.to_string(), medians)
    }

    /// A row of waits in an open loop of `rate` operations a second.
    fn half_load(&mut self, of: Op, work: Work, rate: f64) -> Result<Row> {
        let systems = [System::Tandem, System::Redis, System::Echo];
        let shape = Shape { sessions: OPEN_SESSIONS, outstanding: 1 };
        let pace = self.options.pace(1, Some(rate));
        let load = format!("{} at {rate:.0}/s", of.name());
        let name = format!("p99 of {load}");
        let medians =
            self.medians(&name, &systems, shape, work, pace, |found| found.wait_us(0.99))?;
        self.told(Op::P99HalfLoad, load, medians)
    }

    /// The median figure of each system over the rounds.
    fn medians(
        &self,
        name: &str,
        systems: &[System],
        shape: Shape,
        work: Work,
        pace: Pace,
        figure: impl Fn(&Found) -> f64,
    ) -> Result<BTreeMap<System, f64>> {
        let steps = systems.len() * usize::from(self.options.rounds);
        let style = ProgressStyle::with_template("  {msg:<24} {wide_bar} {pos}/{len}")?;
        let bar = ProgressBar::new(steps as u64).with_style(style).with_message(name.to_owned());
        let mut figures: BTreeMap<System, Vec<f64>> = BTreeMap::new();
        for round in 0..usize::from(self.options.rounds) {
            // Each round begins with another system: none always follows the same one.
            for turn in 0..systems.len() {
                let system = systems[(round + turn) % systems.len()];
                let seed = (round as u64 + 1) << 32;
                let load = (work, Choice::Uniform);
                match self.scene.measure(system, shape, load, pace, seed) {
                    Ok(found) => figures.entry(system).or_default().push(figure(&found)),
                    Err(error) => self.on_failed(&bar, system, &error)?,
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(figures.into_iter().map(|(system, all)| (system, crate::median(all))).collect())
    }

    /// A measurement that failed has no figure; the next one finds the cluster whole.
    fn on_failed(&self, bar: &ProgressBar, system: System, error: &anyhow::Error) -> Result<()> {
        self.failed.set(self.failed.get() + 1);
        bar.suspend(|| eprintln!("  a measurement of {system:?} failed: {error:#}"));
        self.scene.stage.until_whole()?;
        Ok(())
    }

    fn told(&self, op: Op, load: String, medians: BTreeMap<System, f64>) -> Result<Row> {
        let figure = |system| medians.get(&system).copied();
        let row = Row {
            op,
            load,
            tandem: figure(System::Tandem).unwrap_or_default(),
            tandem_own_connections: figure(System::TandemOwn),
            peer: figure(System::Redis).unwrap_or_default(),
            peer_name: self.peer.clone(),
            limit: figure(System::Echo).unwrap_or_default(),
            limit_own_connections: figure(System::EchoOwn),
        };
        match self.output {
            Output::Text => println!("{}", row.line()),
            Output::Json => println!("{}", row.json()),
        }
        Ok(row)
    }
}
