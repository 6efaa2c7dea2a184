//! Recoveries: the durable intents of the four steps (DESIGN section 3).
//!
//! A row is written before the first step that acts on a suspicion or a death; which step it has
//! reached is derived from the configurations, so that a restart, or a step that another change
//! happened to complete, needs no special case. Steps only go forward: what fails later is
//! another recovery.

use std::collections::BTreeMap;

use super::MetaServer;
use super::durable::{Recovery, Step};
use crate::protocol::effect::MetaNote;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, Member, RecoveryId};
use crate::protocol::view::SetState;

impl Recovery {
    fn lists(&self, set: KeySet) -> bool {
        self.primary_of.contains(&set) || self.secondary_of.contains(&set)
    }

    fn sets(&self) -> impl Iterator<Item = KeySet> + '_ {
        self.primary_of.iter().chain(&self.secondary_of).copied()
    }
}

impl MetaServer {
    /// Writes intents for suspected and dead members, and drops those that proved needless.
    pub(super) fn write_intents(&mut self, now: Time) {
        self.drop_intents();
        let mut failed: Vec<(Member, KeySet, bool)> = Vec::new();
        for row in self.ledger.sets().filter(|row| row.state != SetState::Lost) {
            let Some(configuration) = &row.configuration else { continue };
            for member in configuration.members().filter(|&member| !self.is_up(member)) {
                failed.push((member, row.set, member == configuration.primary));
            }
        }
        for (member, set, was_primary) in failed {
            self.cover(member, set, was_primary);
        }
        let open: Vec<_> = self.ledger.open_recoveries().map(|it| it.id).collect();
        for id in open {
            self.recoveries_since.entry(id).or_insert(now);
        }
    }

    /// The suspected server is heard again: where nothing was changed yet nothing will be.
    fn drop_intents(&mut self) {
        let mut dropped: BTreeMap<RecoveryId, Vec<KeySet>> = BTreeMap::new();
        for recovery in self.ledger.open_recoveries().filter(|it| it.step == Step::Invalidate) {
            if self.is_heard(recovery.failed) {
                let named = |set: &KeySet| self.names(*set, recovery.failed);
                dropped.insert(recovery.id, recovery.sets().filter(named).collect());
            }
        }
        for (id, sets) in dropped.into_iter().filter(|(_, sets)| !sets.is_empty()) {
            let Some(recovery) = self.ledger.recovery_mut(id) else { continue };
            recovery.primary_of.retain(|set| !sets.contains(set));
            recovery.secondary_of.retain(|set| !sets.contains(set));
            let count = u16::try_from(sets.len()).unwrap_or(u16::MAX);
            recovery.dropped = recovery.dropped.saturating_add(count);
        }
    }

    fn names(&self, set: KeySet, member: Member) -> bool {
        self.ledger.configuration(set).is_some_and(|it| it.contains(member))
    }

    /// The open recovery that `failed`'s part in `set` belongs to; opened if there is none.
    pub(super) fn cover(&mut self, failed: Member, set: KeySet, was_primary: bool) -> RecoveryId {
        // A later step of a row is done with the member: its next failure is another one.
        let named = self.names(set, failed);
        let rows = || self.ledger.open_recoveries().filter(|it| it.failed == failed);
        let listed = rows().find(|it| it.lists(set) && (it.step == Step::Invalidate || !named));
        if let Some(recovery) = listed {
            return recovery.id;
        }
        // A server that stops leaves its sets one by one: that is one recovery, not hundreds.
        let leaving = self.ledger.server(failed.server).is_some_and(|it| it.leaving);
        let last = if leaving { Step::CopySecondary } else { Step::Invalidate };
        let extensible = rows().find(|it| it.step <= last).map(|it| it.id);
        let id = match extensible {
            Some(id) => id,
            None => {
                let recovery = self.ledger.open_recovery(failed);
                self.note(MetaNote::RecoveryStarted { recovery, failed });
                recovery
            }
        };
        if let Some(recovery) = self.ledger.recovery_mut(id) {
            let sets =
                if was_primary { &mut recovery.primary_of } else { &mut recovery.secondary_of };
            sets.push(set);
        }
        id
    }

    /// The recovery that copies of `set` belong to: the oldest open one whose failed member is
    /// out of it.
    pub(super) fn recovery_of(&self, set: KeySet) -> Option<&Recovery> {
        self.ledger.open_recoveries().find(|it| it.lists(set) && !self.names(set, it.failed))
    }

    /// Whether `id` is an open recovery that `set` belongs to.
    pub(super) fn is_current(&self, id: RecoveryId, set: KeySet) -> bool {
        self.ledger
            .open_recoveries()
            .any(|it| it.id == id && it.lists(set) && !self.names(set, it.failed))
    }

    /// Whether a handover of `set` must wait for the copies of its recoveries.
    pub(super) fn is_copying(&self, set: KeySet) -> bool {
        self.ledger.open_recoveries().any(|it| it.step < Step::Resume && it.lists(set))
    }

    /// Moves every open recovery on to the first step that is not done.
    pub(super) fn advance_recoveries(&mut self, now: Time) {
        let open: Vec<_> = self.ledger.open_recoveries().map(|it| it.id).collect();
        for id in open {
            while let Some((step, next)) = self.step_done(id) {
                let since = *self.recoveries_since.entry(id).or_insert(now);
                if let Some(recovery) = self.ledger.recovery_mut(id) {
                    recovery.took_ms[step as usize] = Some(now.since(since).as_millis());
                    recovery.step = next;
                }
                self.note(MetaNote::RecoveryStep { recovery: id, step: next });
                if next == Step::Done {
                    self.recoveries_since.remove(&id);
                    self.note(MetaNote::RecoveryDone { recovery: id });
                }
            }
        }
        self.ledger.forget_recoveries();
    }

    /// The current step of an open recovery and the next one, if the current one is done.
    fn step_done(&self, id: RecoveryId) -> Option<(Step, Step)> {
        let recovery = self.ledger.open_recoveries().find(|it| it.id == id)?;
        let (done, next) = match recovery.step {
            Step::Invalidate => {
                let out = recovery.sets().all(|set| !self.names(set, recovery.failed));
                (out, Step::CopyPrimary)
            }
            Step::CopyPrimary => {
                (recovery.primary_of.iter().all(|&set| self.is_whole(set)), Step::CopySecondary)
            }
            Step::CopySecondary => {
                (recovery.secondary_of.iter().all(|&set| self.is_whole(set)), Step::Resume)
            }
            Step::Resume => (recovery.sets().all(|set| self.is_resumed(set)), Step::Done),
            Step::Done => return None,
        };
        done.then_some((recovery.step, next))
    }

    /// All target copies are members and no other one is on order, or there is nothing to copy
    /// from any more. Where all members mean to leave, what is on order stands in for them.
    fn is_whole(&self, set: KeySet) -> bool {
        let ordered = self.watches[usize::from(set.0)].round.copy.is_some();
        self.ledger.configuration(set).is_none() || (self.is_redundant(set) && !ordered)
    }

    /// All servers that should hold `set` are members of it.
    pub(super) fn is_redundant(&self, set: KeySet) -> bool {
        let Some(row) = self.ledger.set(set) else { return false };
        let Some(configuration) = self.ledger.configuration(set) else { return false };
        row.target.len()
            >= usize::from(self.ledger.cluster().copies).min(self.settings.servers.len())
            && row
                .target
                .iter()
                .all(|&server| configuration.members().any(|it| it.server == server))
    }

    /// The preferred primary has its role, or could not take it.
    fn is_resumed(&self, set: KeySet) -> bool {
        let Some(configuration) = self.ledger.configuration(set) else { return true };
        let target = self.ledger.set(set).and_then(|row| row.target.first().copied());
        target.is_none_or(|server| {
            configuration.primary.server == server || self.available(server).is_none()
        })
    }
}
