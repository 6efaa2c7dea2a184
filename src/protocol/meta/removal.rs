//! Removal of secondaries (rule 8): on the primary's fresh word, or on a proof of death without
//! heir.
//!
//! A suspicion or a complaint is only a reason to ask. The answer counts if it is one to a
//! question of the last moments, over the same link and in the same epoch: a delayed word of an
//! isolated primary, taken after its link healed, could leave it the only copy on paper. A
//! secondary that wants to stop is let go in the same way: its primary may be dead and not yet
//! suspected, and then the one that leaves has the last copy.

use super::MetaServer;
use super::asks::Asks;
use crate::protocol::effect::MetaNote;
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::time::Time;
use crate::protocol::types::{Configuration, Epoch, KeySet, LinkId, Member, Op};

impl MetaServer {
    /// Looks after the secondaries of `set`.
    pub(super) fn tend_secondaries(&mut self, now: Time, set: KeySet, asks: &mut Asks) {
        let Some(configuration) = self.ledger.configuration(set).cloned() else { return };
        let primary = configuration.primary;
        let resigned = self.watches[usize::from(set.0)].round.resigned;
        if resigned || self.ledger.is_dead(primary) {
            return;
        }
        let (dead, live): (Vec<_>, Vec<_>) =
            configuration.secondaries.iter().partition(|&&member| self.is_gone(member));
        if !dead.is_empty() {
            self.remove(set, &dead, None);
            return;
        }
        let Some(link) = self.link_to(primary, set) else { return };
        let (timing, nonce) = (self.settings.timing, self.nonce);
        for member in live {
            if self.returns_with_all(now, member) {
                continue;
            }
            let doubted = self.is_doubted(now, set, member);
            if !doubted && !self.may_leave(now, set, member, &configuration) {
                self.watches[usize::from(set.0)].round.removals.remove(&member);
                continue;
            }
            let round = &mut self.watches[usize::from(set.0)].round;
            let question = round.removals.entry(member).or_default();
            if question.ask(now, link, nonce, timing.heartbeat.scaled(2, 1), timing.retry) {
                let asked = if doubted { &mut asks.removals } else { &mut asks.leaves };
                asked.entry((link, member)).or_default().push((set, configuration.epoch));
            }
        }
    }

    /// Whether there is a reason to ask about a secondary: it is silent, or its primary complained.
    fn is_doubted(&self, now: Time, set: KeySet, member: Member) -> bool {
        let complaint = self.watches[usize::from(set.0)].round.complaints.get(&member);
        let recent = self.settings.timing.complain.scaled(2, 1);
        let complained = complaint.is_some_and(|&at| now.since(at) <= recent);
        self.is_suspected(member) || self.ledger.is_dead(member) || complained
    }

    /// Whether a secondary wants to leave what a live, staying member goes on holding. That the
    /// primary is not suspected proves nothing: its own word is asked for.
    fn may_leave(
        &self,
        now: Time,
        set: KeySet,
        member: Member,
        configuration: &Configuration,
    ) -> bool {
        let departs = self.watches[usize::from(set.0)].round.departing.contains(&member)
            && self.is_superfluous(now, set, member);
        let stops = self.ledger.server(member.server).is_some_and(|row| row.leaving);
        let leaving = departs || stops;
        let stays =
            configuration.members().any(|it| it != member && self.available(it.server) == Some(it));
        leaving && stays && self.is_up(configuration.primary)
    }

    /// Takes secondaries out of `set`, whose copies have to be made anew; with the primary's
    /// prepared point where it confirmed it.
    fn remove(&mut self, set: KeySet, gone: &[Member], prepared: Option<Op>) {
        for &member in gone {
            self.cover(member, set, false);
        }
        let epoch = self.take_out(set, gone, prepared);
        for &member in gone {
            self.note(MetaNote::Removed { set, epoch, member });
        }
    }

    /// Lets a secondary go that is not needed: all copies are there without it.
    fn let_go(&mut self, now: Time, set: KeySet, member: Member, prepared: Op) {
        let epoch = self.take_out(set, &[member], Some(prepared));
        self.note_given(now, member.server);
        self.note(MetaNote::LetGo { set, epoch, member });
    }

    fn take_out(&mut self, set: KeySet, gone: &[Member], prepared: Option<Op>) -> Epoch {
        let configuration = self.ledger.configuration(set).cloned();
        let configuration = configuration.expect("only members are taken out");
        let floor = usize::from(self.settings.min_write_copies);
        // Only a primary that opened in this epoch knows that its secondaries' logs are parts of
        // its own; without that an op number says nothing about what the removed one holds.
        let opened = self.watches[usize::from(set.0)].round.opened;
        let stay = configuration.secondaries.iter().copied().filter(|it| !gone.contains(it));
        let new = self.install(set, configuration.primary, stay.collect());
        if new.copies() < floor
            && opened
            && let (&[member], Some(op), Some(row)) = (gone, prepared, self.ledger.set_mut(set))
        {
            row.ex_member = Some((member, op));
        }
        new.epoch
    }

    /// A primary says that a follower does not answer: a reason to ask, nothing more.
    pub(super) fn on_complaint(
        &mut self,
        now: Time,
        primary: Member,
        follower: Member,
        sets: &[(KeySet, Epoch)],
    ) -> bool {
        let mut taken = false;
        for &(set, epoch) in sets {
            let Some(configuration) = self.ledger.configuration(set) else { continue };
            if configuration.epoch == epoch
                && configuration.primary == primary
                && configuration.secondaries.contains(&follower)
            {
                let round = &mut self.watches[usize::from(set.0)].round;
                round.complaints.insert(follower, now);
                taken = true;
            }
        }
        taken
    }

    pub(super) fn on_removal_confirmed(
        &mut self,
        now: Time,
        link: LinkId,
        nonce: u64,
        member: Member,
        sets: &[(KeySet, Epoch, Op)],
    ) -> bool {
        let Some(primary) = self.speaker(link) else { return false };
        let bound = self.settings.timing.retry;
        let mut taken = false;
        for &(set, epoch, prepared) in sets {
            let Some(configuration) = self.ledger.configuration(set) else { continue };
            let current = configuration.epoch == epoch
                && configuration.primary == primary
                && configuration.secondaries.contains(&member);
            let round = &self.watches[usize::from(set.0)].round;
            let asked = round.removals.get(&member);
            let expected = asked.is_some_and(|it| it.expects(now, link, nonce, bound))
                || planted(Mutant::DelayedRemoval);
            let departs = round.departing.contains(&member);
            if !(current && expected) || round.resigned {
                continue;
            }
            let leaving = self.ledger.server(member.server).is_some_and(|row| row.leaving);
            if departs && self.is_superfluous(now, set, member) {
                self.let_go(now, set, member, prepared);
            } else if leaving || !departs || self.is_doubted(now, set, member) {
                self.remove(set, &[member], Some(prepared));
            } else {
                // It asked to go, and is needed by now.
                continue;
            }
            taken = true;
        }
        taken
    }
}
