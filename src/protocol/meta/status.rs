//! What `status` shows: every server, every key set, the last recoveries.
//!
//! It is computed from the ledger and leaves with everything else through the outbox, so that it
//! never shows a change that is not durable. What is liveness only (suspicion, an unreachable
//! set) is judged here and stored nowhere.

use serde::{Deserialize, Serialize};

use super::{MetaServer, durable};
use crate::protocol::message::Activity;
use crate::protocol::time::Time;
use crate::protocol::types::{
    ClusterId, Configuration, Incarnation, KeySet, Member, ServerId, ViewVersion,
};
use crate::protocol::view::SetState;

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

impl MetaServer {
    /// What this metaserver decided for `set`, durable or still on its way to the disk.
    #[must_use]
    pub fn decided(&self, set: KeySet) -> Option<&Configuration> {
        self.ledger.configuration(set)
    }

    /// Whether something is under way that could cost `set` the copy of `member` although it
    /// lives: a suspicion, a question to its primary, or the search for a successor.
    #[must_use]
    pub fn doubts(&self, set: KeySet, member: Member) -> bool {
        let Some(watch) = self.watches.get(usize::from(set.0)) else { return true };
        let replaced = watch.round.resigned || watch.round.troubled_since.is_some();
        let is_primary = self.decided(set).is_some_and(|it| it.primary == member);
        self.is_suspected(member)
            || watch.round.removals.contains_key(&member)
            || (replaced && is_primary)
    }

    pub(super) fn status(&self, now: Time) -> Status {
        let cluster = self.ledger.cluster();
        Status {
            cluster: cluster.cluster,
            version: cluster.version,
            servers: self.settings.servers.iter().map(|&(id, _)| self.server_status(id)).collect(),
            sets: (0..cluster.sets).map(|set| self.set_status(now, KeySet(set))).collect(),
            recoveries: self.ledger.recoveries().cloned().collect(),
        }
    }

    fn server_status(&self, id: ServerId) -> ServerStatus {
        let mut status = ServerStatus {
            id,
            incarnation: Incarnation(0),
            state: ServerState::Expected,
            primary_of: 0,
            secondary_of: 0,
            learner_of: 0,
            process: 0,
        };
        let Some(row) = self.ledger.server(id) else { return status };
        let member = row.entry.member();
        status.incarnation = member.incarnation;
        status.process = row.process;
        status.state = if row.dead {
            ServerState::Dead
        } else if self.is_suspected(member) {
            ServerState::Suspected
        } else if row.leaving {
            ServerState::Leaving
        } else {
            ServerState::Up
        };
        for configuration in self.ledger.sets().filter_map(|row| row.configuration.as_ref()) {
            status.primary_of += u16::from(configuration.primary == member);
            status.secondary_of += u16::from(configuration.secondaries.contains(&member));
        }
        if let Some(pulse) = self.pulses.get(&id) {
            let learns = |activity| matches!(activity, Activity::Learner { .. });
            let learning = pulse.reports().filter(|it| learns(it.report.activity)).count();
            status.learner_of = u16::try_from(learning).unwrap_or(u16::MAX);
        }
        status
    }

    fn set_status(&self, now: Time, set: KeySet) -> SetStatus {
        let mut status = SetStatus {
            set,
            configuration: None,
            state: SetState::Unborn,
            redundant: false,
            open: false,
        };
        let Some(row) = self.ledger.set(set) else { return status };
        let Some(configuration) = &row.configuration else { return status };
        status.configuration = Some(configuration.clone());
        status.redundant = self.is_redundant(set);
        status.open = self.is_open(now, set);
        status.state = match row.state {
            SetState::Available if self.is_serving(now, set) => SetState::Available,
            SetState::Available => SetState::Unavailable,
            other @ (SetState::Unborn | SetState::Unavailable | SetState::Lost) => other,
        };
        status
    }
}
