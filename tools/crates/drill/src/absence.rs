//! The metaserver killed under load and left away; clients start meanwhile; then a recovery.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tandem::client::block_on;
use tandem::clock;
use tandem::protocol::time::Span;
use tandem_local::stage::member;
use tandem_local::{Place, Plan, Role, Stage};

use crate::pace::{bar, pass};
use crate::report::{Report, ms};

/// How often a client starts while the metaserver is away.
const CLIENT_EVERY: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub struct Options {
    /// How long the metaserver is away.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Clients from the start, each with a writer and a reader; others join.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// Runs the drill.
///
/// # Errors
/// A promise was broken, a client finds no way, or the cluster does not recover afterwards.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let plan = Plan { key_sets: options.key_sets, ..Plan::default() };
    let mut stage = Stage::start(place, &plan)?;
    let mut load = stage.load(usize::from(options.clients))?;
    let servers = servers(&stage)?;
    let _ = load.take_slowest();
    stage.cluster.kill(Role::Meta)?;
    let begun = clock::now();
    let bar = bar("absence", options.length().as_millis() as u64)?;
    let (mut joined, mut join_max) = (0_u32, Span::ZERO);
    while clock::now().since(begun) < Span::from(options.length()) {
        let started = clock::now();
        let client = stage.connect()?;
        let session = client.session().with_timeout(Duration::from_secs(10));
        block_on(session.put(format!("joined-{joined}"), "here"))
            .context("a client that started without the metaserver")?;
        let wait = clock::now().since(started);
        join_max = join_max.max(wait);
        load.join(&client, &format!("joined-{joined}"), 1);
        joined += 1;
        let left = Span::from(options.length()).0.saturating_sub(clock::now().since(begun).0);
        pass(CLIENT_EVERY.min(Duration::from_nanos(left)), &bar)?;
        load.check()?;
    }
    bar.finish_and_clear();
    let away = load.tally();
    let (wait_max, failure) = (load.take_slowest().wait, load.first_failure());
    let begun = clock::now();
    stage.cluster.start_meta()?;
    let status = stage.until_whole()?;
    let back = clock::now().since(begun);
    println!(
        "  without the metaserver: {} reads, {} writes, {} failed; {joined} clients joined, the \
         slowest in {:.1} ms",
        away.reads,
        away.writes,
        away.failed(),
        ms(join_max)
    );
    let mut report = Report::default();
    report.demand(
        away.failed() == 0,
        format!("{} requests failed without it: {}", away.failed(), failure.unwrap_or_default()),
    );
    report.demand(servers == self::servers(&stage)?, "servers were replaced on its return");
    let victim = status.servers.iter().max_by_key(|it| it.primary_of).context("servers")?;
    let begun = clock::now();
    stage.kill(victim)?;
    stage.until_recovered(member(victim))?;
    let recovered = clock::now().since(begun);
    let tally = load.finish(&stage.client)?;
    report.figure("seconds", options.seconds);
    report.figure("reads", tally.reads);
    report.figure("writes", tally.writes);
    report.figure("clients_joined", joined);
    report.figure("slowest_join_ms", ms(join_max));
    report.figure("longest_wait_ms", ms(wait_max));
    report.figure("requests_failed", tally.failed());
    report.figure("whole_after_return_ms", ms(back));
    report.figure("recovery_of_a_server_after_ms", ms(recovered));
    Ok(report)
}

/// The servers' processes.
fn servers(stage: &Stage) -> Result<Vec<tandem_local::Process>> {
    let processes = stage.cluster.processes()?.into_iter();
    Ok(processes.filter(|it| matches!(it.role, Role::Server(_))).collect())
}
