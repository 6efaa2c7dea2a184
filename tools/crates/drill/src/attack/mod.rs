//! Attacks on a running server and metaserver: each refused by name, and no memory kept.
//!
//! Full handshakes cost a thousand times what a garbage datagram costs, so a part of the attempts
//! are handshakes of every wrong kind and all the rest is garbage.

mod datagrams;
mod frames;
mod handshakes;
mod memory;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tandem::client::block_on;
use tandem_local::stage::epochs;
use tandem_local::{Place, Plan, Stage};
use tokio::task::LocalSet;

use self::handshakes::{Kind, Target};
use self::memory::Memory;
use crate::pace::bar;
use crate::report::Report;

/// How much a process may grow over all attempts.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

#[derive(Args, Debug)]
pub struct Options {
    /// Attempts of all kinds together.
    #[arg(long, default_value_t = 100_000)]
    attempts: u64,
    /// Attempts of each kind that needs a handshake, over all targets.
    #[arg(long, default_value_t = 2_000)]
    handshakes: u64,
}

impl Options {
    pub fn time_max(&self) -> Duration {
        // A handshake a hundredth of a second, on a busy machine.
        Duration::from_millis(self.handshakes * 10 * KINDS) + Duration::from_secs(120)
    }
}

/// Kinds of attempts with a handshake.
const KINDS: u64 = 9;

/// What attempts of one kind on one target met: the named errors and how often, with one of them
/// in full.
#[derive(Debug, Default)]
pub struct Met {
    errors: BTreeMap<String, (u64, String)>,
    /// Attempts that were let in.
    let_in: u64,
}

impl Met {
    /// Counts an attempt that was refused by the error called `name`.
    pub fn on_refused(&mut self, name: String, words: impl FnOnce() -> String) {
        self.errors.entry(name).or_insert_with(|| (0, words())).0 += 1;
    }

    pub fn on_let_in(&mut self) {
        self.let_in += 1;
    }

    fn count(&self) -> u64 {
        self.let_in + self.errors.values().map(|it| it.0).sum::<u64>()
    }
}

/// Runs the drill.
///
/// # Errors
/// The cluster does not come up, or does not serve afterwards.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let stage = Stage::start(place, &Plan::default())?;
    let session = stage.client.session();
    block_on(session.put("before", "here"))?;
    let before = stage.until_whole()?;
    let processes = stage.cluster.processes()?;
    let mut memory = Memory::start(&processes)?;
    let mut report = Report::default();
    let bar = bar("attack", options.attempts)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let targets = Target::all(&stage.cluster, &before)?;
    let garbage = options.attempts.saturating_sub(KINDS * options.handshakes);
    LocalSet::new().block_on(&runtime, async {
        for kind in Kind::ALL {
            let fitting: Vec<&Target> = targets.iter().filter(|it| kind.fits(it)).collect();
            let share = options.handshakes.div_ceil(fitting.len() as u64);
            for target in fitting {
                let met = match kind {
                    Kind::Truncated | Kind::TruncatedHello | Kind::Huge | Kind::HugeHello => {
                        frames::attack(stage.cluster.config(), kind, target, share, &bar).await?
                    }
                    Kind::ForeignAuthority
                    | Kind::Expired
                    | Kind::ClientAsServer
                    | Kind::OtherName
                    | Kind::OtherCluster => {
                        let config = stage.cluster.config();
                        handshakes::attack(config, kind, target, share, &bar).await?
                    }
                };
                memory.look()?;
                bar.suspend(|| tell(&mut report, kind, target, &met));
            }
        }
        for target in &targets {
            let sent =
                datagrams::attack(target, garbage.div_ceil(targets.len() as u64), &bar).await?;
            memory.look()?;
            report.figure(&format!("garbage datagrams at the {}", target.name), sent);
        }
        anyhow::Ok(())
    })?;
    drop(runtime);
    bar.finish_and_clear();
    // Whoever still serves is neither dead nor full.
    block_on(session.put("after", "here")).context("a good client after the attack")?;
    let fresh = stage.connect()?.session();
    block_on(fresh.get("before")).context("a new client after the attack")?;
    let after = stage.until_whole()?;
    report.demand(epochs(&before) == epochs(&after), "an epoch changed under attack");
    report.demand(processes == stage.cluster.processes()?, "a process died under attack");
    memory.tell(&mut report, GROWTH_BYTES_MAX)?;
    Ok(report)
}

fn tell(report: &mut Report, kind: Kind, target: &Target, met: &Met) {
    let label = format!("{} at the {}", kind.name(), target.name);
    println!("  {label}: {} attempts", met.count());
    for (name, (count, words)) in &met.errors {
        println!("    {count:>6} x {name}");
        println!("             {words}");
        let right = kind.is_refused_by(name);
        report.demand(right, format!("{label}: refused {count} times by another error: {words}"));
    }
    let errors: BTreeMap<&str, u64> =
        met.errors.iter().map(|(name, it)| (name.as_str(), it.0)).collect();
    report.figure(&label, json!(errors));
    report.demand(met.let_in == 0, format!("{label}: {} were let in", met.let_in));
}
