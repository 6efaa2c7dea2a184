//! Inputs and effects: the contract between the machines and whatever drives them.
//!
//! Effects are performed in order. Completions (`ReadDone`, `Appended`, ...) come back as inputs;
//! an engine that works in memory may complete at once, before the next effect is performed.
//! A driver takes a new clock reading for every input that it hands in.

use std::rc::Rc;

use super::inheritance::Standing;
use super::message::{
    Answer, DedupSnapshot, MetaAnswer, MetaRequest, PeerMessage, RegistrationRefusal, Request,
    StopPhase, ToMeta, ToServer,
};
use super::meta::durable::MetaRecord;
use super::space::Space;
use super::types::{
    Changes, ClusterId, Entry, Expiry, Key, KeySet, LinkId, Member, Op, Record, Revision, RunId,
    ServerId, Value, WorkerId,
};
use super::view::View;

/// A client's request as its server names it: the link that it came on and its number there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Ticket {
    pub link: LinkId,
    pub request: u64,
}

/// Names a read in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ReadToken(pub u64);

/// What happens to a server's worker.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum WorkerInput {
    /// Its `deadline` came.
    Tick,
    /// The control link to the metaserver is up or down.
    MetaUp,
    MetaDown,
    FromMeta(ToServer),
    /// A replication link that this worker asked for with `Connect` is up. Never called for a
    /// link that an earlier `PeerUp` named and no `PeerDown` took back.
    PeerUp {
        peer: Member,
        link: LinkId,
    },
    /// A peer dialled this worker: the peer is a primary of sets that this worker follows.
    PeerAccepted {
        peer: Member,
        link: LinkId,
    },
    /// That link is gone, either kind; nothing more comes from it.
    PeerDown {
        link: LinkId,
    },
    FromPeer {
        link: LinkId,
        message: PeerMessage,
    },
    /// The bulk connection beside this link broke: chunks on their way are lost.
    BulkDown {
        link: LinkId,
    },
    Request {
        ticket: Ticket,
        request: Request,
    },
    /// The client's link is gone: its queued requests are dropped, its writes go on.
    ClientGone {
        link: LinkId,
    },
    /// A point read is done: the key that was asked for, and its committed record, if any.
    ReadDone {
        set: KeySet,
        token: ReadToken,
        key: Key,
        found: Option<(Value, Revision)>,
    },
    /// A range read is done: the records after the asked start, in order. `more` tells whether
    /// the range goes on after the last of them.
    RangeDone {
        set: KeySet,
        token: ReadToken,
        records: Vec<Record>,
        more: bool,
    },
    /// Changes were looked up; none if the engine does not know all that were asked for.
    ChangesDone {
        set: KeySet,
        token: ReadToken,
        found: Option<Changes>,
    },
    /// All entries of `set` up to `through` are in this replica's log (durable, if it has one).
    Appended {
        set: KeySet,
        through: Op,
    },
    /// The chunk that ended at `through` is stored.
    ChunkStored {
        set: KeySet,
        run: RunId,
        through: Option<Key>,
    },
    /// The standing that `Remember` named by `number` survives a restart.
    Remembered {
        set: KeySet,
        number: u64,
    },
    /// What is to be added to this machine's clock, in milliseconds, to have the wall clock's
    /// time since 1970; again whenever it may have changed.
    WallClock {
        ahead_ms: u64,
    },
    /// How full this server is now. Where nothing is measured it never comes.
    Space {
        space: Space,
    },
    /// The process is asked to stop: hand over first.
    Stop,
    /// All that was handed to the engine before `Settle` is durable.
    Settled,
}

/// Where a message to a peer goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Lane {
    /// The key set's own stream on this link.
    Set(KeySet),
    /// A datagram: may be lost, may overtake.
    Datagram,
    /// The bulk connection beside this link, opened when needed; ordered per key set. It goes
    /// down with its link.
    Bulk(KeySet),
}

/// What a server's worker wants done.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum WorkerEffect {
    /// Keep a replication link to this member's worker of the same number as the sets need,
    /// dialling again when it breaks, until `Disconnect`.
    Connect {
        peer: Member,
        worker: WorkerId,
    },
    Disconnect {
        peer: Member,
    },
    /// Close this link with a reason: the peer broke the protocol.
    CloseLink {
        link: LinkId,
        reason: &'static str,
    },
    SendPeer {
        link: LinkId,
        lane: Lane,
        message: PeerMessage,
    },
    SendMeta {
        message: ToMeta,
    },
    /// As a datagram.
    SendMetaDatagram {
        message: ToMeta,
    },
    Reply {
        ticket: Ticket,
        answer: Answer,
    },
    /// Read the committed record of one key; completes as `ReadDone`.
    Read {
        set: KeySet,
        token: ReadToken,
        key: Key,
    },
    /// Read records with `after < key` that start with `prefix`, in order, until one of the
    /// limits would be passed (at least one record if there is any); completes as `RangeDone`.
    ReadRange {
        set: KeySet,
        token: ReadToken,
        prefix: Key,
        after: Option<Key>,
        items_max: u32,
        bytes_max: u32,
    },
    /// Look up what the keys are now that writes above the first op and up to the second changed,
    /// until one of the limits would be passed (at least one key if there is any); completes as
    /// `ChangesDone`.
    ReadChanges {
        set: KeySet,
        token: ReadToken,
        span: (Op, Op),
        items_max: u32,
        bytes_max: u32,
    },
    /// Put entries into the log, replacing what is there from the first one's op on; completes
    /// as `Appended`.
    Append {
        set: KeySet,
        entries: Vec<Rc<Entry>>,
    },
    /// Cut the log to `through`: entries above it are dropped.
    Cut {
        set: KeySet,
        through: Op,
    },
    /// Apply a committed entry to the store. Applying twice is harmless. With `keep_tombstone`
    /// (while a copy runs) a delete leaves a tombstone, and an entry older than the key's own
    /// revision changes nothing.
    Apply {
        set: KeySet,
        revision: Revision,
        entry: Rc<Entry>,
        keep_tombstone: bool,
    },
    /// Replace the range `after < key <= through` (none = open end) by `records`, except keys
    /// whose revision or tombstone is newer than `read_at`; completes as `ChunkStored`.
    StoreChunk {
        set: KeySet,
        run: RunId,
        after: Option<Key>,
        through: Option<Key>,
        read_at: Revision,
        records: Vec<Record>,
    },
    /// Make these keys what they were at `read_at`: `records`, or deleted, except where a
    /// record or tombstone is newer; completes as `ChunkStored`.
    StoreChanges {
        set: KeySet,
        run: RunId,
        through: Option<Key>,
        read_at: Revision,
        records: Vec<Record>,
        deleted: Vec<Key>,
    },
    /// The copy is over: tombstones may go.
    DropTombstones {
        set: KeySet,
    },
    /// Drop everything of this set, log and store: its log starts after `at` now, with the
    /// duplicate records as of that op.
    Clear {
        set: KeySet,
        at: Op,
        dedup: DedupSnapshot,
    },
    /// Drop the log of this set, and keep its records: its log starts after `at` now, with the
    /// duplicate records as of that op.
    Rebase {
        set: KeySet,
        at: Op,
        dedup: DedupSnapshot,
    },
    /// These keys of the set expire, beside those that its entries name: a copy run says so.
    Expire {
        set: KeySet,
        keys: Vec<(Key, Expiry)>,
    },
    /// Keep this with the log, so that an heir knows it again; completes as `Remembered`, after
    /// everything that was handed to the engine before.
    Remember {
        set: KeySet,
        number: u64,
        standing: Standing,
    },
    /// Make everything that was handed to the engine durable; completes as `Settled`.
    Settle,
    /// Worker 0 only: registered as this member; the other workers may start.
    Registered {
        member: Member,
        cluster: ClusterId,
        view: View,
    },
    /// This process must not go on: the metaserver will not have it.
    Deposed {
        reason: RegistrationRefusal,
    },
    /// The view changed; it is handed out to clients.
    ViewChanged {
        view: View,
    },
    /// Nothing is served here any more, the process may exit.
    MayExit,
    /// After `Stop`: still serving after `timing.stop`; these sets hold it up.
    HeldUp {
        sets: Vec<KeySet>,
    },
    /// Something that a person should read in the log.
    Note {
        note: Note,
    },
}

impl WorkerEffect {
    /// It looks at the store and changes nothing.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            WorkerEffect::Read { .. }
                | WorkerEffect::ReadRange { .. }
                | WorkerEffect::ReadChanges { .. }
        )
    }

    /// It is the engine that performs it.
    #[must_use]
    pub fn is_for_engine(&self) -> bool {
        match self {
            WorkerEffect::Read { .. }
            | WorkerEffect::ReadRange { .. }
            | WorkerEffect::ReadChanges { .. }
            | WorkerEffect::Append { .. }
            | WorkerEffect::Cut { .. }
            | WorkerEffect::Apply { .. }
            | WorkerEffect::StoreChunk { .. }
            | WorkerEffect::StoreChanges { .. }
            | WorkerEffect::Rebase { .. }
            | WorkerEffect::Expire { .. }
            | WorkerEffect::DropTombstones { .. }
            | WorkerEffect::Clear { .. }
            | WorkerEffect::Settle
            | WorkerEffect::Remember { .. } => true,
            WorkerEffect::Connect { .. }
            | WorkerEffect::Disconnect { .. }
            | WorkerEffect::CloseLink { .. }
            | WorkerEffect::SendPeer { .. }
            | WorkerEffect::SendMeta { .. }
            | WorkerEffect::SendMetaDatagram { .. }
            | WorkerEffect::Reply { .. }
            | WorkerEffect::Registered { .. }
            | WorkerEffect::Deposed { .. }
            | WorkerEffect::ViewChanged { .. }
            | WorkerEffect::MayExit
            | WorkerEffect::HeldUp { .. }
            | WorkerEffect::Note { .. } => false,
        }
    }
}

/// What a copy run sent; nothing where the learner tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Copied {
    /// Records, and keys that are no more.
    pub keys: u64,
    /// Length of keys and values.
    pub bytes: u64,
    /// Only what changed above this op was sent.
    pub base: Option<Op>,
}

/// What machines report for the log; the driver words it. `Unheeded`: the metaserver knows less
/// than this server, which goes on as if there were none.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Note {
    Opened { set: KeySet, epoch: super::types::Epoch },
    Paused { set: KeySet, epoch: super::types::Epoch },
    Resigned { set: KeySet, epoch: super::types::Epoch },
    Adopted { set: KeySet, epoch: super::types::Epoch, role: &'static str },
    RunStarted { set: KeySet, learner: Member },
    RunEnded { set: KeySet, learner: Member, complete: bool, copied: Copied },
    Misbehaved { peer: Member, reason: &'static str },
    Unheeded { reason: RegistrationRefusal },
}

/// What happens to the metaserver.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum MetaInput {
    Tick,
    /// A server's control link is up: its certificate names `server`; `member` is what its
    /// `Hello` claims, incarnation 0 before registration.
    ServerUp {
        link: LinkId,
        member: Member,
        worker: WorkerId,
    },
    ServerDown {
        link: LinkId,
    },
    FromServer {
        link: LinkId,
        message: ToMeta,
    },
    /// A client's or an administrator's request; `admin` by certificate.
    Request {
        ticket: Ticket,
        request: MetaRequest,
        admin: bool,
    },
    /// All records of `Persist` effects up to this number are durable.
    Persisted {
        number: u64,
    },
    /// The disk is full: `Persist` effects wait for room. What is durable meanwhile.
    DiskFull {
        durable: Vec<MetaRecord>,
    },
    /// It has room again.
    DiskRoomy,
    /// A process that was spawned, or adopted, for `server` is gone: the kernel's word.
    ProcessExited {
        server: ServerId,
        process: u32,
    },
    /// A process was started for `server`.
    ProcessStarted {
        server: ServerId,
        process: u32,
    },
}

/// What the metaserver wants done.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum MetaEffect {
    /// Make these records durable, in one transaction; completes as `Persisted`.
    Persist {
        number: u64,
        records: Vec<MetaRecord>,
    },
    Send {
        link: LinkId,
        message: ToServer,
    },
    /// As a datagram.
    SendDatagram {
        link: LinkId,
        message: ToServer,
    },
    CloseLink {
        link: LinkId,
        reason: &'static str,
    },
    Reply {
        ticket: Ticket,
        answer: MetaAnswer,
    },
    /// Start a process for `server`; only where `spawn = true`.
    Spawn {
        server: ServerId,
    },
    /// The durable view, for whoever hands it out beside the machine.
    ViewChanged {
        view: View,
    },
    /// The stop of the cluster is over: the process may end. These servers may run still.
    MayExit {
        left: Vec<ServerId>,
    },
    Note {
        note: MetaNote,
    },
}

/// What the metaserver reports for the log; the driver words it. `Unfit` is a server that knows
/// more than this metaserver, which refuses it.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum MetaNote {
    Registered { member: Member },
    Suspected { member: Member },
    Heard { member: Member },
    Dead { member: Member },
    Promoted { set: KeySet, epoch: super::types::Epoch, primary: Member },
    Removed { set: KeySet, epoch: super::types::Epoch, member: Member },
    LetGo { set: KeySet, epoch: super::types::Epoch, member: Member },
    Added { set: KeySet, epoch: super::types::Epoch, member: Member },
    HandedOver { set: KeySet, epoch: super::types::Epoch, to: Member },
    Moving { set: KeySet, from: ServerId, to: ServerId },
    Lost { set: KeySet },
    Born { sets: u16 },
    RecoveryStarted { recovery: super::types::RecoveryId, failed: Member },
    RecoveryStep { recovery: super::types::RecoveryId, step: super::meta::durable::Step },
    RecoveryDone { recovery: super::types::RecoveryId },
    Misbehaved { link: LinkId, reason: &'static str },
    Unfit { server: ServerId, reason: RegistrationRefusal },
    StopEntered { phase: StopPhase },
}
