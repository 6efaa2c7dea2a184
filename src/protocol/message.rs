//! Every message of the protocol, by the kind of link that it travels on.
//!
//! ```text
//!   server  <-- PeerMessage -->  server       lanes (a stream a key set), bulk, datagrams
//!   server  --- ToMeta ------->  metaserver   control lane, heartbeat datagrams
//!   server  <-- ToServer ------  metaserver
//!   client  --- Request ------>  server       one stream, answers in any order
//!   client  <-- Answer --------  server
//!   client  --- MetaRequest -->  metaserver or any server (views, status, administration)
//! ```
//!
//! Enums are append-only: postcard encodes a variant by its place. A new field is a new variant.

use serde::{Deserialize, Serialize};

use super::time::{Span, Time};
use super::types::{
    ClusterId, Configuration, Entry, Epoch, Incarnation, Key, KeySet, Member, Op, Origin, Position,
    Record, RecoveryId, RequestNumber, Revision, RunId, ServerId, SessionId, Value, WorkerId,
    Written,
};
use super::view::{Update, View};

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
    Prepare { set: KeySet, epoch: Epoch, entries: Vec<Entry>, commit: Op, ask: LeaseAsk },
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
}

/// What a replica is doing, as heartbeats report it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Activity {
    /// Primary that answers.
    Open,
    /// Primary whose lease ran out.
    Paused,
    /// Primary that is not free yet, or whose secondaries have not all acknowledged its epoch.
    Reconciling,
    /// Primary that fell silent in this epoch.
    Resigned,
    Secondary,
    /// Learner; `complete` once its run's last chunk is stored.
    Learner {
        complete: bool,
    },
}

/// One replica in a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct SetReport {
    pub set: KeySet,
    pub epoch: Epoch,
    pub activity: Activity,
    pub committed: Op,
    pub prepared: Op,
}

/// A member's answer to a probe about one set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct ProbeReport {
    pub set: KeySet,
    /// The epoch of the newest configuration that the member knows.
    pub epoch: Epoch,
    /// The suspect may still hold a lease that this member granted.
    pub hears: bool,
    /// Epoch and op of its last prepared entry.
    pub last_epoch: Epoch,
    pub last_op: Op,
}

/// Names a request for a change; the same id is sent again until answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct ChangeId {
    pub member: Member,
    /// Grows with every request of this incarnation's worker for this set.
    pub number: u64,
}

/// A change of configuration that a replica asks for; it takes effect at `epoch + 1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The primary adds a learner that holds everything, for the recovery that asked for it.
    Add { learner: Member, recovery: RecoveryId },
    /// The primary hands its role to a secondary.
    HandOver { to: Member },
    /// The primary withdraws what it asked for before: the same members again.
    Reaffirm,
    /// A secondary leaves.
    RemoveMe,
}

/// Why the metaserver refuses a change; final for that id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum ChangeRefusal {
    /// The set is in another epoch: the update that names it travels ahead of this answer.
    WrongEpoch,
    /// The requester does not have the role that this change needs.
    WrongRole,
    /// An incarnation in it has a registered successor or is proven dead.
    Superseded,
    /// The recovery that it belongs to is over.
    StaleRecovery,
    /// This id was refused before.
    RefusedBefore,
    /// It would leave no copy, or no eligible member.
    NotAllowed,
}

/// Server to metaserver.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum ToMeta {
    /// The first message of a process on its control link, from worker 0.
    Register(Registration),
    /// Datagram.
    Heartbeat {
        sequence: u64,
        sets: Vec<SetReport>,
    },
    ProbeAnswer {
        nonce: u64,
        reports: Vec<ProbeReport>,
    },
    /// The primary gets nothing from `member`, or no progress, in these sets; with its prepared
    /// point in each.
    RemovalConfirmed {
        nonce: u64,
        member: Member,
        sets: Vec<(KeySet, Epoch, Op)>,
    },
    /// A hint: the primary's follower does not answer. Only a question gets it removed.
    Complaint {
        member: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    Change {
        id: ChangeId,
        set: KeySet,
        epoch: Epoch,
        kind: ChangeKind,
    },
    Resigned {
        set: KeySet,
        epoch: Epoch,
        member: Member,
    },
    /// The server wants to stop: its primaries are to be handed over.
    Leaving,
    /// The server serves nothing any more and is about to exit: a proof of its death.
    Left,
}

/// How a process introduces itself.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Registration {
    pub server: ServerId,
    /// Where each worker listens, as others reach it.
    pub workers: Vec<std::net::SocketAddr>,
    /// The cluster that its state directory belongs to, if any.
    pub cluster: Option<ClusterId>,
    /// The highest epoch that its state directory knows; none = empty.
    pub highest_epoch: Epoch,
    /// The incarnation whose intact log this process holds; none = memory is gone.
    pub inherits: Option<Incarnation>,
    /// Process id, for a spawner on the same machine.
    pub process: u32,
}

/// Why the metaserver will not have this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum RegistrationRefusal {
    /// Not in the metaserver's server table.
    UnknownServer,
    /// The state directory belongs to another cluster.
    OtherCluster { ours: ClusterId },
    /// The server knows a cluster, the metaserver's state is empty.
    MetaserverEmpty,
    /// This incarnation is proven dead or superseded: start again.
    Superseded,
}

/// Metaserver to server.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum ToServer {
    /// The answer to `Register`: who it is, and everything that is known.
    Registered {
        member: Member,
        cluster: ClusterId,
        view: View,
    },
    RegistrationRefused(RegistrationRefusal),
    Update(Update),
    HeartbeatEcho {
        sequence: u64,
    },
    /// Do you still hear `suspect`, the primary of these sets?
    Probe {
        nonce: u64,
        suspect: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    /// Does `member`, your follower in these sets, really not answer?
    ConfirmRemoval {
        nonce: u64,
        member: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    /// Primary: make `learner` a copy of these sets. Repeating it is harmless.
    Copy {
        recovery: RecoveryId,
        learner: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    /// Primary: stop copying to `learner`.
    CancelCopy {
        learner: Member,
        sets: Vec<KeySet>,
    },
    /// Primary: hand these sets over to `to`.
    HandOver {
        to: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    /// Primary: serve nothing more in these epochs.
    Resign {
        sets: Vec<(KeySet, Epoch)>,
    },
    Changed {
        id: ChangeId,
        set: KeySet,
        outcome: Result<Configuration, ChangeRefusal>,
    },
}

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
}

impl Operation {
    /// Whether it may change data, and so needs an origin.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Operation::Get { .. } | Operation::Scan { .. } => false,
            Operation::Put { .. }
            | Operation::Delete { .. }
            | Operation::Cas { .. }
            | Operation::Incr { .. } => true,
        }
    }

    /// The key it is about; none for a scan.
    #[must_use]
    pub fn key(&self) -> Option<&Key> {
        match self {
            Operation::Get { key }
            | Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::Cas { key, .. }
            | Operation::Incr { key, .. } => Some(key),
            Operation::Scan { .. } => None,
        }
    }

    /// The key set it belongs to, of `count`.
    #[must_use]
    pub fn key_set(&self, count: u16) -> KeySet {
        match self {
            Operation::Scan { set, .. } => *set,
            Operation::Get { key }
            | Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::Cas { key, .. }
            | Operation::Incr { key, .. } => super::placement::key_set(key, count),
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
    /// For writes: lifetime of the value in milliseconds; reserved, refused so far.
    pub expiry_ms: Option<u64>,
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
    /// A write without an origin, or a first number of zero.
    Malformed,
}

/// Why an operation that was looked at does nothing; a read of the position it was judged at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum Rejection {
    /// `incr` of a value that is no 64-bit decimal number.
    NotANumber,
    /// `incr` beyond 64 bits.
    Overflow,
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
            | Answer::Forgotten { position } => Some(*position),
            Answer::Refused(_) | Answer::Moved { .. } => None,
        }
    }
}

/// Client or administrator to the metaserver; `View` also to any server.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum MetaRequest {
    /// The newest view.
    View,
    /// Everything that `status` shows. Metaserver only.
    Status,
    /// Reopens lost sets under a new loss epoch, empty. Administrators only.
    Revive { sets: Vec<KeySet> },
    /// Declares an incarnation dead on the administrator's word. Administrators only.
    Fence { member: Member },
}

/// The answer to a `MetaRequest`.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum MetaAnswer {
    View(View),
    Status(Box<super::meta::Status>),
    Revived { sets: Vec<KeySet> },
    Fenced,
    Refused(MetaRefusal),
}

/// Why a `MetaRequest` is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum MetaRefusal {
    /// The certificate is not an administrator's.
    NotAdministrator,
    /// This set is not lost.
    NotLost(KeySet),
    /// No server is registered that could hold it.
    NoServers,
    UnknownMember(Member),
    /// Ask the metaserver.
    NotMetaserver,
    /// The cluster is not created yet.
    Unborn,
    /// Too many ask at once: try again later.
    Busy,
}

/// The purpose of a connection, named in its `Hello`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Server worker to server worker: lanes and beacons; the dialler is the primary's side.
    Replication,
    /// Server worker to server worker: copy chunks only.
    Bulk,
    /// Server to metaserver: control lane and heartbeats.
    Control,
    /// Client to server worker, or to the metaserver.
    Client,
}

/// The first frame on every connection, from the side that dialled. The other side answers with
/// `HelloAck`; before that the link does not count as up.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    pub features: u64,
    /// Zero if the dialler does not know its cluster yet.
    pub cluster: ClusterId,
    pub purpose: Purpose,
    /// The dialler, where it is a server; incarnation 0 before registration.
    pub from: Option<Member>,
    pub from_worker: WorkerId,
    /// The server that the dialler means to reach, where it is one.
    pub to: Option<Member>,
}

/// Accepts a `Hello`.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct HelloAck {
    pub version: u16,
    pub features: u64,
    pub cluster: ClusterId,
    /// The accepting side, where it is a server.
    pub from: Option<Member>,
    /// To clients of a server: the committed positions of the sets that it is primary of, as
    /// bases for their first writes.
    pub bases: Vec<(KeySet, Revision)>,
}
