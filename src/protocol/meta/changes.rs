//! Changes that replicas ask for: the compare-and-set of rule 4.
//!
//! A request is judged at once, in the epoch that it names, and never waits: so it dies with its
//! link. A refusal is final for its id, and durable before it is sent; in another epoch every
//! request is refused by the epoch itself, so the notes of refusals end with their epoch.

use super::MetaServer;
use crate::protocol::effect::MetaNote;
use crate::protocol::message::{ChangeId, ChangeKind, ChangeRefusal, ToServer};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::types::{Configuration, Epoch, KeySet, LinkId, Member, RecoveryId};

/// The members that a granted request makes.
struct Granted {
    primary: Member,
    secondaries: Vec<Member>,
}

impl MetaServer {
    pub(super) fn on_change(
        &mut self,
        now: Time,
        link: LinkId,
        id: ChangeId,
        set: KeySet,
        epoch: Epoch,
        kind: ChangeKind,
    ) -> bool {
        if self.speaker(link) != Some(id.member) || usize::from(set.0) >= self.watches.len() {
            self.misbehaved(link, "asks for a change in another's name, or of no key set");
            return false;
        }
        let outcome = self.judge(id, set, epoch, kind);
        match outcome {
            Ok(granted) => {
                let new = self.grant(now, set, kind, granted);
                self.send(link, ToServer::Changed { id, set, outcome: Ok(new) });
                true
            }
            Err(refusal) => {
                if refusal != ChangeRefusal::WrongEpoch {
                    self.note_refusal(id, set);
                }
                self.send(link, ToServer::Changed { id, set, outcome: Err(refusal) });
                false
            }
        }
    }

    fn judge(
        &self,
        id: ChangeId,
        set: KeySet,
        epoch: Epoch,
        kind: ChangeKind,
    ) -> Result<Granted, ChangeRefusal> {
        let configuration = self.ledger.configuration(set).ok_or(ChangeRefusal::WrongEpoch)?;
        if configuration.epoch != epoch {
            return Err(ChangeRefusal::WrongEpoch);
        }
        let refused = self.ledger.set(set).map(|row| row.refused.as_slice()).unwrap_or_default();
        let is_refused =
            refused.iter().any(|&(member, number)| member == id.member && number >= id.number);
        if is_refused && !planted(Mutant::RefusalForgotten) {
            return Err(ChangeRefusal::RefusedBefore);
        }
        match kind {
            ChangeKind::Add { .. } | ChangeKind::HandOver { .. } | ChangeKind::Reaffirm
                if configuration.primary != id.member =>
            {
                Err(ChangeRefusal::WrongRole)
            }
            ChangeKind::Add { learner, recovery } => {
                self.judge_add(set, configuration, learner, recovery)
            }
            ChangeKind::HandOver { to } => self.judge_handover(configuration, to),
            ChangeKind::Reaffirm => Ok(Granted {
                primary: configuration.primary,
                secondaries: configuration.secondaries.clone(),
            }),
        }
    }

    fn judge_add(
        &self,
        set: KeySet,
        configuration: &Configuration,
        learner: Member,
        recovery: RecoveryId,
    ) -> Result<Granted, ChangeRefusal> {
        let lives = self.ledger.live_member(learner.server) == Some(learner);
        if !lives && !planted(Mutant::DeadLearnerAdded) {
            return Err(ChangeRefusal::Superseded);
        }
        if configuration.members().any(|it| it.server == learner.server) {
            return Err(ChangeRefusal::NotAllowed);
        }
        if self.ledger.server(learner.server).is_some_and(|row| row.leaving) {
            return Err(ChangeRefusal::NotAllowed);
        }
        let current = self.is_current(recovery, set) && self.is_wanted(set, learner);
        if !current && !planted(Mutant::StaleRecoveryCounts) {
            return Err(ChangeRefusal::StaleRecovery);
        }
        let mut secondaries = configuration.secondaries.clone();
        secondaries.push(learner);
        Ok(Granted { primary: configuration.primary, secondaries })
    }

    fn judge_handover(
        &self,
        configuration: &Configuration,
        to: Member,
    ) -> Result<Granted, ChangeRefusal> {
        if self.ledger.is_dead(to) {
            return Err(ChangeRefusal::Superseded);
        }
        if !configuration.secondaries.contains(&to) || self.is_suspected(to) {
            return Err(ChangeRefusal::NotAllowed);
        }
        let old = configuration.primary;
        let role = |member: Member| if member == to { old } else { member };
        let secondaries = configuration.secondaries.iter().copied().map(role).collect();
        Ok(Granted { primary: to, secondaries })
    }

    fn grant(
        &mut self,
        now: Time,
        set: KeySet,
        kind: ChangeKind,
        granted: Granted,
    ) -> Configuration {
        let new = self.install(set, granted.primary, granted.secondaries);
        let epoch = new.epoch;
        match kind {
            ChangeKind::Add { learner, recovery: _ } => {
                self.note_taken(now, learner.server);
                self.note(MetaNote::Added { set, epoch, member: learner });
            }
            ChangeKind::HandOver { to } => self.note(MetaNote::HandedOver { set, epoch, to }),
            ChangeKind::Reaffirm => {}
        }
        new
    }

    /// Only members can be granted anything in an epoch, so only their refusals need a note.
    fn note_refusal(&mut self, id: ChangeId, set: KeySet) {
        let member = |it: &Configuration| it.contains(id.member);
        if !self.ledger.configuration(set).is_some_and(member) {
            return;
        }
        let Some(row) = self.ledger.set_mut(set) else { return };
        match row.refused.iter_mut().find(|(member, _)| *member == id.member) {
            Some((_, number)) => *number = (*number).max(id.number),
            None => row.refused.push((id.member, id.number)),
        }
    }
}
