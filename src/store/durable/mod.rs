//! The durable engine: a log on which acknowledgements rest, and a store behind it.
//!
//! ```text
//!   effects --> Layers (recent changes)                      reads --> recent, frozen, base
//!          \--> batch --> [writer's thread: Log, one sync] --> completions
//!                                   |
//!   now and then: freeze, new log file --> [checkpoint's thread: Base] --> old log files go
//!
//!   restart:  Base --> records, and what was kept of each set as of the checkpoint
//!             Log  --> the effects since then, carried out again --> Inheritance of each set
//! ```
//!
//! The log is the only journal on the way to an acknowledgement: all key sets of a worker share
//! it, and what gathers while one sync is under way is the next batch. A commit needs no sync: an
//! heir finds the entry in its log above the committed point, and commits it again.
//!
//! Nothing here has threads or a clock: `roles/server` moves batches to the writer and brings back
//! what it has synced.

pub mod base;
mod failure;
pub mod files;
mod layers;
pub mod log;
mod overlay;
pub mod record;
mod rows;
pub mod store;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use self::base::{Base, BaseError, Meta};
use self::files::Folder;
use self::layers::{Layers, Tombstones};
use self::log::{Log, LogError};
pub use self::overlay::Overlay;
use self::record::LogRecord;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::effect::WorkerInput;
use crate::protocol::inheritance::Inheritance;
use crate::protocol::limits::Limits;
use crate::protocol::types::{Incarnation, KeySet};
use crate::store::ChunkRange;
use crate::store::kept::Kept;

/// A checkpoint is due once the log has grown by so many files since the last one.
pub const CHECKPOINT_FILES: u64 = 2;

/// Where the disk is nearly full, a checkpoint is made once one record of so many was deleted.
const REMOVED_SHARE: u64 = 64;

/// Why a worker's durable state can not be used.
#[derive(Debug)]
pub enum DurableError {
    Log(LogError),
    Base(BaseError),
    /// It was written with more key sets than there are said to be.
    KeySets {
        found: KeySet,
        said: u16,
    },
}

impl fmt::Display for DurableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurableError::Log(error) => error.fmt(f),
            DurableError::Base(error) => error.fmt(f),
            DurableError::KeySets { found, said } => write!(
                f,
                "it holds key set {found}, and cluster.toml says key_sets = {said}: write the \
                 number that the cluster was made with"
            ),
        }
    }
}

impl std::error::Error for DurableError {}

impl DurableError {
    /// The state is not what was written: nothing of it may be used.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            DurableError::Log(LogError::Damaged { .. }) | DurableError::Base(BaseError::Damaged(_))
        )
    }

    /// There is no room to open it; nothing was changed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            DurableError::Log(LogError::Full { .. }) | DurableError::Base(BaseError::Full(_))
        )
    }
}

impl From<LogError> for DurableError {
    fn from(error: LogError) -> DurableError {
        DurableError::Log(error)
    }
}

impl From<BaseError> for DurableError {
    fn from(error: BaseError) -> DurableError {
        DurableError::Base(error)
    }
}

/// What a restart finds.
pub struct Found {
    pub engine: DurableEngine,
    pub log: Log,
    /// Whose memory it is; none if nobody's yet.
    pub identity: Option<Incarnation>,
    /// Every key set, as an heir of that incarnation has to know it.
    pub inheritance: Vec<Inheritance>,
}

/// A batch for the log.
pub struct Batch {
    /// Batches are numbered from 1.
    pub number: u64,
    pub payload: Vec<u8>,
}

/// A checkpoint that is to be written.
pub struct Checkpoint {
    changes: Arc<Overlay>,
    meta: Meta,
    base: Arc<dyn Base>,
    reclaims: bool,
}

/// What takes space in the store and is not wanted any more.
#[derive(Clone, Copy, Debug, Default)]
struct Removed {
    /// Keys that were deleted.
    keys: u64,
    /// Key sets were cleared.
    cleared: bool,
}

/// The engine of one worker.
pub struct DurableEngine {
    layers: Layers,
    identity: Option<Incarnation>,
    /// Records that no batch has yet.
    batch: Vec<u8>,
    /// Something waits for what is in `batch`.
    urgent: bool,
    batches: u64,
    /// Completions by the number of the batch that they wait for.
    waiting: VecDeque<(u64, WorkerInput)>,
    /// Bytes of batches since the last checkpoint began.
    since_checkpoint: u64,
    checkpoint_bytes: u64,
    /// What was removed since the last checkpoint that was made for space began.
    removed: Removed,
    /// The disk is nearly full: what is removed is to be free soon.
    is_tight: bool,
    /// The place in the log of the last checkpoint that ended.
    log_from: u64,
}

impl DurableEngine {
    /// Opens a worker's state: `folder` holds the log, `base` the last checkpoint.
    ///
    /// # Errors
    /// What is there is not what was written, or can not be read.
    pub fn open(
        folder: Box<dyn Folder>,
        base: Arc<dyn Base>,
        key_sets: u16,
        limits: &Limits,
        file_bytes: u64,
    ) -> Result<Found, DurableError> {
        let meta = base.meta()?;
        let mut replay = Replay {
            layers: Layers::new(key_sets, base),
            kept: vec![Kept::default(); usize::from(key_sets)],
            identity: meta.identity,
            dedup_records_max: limits.dedup_records_max,
        };
        for (set, encoded) in meta.sets {
            let wrong = || BaseError::Damaged(format!("its row of key set {set} does not decode"));
            let (inheritance, tombstones) = decode_row(&encoded).map_err(|_| wrong())?;
            let Some(kept) = replay.kept.get_mut(usize::from(set.0)) else {
                // A start with too many key sets may have made rows that say nothing.
                if inheritance == Kept::default().inheritance(set) && tombstones.is_empty() {
                    continue;
                }
                return Err(DurableError::KeySets { found: set, said: key_sets });
            };
            *kept = Kept::from_inheritance(inheritance);
            replay.layers.restore_tombstones(set, tombstones);
            replay.layers.rebase(set, kept.committed());
        }
        let mut failure = None;
        let log_from = meta.log_from.max(1);
        let log = Log::open(folder, log_from, file_bytes, |payload| {
            for record in LogRecord::decode(payload)? {
                if let Err(error) = replay.take(record) {
                    let detail = error.to_string();
                    failure = Some(error);
                    return Err(detail);
                }
            }
            Ok(())
        });
        if let Some(error @ (DurableError::Base(_) | DurableError::KeySets { .. })) = failure {
            return Err(error);
        }
        let log = log?;
        let Replay { mut layers, kept, identity, .. } = replay;
        // No chunk of an earlier life comes any more.
        (0..key_sets).for_each(|set| layers.drop_tombstones(KeySet(set)));
        let sets = (0..).map(KeySet).zip(&kept);
        let inheritance = sets.map(|(set, kept)| kept.inheritance(set)).collect();
        let engine = DurableEngine {
            layers,
            identity,
            batch: Vec::new(),
            urgent: false,
            batches: 0,
            waiting: VecDeque::new(),
            since_checkpoint: log.bytes(),
            removed: Removed::default(),
            is_tight: false,
            checkpoint_bytes: CHECKPOINT_FILES * file_bytes,
            log_from,
        };
        Ok(Found { engine, log, identity, inheritance })
    }

    /// What follows is the memory of `incarnation`.
    pub fn become_incarnation(&mut self, incarnation: Incarnation) {
        self.identity = Some(incarnation);
        self.urgent = true;
        LogRecord::Identity(incarnation).encode(&mut self.batch);
    }

    /// Performs an effect on the engine; answers the completion if it is there at once. Others
    /// come from `synced`.
    ///
    /// # Errors
    /// The store can not be read: nothing may be answered from it any more.
    ///
    /// # Panics
    /// If it is no effect on an engine.
    pub fn perform(&mut self, effect: WorkerEffect) -> Result<Option<WorkerInput>, BaseError> {
        if let Some(record) = LogRecord::of(&effect) {
            record.encode(&mut self.batch);
        }
        let layers = &mut self.layers;
        match effect {
            WorkerEffect::Read { set, token, key } => {
                let found = layers.get(set, &key)?;
                return Ok(Some(WorkerInput::ReadDone { set, token, key, found }));
            }
            WorkerEffect::ReadRange { set, token, prefix, after, items_max, bytes_max } => {
                let page = layers.range(set, &prefix, after.as_deref(), items_max, bytes_max)?;
                let (records, more) = (page.records, page.more);
                return Ok(Some(WorkerInput::RangeDone { set, token, records, more }));
            }
            WorkerEffect::ReadChanges { set, token, span, items_max, bytes_max } => {
                let found = layers.changes(set, span, items_max, bytes_max)?;
                return Ok(Some(WorkerInput::ChangesDone { set, token, found }));
            }
            WorkerEffect::Append { set, entries } => {
                if let Some(last) = entries.last() {
                    self.wait(WorkerInput::Appended { set, through: last.op });
                }
            }
            WorkerEffect::Cut { .. } => {}
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
                self.removed.keys += u64::from(entry.change.value().is_none());
                layers.apply(set, revision, &entry, keep_tombstone)?;
            }
            WorkerEffect::StoreChunk { set, run, after, through, read_at, records } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                layers.store_chunk(set, range, read_at, &records)?;
                self.wait(WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted } => {
                layers.store_changes(set, read_at, &records, &deleted)?;
                self.wait(WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::DropTombstones { set } => layers.drop_tombstones(set),
            WorkerEffect::Clear { set, at, .. } => {
                self.removed.cleared = true;
                layers.clear(set, at);
            }
            WorkerEffect::Rebase { set, at, .. } => layers.rebase(set, at),
            // The replica knows, and tells a checkpoint.
            WorkerEffect::Expire { .. } => {}
            WorkerEffect::Remember { set, number, .. } => {
                self.wait(WorkerInput::Remembered { set, number });
            }
            WorkerEffect::Settle => self.wait(WorkerInput::Settled),
            other => unreachable!("{other:?} is no effect on an engine"),
        }
        Ok(None)
    }

    fn wait(&mut self, completion: WorkerInput) {
        self.urgent = true;
        self.waiting.push_back((self.batches + 1, completion));
    }

    /// Whether something waits for the next batch.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.urgent
    }

    /// The batch that something waits for, if any.
    pub fn next_batch(&mut self) -> Option<Batch> {
        self.urgent.then(|| self.take_batch())
    }

    fn take_batch(&mut self) -> Batch {
        self.urgent = false;
        self.batches += 1;
        self.since_checkpoint += self.batch.len() as u64;
        Batch { number: self.batches, payload: std::mem::take(&mut self.batch) }
    }

    /// The batches up to `number` are durable: what waited for them is done.
    pub fn synced(&mut self, number: u64) -> impl Iterator<Item = WorkerInput> + use<> {
        let done = self.waiting.iter().take_while(|&&(batch, _)| batch <= number).count();
        let done: Vec<_> = self.waiting.drain(..done).collect();
        done.into_iter().map(|(_, completion)| completion)
    }

    /// The disk is nearly full, or is no longer.
    pub fn set_tight(&mut self, is_tight: bool) {
        self.is_tight = is_tight;
    }

    /// Whether a checkpoint should begin: the log has grown enough, or the disk is nearly full and
    /// much was removed, which is free only after one.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        let grown = self.since_checkpoint >= self.checkpoint_bytes;
        self.layers.frozen.is_none() && (grown || self.reclaims())
    }

    /// Whether the next checkpoint is made for the space that it frees.
    fn reclaims(&self) -> bool {
        let Removed { keys, cleared } = self.removed;
        let many = || keys > 0 && keys >= self.layers.base.count() / REMOVED_SHARE;
        self.is_tight && (cleared || many())
    }

    /// Begins a checkpoint of everything performed so far: `sets` is what the replicas have now.
    /// The batch comes before the cut of the log that names the checkpoint's place in it.
    pub fn begin_checkpoint(
        &mut self,
        sets: impl Iterator<Item = Inheritance>,
    ) -> (Batch, Checkpoint) {
        let batch = self.take_batch();
        // Chunks that come later must not undo the deletes of a copy under way.
        let encode = |it: Inheritance| (it.set, encode_row(&it, self.layers.tombstones(it.set)));
        let sets = sets.map(encode).collect();
        self.since_checkpoint = 0;
        let reclaims = self.reclaims();
        if reclaims {
            self.removed = Removed::default();
        }
        let meta = Meta { log_from: 0, identity: self.identity, sets };
        let (changes, base) = (self.layers.freeze(), self.layers.base.clone());
        (batch, Checkpoint { changes, meta, base, reclaims })
    }

    /// The checkpoint before file `log_from` is on the disk. Answers the file below which the log
    /// may be forgotten: the place of the checkpoint before it, in case this one is found torn.
    pub fn end_checkpoint(&mut self, log_from: u64) -> u64 {
        self.layers.frozen = None;
        std::mem::replace(&mut self.log_from, log_from)
    }
}

impl Checkpoint {
    /// Writes the checkpoint; the log from file `log_from` on comes after it. This takes long.
    ///
    /// # Errors
    /// The disk refused; the last checkpoint is still there. Where it has no room, it may be
    /// written again later.
    pub fn write(&mut self, log_from: u64) -> Result<(), BaseError> {
        self.meta.log_from = log_from;
        self.base.checkpoint(&self.changes, &self.meta)
    }

    /// After it is written: gives back the space of what was removed, if it was made for that.
    ///
    /// # Errors
    /// The disk can not be read or written.
    pub fn reclaim(&self) -> Result<(), BaseError> {
        if self.reclaims { self.base.reclaim() } else { Ok(()) }
    }
}

/// A checkpoint's row of a key set. What is added to rows lies behind what was there before.
fn encode_row(inheritance: &Inheritance, tombstones: &Tombstones) -> Vec<u8> {
    let row = (inheritance, tombstones, &inheritance.expiries);
    postcard::to_stdvec(&row).expect("a row always encodes, into memory")
}

/// Rows had no expiries at first.
fn decode_row(row: &[u8]) -> postcard::Result<(Inheritance, Tombstones)> {
    let ((mut inheritance, tombstones), rest): ((Inheritance, Tombstones), &[u8]) =
        postcard::take_from_bytes(row)?;
    if !rest.is_empty() {
        inheritance.expiries = postcard::from_bytes(rest)?;
    }
    Ok((inheritance, tombstones))
}

/// The log is read: effects are carried out again.
struct Replay {
    layers: Layers,
    kept: Vec<Kept>,
    identity: Option<Incarnation>,
    dedup_records_max: usize,
}

impl Replay {
    fn take(&mut self, record: LogRecord) -> Result<(), DurableError> {
        let layers = &mut self.layers;
        if let Some(set) = record.set()
            && usize::from(set.0) >= self.kept.len()
        {
            let said = u16::try_from(self.kept.len()).unwrap_or(u16::MAX);
            return Err(DurableError::KeySets { found: set, said });
        }
        let sets = &mut self.kept;
        let place = |set: KeySet| usize::from(set.0);
        match record {
            LogRecord::Identity(incarnation) => self.identity = Some(incarnation),
            LogRecord::Append { set, entries } => sets[place(set)].append(entries),
            LogRecord::Cut { set, through } => sets[place(set)].cut(through),
            LogRecord::Commit { set, revision, epoch, keep_tombstone } => {
                let kept = &mut sets[place(set)];
                let Some(entry) = kept.entry(revision.op) else {
                    let detail = format!("op {} of key set {set} is committed", revision.op);
                    return Err(BaseError::Damaged(format!("{detail} and not in the log")).into());
                };
                let mut entry = (**entry).clone();
                entry.epoch = epoch;
                layers.apply(set, revision, &entry, keep_tombstone)?;
                kept.commit(&entry, revision, self.dedup_records_max);
            }
            LogRecord::Chunk { set, after, through, read_at, records } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                layers.store_chunk(set, range, read_at, &records)?;
            }
            LogRecord::DropTombstones { set } => layers.drop_tombstones(set),
            LogRecord::Clear { set, at, dedup } => {
                layers.clear(set, at);
                sets[place(set)].restart(at, dedup);
            }
            LogRecord::Rebase { set, at, dedup } => {
                layers.rebase(set, at);
                sets[place(set)].restart(at, dedup);
            }
            LogRecord::Changes { set, read_at, records, deleted } => {
                layers.store_changes(set, read_at, &records, &deleted)?;
            }
            LogRecord::Expire { set, keys } => sets[place(set)].expire(&keys),
            LogRecord::Remember { set, standing } => sets[place(set)].remember(standing),
        }
        Ok(())
    }
}
