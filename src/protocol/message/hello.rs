//! The first frames of every connection.

use serde::{Deserialize, Serialize};

use crate::protocol::types::{ClusterId, KeySet, Member, Revision, WorkerId};

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
