//! Birth of the key sets, and the revival of lost ones.
//!
//! These are the only configurations whose members hold nothing and prove nothing: epoch 1 of a
//! new cluster, and a new loss epoch by an administrator's consent.

use super::MetaServer;
use super::durable::SetRow;
use crate::protocol::effect::MetaNote;
use crate::protocol::message::{MetaAnswer, MetaRefusal};
use crate::protocol::placement;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Configuration, Epoch, KeySet, LossEpoch, Member, ServerId};
use crate::protocol::view::SetState;

/// How long birth waits for all servers once enough have registered.
pub(super) const BIRTH_WAIT: Span = Span::from_millis(5_000);

impl MetaServer {
    /// Creates all key sets once the servers are there.
    pub(super) fn give_birth(&mut self, now: Time) {
        if self.ledger.cluster().born {
            return;
        }
        let mut servers: Vec<ServerId> = self.settings.servers.iter().map(|&(id, _)| id).collect();
        servers.sort_unstable();
        let count = servers.len();
        servers.retain(|&id| self.available(id).is_some());
        let copies = usize::from(self.ledger.cluster().copies);
        let waited = self.registered_first.is_some_and(|at| now.since(at) >= BIRTH_WAIT);
        if servers.len() < count && !(waited && servers.len() >= copies.min(count)) {
            return;
        }
        let sets = self.ledger.cluster().sets;
        for set in (0..sets).map(KeySet) {
            let target = placement::target(set, &servers, copies);
            let mut members = target.iter().filter_map(|&server| self.available(server));
            let Some(primary) = members.next() else { return };
            let configuration = Configuration {
                loss_epoch: LossEpoch(0),
                epoch: Epoch(1),
                primary,
                secondaries: members.collect(),
            };
            self.ledger.put_set(SetRow {
                set,
                configuration: Some(configuration),
                state: SetState::Available,
                target,
                refused: Vec::new(),
                ex_member: None,
            });
            self.news.sets.insert(set);
        }
        self.ledger.cluster_mut().born = true;
        self.note(MetaNote::Born { sets });
    }

    /// Reopens lost sets, empty, under a new loss epoch; no sets named means all that are lost.
    pub(super) fn revive(&mut self, sets: Vec<KeySet>) -> MetaAnswer {
        if !self.ledger.cluster().born {
            return MetaAnswer::Refused(MetaRefusal::Unborn);
        }
        let is_lost =
            |set: KeySet| self.ledger.set(set).is_some_and(|row| row.state == SetState::Lost);
        if let Some(&set) = sets.iter().find(|&&set| !is_lost(set)) {
            return MetaAnswer::Refused(MetaRefusal::NotLost(set));
        }
        let mut revived = sets;
        if revived.is_empty() {
            revived =
                (0..self.ledger.cluster().sets).map(KeySet).filter(|&it| is_lost(it)).collect();
        }
        revived.sort_unstable();
        revived.dedup();
        let holders: Vec<_> = revived.iter().map(|&set| (set, self.holders(set))).collect();
        if holders.iter().any(|(_, members)| members.is_empty()) {
            return MetaAnswer::Refused(MetaRefusal::NoServers);
        }
        for (set, members) in holders {
            if let Some(configuration) =
                self.ledger.set_mut(set).and_then(|row| row.configuration.as_mut())
            {
                configuration.loss_epoch.0 += 1;
            }
            self.install(set, members[0], members[1..].to_vec());
        }
        MetaAnswer::Revived { sets: revived }
    }

    /// Who can hold a set that starts anew: its target servers that are up, else any.
    fn holders(&self, set: KeySet) -> Vec<Member> {
        let target = self.ledger.set(set).map(|row| row.target.clone()).unwrap_or_default();
        let up: Vec<_> = target.iter().filter_map(|&server| self.available(server)).collect();
        if !up.is_empty() {
            return up;
        }
        let copies = usize::from(self.ledger.cluster().copies);
        let any = self.ledger.servers().filter_map(|row| self.available(row.entry.id));
        any.take(copies).collect()
    }
}
