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
