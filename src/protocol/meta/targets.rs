//! Targets: which servers should hold each key set, changed only where one stays away, or is nearly
//! full (see `moves`).
//!
//! A server that is not spawned and has been away for long gives its place in every target to a
//! spare; a target with too few servers takes in the least loaded one. Servers that are nearly full
//! are given nothing.

use super::MetaServer;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, ServerId};

impl MetaServer {
    pub(super) fn choose_targets(&mut self, now: Time) {
        if now < self.settled_at() || self.most_vanished(now) {
            return;
        }
        self.grow_targets();
        self.choose_moves(now);
        let lost: Vec<_> = self
            .settings
            .servers
            .iter()
            .filter(|&&(_, spawn)| !spawn)
            .map(|&(server, _)| server)
            .filter(|&server| self.away_for(now, server) >= self.settings.replace_after)
            .collect();
        for server in lost {
            if self.ledger.sets().any(|row| row.target.contains(&server))
                && let Some(spare) = self.spare()
            {
                self.replace_target(server, spare);
            }
        }
    }

    /// A server that is up and holds nothing.
    fn spare(&self) -> Option<ServerId> {
        let up = self.ledger.servers().map(|row| row.entry.id);
        up.filter(|&id| self.roomy(id).is_some()).find(|&id| self.load(id) == 0)
    }

    fn replace_target(&mut self, gone: ServerId, spare: ServerId) {
        for set in (0..self.ledger.cluster().sets).map(KeySet) {
            if self.ledger.set(set).is_some_and(|row| row.target.contains(&gone)) {
                let Some(row) = self.ledger.set_mut(set) else { continue };
                for server in row.target.iter_mut().filter(|server| **server == gone) {
                    *server = spare;
                }
            }
        }
    }

    fn grow_targets(&mut self) {
        let copies = usize::from(self.ledger.cluster().copies);
        let short: Vec<_> = self
            .ledger
            .sets()
            .filter(|row| row.target.len() < copies)
            .map(|row| (row.set, row.target.clone()))
            .collect();
        for (set, target) in short {
            let fresh = self
                .ledger
                .servers()
                .map(|row| row.entry.id)
                .filter(|&id| self.roomy(id).is_some() && !target.contains(&id))
                .min_by_key(|&id| (self.load(id), id));
            let Some(server) = fresh else { continue };
            if let Some(row) = self.ledger.set_mut(set) {
                row.target.push(server);
            }
        }
    }
}
