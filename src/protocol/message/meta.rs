//! Clients and administrators to the metaserver.

use serde::{Deserialize, Serialize};

use crate::protocol::space::Space;
use crate::protocol::types::{KeySet, Member, ServerId};
use crate::protocol::view::View;

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
    /// How full the servers are that measure it. Metaserver only.
    Space,
    /// Ends every server as it is, and then the metaserver; asked again, it tells how far that
    /// is. Where servers keep nothing it needs consent. Administrators only.
    StopCluster { accept_loss: bool },
    /// How full the disk of the metaserver's own state is. Metaserver only.
    OwnSpace,
}

/// The answer to a `MetaRequest`.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum MetaAnswer {
    View(View),
    Status(Box<crate::protocol::meta::Status>),
    Revived { sets: Vec<KeySet> },
    Fenced,
    Refused(MetaRefusal),
    Space(Vec<(ServerId, Space)>),
    Stopping(StopReport),
    OwnSpace(OwnSpace),
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
    /// Servers keep nothing: to stop the whole cluster is to lose all that it holds.
    WouldLoseAll,
    /// The whole cluster is being stopped.
    Stopping,
    /// The disk of the metaserver's state is full: nothing changes until there is room.
    DiskFull,
}

/// The disk of the metaserver's own state.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct OwnSpace {
    pub space: Space,
    /// The folder of the state, as the metaserver names it.
    pub directory: String,
    /// Decisions wait for room.
    pub waits: bool,
}

/// How far the stop of a whole cluster is.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct StopReport {
    pub phase: StopPhase,
    /// Every server of the metaserver's table, with its last process.
    pub servers: Vec<(ServerId, u32, StopState)>,
}

/// The steps of a cluster's stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum StopPhase {
    /// Servers admit nothing more, and finish what is under way.
    Quiescing,
    /// They end.
    Ending,
    /// Nobody is waited for any more; the metaserver ends too.
    Over,
}

/// A server in a cluster's stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum StopState {
    /// Something is under way there, or it was not told yet.
    Busy,
    /// Nothing is under way, and nothing is admitted any more.
    Quiet,
    /// It has ended, or does not run.
    Ended,
    /// It was registered, has no link, and nobody knows whether it runs.
    Unreached,
}
