//! Every process of a durable cluster restarted in turn under load, from an older program to the
//! current one: servers first, the metaserver last, as a person would.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tandem::client::{Operation, block_on};
use tandem::clock;
use tandem::protocol::meta::Status;
use tandem::protocol::time::Span;
use tandem::protocol::types::ServerId;
use tandem_local::stage::WHOLE;
use tandem_local::{Load, Place, Plan, Role, Stage};

use crate::pace::bar;
use crate::report::{Report, ms};

/// How long a process may take to stop in order.
const STOPPED: Duration = Duration::from_secs(30);

/// Writes that have to be acknowledged between two steps.
const PROGRESS: u64 = 50;

/// Keys that are stored before the first step, and their values' length.
const KEYS: u32 = 10_000;
const VALUE_BYTES: usize = 1_000;

#[derive(Args, Debug)]
pub struct Options {
    /// The older `tandem` that the cluster starts with; without it the current one.
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..))]
    servers: u16,
    /// Clients, each with a writer and a reader.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    pub fn time_max(&self) -> Duration {
        WHOLE * 3 * u32::from(self.servers + 1)
    }
}

/// What one restart took.
struct Step {
    name: String,
    stopped: Span,
    whole: Span,
    /// The request that waited longest while it lasted.
    pause: Span,
    /// Requests that failed so far.
    failed: u64,
}

/// Runs the drill.
///
/// # Errors
/// A promise was broken, or the cluster does not become whole again.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let plan = Plan {
        key_sets: options.key_sets,
        servers: options.servers,
        spawn: false,
        durable: true,
        ..Plan::default()
    };
    let from = options.from.clone().unwrap_or_else(|| place.binary.clone());
    let from = from.canonicalize().with_context(|| format!("finding {}", from.display()))?;
    let mut stage = Stage::start(&Place { binary: from, folder: place.folder.clone() }, &plan)?;
    stage.cluster.become_binary(&place.binary);
    fill(&stage)?;
    let load = stage.load(usize::from(options.clients))?;
    let bar = bar("upgrade", u64::from(options.servers) + 1)?;
    let roles = (1..=options.servers).map(|id| Role::Server(ServerId(id))).chain([Role::Meta]);
    let mut steps = Vec::new();
    for role in roles {
        let step = restart(&mut stage, &load, role)?;
        bar.suspend(|| {
            println!(
                "  {:<10} stopped in {:>7.1} ms, whole after {:>7.1} ms; longest wait {:>6.1} ms; \
                 {} requests failed",
                step.name,
                ms(step.stopped),
                ms(step.whole),
                ms(step.pause),
                step.failed
            );
        });
        steps.push(step);
        bar.inc(1);
    }
    bar.finish_and_clear();
    conclude(place, options, &stage, load, &steps)
}

/// Stores what every restart has to keep.
fn fill(stage: &Stage) -> Result<()> {
    let session = stage.client.session();
    for part in 0..KEYS / 500 {
        let put = |number: u32| Operation::Put {
            key: format!("kept-{number}").into(),
            value: value(number).into(),
        };
        let stored = block_on(session.batch((part * 500..(part + 1) * 500).map(put).collect()));
        stored.into_iter().collect::<Result<Vec<_>, _>>().context("storing data")?;
    }
    Ok(())
}

fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(VALUE_BYTES / 4)
}

/// Stops the process of `role` in order, starts the current program in its place, and waits until
/// nothing is missing.
fn restart(stage: &mut Stage, load: &Load, role: Role) -> Result<Step> {
    stage.until_progress(load, PROGRESS)?;
    let before = incarnation(&stage.until_whole()?, role);
    let _ = load.take_slowest();
    let begun = clock::now();
    stage.cluster.terminate(role, STOPPED)?;
    let stopped = clock::now().since(begun);
    let name = match role {
        Role::Server(id) => {
            stage.cluster.start_server(id)?;
            format!("server {}", id.0)
        }
        Role::Meta | Role::Client => {
            stage.cluster.start_meta()?;
            "metaserver".to_owned()
        }
    };
    tandem_local::wait::until("the new process", WHOLE, || {
        let after = incarnation(&stage.status()?, role);
        let came = after > before || role == Role::Meta;
        came.then_some(()).ok_or_else(|| format!("incarnation {after:?}"))
    })?;
    stage.until_whole()?;
    let whole = clock::now().since(begun);
    let pause = load.take_slowest().wait;
    load.check()?;
    Ok(Step { name, stopped, whole, pause, failed: load.tally().failed() })
}

/// The incarnation of the server in this role.
fn incarnation(status: &Status, role: Role) -> Option<u64> {
    let server = status.servers.iter().find(|it| role == Role::Server(it.id))?;
    Some(server.incarnation.0)
}

fn conclude(
    place: &Place,
    options: &Options,
    stage: &Stage,
    load: Load,
    steps: &[Step],
) -> Result<Report> {
    stage.until_progress(&load, PROGRESS)?;
    let failure = load.first_failure();
    let tally = load.finish(&stage.client)?;
    let session = stage.client.session();
    for number in 0..KEYS {
        let read = block_on(session.get(format!("kept-{number}")))?;
        let found = read.item.map(|it| it.value.to_vec());
        ensure!(found == Some(value(number)), "key kept-{number} is not what was stored");
    }
    let mut report = Report::default();
    let binary = place.binary.canonicalize()?;
    for process in stage.cluster.processes()? {
        let runs = std::fs::read_link(format!("/proc/{}/exe", process.pid))?;
        let words = format!("{:?} runs {}", process.role, runs.display());
        report.demand(runs == binary, words);
    }
    let worst = |of: fn(&Step) -> Span| ms(steps.iter().map(of).max().unwrap_or_default());
    let older = options.from.as_ref().map(|it| it.display().to_string());
    report.figure("from", older.unwrap_or_else(|| "the current program".to_owned()));
    report.figure("processes_restarted", steps.len());
    report.figure("longest_wait_ms", worst(|it| it.pause));
    report.figure("longest_stop_ms", worst(|it| it.stopped));
    report.figure("longest_until_whole_ms", worst(|it| it.whole));
    report.figure("reads", tally.reads);
    report.figure("writes", tally.writes);
    report.figure("keys_kept", KEYS);
    report.figure("requests_failed", tally.failed());
    report.demand(
        tally.failed() == 0,
        format!("{} requests failed; the first: {}", tally.failed(), failure.unwrap_or_default()),
    );
    Ok(report)
}
