//! The load: sessions that read and write a few shared keys all the time, every operation on file
//! in the history before it is sent.
//!
//! Every client node has one session for each key set, so that a key set that stands still holds
//! up nobody else. Beside them readers pinned to one server ask it whoever is primary: a deposed
//! primary that still answered would be found out.

mod keys;
mod pinned;
mod session;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use tandem::client::Client;
use tandem::clock;
use tandem::protocol::time::Time;
use tandem::protocol::types::KeySet;
use tandem_history::{Outcome, Recorder, Text, What};

use crate::cluster::Stage;
use crate::nodes::Node;

pub use keys::Keys;
pub use session::operate;

/// One operation, for rates and waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    pub client: Node,
    pub set: KeySet,
    pub is_write: bool,
    pub sent: Time,
    pub answered: Time,
    pub ending: Ending,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Ending {
    Ok,
    Fail,
    Unknown,
}

/// Sessions at work.
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Result<Vec<Sample>>>>,
}

/// What all sessions share.
pub struct Shared {
    pub recorder: Recorder,
    pub keys: Keys,
    pub stop: AtomicBool,
    /// The last process of the history.
    process: AtomicU64,
    /// Operations that were done so far.
    done: AtomicU64,
    /// Writes that were acknowledged so far, by key set.
    acknowledged: Vec<AtomicU64>,
    pub seed: u64,
}

impl Shared {
    /// A process that the history does not know yet.
    pub fn new_process(&self) -> u64 {
        self.process.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Load {
    /// A load without sessions, whose history `close` leaves at `history`.
    ///
    /// # Errors
    /// The history can not be written.
    pub fn new(history: &Path, key_sets: u16, seed: u64) -> Result<Load> {
        let recorder = Recorder::create(history, clock::now)
            .with_context(|| format!("writing {}", history.display()))?;
        let shared = Shared {
            recorder,
            keys: Keys::new(key_sets, seed),
            stop: AtomicBool::new(false),
            process: AtomicU64::new(0),
            done: AtomicU64::new(0),
            acknowledged: (0..key_sets).map(|_| AtomicU64::new(0)).collect(),
            seed,
        };
        Ok(Load { shared: Arc::new(shared), workers: Vec::new() })
    }

    /// Lets `client` at `node` take part with one session for each of `key_sets`.
    ///
    /// # Errors
    /// There is no thread.
    pub fn join(&mut self, node: Node, client: &Client, key_sets: u16) -> Result<()> {
        for set in (0..key_sets).map(KeySet) {
            let (client, shared) = (client.clone(), self.shared.clone());
            let name = format!("{}-{set}", node.tag());
            let worker = std::thread::Builder::new()
                .name(name)
                .spawn(move || session::run(node, &client, set, &shared))?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Lets readers at `node` take part, one pinned to each server.
    ///
    /// # Errors
    /// There is no thread.
    pub fn join_pinned(&mut self, node: Node, stage: &Stage, key_sets: u16) -> Result<()> {
        for server in stage.config.servers() {
            let target = pinned::Target::new(&stage.config, server)?;
            let shared = self.shared.clone();
            let (topology, name) = (stage.topology, format!("pinned-{}", server.id));
            let worker = topology.on(node, || {
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || pinned::run(node, &target, key_sets, &shared))
            })??;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Operations that were done so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Writes that were acknowledged so far, by key set.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.shared.acknowledged.iter().map(|it| it.load(Ordering::Relaxed)).collect()
    }

    /// Every key that was ever in use.
    pub fn used(&self) -> Vec<Text> {
        self.shared.keys.used()
    }

    /// Ends all sessions, each after its operation under way; every operation of theirs.
    ///
    /// # Errors
    /// A session could not go on.
    pub fn stop(&mut self) -> Result<Vec<Sample>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        for worker in self.workers.drain(..) {
            samples.extend(worker.join().map_err(|_| anyhow!("a session panicked"))??);
        }
        samples.sort_by_key(|it| it.sent);
        Ok(samples)
    }

    /// One more read of `key` by `client`, in the history as well; whether it was answered.
    ///
    /// # Errors
    /// The history can not be written.
    pub fn read(&self, client: &Client, process: u64, key: &Text) -> Result<bool> {
        let session = client.session();
        let outcome = operate(&self.shared, &session, process, key, &What::Get)?;
        Ok(matches!(outcome, Outcome::Ok(_)))
    }

    /// A process that the history does not know yet.
    pub fn new_process(&self) -> u64 {
        self.shared.new_process()
    }

    /// Completes the history.
    ///
    /// # Errors
    /// It can not be written; or a session still runs.
    pub fn close(self) -> Result<tandem_history::History> {
        let shared =
            Arc::try_unwrap(self.shared).map_err(|_| anyhow!("a session was not stopped"))?;
        shared.recorder.close().context("completing the history")
    }
}
