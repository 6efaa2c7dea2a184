//! One worker thread: its runtime, endpoint and driver, and the tasks around them.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{mpsc as queue, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::accept::Doorman;
use super::dial;
use super::shell::ServerShell;
use super::{Plan, Report};
use crate::clock;
use crate::driver::{Handle, Ticks};
use crate::net::{Endpoint, EndpointOptions};
use crate::protocol::effect::WorkerInput;
use crate::protocol::types::{ClusterId, Member, WorkerId};
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
}

/// A worker's driver.
pub type Driver = Handle<Worker, ServerShell>;

impl Ticks for Worker {
    fn tick() -> WorkerInput {
        WorkerInput::Tick
    }
}

/// Runs a worker until it may exit; worker 0 has nothing to wait for.
pub fn run(
    plan: Arc<Plan>,
    worker: WorkerId,
    identified: Option<oneshot::Receiver<Identified>>,
    stopped: queue::UnboundedReceiver<()>,
    reports: mpsc::Sender<Report>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(plan, worker, identified, stopped, reports))
}

async fn serve(
    plan: Arc<Plan>,
    worker: WorkerId,
    identified: Option<oneshot::Receiver<Identified>>,
    mut stopped: queue::UnboundedReceiver<()>,
    reports: mpsc::Sender<Report>,
) -> Result<()> {
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
    let start = match identified {
        None => Start::Register(plan.registration.clone()),
        Some(identified) => {
            let Ok(known) = identified.await else { return Ok(()) };
            let Identified { member, cluster, view } = known;
            Start::Attached { member, cluster, view }
        }
    };
    let settings = WorkerSettings {
        worker,
        workers: u16::try_from(plan.server.workers.len()).unwrap_or(u16::MAX),
        timing: plan.timing,
        limits: plan.limits,
        start,
        inheritance: Vec::new(),
    };
    let machine = Worker::new(settings, clock::now());
    let (done, mut finished) = queue::unbounded_channel();
    let shell = ServerShell::new(plan.clone(), worker, endpoint.clone(), reports.clone(), done);
    let driver = Handle::new(machine, shell);
    driver.with(|machine, shell| shell.begin(&driver, machine));
    spawn_local(driver.clone().run_timer());
    spawn_local(dial::keep_control_link(driver.clone(), plan.clone(), endpoint.clone(), worker));
    let doorman = Rc::new(Doorman::new(driver.clone()));
    let listener = endpoint.clone();
    spawn_local(async move { listener.serve(doorman).await });
    loop {
        tokio::select! {
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
