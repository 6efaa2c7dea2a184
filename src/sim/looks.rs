//! Looks into running machines: who would answer reads, and what copies hold.
//!
//! Of those who would answer only a primary whose epoch has passed is of interest, so that look
//! is taken when a primary opens, at all others, and after every input of a worker that holds
//! such a primary. Copies are looked at when the driver asks for it. What a full server admits is
//! looked at after every input of its worker.

use std::rc::Rc;

use super::trace::fold;
use super::truth::Fact;
use super::world::World;
use crate::protocol::replica::log::Log;
use crate::protocol::space::Level;
use crate::protocol::types::{Entry, Epoch, KeySet, Op, Revision, ServerId};
use crate::store::Engine;

/// A key set, its primary's prepared point, and the writes in its window.
type Window = (KeySet, Op, Vec<Rc<Entry>>);

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

    /// What the primaries of a full server have in their windows, before it handles an input.
    pub(super) fn windows_of_full(&self, server: ServerId) -> Vec<Window> {
        let running = self.running(server);
        let full = running.filter(|it| it.worker.level() >= Some(Level::Hard));
        let replicas = full.into_iter().flat_map(|it| it.worker.replicas());
        let window = |log: &Log| log.window().cloned().collect();
        replicas
            .filter(|it| it.is_primary())
            .map(|it| (it.set(), it.log().prepared(), window(it.log())))
            .collect()
    }

    /// Looks at what a full server has admitted since.
    pub(super) fn look_at_admitted(&mut self, server: ServerId, before: Vec<Window>) {
        let mut found = Vec::new();
        for (set, prepared, mut window) in before {
            let Some(running) = self.running(server) else { return };
            let Some(replica) = running.worker.replica(set).filter(|it| it.is_primary()) else {
                continue;
            };
            for entry in replica.log().window().filter(|it| it.op > prepared) {
                let last = window.iter().rev().find(|it| it.key == entry.key);
                let length = match last {
                    Some(last) => last.change.value().map(|it| it.len()),
                    None => running.engine.get(set, &entry.key).map(|(value, _)| value.len()),
                };
                found.push((running.number, set, entry.clone(), length));
                window.push(entry.clone());
            }
        }
        for (process, set, entry, before) in found {
            self.learn(Fact::Admitted { process, set, entry: &entry, before });
        }
    }

    /// Takes the digest of every copy whose content is that of its position.
    pub fn digest_copies(&mut self) {
        let mut found = Vec::new();
        for node in self.servers.values() {
            let Some(running) = &node.running else { continue };
            for replica in running.worker.replicas() {
                let (process, set) = (running.number, replica.set());
                let copy = self.truth.copies.get(&(process, set));
                let settled = copy.filter(|copy| copy.run.is_none() && copy.newest <= copy.applied);
                let member = replica.is_primary() || replica.is_secondary();
                let (Some(copy), true) = (settled, member) else { continue };
                let loss_epoch = replica.position().loss_epoch;
                let at = Revision { loss_epoch, op: copy.applied };
                let page = running.engine.range(set, &[], None, u32::MAX, u32::MAX);
                found.push((process, set, at, fold(&page.records)));
            }
        }
        for (process, set, at, digest) in found {
            self.learn(Fact::Digested { process, set, at, digest });
        }
    }
}
