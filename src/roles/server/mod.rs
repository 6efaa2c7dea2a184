//! `--role server`: a thread a worker, each with its port, its machine and its engine.
//!
//! ```text
//!   main thread: state directory, signals, exit
//!   worker 0 ... worker n: runtime, endpoint, Handle<Worker, ServerShell>
//! ```
//!
//! Worker 0 registers the process; its answer starts the others. The process ends when every
//! worker may exit, or at once when the metaserver will not have it.

mod accept;
mod bulk;
mod dial;
mod disk;
mod engine;
mod memory;
mod plan;
mod shell;
mod space;
mod turn;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tokio::sync::mpsc;

use self::plan::Plan;
use crate::config::ClusterConfig;
use crate::process::{KnownCluster, OwnIdentity, StateDir, StateError};
use crate::protocol::message::RegistrationRefusal;
use crate::protocol::types::{ClusterId, Epoch, Incarnation, KeySet, Member, ServerId, WorkerId};
use crate::protocol::view::View;

/// Takes what workers tell.
pub(super) type Reports = mpsc::UnboundedSender<Report>;

/// What a worker tells the main thread.
pub(super) enum Report {
    /// What it kept is read, and is the memory of this incarnation, if of any.
    Recovered {
        worker: WorkerId,
        identity: Option<Incarnation>,
    },
    /// Worker 0: the process has its identity.
    Registered {
        member: Member,
        cluster: ClusterId,
        view: View,
    },
    /// The highest epoch grew for the first time.
    KnowsEpoch {
        cluster: ClusterId,
        epoch: Epoch,
    },
    /// This worker serves nothing any more.
    MayExit {
        worker: WorkerId,
    },
    HeldUp {
        sets: Vec<KeySet>,
    },
    Deposed {
        reason: RegistrationRefusal,
    },
    /// A signal asks to stop.
    StopAsked,
    Failed {
        worker: WorkerId,
        error: anyhow::Error,
    },
}

/// Runs one server until it may exit.
///
/// # Errors
/// It can not start, or the metaserver will not have it; in words that say what to do.
pub fn run(config: &ClusterConfig, id: ServerId) -> Result<()> {
    let (reports, mut inbox) = mpsc::unbounded_channel();
    let mut main = Main::start(config, id, std::process::id(), &reports, |index, body| {
        let thread = std::thread::Builder::new().name(format!("worker-{index}"));
        thread.spawn(move || body.run()).context("can not start a worker thread")?;
        Ok(())
    })?;
    watch_signals(reports)?;
    tracing::info!(server = id.0, process = std::process::id(), "server starts");
    while let Some(report) = inbox.blocking_recv() {
        if main.on_report(report)? {
            return Ok(());
        }
    }
    bail!("all workers of server {} ended", id.0)
}

/// Test builds only: the same within the current `LocalSet`, as process number `process`; `stop`
/// stands for signals. Whoever drops that `LocalSet` kills the server.
///
/// # Errors
/// As for `run`.
#[cfg(feature = "hooks")]
pub async fn run_here(
    config: &ClusterConfig,
    id: ServerId,
    process: u32,
    mut stop: mpsc::UnboundedReceiver<()>,
) -> Result<()> {
    let (reports, mut inbox) = mpsc::unbounded_channel();
    let mut main = Main::start(config, id, process, &reports, |_, body| {
        tokio::task::spawn_local(body.run_here());
        Ok(())
    })?;
    loop {
        let report = tokio::select! {
            biased;
            Some(report) = inbox.recv() => report,
            Some(()) = stop.recv() => Report::StopAsked,
        };
        if main.on_report(report)? {
            return Ok(());
        }
    }
}

/// What the main thread knows.
struct Main {
    id: ServerId,
    state: StateDir,
    workers: Workers,
    /// Whose memory each worker has, as far as they have told.
    found: BTreeMap<WorkerId, Option<Incarnation>>,
    inherits: Option<Incarnation>,
    /// Workers that may not exit yet.
    waiting: usize,
    stopping: bool,
}

impl Main {
    /// Takes the state directory and starts the workers by `start`.
    fn start(
        config: &ClusterConfig,
        id: ServerId,
        process: u32,
        reports: &Reports,
        start: impl FnMut(usize, worker::Body) -> Result<()>,
    ) -> Result<Main> {
        let Some(server) = config.server(id) else {
            let known: Vec<String> =
                config.servers().iter().map(|it| it.id.0.to_string()).collect();
            bail!(
                "{} lists no server {}; it lists {}",
                config.path().display(),
                id.0,
                known.join(", ")
            );
        };
        let state = plan::lock(server)?;
        let plan = Arc::new(Plan::new(config, server, &state, process)?);
        let workers = Workers::start(&plan, reports, start)?;
        let (found, waiting) = (BTreeMap::new(), server.workers.len());
        Ok(Main { id, state, workers, found, inherits: None, waiting, stopping: false })
    }

    /// Does what a report asks for; true = the process may end.
    fn on_report(&mut self, report: Report) -> Result<bool> {
        match report {
            Report::Recovered { worker, identity } => {
                self.found.insert(worker, identity);
                if self.found.len() == self.waiting {
                    self.inherits = self.past()?;
                    self.workers.register(self.inherits);
                }
            }
            Report::Registered { member, cluster, view } => {
                self.state.store_cluster(KnownCluster { cluster, highest_epoch: Epoch(0) })?;
                let oldest = self.found.values().copied().min().flatten();
                let memory = oldest.filter(|_| self.inherits.is_some());
                let memory = memory.unwrap_or(member.incarnation);
                self.state.store_identity(OwnIdentity { member, memory })?;
                tracing::info!(%member, %cluster, "registered");
                self.workers.attach(member, cluster, &view, self.inherits);
            }
            Report::KnowsEpoch { cluster, epoch } => {
                self.state.store_cluster(KnownCluster { cluster, highest_epoch: epoch })?;
            }
            Report::MayExit { worker } => {
                tracing::info!(worker = worker.0, "worker serves nothing any more");
                // Workers that wait for an identity serve nothing either.
                self.waiting -= 1 + self.workers.let_go();
            }
            Report::HeldUp { sets } => tracing::warn!(
                sets = sets.len(),
                "still serving: these key sets have no other copy to take over; a second signal \
                 stops at once and may lose them"
            ),
            Report::Deposed { reason } => bail!(deposed(reason)),
            Report::StopAsked if self.stopping => bail!("stopped at once by a second signal"),
            Report::StopAsked => {
                self.stopping = true;
                tracing::info!("asked to stop: handing over");
                self.workers.stop();
            }
            Report::Failed { worker, error } => {
                return Err(error.context(format!("worker {} of server {}", worker.0, self.id.0)));
            }
        }
        Ok(self.waiting == 0)
    }

    /// Whose memory the process has, if anybody's.
    fn past(&self) -> Result<Option<Incarnation>> {
        match self.state.identity() {
            Err(error @ StateError::Damaged { .. }) => {
                tracing::error!("{error}; what this server held is copied anew");
                Ok(None)
            }
            read => {
                let registered = read?.filter(|it| it.member.server == self.id);
                Ok(past(self.found.values().copied(), registered))
            }
        }
    }
}

/// Whose memory a process has: that of the last incarnation that was registered here, if every
/// worker has all that it kept. A worker in which an incarnation wrote nothing has what the one
/// before it left, because it acknowledged nothing: so the log of each is that of the latest, or of
/// one since the oldest that the latest found.
fn past(
    found: impl Iterator<Item = Option<Incarnation>> + Clone,
    registered: Option<OwnIdentity>,
) -> Option<Incarnation> {
    let oldest = found.clone().min().flatten()?;
    let newest = found.max().flatten();
    match registered {
        Some(it) if oldest < it.memory => None,
        Some(it) => newest.max(Some(it.member.incarnation)),
        None => newest.filter(|&newest| newest == oldest),
    }
}

/// What to tell a person whose server the metaserver will not have.
fn deposed(reason: RegistrationRefusal) -> String {
    match reason {
        RegistrationRefusal::UnknownServer => {
            "the metaserver does not list this server: add it to the metaserver's cluster.toml \
             and restart the metaserver"
                .to_owned()
        }
        RegistrationRefusal::OtherCluster { ours } => format!(
            "this server's state directory belongs to another cluster than the metaserver's \
             ({ours}): point it to an empty directory, or to its own metaserver"
        ),
        RegistrationRefusal::MetaserverEmpty => {
            "the metaserver has lost its state, but this server knows a cluster: put the \
             metaserver's state directory back; if there is no copy of it see `tandem rebuild \
             --help`, and end no server before"
                .to_owned()
        }
        RegistrationRefusal::MetaserverOutdated => {
            "the metaserver's state is older than what this server knows: stop that metaserver, \
             and start the one whose state is the newest"
                .to_owned()
        }
        RegistrationRefusal::Superseded => {
            "this incarnation was declared dead or replaced: start the server again, it comes \
             back as a new one"
                .to_owned()
        }
    }
}

/// The worker threads.
struct Workers {
    /// Worker 0's; none once it registers.
    register: Option<tokio::sync::oneshot::Sender<Option<Incarnation>>>,
    starts: Vec<tokio::sync::oneshot::Sender<worker::Identified>>,
    stops: Vec<mpsc::UnboundedSender<()>>,
}

impl Workers {
    fn start(
        plan: &Arc<Plan>,
        reports: &Reports,
        mut start_body: impl FnMut(usize, worker::Body) -> Result<()>,
    ) -> Result<Workers> {
        let mut workers = Workers { register: None, starts: Vec::new(), stops: Vec::new() };
        for index in 0..plan.server.workers.len() {
            let worker = WorkerId(u16::try_from(index).context("too many workers")?);
            let (stop, stopped) = mpsc::unbounded_channel();
            workers.stops.push(stop);
            let start = if index == 0 {
                let (register, found) = tokio::sync::oneshot::channel();
                workers.register = Some(register);
                worker::Starting::Registers(found)
            } else {
                let (start, identified) = tokio::sync::oneshot::channel();
                workers.starts.push(start);
                worker::Starting::Attaches(identified)
            };
            let (plan, reports) = (plan.clone(), reports.clone());
            start_body(index, worker::Body { plan, worker, start, stopped, reports })?;
        }
        Ok(workers)
    }

    fn register(&mut self, inherits: Option<Incarnation>) {
        if let Some(register) = self.register.take() {
            // A worker that failed has reported it.
            let _ = register.send(inherits);
        }
    }

    fn attach(
        &mut self,
        member: Member,
        cluster: ClusterId,
        view: &View,
        inherits: Option<Incarnation>,
    ) {
        for start in self.starts.drain(..) {
            let view = view.clone();
            // A worker that failed has reported it.
            let _ = start.send(worker::Identified { member, cluster, view, inherits });
        }
    }

    /// Ends the workers that wait for an identity, which does not come any more; answers how many.
    fn let_go(&mut self) -> usize {
        std::mem::take(&mut self.starts).len()
    }

    fn stop(&self) {
        for stop in &self.stops {
            let _ = stop.send(());
        }
    }
}

/// Reports SIGTERM and SIGINT to the main thread.
fn watch_signals(reports: Reports) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                if reports.send(Report::StopAsked).is_err() {
                    return;
                }
            }
        });
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: a server is an heir exactly if every worker has all that it acknowledged.
    //! Method: what the workers found and what the state directory says, by hand.

    use super::*;

    fn past_of(found: &[u64], registered: Option<(u64, u64)>) -> Option<u64> {
        let found = found.iter().map(|&it| (it > 0).then_some(Incarnation(it)));
        let registered = registered.map(|(incarnation, memory)| OwnIdentity {
            member: Member { server: ServerId(1), incarnation: Incarnation(incarnation) },
            memory: Incarnation(memory),
        });
        past(found, registered).map(|it| it.0)
    }

    #[test]
    fn every_worker_has_its_part_of_the_memory() {
        assert_eq!(past_of(&[5, 5], Some((5, 3))), Some(5));
        // The power went before both had written down the latest incarnation, or any had.
        assert_eq!(past_of(&[5, 3], Some((5, 3))), Some(5));
        assert_eq!(past_of(&[3, 3], Some((5, 3))), Some(5));
        assert_eq!(past_of(&[7, 3], Some((9, 3))), Some(9));
        // It went before the state directory had it.
        assert_eq!(past_of(&[5, 3], Some((3, 3))), Some(5));
    }

    #[test]
    fn a_worker_that_lost_something_makes_no_heir() {
        assert_eq!(past_of(&[5, 0], Some((5, 3))), None);
        assert_eq!(past_of(&[0, 0], Some((5, 3))), None);
        // Its files are older than what the latest incarnation found.
        assert_eq!(past_of(&[5, 2], Some((5, 3))), None);
        assert_eq!(past_of(&[2, 2], Some((5, 3))), None);
        // Nobody says what the oldest may be.
        assert_eq!(past_of(&[5, 3], None), None);
        assert_eq!(past_of(&[5, 5], None), Some(5));
    }
}
