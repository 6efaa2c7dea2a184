//! Client and server: operations and their answers.

use serde::{Deserialize, Serialize};

use crate::protocol::types::{
    Configuration, Key, KeySet, Op, Origin, Position, Record, Revision, ServerId, Value, Written,
};

/// What a client asks of a key set. Keys and values beyond the limits are refused, typed.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Operation {
    Get {
        key: Key,
    },
    Put {
        key: Key,
        value: Value,
    },
    Delete {
        key: Key,
    },
    /// Stores `value`, or deletes if none, where the key is as expected.
    Cas {
        key: Key,
        expect: Expect,
        value: Option<Value>,
    },
    /// Adds to a decimal number; an absent key counts as 0.
    Incr {
        key: Key,
        by: i64,
    },
    /// Keys of `set` that start with `prefix`, in order, after `after`.
    Scan {
        set: KeySet,
        prefix: Key,
        after: Option<Key>,
        items_max: u32,
        bytes_max: u32,
    },
    /// What the keys of `set` are now that writes after `after` changed, in the order of their
    /// first change since.
    Changes {
        set: KeySet,
        after: Revision,
        items_max: u32,
        bytes_max: u32,
    },
    /// As `Put`, for so many milliseconds by the primary's clock.
    PutFor {
        key: Key,
        value: Value,
        lifetime_ms: u64,
    },
    /// As `Cas` that stores, for so many milliseconds by the primary's clock.
    CasFor {
        key: Key,
        expect: Expect,
        value: Value,
        lifetime_ms: u64,
    },
}

impl Operation {
    /// Whether it may change data, and so needs an origin.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Operation::Get { .. } | Operation::Scan { .. } | Operation::Changes { .. } => false,
            Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::Cas { .. }
            | Operation::PutFor { .. }
            | Operation::CasFor { .. }
            | Operation::Incr { .. } => true,
        }
    }

    /// The key it is about; none for a whole key set.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Operation::Get { key }
            | Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::Cas { key, .. }
            | Operation::PutFor { key, .. }
            | Operation::CasFor { key, .. }
            | Operation::Incr { key, .. } => Some(key),
            Operation::Scan { .. } | Operation::Changes { .. } => None,
        }
    }

    /// The value that it may store.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match self {
            Operation::Put { value, .. }
            | Operation::PutFor { value, .. }
            | Operation::CasFor { value, .. } => Some(value),
            Operation::Cas { value, .. } => value.as_ref(),
            Operation::Get { .. }
            | Operation::Delete { .. }
            | Operation::Incr { .. }
            | Operation::Scan { .. }
            | Operation::Changes { .. } => None,
        }
    }

    /// For how long what it stores is there; none = for good.
    #[must_use]
    pub fn lifetime_ms(&self) -> Option<u64> {
        match self {
            Operation::PutFor { lifetime_ms, .. } | Operation::CasFor { lifetime_ms, .. } => {
                Some(*lifetime_ms)
            }
            _ => None,
        }
    }

    /// The key set it belongs to, of `count`.
    #[must_use]
    pub fn key_set(&self, count: u16) -> KeySet {
        match self {
            Operation::Scan { set, .. } | Operation::Changes { set, .. } => *set,
            Operation::Get { key }
            | Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::Cas { key, .. }
            | Operation::PutFor { key, .. }
            | Operation::CasFor { key, .. }
            | Operation::Incr { key, .. } => crate::protocol::placement::key_set(key, count),
        }
    }
}

/// What a `cas` expects to find.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Expect {
    Absent,
    Value(Value),
    Revision(Revision),
}

/// Which reads a client accepts. Only the first is served so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum ReadLevel {
    /// Committed state at the primary under its leases.
    #[default]
    Linearizable,
    /// As above, confirmed by a beacon round trip begun after the request.
    Confirmed,
    /// Any copy's committed state.
    Any,
}

/// Which acknowledgements a client accepts. Only the first is served so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum AckLevel {
    /// Every member has it.
    #[default]
    Every,
    /// The primary has it.
    Primary,
}

/// Client to server.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Request {
    pub operation: Operation,
    /// For writes.
    pub origin: Option<Origin>,
    pub read_level: ReadLevel,
    pub ack_level: AckLevel,
    /// Reserved, and refused; operations carry lifetimes themselves.
    pub expiry_ms: Option<u64>,
}

impl Request {
    /// A read, as strong as reads are.
    #[must_use]
    pub fn read(operation: Operation) -> Request {
        Request {
            operation,
            origin: None,
            read_level: ReadLevel::Linearizable,
            ack_level: AckLevel::Every,
            expiry_ms: None,
        }
    }
}

/// Surely not done: this attempt was not admitted.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Asked the wrong server; the newest configuration that it knows.
    NotPrimary {
        configuration: Option<Configuration>,
    },
    /// A queue is full, or the request waited too long in one.
    Busy,
    /// The write names no base revision of this set that the server can judge: send it again
    /// with this one.
    BaseNeeded {
        base: Revision,
    },
    KeyTooLarge {
        bytes_max: u32,
    },
    ValueTooLarge {
        bytes_max: u32,
    },
    EmptyKey,
    /// Fewer copies than `min_write_copies`: reads are served, writes are not.
    BelowWriteFloor {
        copies: u16,
        floor: u16,
    },
    /// All copies of the set are gone; only `admin revive` reopens it.
    Lost,
    /// The cluster has not created its key sets yet.
    Unborn,
    /// No such key set.
    UnknownSet,
    /// A level or an expiry that this version does not serve.
    Unsupported,
    /// A write without an origin, a first number of zero, or a lifetime of zero.
    Malformed,
    /// The keys of the set that expire take this much already.
    TooManyExpire {
        bytes_max: u32,
    },
    /// This server, which has to hold it, is full: writes that grow are refused; reads, deletes
    /// and writes that shrink are not.
    Full {
        server: ServerId,
    },
}

/// Why an operation that was looked at does nothing; a read of the position it was judged at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Rejection {
    /// `incr` of a value that is no 64-bit decimal number.
    NotANumber,
    /// `incr` beyond 64 bits.
    Overflow,
    /// Not all changes since then are known any more.
    ChangesForgotten,
}

/// Server to client.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Answer {
    Found {
        position: Position,
        revision: Revision,
        value: Value,
    },
    /// `get` or `delete` of an absent key.
    Absent {
        position: Position,
    },
    Written {
        position: Position,
        written: Written,
    },
    /// A `cas` that found something else; what it found.
    Mismatch {
        position: Position,
        found: Option<Revision>,
    },
    Rejected {
        position: Position,
        reason: Rejection,
    },
    Page {
        position: Position,
        records: Vec<Record>,
        more: bool,
    },
    Refused(Refusal),
    /// A retry from before the horizon of duplicate records: it may or may not have been done.
    Forgotten {
        position: Position,
    },
    /// The write was admitted here, and this server is primary no more: the new primary tells
    /// what became of it. The fate of this attempt is unknown.
    Moved {
        configuration: Option<Configuration>,
    },
    /// The changes up to op `ends`: records, and keys that are no more. There are others if
    /// `ends` is below the position's op.
    Changes {
        position: Position,
        ends: Op,
        records: Vec<Record>,
        deleted: Vec<Key>,
    },
}

impl Answer {
    /// Where the answer was computed; refusals have none.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Answer::Found { position, .. }
            | Answer::Absent { position }
            | Answer::Written { position, .. }
            | Answer::Mismatch { position, .. }
            | Answer::Rejected { position, .. }
            | Answer::Page { position, .. }
            | Answer::Changes { position, .. }
            | Answer::Forgotten { position } => Some(*position),
            Answer::Refused(_) | Answer::Moved { .. } => None,
        }
    }
}
