//! What a server says of all that it knows, to a metaserver whose state is lost and rebuilt.

use serde::{Deserialize, Serialize};

use super::Activity;
use crate::protocol::types::{ClusterId, KeySet, Member, ViewVersion};
use crate::protocol::view::{ServerEntry, SetEntry};

/// The word of one worker of a registered server. Who it is, its link says.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Testimony {
    /// The question's.
    pub round: u64,
    pub cluster: ClusterId,
    /// Of its view.
    pub version: ViewVersion,
    /// The server's process id, from worker 0; 0 from the others.
    pub process: u32,
    /// Every server that it heard of, itself among them.
    pub servers: Vec<ServerEntry>,
    /// The proven dead that it heard of.
    pub dead: Vec<Member>,
    /// The newest configuration that it knows of every key set of the cluster.
    pub sets: Vec<SetEntry>,
    /// This worker's replicas.
    pub replicas: Vec<ReplicaTestimony>,
}

/// One replica of the worker that testifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct ReplicaTestimony {
    pub set: KeySet,
    /// None where it neither has a role nor learns.
    pub activity: Option<Activity>,
    /// What it holds is a copy.
    pub whole: bool,
    /// A primary's learner whose addition it asked for, while the outcome is unknown.
    pub proposed: Option<Member>,
}
