//! Bonds: what a member promised to the primaries that it acknowledged.
//!
//! A member that acknowledged a primary at `r`, on its own clock, does not open as primary itself
//! before `r + grace`, unless that primary resigned or is proven dead. Bonds belong to a key set
//! and both incarnations, and outlive epochs.

use serde::{Deserialize, Serialize};

use super::members::Members;
use super::mutants::{Mutant, planted};
use super::time::{Span, Time};
use super::types::{Epoch, Member};

/// The bond to one primary.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
struct Bond {
    /// The epoch of the last acknowledgement.
    epoch: Epoch,
    /// When the primary's use of the last acknowledgement is over at the latest, if both clocks
    /// ran alike.
    heard_until: Time,
    /// When the promise ends.
    bound_until: Time,
}

/// A primary that a replica may have acknowledged, as an heir has to know it: the last epoch in
/// which it did, and the longest promise that it gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct Tie {
    pub primary: Member,
    pub epoch: Epoch,
    pub promise: Span,
}

/// All bonds of one replica, by primary.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Bonds {
    by_primary: Members<Bond>,
    /// Who may have been acknowledged, whenever that was: what outlives a restart.
    ties: Members<Tie>,
}

impl Bonds {
    /// The bonds of an heir that starts now. It does not know when its predecessor acknowledged
    /// anyone last, so that the restart counts as an acknowledgement of every tie (rule 7).
    #[must_use]
    pub fn inherited(ties: &[Tie], now: Time) -> Bonds {
        let bond =
            |tie: &Tie| Bond { epoch: tie.epoch, heard_until: now, bound_until: now + tie.promise };
        Bonds {
            by_primary: ties.iter().map(|tie| (tie.primary, bond(tie))).collect(),
            ties: ties.iter().map(|tie| (tie.primary, *tie)).collect(),
        }
    }

    /// The ties that a restart must not lose.
    #[must_use]
    pub fn ties(&self) -> Vec<Tie> {
        self.ties.values().copied().collect()
    }

    /// Notes that `primary` is going to be acknowledged in `epoch` with `promise`. True if that is
    /// news, which has to be durable before the acknowledgement is sent.
    pub fn tie(&mut self, primary: Member, epoch: Epoch, promise: Span) -> bool {
        let fresh = Tie { primary, epoch, promise };
        let tie = self.ties.entry_or(primary, || Tie { epoch: Epoch(0), ..fresh });
        let news = tie.epoch < epoch || tie.promise < promise;
        tie.epoch = tie.epoch.max(epoch);
        tie.promise = tie.promise.max(promise);
        news
    }

    /// Notes an acknowledgement sent now, of a message of `epoch` that asked for `lease`;
    /// `promise` is at least `lease` with the allowed clock drift.
    pub fn promise(
        &mut self,
        primary: Member,
        epoch: Epoch,
        now: Time,
        lease: Span,
        promise: Span,
    ) {
        assert!(promise > lease, "a promise outlasts the lease that it covers");
        let promise = if planted(Mutant::LeaseRelation) { promise.scaled(1, 2) } else { promise };
        if planted(Mutant::OpensAfterLatest) {
            self.by_primary.retain(|&other, _| other == primary);
        }
        let bond = self.by_primary.entry_or(primary, || Bond {
            epoch,
            heard_until: now,
            bound_until: now,
        });
        bond.epoch = bond.epoch.max(epoch);
        bond.heard_until = bond.heard_until.max(now + lease);
        bond.bound_until = bond.bound_until.max(now + promise);
    }

    /// Takes the word of `primary` that it serves nothing more in `epoch` and before.
    pub fn resign(&mut self, primary: Member, epoch: Epoch) {
        let older = |bond: &Bond| bond.epoch <= epoch || planted(Mutant::AnyResignation);
        if self.by_primary.get(&primary).is_some_and(older) {
            self.by_primary.remove(&primary);
        }
        if self.ties.get(&primary).is_some_and(|tie| tie.epoch <= epoch) {
            self.ties.remove(&primary);
        }
    }

    /// Forgets the proven dead and the promises that ended.
    pub fn release(&mut self, now: Time, is_dead: impl Fn(Member) -> bool) {
        self.by_primary.retain(|&primary, bond| bond.bound_until > now && !is_dead(primary));
        self.ties.retain(|&primary, _| !is_dead(primary));
    }

    /// When this replica, as `me`, is free of every primary but itself; none if it is now.
    #[must_use]
    pub fn bound_until(&self, me: Member, now: Time) -> Option<Time> {
        let others = self.by_primary.iter().filter(|&(&primary, _)| primary != me);
        others.map(|(_, bond)| bond.bound_until).max().filter(|&until| until > now)
    }

    /// For explorers in whose worlds nobody asks `hears`.
    pub(crate) fn forget_heard(&mut self) {
        for bond in self.by_primary.values_mut() {
            bond.heard_until = bond.bound_until;
        }
    }

    /// Whether `primary` may still hold a lease that this replica granted.
    #[must_use]
    pub fn hears(&self, primary: Member, now: Time) -> bool {
        self.by_primary.get(&primary).is_some_and(|bond| bond.heard_until > now)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bond ends by time, by the primary's own word or by its proven death only.
    //! Method: one bond at a time against a hand-moved clock.

    use super::*;
    use crate::protocol::types::{Incarnation, ServerId};

    fn member(server: u16) -> Member {
        Member { server: ServerId(server), incarnation: Incarnation(1) }
    }

    fn bound(at: u64) -> Bonds {
        let mut bonds = Bonds::default();
        bonds.promise(member(1), Epoch(3), Time(at), Span(150), Span(200));
        bonds
    }

    #[test]
    fn a_promise_binds_until_its_end_and_counts_from_the_last_acknowledgement() {
        let mut bonds = bound(1_000);
        bonds.promise(member(1), Epoch(3), Time(1_100), Span(150), Span(200));
        assert_eq!(bonds.bound_until(member(2), Time(1_299)), Some(Time(1_300)));
        assert_eq!(bonds.bound_until(member(2), Time(1_300)), None);
        assert!(bonds.hears(member(1), Time(1_249)));
        assert!(!bonds.hears(member(1), Time(1_250)));
    }

    #[test]
    fn a_resignation_of_an_earlier_epoch_frees_nobody() {
        let mut bonds = bound(1_000);
        bonds.resign(member(1), Epoch(2));
        assert!(bonds.bound_until(member(2), Time(1_100)).is_some());
        bonds.resign(member(1), Epoch(3));
        assert_eq!(bonds.bound_until(member(2), Time(1_100)), None);
    }

    #[test]
    fn a_proof_of_death_frees_and_nobody_is_bound_to_itself() {
        let mut bonds = bound(1_000);
        assert_eq!(bonds.bound_until(member(1), Time(1_100)), None);
        bonds.release(Time(1_100), |it| it == member(1));
        assert_eq!(bonds.bound_until(member(2), Time(1_100)), None);
    }
}
