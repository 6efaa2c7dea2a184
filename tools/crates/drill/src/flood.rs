//! Clients that flood the metaserver's port for clients with view requests and handshakes.
//!
//! Half of them hold a connection and ask for the view again and again; the other half dial,
//! say `Hello` and hang up. Meanwhile a small load goes on. Nobody may be suspected for it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::ProgressBar;
use tandem::config::ClusterConfig;
use tandem::net::{
    CloseReason, Connection, Credentials, Endpoint, EndpointOptions, FrameHandler, Lane,
};
use tandem::protocol::message::MetaRequest;
use tandem::wire::{self, Frame};
use tandem_local::stage::epochs;
use tandem_local::{CLIENT, Place, Plan, Stage};
use tokio::task::{LocalSet, spawn_local};

use crate::pace::bar;
use crate::report::{Report, ms};

/// View requests that each asking client keeps in flight.
const ASKED: u64 = 4;

/// UDP ports that the clients share.
const PORTS: usize = 8;

/// Between two looks at the time.
const TICK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(2..))]
    clients: u16,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
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
/// The cluster does not come up, or a promise was broken.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let plan = Plan { key_sets: options.key_sets, ..Plan::default() };
    let stage = Stage::start(place, &plan)?;
    let load = stage.load(2)?;
    let before = stage.until_whole()?;
    let _ = load.take_slowest();
    let bar = bar("flood", options.length().as_millis() as u64)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    let counts = LocalSet::new().block_on(&runtime, flood(stage.cluster.config(), options, &bar));
    drop(runtime);
    bar.finish_and_clear();
    let counts = counts?;
    let (wait_max, failure) = (load.take_slowest().wait, load.first_failure());
    let after = stage.until_whole()?;
    let tally = load.finish(&stage.client)?;
    let mut report = Report::default();
    report.figure("clients", options.clients);
    report.figure("seconds", options.seconds);
    report.figure("views_answered", counts.views.get());
    report.figure("handshakes_done", counts.handshakes.get());
    report.figure("handshakes_turned_away", counts.turned_away.get());
    report.figure("recoveries", after.recoveries.len());
    report.figure("load_reads", tally.reads);
    report.figure("load_writes", tally.writes);
    report.figure("load_longest_wait_ms", ms(wait_max));
    report.figure("load_requests_failed", tally.failed());
    let (old, new) = (epochs(&before), epochs(&after));
    let changed = new.iter().filter(|(set, epoch)| old.get(set) != Some(epoch)).count();
    report.figure("epochs_changed", changed);
    report.demand(changed == 0, format!("the epoch of {changed} key sets changed"));
    report.demand(
        after.recoveries.len() == before.recoveries.len(),
        format!("a server was suspected: {:?}", after.recoveries.last()),
    );
    report.demand(counts.views.get() > 0, "no view request was ever answered");
    report.demand(counts.handshakes.get() > 0, "no handshake was ever done");
    report.demand(
        tally.failed() == 0,
        format!("{} requests of the load failed: {}", tally.failed(), failure.unwrap_or_default()),
    );
    Ok(report)
}

/// What the flood came to.
#[derive(Default)]
struct Counts {
    views: Cell<u64>,
    handshakes: Cell<u64>,
    turned_away: Cell<u64>,
    over: Cell<bool>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

async fn flood(config: &ClusterConfig, options: &Options, bar: &ProgressBar) -> Result<Rc<Counts>> {
    let identity = config.client_or_admin(CLIENT).context("every plan lists this client")?;
    let files = config.credential_files(&identity);
    let credentials = Credentials::load(&config.ca_file(), &files.certificate, &files.key)?;
    let credentials = Arc::new(credentials);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoints = (0..PORTS)
        .map(|_| Ok(Rc::new(Endpoint::bind(any, credentials.clone(), roomy())?)))
        .collect::<Result<Vec<_>>>()?;
    let counts = Rc::new(Counts::default());
    let target =
        Target { address: config.meta().client_advertise, expected: config.meta_identity() };
    let target = Rc::new(target);
    let mut clients = Vec::new();
    for number in 0..usize::from(options.clients) {
        let client = Client {
            endpoint: endpoints[number % PORTS].clone(),
            target: target.clone(),
            counts: counts.clone(),
        };
        clients.push(if number % 2 == 0 {
            spawn_local(client.ask())
        } else {
            spawn_local(client.dial())
        });
    }
    for _ in 0..options.length().as_millis() / TICK.as_millis() {
        tokio::time::sleep(TICK).await;
        bar.inc(TICK.as_millis() as u64);
    }
    counts.over.set(true);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(counts)
}

fn roomy() -> EndpointOptions {
    EndpointOptions { connections_max: 100_000, ..EndpointOptions::default() }
}

struct Target {
    address: SocketAddr,
    expected: tandem::identity::Identity,
}

/// One client of the flood.
struct Client {
    endpoint: Rc<Endpoint>,
    target: Rc<Target>,
    counts: Rc<Counts>,
}

impl Client {
    /// Holds a connection, and asks for the view as fast as it is answered.
    async fn ask(self) {
        while !self.counts.over.get() {
            let Some(connection) = self.connect().await else { continue };
            for number in 0..ASKED {
                ask(&connection, number);
            }
            let asker = Asker { connection: connection.clone(), counts: self.counts.clone() };
            connection.run(asker).await;
        }
    }

    /// Dials and hangs up, again and again.
    async fn dial(self) {
        while !self.counts.over.get() {
            if let Some(connection) = self.connect().await {
                connection.close(CloseReason::Done);
            }
        }
    }

    async fn connect(&self) -> Option<Connection> {
        let Target { address, expected } = &*self.target;
        match self.endpoint.dial(*address, expected, wire::client_hello(None)).await {
            Ok(connection) => {
                count(&self.counts.handshakes);
                Some(connection)
            }
            Err(_) => {
                count(&self.counts.turned_away);
                None
            }
        }
    }
}

fn ask(connection: &Connection, number: u64) {
    // A failed sending shows in the end of the connection.
    let _ = connection.send(Lane::Control, |buffer, limits| {
        wire::encode_meta_request(buffer, limits, number, &MetaRequest::View)
    });
}

/// Answers each view with the next question.
struct Asker {
    connection: Connection,
    counts: Rc<Counts>,
}

impl FrameHandler for Asker {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        count(&self.counts.views);
        ask(&self.connection, frame.request);
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Ok(())
    }

    fn on_batch_end(&mut self) {}
}
