//! What a worker finds of an earlier life, before it knows whether it may stand for it.

use std::path::PathBuf;

use anyhow::Result;
use tokio::sync::mpsc as queue;

use super::disk::{self, Disk, Told};
use super::engine::Engine;
use super::plan::Plan;
use crate::config;
use crate::protocol::inheritance::Inheritance;
use crate::protocol::types::{Incarnation, WorkerId};
use crate::store::MemoryEngine;
use crate::store::durable::Found;

/// What a worker begins with.
pub enum Memory {
    /// In memory, empty.
    Empty(MemoryEngine),
    Found(Box<Found>),
}

/// An engine, what it gives back of each key set, and what its disk tells.
pub type Started = (Engine, Vec<Inheritance>, Option<queue::UnboundedReceiver<Told>>);

impl Memory {
    /// Opens what worker `worker` keeps in the state directory.
    pub fn open(plan: &Plan, worker: WorkerId) -> Result<Memory> {
        match plan.engine {
            config::Engine::Memory => Ok(Memory::Empty(MemoryEngine::new(plan.key_sets))),
            config::Engine::Durable => {
                let (folder, file_bytes) = (folder(plan, worker), plan.log_file_bytes);
                let found = disk::open(&folder, plan.key_sets, &plan.limits, file_bytes)?;
                Ok(Memory::Found(Box::new(found)))
            }
        }
    }

    /// Whose memory it is.
    pub fn identity(&self) -> Option<Incarnation> {
        match self {
            Memory::Empty(_) => None,
            Memory::Found(found) => found.identity,
        }
    }

    /// The process does not stand for who was here before: what was kept is put aside.
    pub fn without_past(self, plan: &Plan, worker: WorkerId) -> Result<Memory> {
        if self.identity().is_none() {
            return Ok(self);
        }
        tracing::warn!("what this worker kept can not be used: everything is copied anew");
        drop(self);
        disk::discard(&folder(plan, worker))?;
        Memory::open(plan, worker)
    }

    /// Starts the engine.
    pub fn start(self) -> Result<Started> {
        match self {
            Memory::Empty(engine) => Ok((Engine::Memory(engine), Vec::new(), None)),
            Memory::Found(found) => {
                let Found { engine, log, inheritance, identity } = *found;
                let (told, heard) = queue::unbounded_channel();
                let disk = Disk::start(log, told)?;
                // Who was nobody has nothing to give.
                let inheritance = if identity.is_some() { inheritance } else { Vec::new() };
                Ok((Engine::Durable(Box::new(engine), disk), inheritance, Some(heard)))
            }
        }
    }
}

/// Where worker `worker` keeps what it holds.
pub fn folder(plan: &Plan, worker: WorkerId) -> PathBuf {
    plan.server.state.join(format!("worker-{}", worker.0))
}
