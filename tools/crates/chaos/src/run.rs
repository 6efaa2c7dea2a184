//! One run: start, a calm beginning, the nemesis, healing, and the last reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tandem::client::Client;
use tandem::clock;
use tandem::protocol::time::{Span, Time};
use tandem_history::History;
use tandem_local::{Plan, wait};

use crate::Arguments;
use crate::cluster::{Stage, panics};
use crate::judge;
use crate::load::{Load, Sample};
use crate::nemesis::power::CHECKPOINT_LOG;
use crate::nemesis::{Cast, Cuts, Kind, Nemesis, Schedule, WHOLE, is_whole};
use crate::nodes::Node;
use crate::observer::{self, Observer, RecoverySeen};
use crate::picture;
use crate::relay::{self, Board, Traffic};
use crate::summary::{Summary, seconds};
use crate::timeline::{Record, Timeline};
use crate::topology::Topology;
use crate::verdict::Verdict;

/// The undisturbed beginning: at most this long, and at most a sixth of the run.
const CALM_MAX: Duration = Duration::from_secs(8);

/// Attempts to read a key at the very end, when nothing is wrong any more.
const LAST_READS_MAX: u32 = 3;

/// Everything that a run left behind.
pub struct Outcome {
    pub seed: u64,
    pub key_sets: u16,
    /// When the load began.
    pub begin: Time,
    /// When the nemesis began.
    pub calm_end: Time,
    /// When the nemesis ended.
    pub chaos_end: Time,
    /// When the load was told to end; what was under way then is answered later.
    pub end: Time,
    pub grace: Span,
    pub faults: Vec<Record>,
    /// If the power was cut.
    pub cuts: Option<Cuts>,
    pub samples: Vec<Sample>,
    pub fortunes: Vec<observer::Sample>,
    pub recoveries: Vec<RecoverySeen>,
    pub traffic: Traffic,
    pub history: History,
}

/// Runs it all.
///
/// # Errors
/// It could not be run; what broke while it ran is in the summary.
pub fn run(arguments: &Arguments, seed: u64) -> Result<Summary> {
    let folder = &arguments.folder;
    let kinds = arguments.kinds();
    let names: Vec<&str> = kinds.iter().map(|it| it.name()).collect();
    println!(
        "Chaos for {}, seed {seed}: {} servers, {} copies of {} key sets, {} clients; nemesis {}",
        arguments.length_words(),
        arguments.servers,
        arguments.replicas,
        arguments.key_sets,
        arguments.clients,
        names.join(",")
    );
    ensure!(
        arguments.replicas <= arguments.servers,
        "{} copies of everything need as many servers",
        arguments.replicas
    );
    ensure!(
        !arguments.cuts_power() || arguments.nemesis == [Kind::Power],
        "power cuts go alone: name no other kind beside them"
    );
    ensure!(
        !folder.exists() || folder.join("cluster.toml").exists(),
        "{} is not of a chaos: remove it, or name another folder",
        folder.display()
    );
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing {}", folder.display()))?;
    }
    let verdict = Verdict::default();
    let history = arguments.history.clone().unwrap_or_else(|| folder.join("history.jsonl"));
    let outcome = torture(arguments, seed, &history, &verdict)?;
    for line in panics(&folder.join("logs"))? {
        verdict.note(format!("a log tells of a panic: {line}"));
    }
    let findings = judge::judge(&outcome, &verdict);
    let summary = Summary::new(arguments, &outcome, &findings, verdict.broken());
    if let Some(path) = &arguments.report {
        std::fs::write(path, picture::draw(&outcome, &findings, &summary))
            .with_context(|| format!("writing {}", path.display()))?;
        println!("  the picture of the run is {}", path.display());
    }
    Ok(summary)
}

/// The network, the cluster and its load, under the nemesis.
fn torture(arguments: &Arguments, seed: u64, history: &Path, verdict: &Verdict) -> Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let board = Board::default();
    let stage = build(arguments, seed, &board)?;
    stage.start_all()?;
    let observer = Observer::start(stage.connect(Node::Observer)?, verdict.clone(), stop.clone())?;
    wait::until("a whole cluster at the start", WHOLE, || is_whole(&observer.status()?))?;
    stage.watch(verdict.clone(), stop.clone())?;
    let mut load = Load::new(history, arguments.key_sets, seed)?;
    let begin = clock::now();
    populate(arguments, &stage, &mut load)?;
    let length = Duration::from_secs(u64::from(arguments.seconds));
    let calm = CALM_MAX.min(length / 6);
    std::thread::sleep(calm);
    let calm_end = clock::now();
    let at = seconds(calm_end.since(begin));
    println!("  {at:7.1} s  undisturbed so far: {} operations done", load.done());
    let timeline = Timeline::default();
    let nemesis = Nemesis {
        stage: stage.clone(),
        board: board.clone(),
        observer: observer.clone(),
        timeline: timeline.clone(),
        origin: begin,
        stop: stop.clone(),
    };
    let disturbed = disturb(arguments, seed, &nemesis, &load, begin + Span::from(length));
    let cuts = disturbed.unwrap_or_else(|error| {
        verdict.note(format!("{error:#}"));
        None
    });
    board.heal();
    let chaos_end = clock::now();
    println!("  {:7.1} s  healed", seconds(chaos_end.since(begin)));
    if let Err(error) =
        wait::until("a whole cluster at the end", WHOLE, || is_whole(&observer.status()?))
    {
        verdict.note(format!("{error:#}"));
    }
    // While the sessions end one after the other, a key set without writes says nothing.
    let end = clock::now();
    let samples = load.stop()?;
    read_all(&stage, &load, verdict)?;
    stop.store(true, Ordering::Relaxed);
    stage.stop()?;
    Ok(Outcome {
        seed,
        key_sets: arguments.key_sets,
        begin,
        calm_end,
        chaos_end,
        end,
        grace: stage.config.timing().grace,
        faults: timeline.records(),
        cuts,
        samples,
        fortunes: observer.samples(),
        recoveries: observer.recoveries(),
        traffic: board.traffic(),
        history: load.close()?,
    })
}

/// Faults until `end`, or the power cuts that were asked for.
fn disturb(
    arguments: &Arguments,
    seed: u64,
    nemesis: &Nemesis,
    load: &Load,
    end: Time,
) -> Result<Option<Cuts>> {
    if arguments.cuts_power() {
        return nemesis.cut_power(load, arguments.rounds, seed, arguments.disks_lie).map(Some);
    }
    let (servers, clients) = (arguments.servers, arguments.clients);
    let cast = Cast { servers, clients, kills: arguments.replicas - 1 };
    nemesis.run(Schedule::new(seed, cast, arguments.kinds()), end)?;
    Ok(None)
}

/// Lets all clients take part.
fn populate(arguments: &Arguments, stage: &Stage, load: &mut Load) -> Result<()> {
    for node in (1..=arguments.clients).map(Node::Client) {
        load.join(node, &stage.connect(node)?, arguments.key_sets)?;
    }
    load.join_pinned(Node::Client(1), stage, arguments.key_sets)
}

/// The network, with the relay in its middle, and the cluster's files.
fn build(arguments: &Arguments, seed: u64, board: &Board) -> Result<Stage> {
    let nodes = Node::all(arguments.servers, arguments.clients);
    let topology = Topology::new(&nodes)?;
    let plan = Plan {
        name: "chaos".to_owned(),
        servers: arguments.servers.into(),
        replicas: arguments.replicas.into(),
        key_sets: arguments.key_sets,
        durable: arguments.cuts_power(),
        settings: arguments.cuts_power().then(|| CHECKPOINT_LOG.to_owned()).into_iter().collect(),
        ..Plan::default()
    };
    let stage = Stage::create(&arguments.binary, &arguments.folder, topology, plan)?;
    let config = &stage.config;
    let servers = config.servers().iter().flat_map(|it| it.advertise.iter().copied());
    let meta = [config.meta().advertise, config.meta().client_advertise];
    let listening = meta.into_iter().chain(servers).collect();
    topology.on_hub(|| relay::start(board.clone(), listening, seed))??;
    Ok(stage)
}

/// Reads every key once more from a fresh client.
fn read_all(stage: &Stage, load: &Load, verdict: &Verdict) -> Result<()> {
    let client: Client = stage.connect(Node::Client(1))?;
    for key in load.used() {
        let mut answered = false;
        for _ in 0..LAST_READS_MAX {
            answered = load.read(&client, load.new_process(), &key)?;
            if answered {
                break;
            }
        }
        if !answered {
            verdict.note(format!("at the end '{key}' can not be read"));
        }
    }
    Ok(())
}
