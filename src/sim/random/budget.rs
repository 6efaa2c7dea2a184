//! The budget of faults: which memory may be lost now.
//!
//! What the store promises ends where the last copy of a key set is lost. So a server may lose
//! its memory only while every key set keeps another member that nothing is about to take away:
//! it lives, stands in the durable configuration and in the one that the metaserver decided on
//! and may not have written down yet, does not mean to leave, and the metaserver neither suspects
//! it nor asks its primary about it nor looks for its successor. Cuts, pauses and losses of
//! messages are within every budget.

use crate::protocol::types::{Configuration, KeySet, Member, ServerId};
use crate::protocol::view::SetState;
use crate::sim::Node;
use crate::sim::faults::Fault;
use crate::sim::world::World;

impl World {
    /// Whether a fault may strike now.
    #[must_use]
    pub fn is_within_budget(&self, fault: Fault) -> bool {
        match fault {
            Fault::Kill(Node::Server(victim))
            | Fault::Wipe(victim)
            | Fault::KillSoon(Node::Server(victim), _) => self.may_lose(victim),
            Fault::Power => self.settings.durable,
            // The last servers can not leave: nobody would hold what they have.
            Fault::Stop(server) => {
                self.servers.keys().all(|&it| it == server || !self.is_leaving(it))
                    && self.is_staying(server)
            }
            _ => true,
        }
    }

    fn may_lose(&self, victim: ServerId) -> bool {
        let born = self.meta.disk.cluster().is_some_and(|row| row.born);
        born && self.meta.disk.sets().all(|row| {
            let durable = row.configuration.as_ref();
            durable.is_some_and(|durable| {
                let mut others = durable.members().filter(|member| member.server != victim);
                others.any(|member| self.is_safe(row.set, member))
            })
        })
    }

    /// Whether `set` keeps the copy of `member`, whatever is decided at the moment.
    fn is_safe(&self, set: KeySet, member: Member) -> bool {
        let doomed = self.running(member.server).is_none_or(|it| it.fate.fuse.is_some());
        if doomed || !self.truth.is_alive(member) || !self.is_staying(member.server) {
            return false;
        }
        // Nothing that was decided and is not durable outlives the metaserver.
        self.meta.running.as_ref().is_none_or(|meta| {
            let decided = meta.machine.decided(set);
            decided.is_some_and(|it| it.contains(member)) && !meta.machine.doubts(set, member)
        })
    }

    /// A server that runs and was not asked to stop.
    fn is_staying(&self, server: ServerId) -> bool {
        self.alive_at(Node::Server(server)).is_some() && !self.is_leaving(server)
    }

    /// A server that runs and was asked to stop.
    fn is_leaving(&self, server: ServerId) -> bool {
        let process = self.alive_at(Node::Server(server));
        process.zip(self.siege.as_ref()).is_some_and(|(it, siege)| siege.leaving.contains(&it))
    }

    /// Whether the metaserver and the members agree that every key set has all its copies.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Some(meta) = &self.meta.running else { return false };
        let mut sets = self.meta.disk.sets().peekable();
        let copies = usize::from(self.settings.copies);
        sets.peek().is_some()
            && sets.all(|row| {
                let Some(configuration) = &row.configuration else { return false };
                row.state == SetState::Available
                    && configuration.copies() >= copies
                    && meta.machine.decided(row.set) == Some(configuration)
                    && self.members_agree(row.set, configuration)
            })
    }

    /// Whether every member lives and acts in this configuration, its primary open.
    #[must_use]
    pub fn members_agree(&self, set: KeySet, configuration: &Configuration) -> bool {
        configuration.members().all(|member| {
            let running = self.running(member.server).filter(|it| it.member == Some(member));
            let replica = running.and_then(|it| it.worker.replica(set));
            replica.is_some_and(|replica| {
                let right_role = if member == configuration.primary {
                    replica.base().is_some()
                } else {
                    replica.is_secondary()
                };
                replica.epoch() == configuration.epoch && right_role
            })
        })
    }
}
