//! `tandem-simulate`: runs seeded worlds on every core, adds up what they came to, and judges it.
//!
//! One seed in a hundred is run twice: equal seeds must give equal runs. A seed that breaks a
//! property is made smaller and leaves a trace file.

mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tandem::clock;
use tandem::protocol::time::Span;
use tandem::sim::{Options, Report, simulate};
use tandem_simulate::shrink::shrink;
use tandem_simulate::trace_file::{self, Recipe};

use crate::summary::Summary;

/// One seed in this many is run twice.
const TWICE: u64 = 100;

/// With this many failovers every cell of the coverage table must have been hit.
/// The rarest, a crash of a learner outside of any recovery, comes about four times in 100,000.
const FAILOVERS_COVERED: u64 = 1_000_000;

/// Virtual time that a run has for each of its power cuts.
const POWER_CUT_MAX: Span = Span::from_millis(10_000);

/// Inputs that a run has for each of its power cuts.
const STEPS_MAX: u64 = 50_000;

/// Tries to make a failing run smaller.
const SHRINK_RUNS_MAX: u32 = 150;

/// Runs seeded worlds of the production machines under faults of all kinds, and judges every
/// answer, every lease, every configuration, and whether all is whole again in the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "tools/simulate")]
struct Arguments {
    /// Where trace files go.
    #[arg(long, hide = true)]
    folder: PathBuf,
    /// Stop after that many failovers: promotions and removals of failed members.
    #[arg(long, default_value_t = 100_000)]
    failovers: u64,
    /// Instead, stop after that many power cuts: every server and the metaserver gone at once, with
    /// what was not synced. All servers are durable then.
    #[arg(long, default_value_t = 0)]
    power_cuts: u64,
    /// Let servers fill up and have room again, so that writes are refused and key sets move.
    #[arg(long)]
    space: bool,
    /// The first seed; the next runs take the next ones. Without it a new one is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// Failovers, or power cuts, of one seed's run: more of them spend less time on birth and
    /// healing.
    #[arg(long, default_value_t = Options::default().failovers)]
    length: u64,
    /// Runs at a time; as many as there are cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop after that many seconds at the latest.
    #[arg(long)]
    seconds: Option<u64>,
    /// Demand that every feasible cell of the coverage table was hit that often; 20 from a million
    /// failovers on, and 0 below.
    #[arg(long)]
    least: Option<u64>,
    /// Go on after a broken property, until that many seeds broke one.
    #[arg(long, default_value_t = 1)]
    broken_max: usize,
    /// Print a line for every seed.
    #[arg(long)]
    verbose: bool,
    /// How the end is told: in words, or as one JSON object on the last line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Arguments {
    /// How one seed's run is had.
    fn options(&self) -> Options {
        let usual = Options { hash: false, text: false, space: self.space, ..Options::default() };
        if self.power_cuts == 0 {
            return Options { failovers: self.length, ..usual };
        }
        let trouble = POWER_CUT_MAX.scaled(self.length, 1);
        Options { power_cuts: self.length, trouble, steps_max: self.length * STEPS_MAX, ..usual }
    }

    fn wanted(&self) -> String {
        match self.power_cuts {
            0 => format!("{} failovers", self.failovers),
            cuts => format!("{cuts} power cuts"),
        }
    }

    fn is_enough(&self, summary: &Summary) -> bool {
        match self.power_cuts {
            0 => summary.failovers >= self.failovers,
            cuts => summary.power_cuts >= cuts,
        }
    }
}

/// What the runs share.
struct Shared {
    arguments: Arguments,
    options: Options,
    next: AtomicU64,
    stop: AtomicBool,
    summary: Mutex<Summary>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The simulation failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    let first = arguments.seed.unwrap_or_else(|| clock::now().0 % 1_000_000_000);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let options = arguments.options();
    println!("seeds from {first}, {jobs} at a time, {} wanted", arguments.wanted());
    let json = arguments.output == Output::Json;
    let shared = Shared {
        arguments,
        options,
        next: AtomicU64::new(first),
        stop: AtomicBool::new(false),
        summary: Mutex::new(Summary::new(first, jobs)),
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| work(&shared))).collect();
        let ends = workers.into_iter().map(|it| it.join().expect("a run does not panic"));
        ends.collect::<Result<Vec<()>>>()
    })?;
    let Shared { arguments, summary, .. } = shared;
    let mut summary = summary.into_inner().expect("no run panicked");
    let enough = summary.failovers >= FAILOVERS_COVERED;
    summary.demand(arguments.least.unwrap_or(if enough { 20 } else { 0 }));
    summary.print(json);
    Ok(summary.holds())
}

/// Runs one seed after another until there is enough.
fn work(shared: &Shared) -> Result<()> {
    let arguments = &shared.arguments;
    let began = clock::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        let twice = seed.is_multiple_of(TWICE);
        let options = Options { hash: twice, ..shared.options };
        let report = simulate(seed, options);
        let strayed = twice && {
            let again = simulate(seed, options);
            (again.hash, again.steps) != (report.hash, report.steps)
        };
        let trace = match &report.violation {
            Some(_) => Some(keep_trace(arguments, &report, options)?),
            None => None,
        };
        if arguments.verbose {
            println!("{report}");
        }
        let mut summary = shared.summary.lock().expect("no run panicked");
        summary.add(&report, twice, strayed, trace);
        let late = arguments
            .seconds
            .is_some_and(|limit| clock::now().since(began) >= Span::from_millis(limit * 1_000));
        if arguments.is_enough(&summary) || summary.broken() >= arguments.broken_max || late {
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Makes the failing run smaller, tells what is left of it, and writes its trace.
fn keep_trace(arguments: &Arguments, report: &Report, options: Options) -> Result<PathBuf> {
    println!("{report}");
    let smaller = shrink(report, options, SHRINK_RUNS_MAX);
    let mut recipe = Recipe::of(report, options, None);
    if let Some(smaller) = smaller {
        let faults = smaller.kept.iter().map(|&place| report.strikes[place]);
        let begun = faults.filter(|(_, fault)| tandem_simulate::shrink::is_beginning(*fault));
        let begun: Vec<_> = begun.collect();
        println!("  it takes {} of its {} faults:", begun.len(), smaller.begun);
        for (at, fault) in begun.iter().take(30) {
            println!("    {:>10} us  {fault:?}", at.0 / 1_000);
        }
        recipe = Recipe::of(&smaller.report, options, Some(smaller.kept));
    }
    let again = recipe.run();
    recipe.hash = again.hash;
    let path = trace_file::write(&arguments.folder, &recipe, &again.text);
    let path = path.context("keeping the trace")?;
    println!("  tools/replay {}", path.display());
    Ok(path)
}
