//! One worker thread: its runtime, endpoint and driver, and the tasks around them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{mpsc as queue, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::accept::Doorman;
use super::dial;
use super::disk::Told;
use super::memory::Memory;
use super::plan::Plan;
use super::shell::ServerShell;
use super::{Report, Reports, space};
use crate::clock;
use crate::driver::{Handle, Ticks};
use crate::net::{Endpoint, EndpointOptions};
use crate::protocol::effect::WorkerInput;
use crate::protocol::message::Registration;
use crate::protocol::types::{ClusterId, Incarnation, Member, WorkerId};
use crate::protocol::view::View;
use crate::protocol::worker::{Start, Worker, WorkerSettings};
use crate::wire;

/// How long answers may take to leave a worker that exits.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// What worker 0's registration gave the process.
pub struct Identified {
    pub member: Member,
    pub cluster: ClusterId,
    pub view: View,
    /// Whose memory the process has.
    pub inherits: Option<Incarnation>,
}

/// A worker's driver.
pub type Driver = Handle<Worker, ServerShell>;

impl Ticks for Worker {
    fn tick() -> WorkerInput {
        WorkerInput::Tick
    }
}

/// What a worker waits for before it starts.
pub enum Starting {
    /// Worker 0: whose memory the process has, as all workers found it.
    Registers(oneshot::Receiver<Option<Incarnation>>),
    /// Any other: the identity that worker 0's registration gave the process.
    Attaches(oneshot::Receiver<Identified>),
}

/// How often the wall clock is looked at, and the change, in milliseconds, that counts.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);
const WALL_CLOCK_DRIFT_MS: u64 = 2;

/// A worker that is to be run.
pub struct Body {
    pub plan: Arc<Plan>,
    pub worker: WorkerId,
    pub start: Starting,
    pub stopped: queue::UnboundedReceiver<()>,
    pub reports: Reports,
}

impl Body {
    /// Runs the worker on this thread until it may exit, and reports if it failed.
    pub fn run(self) {
        let reported = self.reports.clone();
        let worker = self.worker;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime
            .map_err(anyhow::Error::from)
            .and_then(|runtime| LocalSet::new().block_on(&runtime, serve(self)));
        if let Err(error) = outcome {
            // The main thread is gone only when the process ends.
            let _ = reported.send(Report::Failed { worker, error });
        }
    }

    /// The same within the current `LocalSet`.
    #[cfg(feature = "hooks")]
    pub async fn run_here(self) {
        let (reported, worker) = (self.reports.clone(), self.worker);
        if let Err(error) = serve(self).await {
            let _ = reported.send(Report::Failed { worker, error });
        }
    }
}

async fn serve(body: Body) -> Result<()> {
    let Body { plan, worker, start, mut stopped, reports } = body;
    let address = plan.server.workers[usize::from(worker.0)];
    let options = EndpointOptions {
        limits: wire::Limits {
            key_bytes_max: plan.limits.key_bytes_max,
            value_bytes_max: plan.limits.value_bytes_max,
        },
        lanes_max: u32::from(plan.key_sets) + 8,
        reset_seed: Some(plan.reset_seed),
        ..EndpointOptions::default()
    };
    // Bound before registration: whoever is registered listens (rule 11).
    let endpoint = Rc::new(Endpoint::bind(address, plan.credentials.clone(), options)?);
    let mut memory = Memory::open(&plan, worker)?;
    // The main thread is gone only when the process ends.
    let _ = reports.send(Report::Recovered { worker, identity: memory.identity() });
    let (start, inherits) = match start {
        Starting::Registers(found) => {
            let Ok(inherits) = found.await else { return Ok(()) };
            let registration = Registration { inherits, ..plan.registration.clone() };
            (Start::Register(registration), inherits)
        }
        Starting::Attaches(identified) => {
            let Ok(known) = identified.await else { return Ok(()) };
            let Identified { member, cluster, view, inherits } = known;
            (Start::Attached { member, cluster, view }, inherits)
        }
    };
    if inherits.is_none() {
        memory = memory.without_past(&plan, worker)?;
    }
    let (engine, inheritance, told) = memory.start()?;
    let settings = WorkerSettings {
        worker,
        workers: u16::try_from(plan.server.workers.len()).unwrap_or(u16::MAX),
        timing: plan.timing,
        limits: plan.limits,
        start,
        inheritance,
    };
    let machine = Worker::new(settings, clock::now());
    let (done, mut finished) = queue::unbounded_channel();
    let (endpoint_here, reports_here) = (endpoint.clone(), reports.clone());
    let shell = ServerShell::new(plan.clone(), worker, endpoint_here, reports_here, done, engine);
    let driver = Handle::new(machine, shell);
    driver.with(|machine, shell| shell.begin(&driver, machine));
    spawn_tasks(&driver, &plan, &endpoint, worker, told);
    loop {
        tokio::select! {
            biased;
            Some(()) = stopped.recv() => driver.submit(WorkerInput::Stop),
            _ = finished.recv() => break,
        }
    }
    // What was said last is still on its way: the endpoint says goodbye after it.
    let _ = tokio::time::timeout(LAST_ANSWERS, std::future::pending::<()>()).await;
    endpoint.shutdown().await;
    // The main thread is gone only when the process ends.
    let _ = reports.send(Report::MayExit { worker });
    Ok(())
}

/// What brings inputs to the worker, each for as long as it runs.
fn spawn_tasks(
    driver: &Driver,
    plan: &Arc<Plan>,
    endpoint: &Rc<Endpoint>,
    worker: WorkerId,
    told: Option<queue::UnboundedReceiver<Told>>,
) {
    driver.input(WorkerInput::WallClock { ahead_ms: clock::wall_ahead_ms() });
    spawn_local(watch_wall_clock(driver.clone()));
    spawn_local(driver.clone().run_timer());
    if let Some(told) = told {
        spawn_local(hear_disk(driver.clone(), told));
    }
    spawn_local(dial::keep_control_link(driver.clone(), plan.clone(), endpoint.clone(), worker));
    spawn_local(space::watch(driver.clone(), plan.clone(), worker));
    let (listener, doorman) = (endpoint.clone(), Rc::new(Doorman::new(driver.clone())));
    spawn_local(async move { listener.serve(doorman).await });
}

/// Expiries follow the wall clock, which may be set while this runs.
async fn watch_wall_clock(driver: Driver) {
    let mut told = clock::wall_ahead_ms();
    loop {
        tokio::time::sleep(WALL_CLOCK_EVERY).await;
        let ahead_ms = clock::wall_ahead_ms();
        if ahead_ms.abs_diff(told) > WALL_CLOCK_DRIFT_MS {
            told = ahead_ms;
            driver.input(WorkerInput::WallClock { ahead_ms });
        }
    }
}

/// Brings back what the disk has done.
async fn hear_disk(driver: Driver, mut told: queue::UnboundedReceiver<Told>) {
    while let Some(told) = told.recv().await {
        let done = driver.with(|machine, shell| shell.on_told(told, machine));
        done.into_iter().for_each(|completion| driver.input(completion));
        driver.settle();
    }
}
