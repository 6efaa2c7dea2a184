//! The words of the protocol as types: a number with a meaning is never a bare integer.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize,
            Deserialize,
        )]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A server of the cluster, as numbered in `cluster.toml`; 1 and up.
    ServerId(u16), "s");
number!(
    /// One of a server's workers: a single-threaded runtime with its own port, from 0.
    WorkerId(u16), "w");
number!(
    /// Identity of a server's memory, issued by the metaserver at each start; 0 = not registered.
    Incarnation(u64), "i");
number!(
    /// The unit of placement: `hash(key) mod K`.
    KeySet(u16), "k");
number!(
    /// Number of a configuration; fences all lower ones. 0 = no configuration yet.
    Epoch(u64), "e");
number!(
    /// Place of a write in its key set; the first write is 1.
    Op(u64), "op");
number!(
    /// Counts the times that a key set was reopened after losing data.
    LossEpoch(u32), "L");
number!(
    /// One recovery, as the metaserver wrote it down.
    RecoveryId(u64), "r");
number!(
    /// One attempt of a primary to copy a key set to one learner; unique per primary incarnation.
    RunId(u64), "run");
number!(
    /// Place of a write in its client session; the first is 1.
    RequestNumber(u64), "#");
number!(
    /// A connection as its local end names it; never reused by a process.
    LinkId(u64), "link");
number!(
    /// When a value expires: milliseconds since 1970 by the wall clock of the primary that stored
    /// it.
    Expiry(u64), "t");
number!(
    /// Version of the metaserver's view; grows with every durable change.
    ViewVersion(u64), "v");

impl Epoch {
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl Op {
    #[must_use]
    pub fn next(self) -> Op {
        Op(self.0 + 1)
    }
}

/// UUID of a cluster, made once at its creation.
#[derive(Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A client session: drawn at random by the client, unique in the cluster's life. Aligned as the
/// other numbers are, so that what holds one has no gaps.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
#[repr(Rust, packed(8))]
pub struct SessionId(pub u128);

/// A replica's owner: a server and the incarnation of its memory.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub struct Member {
    pub server: ServerId,
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.incarnation.0)
    }
}

/// Who holds a key set, in one epoch.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Configuration {
    pub loss_epoch: LossEpoch,
    pub epoch: Epoch,
    pub primary: Member,
    pub secondaries: Vec<Member>,
}

impl Configuration {
    /// All members, the primary first.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        std::iter::once(self.primary).chain(self.secondaries.iter().copied())
    }

    #[must_use]
    pub fn contains(&self, member: Member) -> bool {
        self.primary == member || self.secondaries.contains(&member)
    }

    /// The number of copies.
    #[must_use]
    pub fn copies(&self) -> usize {
        1 + self.secondaries.len()
    }
}

/// Which write made a value.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub struct Revision {
    pub loss_epoch: LossEpoch,
    pub op: Op,
}

/// Where in a key set's history an answer was computed.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub struct Position {
    pub loss_epoch: LossEpoch,
    pub epoch: Epoch,
    pub op: Op,
}

impl Position {
    /// The revision of a write executed here.
    #[must_use]
    pub fn revision(self) -> Revision {
        Revision { loss_epoch: self.loss_epoch, op: self.op }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.loss_epoch.0, self.epoch.0, self.op.0)
    }
}

/// A key: 1 byte to the cluster's limit (1 KiB by default), any bytes.
pub type Key = Bytes;

/// A value: 0 bytes to the cluster's limit (1 MiB by default), any bytes.
pub type Value = Bytes;

/// Who asked for a write, so that a retry is recognised.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Origin {
    pub session: SessionId,
    pub number: RequestNumber,
    /// The session has its answers to all its writes below this number.
    pub answered_below: RequestNumber,
    /// A revision of the key set that the session saw before its first attempt of this write.
    pub base: Revision,
}

/// What a write does to its key. Effects travel, never operations: replicas do not evaluate.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Change {
    Put(Value),
    Delete,
    /// A primary deletes it again once its own wall clock is past the expiry.
    Expiring(Value, Expiry),
}

impl Change {
    /// What the key holds after it; none after a delete.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match self {
            Change::Put(value) | Change::Expiring(value, _) => Some(value),
            Change::Delete => None,
        }
    }

    /// When what it stores expires, if ever.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match self {
            Change::Expiring(_, expiry) => Some(*expiry),
            Change::Put(_) | Change::Delete => None,
        }
    }
}

/// What a write answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Written {
    /// A `put` or a successful `cas`.
    Stored,
    /// A `delete` of a key that was there.
    Deleted,
    /// An `incr`: the new value.
    Counter(i64),
}

/// A prepared write.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The epoch in which it was last prepared.
    pub epoch: Epoch,
    /// The epoch in which it was first given its place; part of the answer's position.
    pub born: Epoch,
    pub op: Op,
    pub origin: Option<Origin>,
    pub key: Key,
    pub change: Change,
    pub written: Written,
}

/// What keys that changed are now.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Changes {
    pub records: Vec<Record>,
    pub deleted: Vec<Key>,
    /// The changes up to this op are among them.
    pub through: Op,
}

/// A committed value with its key, as scans and copies carry it.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Record {
    pub key: Key,
    pub value: Value,
    pub revision: Revision,
}
