//! What the metaserver writes down before it acts: the durable records, and the state that they
//! rebuild after a restart.
//!
//! A record is the whole new value of one row, so that replaying a batch is harmless.

use serde::{Deserialize, Serialize};

use crate::protocol::types::{
    ClusterId, Configuration, Incarnation, KeySet, Member, Op, RecoveryId, ServerId, ViewVersion,
};
use crate::protocol::view::{ServerEntry, SetState};

/// One row of the metaserver's durable state.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum MetaRecord {
    Cluster(ClusterRow),
    Server(ServerRow),
    Set(SetRow),
    Recovery(Recovery),
    /// A recovery that fell out of the history.
    RecoveryForgotten(RecoveryId),
}

/// The cluster as a whole.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct ClusterRow {
    pub cluster: ClusterId,
    /// Key sets, fixed at creation.
    pub sets: u16,
    /// Copies of each key set that the placement aims at.
    pub copies: u16,
    /// The last incarnation that was issued, over all servers.
    pub incarnation_last: Incarnation,
    pub recovery_last: RecoveryId,
    /// Whether epoch 1 was installed.
    pub born: bool,
    /// Version of the view that these rows make up; never goes back.
    pub version: ViewVersion,
}

/// A server.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerRow {
    pub entry: ServerEntry,
    /// The latest incarnation is proven dead.
    pub dead: bool,
    /// Declared dead by an administrator: it has no heir.
    pub fenced: bool,
    /// It asked to stop.
    pub leaving: bool,
    /// The process that registered it, for a spawner on the same machine.
    pub process: u32,
    /// Whose heir it is, and who else was issued to processes with that memory. A process may end
    /// before it hears of its incarnation; the next one then has the older memory still, because
    /// nothing was acknowledged in between. And the registration of one that ended may come late.
    pub inherits: Vec<Incarnation>,
}

/// A key set.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct SetRow {
    pub set: KeySet,
    pub configuration: Option<Configuration>,
    pub state: SetState,
    /// The servers that should hold it, the preferred primary first.
    pub target: Vec<ServerId>,
    /// Highest request number refused to each requester in this epoch: refusals are final.
    pub refused: Vec<(Member, u64)>,
    /// With a write floor of 2 or more: the member whose removal went below it, and the last op
    /// that the survivor may commit meanwhile (KIP-966's eligible leader replicas).
    pub ex_member: Option<(Member, Op)>,
}

/// The four steps of a recovery, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub enum Step {
    Invalidate,
    CopyPrimary,
    CopySecondary,
    Resume,
    Done,
}

/// The recovery of one failed incarnation: a durable intent.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Recovery {
    pub id: RecoveryId,
    pub failed: Member,
    /// Sets that it was primary of.
    pub primary_of: Vec<KeySet>,
    /// Sets that it was secondary of.
    pub secondary_of: Vec<KeySet>,
    pub step: Step,
    /// Milliseconds each finished step took, from the recovery's start, by the metaserver's
    /// clock: invalidate, copy-primary, copy-secondary, resume. Steps that a restart of the
    /// metaserver fell into count from the restart.
    pub took_ms: [Option<u64>; 4],
    /// Key sets in which the intent was dropped, because the server proved alive.
    pub dropped: u16,
}
