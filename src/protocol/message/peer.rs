//! Server to server: replication, copies, leases.

use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::protocol::space::Level;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{
    Configuration, Entry, Epoch, Expiry, Key, KeySet, Member, Op, Position, Record, RequestNumber,
    RunId, SessionId, Written,
};

/// What a message of a primary asks its receiver to promise, and when it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct LeaseAsk {
    /// The primary's own clock at sending; echoed by the acknowledgement, meaningless elsewhere.
    pub sent: Time,
    /// The lease that the primary will take from the acknowledgement.
    pub lease: Span,
}

/// One duplicate record: what a session's write was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct DedupRecord {
    pub session: SessionId,
    pub number: RequestNumber,
    /// The session has its answers to all its writes below this number.
    pub answered_below: RequestNumber,
    pub position: Position,
    pub written: Written,
}

/// The duplicate records of a key set at its committed point.
#[derive(Clone, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct DedupSnapshot {
    /// Records at or below this op may be gone.
    pub horizon: Op,
    pub records: Vec<DedupRecord>,
}

/// Server to server.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum PeerMessage {
    /// A primary's first message of an epoch to a secondary, and the first on a new connection.
    NewEpoch {
        set: KeySet,
        configuration: Configuration,
        committed: Op,
        prepared: Op,
        ask: LeaseAsk,
    },
    /// Writes in order; `commit` is the commit point, and may come without entries.
    Prepare {
        set: KeySet,
        epoch: Epoch,
        #[serde(deserialize_with = "shared")]
        entries: Vec<Rc<Entry>>,
        commit: Op,
        ask: LeaseAsk,
    },
    /// The sender has everything up to `accepted`, accepted in `epoch`, and makes the promise
    /// that the message sent at `sent` asked for.
    Ack { set: KeySet, epoch: Epoch, accepted: Op, sent: Time },
    /// The sender learned a higher configuration and is fenced from the receiver's epoch.
    Fenced { set: KeySet, configuration: Configuration },
    /// The named primary's own word that it serves nothing more in that epoch.
    Resigned { set: KeySet, epoch: Epoch, member: Member },
    /// Starts a copy run at a learner. The live feed follows on the same lane from
    /// `committed + 1`, chunks come on the bulk link. `dedup` is as of `committed`.
    RunStart {
        set: KeySet,
        run: RunId,
        configuration: Configuration,
        committed: Op,
        dedup: DedupSnapshot,
        ask: LeaseAsk,
    },
    /// All live records with `after < key <= through` (none = open end) as of op `read_at`.
    CopyChunk {
        set: KeySet,
        run: RunId,
        after: Option<Key>,
        through: Option<Key>,
        read_at: Op,
        records: Vec<Record>,
    },
    /// The learner holds the chunk that ended at `through`; none = the last one.
    ChunkStored { set: KeySet, run: RunId, through: Option<Key> },
    /// The learner does not know this run, or dropped it.
    RunLost { set: KeySet, run: RunId },
    /// Datagram: renew the leases of these sets.
    Beacon { number: u64, ask: LeaseAsk, sets: Vec<(KeySet, Epoch)> },
    /// Datagram: the promise asked for by beacon `number`, for these sets only, each with the
    /// epoch it was granted in and the receiver's accepted point as progress.
    Grant { number: u64, sent: Time, sets: Vec<(KeySet, Epoch, Op)> },
    /// The learner of this run holds the whole set as it was at op `base`, of the run's loss
    /// epoch: it needs only what changed since. Sent before its first acknowledgement.
    RunBase { set: KeySet, run: RunId, base: Op },
    /// What the keys were as of op `read_at` that writes above `after` and up to `ends` changed.
    /// `through` names the chunk (none = the last one), as that of a `CopyChunk` does.
    CopyChanges {
        set: KeySet,
        run: RunId,
        after: Op,
        ends: Op,
        through: Option<Key>,
        read_at: Op,
        records: Vec<Record>,
        deleted: Vec<Key>,
    },
    /// A part of the run's expiries as of its `committed`; sent right after `RunStart`.
    RunExpiries { set: KeySet, run: RunId, keys: Vec<(Key, Expiry)> },
    /// How full the sender is, before the acknowledgements that follow: at the beginning of an
    /// epoch or a run, and when it changes.
    Space { set: KeySet, level: Level },
}

impl PeerMessage {
    /// The key set that it is about; beacons and grants are about many.
    #[must_use]
    pub fn set(&self) -> Option<KeySet> {
        match self {
            PeerMessage::NewEpoch { set, .. }
            | PeerMessage::Prepare { set, .. }
            | PeerMessage::Ack { set, .. }
            | PeerMessage::Fenced { set, .. }
            | PeerMessage::Resigned { set, .. }
            | PeerMessage::RunStart { set, .. }
            | PeerMessage::CopyChunk { set, .. }
            | PeerMessage::ChunkStored { set, .. }
            | PeerMessage::RunLost { set, .. }
            | PeerMessage::RunBase { set, .. }
            | PeerMessage::CopyChanges { set, .. }
            | PeerMessage::RunExpiries { set, .. }
            | PeerMessage::Space { set, .. } => Some(*set),
            PeerMessage::Beacon { .. } | PeerMessage::Grant { .. } => None,
        }
    }

    /// The promise that it asks its receiver for, if it asks for one.
    #[must_use]
    pub fn ask(&self) -> Option<LeaseAsk> {
        match self {
            PeerMessage::NewEpoch { ask, .. }
            | PeerMessage::Prepare { ask, .. }
            | PeerMessage::RunStart { ask, .. }
            | PeerMessage::Beacon { ask, .. } => Some(*ask),
            PeerMessage::Ack { .. }
            | PeerMessage::Fenced { .. }
            | PeerMessage::Resigned { .. }
            | PeerMessage::CopyChunk { .. }
            | PeerMessage::ChunkStored { .. }
            | PeerMessage::RunLost { .. }
            | PeerMessage::RunBase { .. }
            | PeerMessage::CopyChanges { .. }
            | PeerMessage::RunExpiries { .. }
            | PeerMessage::Grant { .. }
            | PeerMessage::Space { .. } => None,
        }
    }
}

/// An entry that is shared as soon as it is read. (The library's own way to an `Rc` is by a `Box`
/// first: two allocations and a copy.)
struct Shared(Rc<Entry>);

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared, D::Error> {
        Entry::deserialize(deserializer).map(|entry| Shared(Rc::new(entry)))
    }
}

fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rc<Entry>>, D::Error> {
    let entries = Vec::<Shared>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|Shared(entry)| entry).collect())
}
