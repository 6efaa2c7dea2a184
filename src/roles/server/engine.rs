//! A worker's engine: in memory, where all is done at once, or durable, with its disk.

use std::collections::VecDeque;

use anyhow::Result;

use super::disk::{Disk, Told};
use crate::protocol::effect::{WorkerEffect, WorkerInput};
use crate::protocol::types::{Incarnation, KeySet};
use crate::protocol::worker::Worker;
use crate::store::durable::DurableEngine;
use crate::store::{ChunkRange, Engine as _, MemoryEngine};

/// What a record takes in memory beside its key and value, about.
const RECORD_BYTES: u64 = 64;

/// Where a worker's records are.
pub enum Engine {
    Memory(MemoryEngine),
    Durable(Box<DurableEngine>, Disk),
}

impl Engine {
    /// Performs an effect on the engine; what is done at once is appended to `inputs`.
    ///
    /// # Errors
    /// The disk can not be read: nothing may be answered any more.
    pub fn perform(
        &mut self,
        effect: WorkerEffect,
        inputs: &mut VecDeque<WorkerInput>,
    ) -> Result<()> {
        match self {
            Engine::Memory(engine) => inputs.extend(perform_in_memory(engine, effect)),
            Engine::Durable(engine, _) => inputs.extend(engine.perform(effect)?),
        }
        Ok(())
    }

    /// Touches what reads and writes of these keys are going to touch.
    pub fn look_over(&self, keys: &[(KeySet, &[u8])]) {
        match self {
            Engine::Memory(engine) => engine.look_over(keys),
            Engine::Durable(..) => {}
        }
    }

    /// What an engine in memory takes; 0 for one that is on the disk.
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Engine::Memory(engine) => {
                let stats = engine.stats();
                stats.bytes + stats.keys * RECORD_BYTES
            }
            Engine::Durable(..) => 0,
        }
    }

    /// What follows is the memory of `incarnation`.
    pub fn become_incarnation(&mut self, incarnation: Incarnation) {
        match self {
            Engine::Memory(_) => {}
            Engine::Durable(engine, _) => engine.become_incarnation(incarnation),
        }
    }

    /// The disk is nearly full, or is no longer.
    pub fn set_tight(&mut self, is_tight: bool) {
        match self {
            Engine::Memory(_) => {}
            Engine::Durable(engine, _) => engine.set_tight(is_tight),
        }
    }

    /// Begins a checkpoint if it is time for one.
    pub fn tend_checkpoint(&mut self, machine: &Worker) {
        if let Engine::Durable(engine, disk) = self
            && engine.wants_checkpoint()
        {
            let (batch, checkpoint) = engine.begin_checkpoint(machine.inheritance());
            disk.checkpoint(batch, checkpoint);
        }
    }

    /// Something waits to be written.
    pub fn is_due(&self) -> bool {
        match self {
            Engine::Memory(_) => false,
            Engine::Durable(engine, _) => engine.is_due(),
        }
    }

    /// Hands what waits to the disk.
    pub fn settle(&mut self) {
        if let Engine::Durable(engine, disk) = self
            && let Some(batch) = engine.next_batch()
        {
            disk.write(batch);
        }
    }

    /// The disk tells what it has done; answers the completions.
    ///
    /// # Errors
    /// It failed.
    pub fn on_told(&mut self, told: Told, machine: &Worker) -> Result<Vec<WorkerInput>> {
        let Engine::Durable(engine, disk) = self else { return Ok(Vec::new()) };
        match told {
            Told::Synced(number) => {
                let done = engine.synced(number).collect();
                self.tend_checkpoint(machine);
                Ok(done)
            }
            Told::Checkpointed(log_from) => {
                disk.forget_below(engine.end_checkpoint(log_from));
                Ok(Vec::new())
            }
            Told::Failed(error) => Err(error),
        }
    }
}

fn perform_in_memory(engine: &mut MemoryEngine, effect: WorkerEffect) -> Option<WorkerInput> {
    match effect {
        WorkerEffect::Read { set, token, key } => {
            let found = engine.get(set, &key);
            return Some(WorkerInput::ReadDone { set, token, key, found });
        }
        WorkerEffect::ReadRange { set, token, prefix, after, items_max, bytes_max } => {
            let page = engine.range(set, &prefix, after.as_deref(), items_max, bytes_max);
            let (records, more) = (page.records, page.more);
            return Some(WorkerInput::RangeDone { set, token, records, more });
        }
        WorkerEffect::ReadChanges { set, token, span, items_max, bytes_max } => {
            let found = engine.changes(set, span, items_max, bytes_max);
            return Some(WorkerInput::ChangesDone { set, token, found });
        }
        WorkerEffect::Append { set, entries } => {
            let through = entries.last()?.op;
            return Some(WorkerInput::Appended { set, through });
        }
        // This engine keeps no log beside the machine's window.
        WorkerEffect::Cut { .. } => {}
        WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
            engine.apply(set, revision, &entry, keep_tombstone);
        }
        WorkerEffect::StoreChunk { set, run, after, through, read_at, records } => {
            let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
            engine.store_chunk(set, range, read_at, &records);
            return Some(WorkerInput::ChunkStored { set, run, through });
        }
        WorkerEffect::DropTombstones { set } => engine.drop_tombstones(set),
        WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted } => {
            engine.store_changes(set, read_at, &records, &deleted);
            return Some(WorkerInput::ChunkStored { set, run, through });
        }
        WorkerEffect::Clear { set, at, .. } => engine.clear(set, at),
        WorkerEffect::Rebase { set, at, .. } => engine.rebase(set, at),
        // Nobody inherits it.
        WorkerEffect::Expire { .. } => {}
        // Nobody inherits what is in memory, so that there is nothing to wait for.
        WorkerEffect::Settle => return Some(WorkerInput::Settled),
        WorkerEffect::Remember { set, number, .. } => {
            return Some(WorkerInput::Remembered { set, number });
        }
        other => unreachable!("{other:?} is no effect on an engine"),
    }
    None
}
