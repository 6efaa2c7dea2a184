//! What a log of effects says: one record an effect, in the order in which they were performed.
//!
//! Records are postcard, one after the other. The enum is append-only; `log::FORMAT` changes when
//! a record changes.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::protocol::effect::WorkerEffect;
use crate::protocol::inheritance::Standing;
use crate::protocol::message::DedupSnapshot;
use crate::protocol::types::{
    Entry, Epoch, Expiry, Incarnation, Key, KeySet, Op, Record, Revision,
};

/// One effect on a durable engine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LogRecord {
    /// What follows is the memory of this incarnation.
    Identity(Incarnation),
    Append {
        set: KeySet,
        entries: Vec<Rc<Entry>>,
    },
    Cut {
        set: KeySet,
        through: Op,
    },
    /// The log's entry of this op is committed, as it was last prepared in `epoch`.
    Commit {
        set: KeySet,
        revision: Revision,
        epoch: Epoch,
        keep_tombstone: bool,
    },
    Chunk {
        set: KeySet,
        after: Option<Key>,
        through: Option<Key>,
        read_at: Revision,
        records: Vec<Record>,
    },
    DropTombstones {
        set: KeySet,
    },
    Clear {
        set: KeySet,
        at: Op,
        dedup: DedupSnapshot,
    },
    Remember {
        set: KeySet,
        standing: Standing,
    },
    /// As `Clear`, and the records stay.
    Rebase {
        set: KeySet,
        at: Op,
        dedup: DedupSnapshot,
    },
    /// These keys became what they were at `read_at`, where nothing newer was there.
    Changes {
        set: KeySet,
        read_at: Revision,
        records: Vec<Record>,
        deleted: Vec<Key>,
    },
    /// These keys expire, as a copy run said.
    Expire {
        set: KeySet,
        keys: Vec<(Key, Expiry)>,
    },
}

impl LogRecord {
    /// The record of an effect; none where it leaves nothing behind.
    #[must_use]
    pub fn of(effect: &WorkerEffect) -> Option<LogRecord> {
        Some(match effect {
            WorkerEffect::Append { set, entries } => {
                LogRecord::Append { set: *set, entries: entries.clone() }
            }
            WorkerEffect::Cut { set, through } => LogRecord::Cut { set: *set, through: *through },
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => LogRecord::Commit {
                set: *set,
                revision: *revision,
                epoch: entry.epoch,
                keep_tombstone: *keep_tombstone,
            },
            WorkerEffect::StoreChunk { set, after, through, read_at, records, run: _ } => {
                LogRecord::Chunk {
                    set: *set,
                    after: after.clone(),
                    through: through.clone(),
                    read_at: *read_at,
                    records: records.clone(),
                }
            }
            WorkerEffect::DropTombstones { set } => LogRecord::DropTombstones { set: *set },
            WorkerEffect::Clear { set, at, dedup } => {
                LogRecord::Clear { set: *set, at: *at, dedup: dedup.clone() }
            }
            WorkerEffect::Rebase { set, at, dedup } => {
                LogRecord::Rebase { set: *set, at: *at, dedup: dedup.clone() }
            }
            WorkerEffect::StoreChanges { set, read_at, records, deleted, .. } => {
                LogRecord::Changes {
                    set: *set,
                    read_at: *read_at,
                    records: records.clone(),
                    deleted: deleted.clone(),
                }
            }
            WorkerEffect::Expire { set, keys } => {
                LogRecord::Expire { set: *set, keys: keys.clone() }
            }
            WorkerEffect::Remember { set, standing, number: _ } => {
                LogRecord::Remember { set: *set, standing: standing.clone() }
            }
            _ => return None,
        })
    }

    /// The key set that it is about.
    #[must_use]
    pub fn set(&self) -> Option<KeySet> {
        match *self {
            LogRecord::Identity(_) => None,
            LogRecord::Append { set, .. }
            | LogRecord::Cut { set, .. }
            | LogRecord::Commit { set, .. }
            | LogRecord::Chunk { set, .. }
            | LogRecord::DropTombstones { set }
            | LogRecord::Clear { set, .. }
            | LogRecord::Remember { set, .. }
            | LogRecord::Rebase { set, .. }
            | LogRecord::Expire { set, .. }
            | LogRecord::Changes { set, .. } => Some(set),
        }
    }

    /// Adds the record's bytes to `batch`.
    pub fn encode(&self, batch: &mut Vec<u8>) {
        let bytes = postcard::to_extend(self, std::mem::take(batch));
        *batch = bytes.expect("a record always encodes, into memory");
    }

    /// The records of a batch.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(mut batch: &[u8]) -> Result<Vec<LogRecord>, String> {
        let mut records = Vec::new();
        while !batch.is_empty() {
            let (record, rest) = postcard::take_from_bytes(batch)
                .map_err(|error| format!("a record does not decode: {error}"))?;
            records.push(record);
            batch = rest;
        }
        Ok(records)
    }
}
