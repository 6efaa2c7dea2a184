//! The metaserver: the authority on configurations.

use serde::{Deserialize, Serialize};

use super::types::{ClusterId, Configuration, Incarnation, KeySet, ServerId, ViewVersion};
use super::view::SetState;

pub mod durable;

/// Everything that `status` shows.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Status {
    pub cluster: ClusterId,
    pub version: ViewVersion,
    pub servers: Vec<ServerStatus>,
    pub sets: Vec<SetStatus>,
    /// The last recoveries, oldest first.
    pub recoveries: Vec<durable::Recovery>,
}

/// How a server fares.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub enum ServerState {
    /// Listed in the configuration, never registered.
    Expected,
    Up,
    Suspected,
    Leaving,
    /// Its latest incarnation is proven dead.
    Dead,
}

/// A server in the status.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServerStatus {
    pub id: ServerId,
    pub incarnation: Incarnation,
    pub state: ServerState,
    pub primary_of: u16,
    pub secondary_of: u16,
    pub learner_of: u16,
    pub process: u32,
}

/// A key set in the status.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct SetStatus {
    pub set: KeySet,
    pub configuration: Option<Configuration>,
    pub state: SetState,
    /// All copies that the placement aims at are members.
    pub redundant: bool,
    /// The primary's heartbeat says that it answers.
    pub open: bool,
}
