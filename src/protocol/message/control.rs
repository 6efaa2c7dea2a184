//! Server and metaserver: registration, liveness, questions, orders, changes.

use serde::{Deserialize, Serialize};

use super::Testimony;
use crate::protocol::space::Space;
use crate::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, KeySet, Member, Op, RecoveryId, ServerId,
};
use crate::protocol::view::{Update, View};

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
    /// The primary gets nothing from `member`, or no progress, in these sets, or can go on without
    /// it where it wants to stop; with its prepared point in each.
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
    /// How full the server is, from worker 0: when that changes, and on every new link.
    Space(Space),
    /// A secondary of these sets that is not needed there asks to be let go.
    Depart {
        sets: Vec<(KeySet, Epoch)>,
    },
    /// The answer to `Testify`, of a registered server.
    Testimony(Box<Testimony>),
    /// The answer to `Quiesce`: nothing is admitted here any more, and nothing is under way.
    Quiet,
    /// The answer to `Halt`: all is on the disk, and this worker ends.
    Halted,
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
    /// The metaserver's state is older than this incarnation: it is a copy, or was rebuilt since.
    MetaserverOutdated,
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
    /// Can you go on without `member`, your follower in these sets, which wants to stop?
    ConfirmLeave {
        nonce: u64,
        member: Member,
        sets: Vec<(KeySet, Epoch)>,
    },
    /// The answer to `Leaving`: no configuration names you, and none will.
    Released,
    /// These sets belong on other servers, which hold them. Where you are secondary, ask to be let
    /// go; where you are none of the members, drop what you hold.
    Unplaced {
        sets: Vec<(KeySet, Epoch)>,
    },
    /// The metaserver's state is lost and to be rebuilt: what do you know?
    Testify {
        round: u64,
    },
    /// The whole cluster stops: admit nothing more, and say when nothing is under way.
    Quiesce,
    /// The whole cluster stops: end as you are, in every configuration that names you, once what
    /// you have is on the disk.
    Halt,
}
