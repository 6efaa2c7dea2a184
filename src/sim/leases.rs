//! A look at who would answer reads: what the property of disjoint leases is judged by.
//!
//! Only a primary whose epoch has passed is of interest, so the look is taken when a primary
//! opens, at all others, and after every input of a worker that holds such a primary.

use super::truth::Fact;
use super::world::World;
use crate::protocol::types::{Epoch, KeySet, ServerId};

impl World {
    /// A primary opened: whoever else would still answer reads of `set` is found out.
    pub(super) fn look_for_rivals(&mut self, set: KeySet, epoch: Epoch) {
        let latest = self.opened.entry(set).or_default();
        *latest = epoch.max(*latest);
        let servers: Vec<_> = self.servers.keys().copied().collect();
        for server in servers {
            self.look_at(server, set);
        }
    }

    /// Looks at what a worker that has just handled an input makes of epochs that have passed.
    pub(super) fn look_for_stale_primaries(&mut self, server: ServerId) {
        let Some(running) = self.running(server) else { return };
        let stale = |set: KeySet, epoch| self.opened.get(&set).is_some_and(|it| epoch < *it);
        let mut replicas = running.worker.replicas().iter();
        let found = replicas.find(|it| it.is_primary() && stale(it.set(), it.epoch()));
        if let Some(set) = found.map(|it| it.set()) {
            self.look_at(server, set);
        }
    }

    fn look_at(&mut self, server: ServerId, set: KeySet) {
        let (now, timing) = (self.agenda.now(), self.settings.timing);
        let Some(node) = self.servers.get(&server) else { return };
        let Some(running) = &node.running else { return };
        let Some(replica) = running.worker.replica(set) else { return };
        let reading = node.host.clock.read(now);
        if replica.serves_reads(reading, &timing) {
            let (process, epoch) = (running.number, replica.epoch());
            let until = replica.leased_until(timing.lease);
            let left = until.map(|until| node.host.clock.when(until).since(now));
            self.learn(Fact::Serving { process, set, epoch, left });
        }
    }
}
