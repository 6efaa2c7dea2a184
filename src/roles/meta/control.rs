//! The control thread: servers' links, the machine, and what comes back from the other threads.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::clients::Asked;
use super::journal::{Disk, Told};
use super::shell::MetaShell;
use super::{SharedView, spawn};
use crate::clock;
use crate::config::ClusterConfig;
use crate::driver::{Handle, Ticks};
use crate::identity::Identity;
use crate::net::{
    Acceptor, CloseReason, Connection, Credentials, Endpoint, EndpointOptions, FrameHandler, Lane,
};
use crate::protocol::effect::{MetaInput, Ticket};
use crate::protocol::message::{Hello, HelloAck};
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::meta::{MetaServer, MetaSettings};
use crate::protocol::types::{LinkId, ServerId};
use crate::wire::{self, Frame, HelloRefusal, Local};

/// The metaserver's driver.
pub type Driver = Handle<MetaServer, MetaShell>;

impl Ticks for MetaServer {
    fn tick() -> MetaInput {
        MetaInput::Tick
    }
}

/// What the control thread is made of.
pub struct Control {
    pub config: ClusterConfig,
    pub credentials: Arc<Credentials>,
    pub reset_seed: [u8; 32],
    pub settings: MetaSettings,
    pub records: Vec<MetaRecord>,
    pub disk: Disk,
    pub view: SharedView,
    pub requests: mpsc::Receiver<Asked>,
    /// For the clients' thread: decisions wait for room on the disk.
    pub waits: Arc<AtomicBool>,
}

/// Runs until a signal, or until the journal fails.
pub fn run(control: Control) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                biased;
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        serve(control, stop).await
    })
}

/// Runs within the current `LocalSet` until `stop`, or until the journal fails.
pub async fn serve(control: Control, stop: impl Future<Output = ()>) -> Result<()> {
    let Control { config, credentials, reset_seed, settings, records, disk, .. } = control;
    let (view, mut requests, waits) = (control.view, control.requests, control.waits);
    let Disk { batches, mut told } = disk;
    let options = EndpointOptions { reset_seed: Some(reset_seed), ..EndpointOptions::default() };
    let endpoint = Rc::new(Endpoint::bind(config.meta().listen, credentials, options)?);
    let registered = processes(&records);
    let (spawns, asked) = mpsc::unbounded_channel();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let known = !records.is_empty();
    let machine = MetaServer::new(settings, records, clock::now());
    if known {
        // All of it is durable: clients need not wait for the first change.
        view.store(Arc::new(machine.view()));
    }
    let driver: Driver = Handle::new(machine, MetaShell::new(view, batches, spawns, ends));
    let mut spawner = spawn::spawner(&config)?;
    spawn::adopt(&driver, &mut spawner, &config, &registered)?;
    spawn_local(spawn::run(driver.clone(), spawner, asked));
    spawn_local(driver.clone().run_timer());
    let acceptor = Rc::new(Servers { driver: driver.clone() });
    let listener = endpoint.clone();
    spawn_local(async move { listener.serve(acceptor).await });
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(left) = ended.recv() => return end_with_all(&endpoint, &left).await,
            outcome = told.recv() => match outcome {
                Some(Ok(told)) => take_told(&driver, &waits, told),
                Some(Err(error)) => return Err(error).context(
                    "the metaserver's state can not be made durable; it stops before it says \
                     anything that is not. Repair the disk and start it again",
                ),
                None => bail!("the journal's thread ended"),
            },
            Some(asked) = requests.recv() => take_request(&driver, asked),
        }
    }
    tracing::info!("metaserver stops; servers that it started go on");
    endpoint.shutdown().await;
    Ok(())
}

/// The whole cluster was stopped, and so is the metaserver.
async fn end_with_all(endpoint: &Endpoint, left: &[ServerId]) -> Result<()> {
    tracing::info!("metaserver stops, as the whole cluster does");
    endpoint.shutdown().await;
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.iter().map(|server| server.0.to_string()).collect();
    bail!("the cluster was stopped, but these servers may still run: {}", left.join(", "))
}

/// The processes that registered the latest incarnations, where they are not known to be dead.
fn processes(records: &[MetaRecord]) -> BTreeMap<ServerId, u32> {
    let rows = records.iter().filter_map(|record| match record {
        MetaRecord::Server(row) => Some((row.entry.id, row.process)),
        MetaRecord::Cluster(_)
        | MetaRecord::Set(_)
        | MetaRecord::Recovery(_)
        | MetaRecord::RecoveryForgotten(_) => None,
    });
    rows.collect()
}

fn take_told(driver: &Driver, waits: &AtomicBool, told: Told) {
    match told {
        Told::Persisted(number) => driver.submit(MetaInput::Persisted { number }),
        Told::Full(durable) => {
            waits.store(true, Ordering::Relaxed);
            driver.submit(MetaInput::DiskFull { durable });
        }
        Told::Roomy => {
            waits.store(false, Ordering::Relaxed);
            driver.submit(MetaInput::DiskRoomy);
        }
    }
}

fn take_request(driver: &Driver, asked: Asked) {
    let ticket = driver.with(|_, shell| {
        let ticket = Ticket { link: shell.next_link(), request: 0 };
        shell.waiting.insert(ticket, asked.reply);
        ticket
    });
    let (request, admin) = (asked.request, asked.admin);
    driver.submit(MetaInput::Request { ticket, request, admin });
}

/// Lets servers in.
struct Servers {
    driver: Driver,
}

impl Acceptor for Servers {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        let cluster = self.driver.with(|machine, _| machine.cluster());
        if hello.from.is_none() {
            return Err(HelloRefusal::WrongPurpose { purpose: hello.purpose });
        }
        // A server of another cluster is told by the machine, which knows what to say.
        let hello = Hello { cluster: Default::default(), ..hello.clone() };
        Local { cluster, member: None }.admit(&hello)
    }

    fn on_connection(&self, connection: Connection) {
        let Some(member) = connection.hello().from else { return };
        let worker = connection.hello().from_worker;
        let driver = self.driver.clone();
        spawn_local(async move {
            let link = driver.with(|_, shell| {
                let link = shell.next_link();
                shell.servers.insert(link, connection.clone());
                link
            });
            driver.submit(MetaInput::ServerUp { link, member, worker });
            let reason = connection.run(ServerReader { driver: driver.clone(), link }).await;
            tracing::debug!(%member, "control link ended: {reason}");
            driver.with(|_, shell| shell.servers.remove(&link));
            driver.submit(MetaInput::ServerDown { link });
        });
    }
}

/// Reads what a server says.
struct ServerReader {
    driver: Driver,
    link: LinkId,
}

impl FrameHandler for ServerReader {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let message = wire::decode_to_meta(frame).map_err(CloseReason::Wire)?;
        self.driver.input(MetaInput::FromServer { link: self.link, message });
        Ok(())
    }

    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason> {
        self.on_frame(Lane::Control, frame)
    }

    fn on_batch_end(&mut self) {
        self.driver.settle();
    }
}
