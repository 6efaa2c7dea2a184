//! Tandem, Redis, etcd and the bare network under the same load, in turn, round after round.
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
use tandem::config::KEY_SETS;
use tandem_local::Plan;

use crate::load::{Choice, Found, Pace, Work};
use crate::scene::{Peers, Scene, Shape, System};
use crate::systems::etcd;
use crate::{Ground, Output, bulk, failover, handover, memory};

pub use row::{Open, Row};

/// The load of the rows that measure one operation after the other.
const ALONE: Shape = Shape { sessions: 1, outstanding: 1 };

/// The load whose peak the open loop halves. Its sessions are given as many operations at a time.
const PEAK: Shape = Shape { sessions: 50, outstanding: 16 };

/// Starting up, filling, and slack.
const AROUND: Duration = Duration::from_secs(300);

/// Measures Tandem, Redis, etcd and a bare QUIC echo under the same load, in turn.
///
/// Up at the same time: Tandem (a metaserver and three servers, two copies of everything, every
/// link mutually authenticated QUIC), Redis (a master and a replica, every link mutually
/// authenticated TLS) and the bare echo (frames of a value's length over Tandem's own QUIC
/// connections, answered by another process): what the network allows with nothing above it. And
/// etcd where it is installed: three nodes, mutually authenticated TLS, its gRPC interface, data
/// on disk and synced, as it always is, while all others here keep it in memory.
///
/// "50x16" is 50 client sessions in one process with 16 operations in flight each. Tandem has two
/// figures, both of one client: with the sessions sharing one connection to each server, as its
/// library does in real use, and with a connection to each server of its own for each session.
/// Redis and etcd get a connection a session.
///
/// Throughput is higher with a ratio above 1; a wait is shorter with a ratio below 1.
///
/// `p99_half_load` is an open loop at half of what Redis reached at 50x16: operations begin by the
/// clock, up to 16 in a row on one session as a batch (for Redis one write, and one WAIT after
/// it), and each wait counts from when its own operation was due. A system that does not keep up
/// with this rate is said not to: its waits then grow with the length of the run.
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
    /// Only these rows; all of them unless said, and with --durable those of writes.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Op>,
    /// The loads of get and put: 50x1, 50x16 and 8x128 unless said, with --durable 1x1, 50x1 and
    /// 50x16.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<Shape>,
    /// Compare what is synced to disk before it is acknowledged: Tandem's durable engine, Redis
    /// with `appendfsync always` on both, and etcd. Tells the disk's syncs a second as well.
    #[arg(long)]
    durable: bool,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    #[arg(long, default_value_t = KEY_SETS, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
    /// Where the picture (SVG) of the rows beside the peers goes; unless said, beside the folder
    /// of the processes' files.
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Leave out the figures with connections of each session's own.
    #[arg(long)]
    shared_only: bool,
    /// Leave out etcd although it is installed.
    #[arg(long)]
    no_etcd: bool,
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
        let (key_sets, durable) = (self.key_sets, self.durable);
        Plan { name: "bench".to_owned(), key_sets, durable, ..Plan::default() }
    }

    fn loads(&self) -> Vec<Shape> {
        let usual: &[(usize, usize)] = if self.durable {
            &[(1, 1), (50, 1), (50, 16)]
        } else {
            &[(50, 1), (50, 16), (8, 128)]
        };
        let usual = usual.iter().map(|&(sessions, outstanding)| Shape { sessions, outstanding });
        if self.loads.is_empty() { usual.collect() } else { self.loads.clone() }
    }

    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        let rows = 2 * self.loads().len() as u32 + 4;
        let systems = 6;
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
        match self.only[..] {
            [] if self.durable => matches!(op, Op::Put | Op::P50Put),
            [] => true,
            ref only => only.contains(&op),
        }
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
    let peers = Peers::All { etcd: !options.no_etcd, durable: options.durable };
    let scene = Scene::start(ground, &options.plan(), options.keys, options.value, peers)?;
    scene.fill()?;
    let version = scene.redis.as_ref().map(|it| it.version.clone()).unwrap_or_default();
    let synced = if options.durable { " appendfsync always" } else { "" };
    let peer = format!("Redis {version} TLS{synced}");
    let etcd = scene.etcd.as_ref().map(|it| format!("etcd {} TLS gRPC", it.version));
    if etcd.is_none() && !options.no_etcd {
        eprintln!("etcd is not installed (apt install {}): no figures of it", etcd::PACKAGE);
    }
    let output = ground.output;
    let mut rounds = Rounds { scene: &scene, options, peer, etcd, output, failed: Cell::new(0) };
    if ground.output == Output::Text {
        row::print_header(&rounds.peer, rounds.etcd.as_deref());
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
        row::print_guarantees(&rounds.peer, rounds.etcd.as_deref(), options.durable);
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
    /// The name of the other peer, where it takes part.
    etcd: Option<String>,
    output: Output,
    /// Measurements that failed so far.
    failed: Cell<u32>,
}

impl Rounds<'_> {
    /// All rows of reads, or of writes.
    fn of(&mut self, op: Op, work: Work) -> Result<Vec<Row>> {
        let (mut rows, mut peak) = (Vec::new(), None);
        for shape in self.options.loads().into_iter().filter(|_| self.options.wants(op)) {
            let row = self.throughput(op, work, shape)?;
            if shape == PEAK {
                peak = Some(row.peer);
            }
            rows.push(row);
        }
        let alone = if work == Work::Get { Op::P50Get } else { Op::P50Put };
        if self.options.wants(alone) {
            rows.push(self.alone(alone, work)?);
        }
        if self.options.wants(Op::P99HalfLoad) {
            let peak = peak.map_or_else(|| self.peak(op, work), Ok)?;
            rows.push(self.half_load(op, work, peak / 2.0)?);
        }
        Ok(rows)
    }

    /// The peer's peak, where no row has told it.
    fn peak(&self, op: Op, work: Work) -> Result<f64> {
        let pace = self.options.pace(PEAK.outstanding, None);
        let name = format!("peak of {}", op.name());
        let found = self.measured(&name, &[System::Redis], PEAK, work, pace)?;
        median_of(&found, System::Redis, Found::per_second).context("Redis has no figure")
    }

    /// A row of throughput.
    fn throughput(&mut self, op: Op, work: Work, shape: Shape) -> Result<Row> {
        let mut systems = vec![System::Tandem, System::Redis, System::Echo];
        if !self.options.shared_only && !self.options.durable {
            systems.extend([System::TandemOwn, System::EchoOwn]);
        }
        systems.extend(self.etcd.as_ref().map(|_| System::Etcd));
        let pace = self.options.pace(shape.outstanding, None);
        let name = format!("{} {shape}", op.name());
        let found = self.measured(&name, &systems, shape, work, pace)?;
        let syncs = self.options.durable.then(|| {
            [System::Tandem, System::Redis, System::Etcd].map(|system| {
                median_of(&found, system, |it| it.syncs_per_second).unwrap_or_default()
            })
        });
        let mut row = self.row(op, shape.to_string(), None, |system| {
            median_of(&found, system, Found::per_second)
        });
        row.syncs = syncs;
        self.tell(&row);
        Ok(row)
    }

    /// A row of lone operations: sessions that share connections are the same as ones with their
    /// own here.
    fn alone(&mut self, op: Op, work: Work) -> Result<Row> {
        let mut systems = vec![System::Tandem, System::Redis, System::Echo];
        systems.extend(self.etcd.as_ref().map(|_| System::Etcd));
        let pace = self.options.pace(ALONE.outstanding, None);
        let found = self.measured(op.name(), &systems, ALONE, work, pace)?;
        let row = self.row(op, ALONE.to_string(), None, |system| {
            median_of(&found, system, |it| it.wait_us(0.5))
        });
        self.tell(&row);
        Ok(row)
    }

    /// A row of waits in an open loop of `rate` operations a second.
    fn half_load(&mut self, of: Op, work: Work, rate: f64) -> Result<Row> {
        let systems = [System::Tandem, System::Redis, System::Echo];
        let pace = self.options.pace(PEAK.outstanding, Some(rate));
        let load = format!("{} at {rate:.0}/s", of.name());
        let name = format!("p99 of {load}");
        let found = self.measured(&name, &systems, PEAK, work, pace)?;
        // In most rounds, as the median of the waits is.
        let kept_up = |system| {
            let all = found.get(&system).map(Vec::as_slice).unwrap_or_default();
            2 * all.iter().filter(|it| it.kept_up(rate)).count() > all.len()
        };
        let open = Open {
            rate,
            kept_up: kept_up(System::Tandem),
            peer_kept_up: kept_up(System::Redis),
            limit_kept_up: kept_up(System::Echo),
        };
        let row = self.row(Op::P99HalfLoad, load, Some(open), |system| {
            median_of(&found, system, |it| it.wait_us(0.99))
        });
        self.tell(&row);
        Ok(row)
    }

    /// What each system's measurements of all rounds found.
    fn measured(
        &self,
        name: &str,
        systems: &[System],
        shape: Shape,
        work: Work,
        pace: Pace,
    ) -> Result<BTreeMap<System, Vec<Found>>> {
        let steps = systems.len() * usize::from(self.options.rounds);
        let style = ProgressStyle::with_template("  {msg:<24} {wide_bar} {pos}/{len}")?;
        let bar = ProgressBar::new(steps as u64).with_style(style).with_message(name.to_owned());
        let mut all: BTreeMap<System, Vec<Found>> = BTreeMap::new();
        for round in 0..usize::from(self.options.rounds) {
            // Each round begins with another system: none always follows the same one.
            for turn in 0..systems.len() {
                let system = systems[(round + turn) % systems.len()];
                let seed = (round as u64 + 1) << 32;
                let load = (work, Choice::Uniform);
                match self.scene.measure(system, shape, load, pace, seed) {
                    Ok(found) => all.entry(system).or_default().push(found),
                    Err(error) => self.on_failed(&bar, system, &error)?,
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(all)
    }

    /// A measurement that failed has no figure; the next one finds the cluster whole.
    fn on_failed(&self, bar: &ProgressBar, system: System, error: &anyhow::Error) -> Result<()> {
        self.failed.set(self.failed.get() + 1);
        bar.suspend(|| eprintln!("  a measurement of {system:?} failed: {error:#}"));
        self.scene.stage.until_whole()?;
        Ok(())
    }

    /// The row of these figures.
    fn row(
        &self,
        op: Op,
        load: String,
        open: Option<Open>,
        figure: impl Fn(System) -> Option<f64>,
    ) -> Row {
        Row {
            op,
            load,
            tandem: figure(System::Tandem).unwrap_or_default(),
            tandem_own_connections: figure(System::TandemOwn),
            peer: figure(System::Redis).unwrap_or_default(),
            peer_name: self.peer.clone(),
            limit: figure(System::Echo).unwrap_or_default(),
            limit_own_connections: figure(System::EchoOwn),
            etcd: figure(System::Etcd),
            etcd_name: self.etcd.clone(),
            open,
            syncs: None,
        }
    }

    fn tell(&self, row: &Row) {
        match self.output {
            Output::Text => println!("{}", row.line()),
            Output::Json => println!("{}", row.json()),
        }
    }
}

/// The median figure of a system that was measured.
fn median_of(
    found: &BTreeMap<System, Vec<Found>>,
    system: System,
    figure: impl Fn(&Found) -> f64,
) -> Option<f64> {
    Some(crate::median(found.get(&system)?.iter().map(figure).collect()))
}
