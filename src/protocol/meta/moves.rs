//! Moves: a server that is nearly full gives key sets away, a few at a time, until it is not
//! (rule 16).
//!
//! ```text
//!   its place in the target is another's -> learner, member -> a handover, if it is primary
//!     -> told that the set is not placed on it -> asks to be let go -> its primary confirms
//!     -> removed -> told again, and drops its records
//! ```
//!
//! Only the first step is decided here: the target is durable, and what follows is what every pass
//! makes of a target that differs from the configuration. A copy leaves after the new one is a
//! member, never before. A move is worth its bytes only where it ends: the receiver is not nearly
//! full even with everything that is on its way to it, and what is given away counts until its
//! space is free, so that no more is given than is needed.

use std::collections::BTreeMap;

use super::MetaServer;
use super::asks::Asks;
use crate::protocol::effect::MetaNote;
use crate::protocol::space::{Level, Space};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Epoch, KeySet, LinkId, Member, ServerId};
use crate::protocol::view::SetState;

/// Key sets that a server gives away at a time.
const MOVES_MAX: usize = 4;

/// The space of what was given away is free by then, or is not going to be.
const RETURN_WAIT: Span = Span::from_millis(10_000);

/// What was copied to a server shows in its bytes in use by then.
const ARRIVAL_WAIT: Span = Span::from_millis(5_000);

/// What a server was told of sets that belong elsewhere, and what it gave away.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Moved {
    /// By key set: the link that it was told on, in which epoch, and when.
    told: BTreeMap<KeySet, (LinkId, Epoch, Time)>,
    /// When it was let go of sets, and the bytes that it had in use then.
    given: Vec<(Time, u64)>,
    /// When it became a member of sets.
    taken: Vec<Time>,
}

impl MetaServer {
    /// Has servers that are nearly full give key sets to others with room.
    pub(super) fn choose_moves(&mut self, now: Time) {
        self.take_back(now);
        let ids = self.ledger.servers().map(|row| row.entry.id);
        let full: Vec<_> = ids
            .filter(|&id| self.level(id) >= Level::High && self.available(id).is_some())
            .collect();
        for server in full {
            for _ in 0..MOVES_MAX {
                let Some((set, to)) = self.next_move(now, server) else { break };
                self.place(set, server, to);
            }
        }
    }

    /// The next key set that `from` should give away, and to whom.
    fn next_move(&self, now: Time, from: ServerId) -> Option<(KeySet, ServerId)> {
        let (member, space) = (self.available(from)?, self.space(from)?);
        let held = self.members_of(member);
        // What one key set takes, about.
        let share = space.used / (held.len().max(1) as u64);
        let (leaving, own): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|&set| !self.is_placed(set, from));
        let pending = leaving.len() + self.given(now, from, space);
        let left = space.used.saturating_sub(share.saturating_mul(pending as u64));
        let thresholds = self.settings.thresholds;
        if pending >= MOVES_MAX || thresholds.level(left, space.capacity, Level::High) < Level::High
        {
            return None;
        }
        let is_primary =
            |set: &KeySet| self.ledger.configuration(*set).is_some_and(|it| it.primary == member);
        let mut own = own;
        own.sort_by_key(|set| (is_primary(set), *set));
        [Level::Soft, Level::High].into_iter().find_map(|below| {
            let receivers = self.receivers(now, share, below);
            own.iter().find_map(|&set| {
                let to = receivers.iter().find(|&&to| self.is_new(set, to));
                to.filter(|_| self.may_move(now, set)).map(|&to| (set, to))
            })
        })
    }

    /// Gives moves up whose receiver is full itself by now, or stays away: the place is again that
    /// of a member that has not gone.
    fn take_back(&mut self, now: Time) {
        let misses = |row: &super::durable::SetRow| {
            let configuration = row.configuration.as_ref()?;
            let names = |it: &ServerId| configuration.members().any(|member| member.server == *it);
            let gone = |it: ServerId| {
                self.level(it) >= Level::Hard
                    || self.away_for(now, it) >= self.settings.replace_after
            };
            let receiver = row.target.iter().copied().find(|it| !names(it) && gone(*it))?;
            let stays = |it: &Member| {
                !row.target.contains(&it.server)
                    && self.space(it.server).is_some()
                    && self.available(it.server) == Some(*it)
            };
            let member = configuration.members().find(stays)?;
            Some((row.set, receiver, member.server))
        };
        let found: Vec<_> = self.ledger.sets().filter_map(misses).collect();
        for (set, receiver, member) in found {
            self.place(set, receiver, member);
        }
    }

    /// Gives the place of `from` in the target of `set` to `to`.
    fn place(&mut self, set: KeySet, from: ServerId, to: ServerId) {
        let Some(row) = self.ledger.set_mut(set) else { return };
        for place in row.target.iter_mut().filter(|place| **place == from) {
            *place = to;
        }
        self.note(MetaNote::Moving { set, from, to });
    }

    /// Nothing else is under way in `set`, and all its copies are there.
    fn may_move(&self, now: Time, set: KeySet) -> bool {
        let row = self.ledger.set(set);
        row.is_some_and(|row| row.state == SetState::Available)
            && self.is_open(now, set)
            && self.is_redundant(set)
            && !self.is_copying(set)
            && !self.watches[usize::from(set.0)].round.resigned
    }

    /// The servers that stay below a level with `share` bytes more than all that is on its way to
    /// them, the least loaded first.
    fn receivers(&self, now: Time, share: u64, below: Level) -> Vec<ServerId> {
        let fits = |&server: &ServerId| {
            let Some(space) = self.space(server) else { return true };
            let coming = (self.coming_to(server) + self.taken(now, server)) as u64 + 1;
            let used = space.used.saturating_add(share.saturating_mul(coming));
            self.settings.thresholds.level(used, space.capacity, below) < below
        };
        let ids = self.ledger.servers().map(|row| row.entry.id);
        let mut found: Vec<_> = ids.filter(|&id| self.roomy(id).is_some()).filter(fits).collect();
        found.sort_by_key(|&id| (self.load(id), id));
        found
    }

    /// Whether `server` neither holds `set` nor should.
    fn is_new(&self, set: KeySet, server: ServerId) -> bool {
        let configuration = self.ledger.configuration(set);
        !self.is_placed(set, server)
            && configuration.is_some_and(|it| it.members().all(|it| it.server != server))
    }

    fn space(&self, server: ServerId) -> Option<Space> {
        self.pulses.get(&server)?.space
    }

    fn is_placed(&self, set: KeySet, server: ServerId) -> bool {
        self.ledger.set(set).is_some_and(|row| row.target.contains(&server))
    }

    /// Key sets that name `member`.
    fn members_of(&self, member: Member) -> Vec<KeySet> {
        let named = |row: &&super::durable::SetRow| {
            row.configuration.as_ref().is_some_and(|it| it.contains(member))
        };
        self.ledger.sets().filter(named).map(|row| row.set).collect()
    }

    /// Key sets that `server` should hold and is no member of yet.
    fn coming_to(&self, server: ServerId) -> usize {
        let misses = |row: &&super::durable::SetRow| {
            let configuration = row.configuration.as_ref();
            row.target.contains(&server)
                && configuration.is_some_and(|it| it.members().all(|it| it.server != server))
        };
        self.ledger.sets().filter(misses).count()
    }

    /// Key sets that `server` was let go of lately and whose space is not seen to be free.
    fn given(&self, now: Time, server: ServerId, space: Space) -> usize {
        let Some(pulse) = self.pulses.get(&server) else { return 0 };
        let waits = |&&(at, used): &&(Time, u64)| now.since(at) < RETURN_WAIT && space.used >= used;
        pulse.moved.given.iter().filter(waits).count()
    }

    /// `server` was let go of a key set.
    pub(super) fn note_given(&mut self, now: Time, server: ServerId) {
        let Some(pulse) = self.pulses.get_mut(&server) else { return };
        let Some(space) = pulse.space else { return };
        let given = &mut pulse.moved.given;
        given.retain(|&(at, _)| now.since(at) < RETURN_WAIT);
        given.push((now, space.used));
    }

    /// Key sets that `server` became a member of and that it may not have measured yet.
    fn taken(&self, now: Time, server: ServerId) -> usize {
        let Some(pulse) = self.pulses.get(&server) else { return 0 };
        let fresh = |&&at: &&Time| now.since(at) < ARRIVAL_WAIT;
        pulse.moved.taken.iter().filter(fresh).count()
    }

    /// `server` became a member of a key set.
    pub(super) fn note_taken(&mut self, now: Time, server: ServerId) {
        let Some(pulse) = self.pulses.get_mut(&server) else { return };
        if pulse.space.is_some() {
            let taken = &mut pulse.moved.taken;
            taken.retain(|&at| now.since(at) < ARRIVAL_WAIT);
            taken.push(now);
        }
    }

    /// Whether a secondary of `set` is a copy too many: all that should hold the set do, are up and
    /// mean to stay. Where nobody measures space a copy too many does no harm.
    pub(super) fn is_superfluous(&self, now: Time, set: KeySet, member: Member) -> bool {
        let Some(configuration) = self.ledger.configuration(set) else { return false };
        let stays =
            |it: Member| !self.is_placed(set, it.server) || self.available(it.server) == Some(it);
        self.space(member.server).is_some()
            && configuration.secondaries.contains(&member)
            && !self.is_placed(set, member.server)
            && self.is_redundant(set)
            && self.is_open(now, set)
            && configuration.members().all(stays)
    }

    /// A server may drop what it holds of `set`: all copies are elsewhere, and nothing of it is
    /// wanted or could be.
    fn is_foreign(&self, set: KeySet, server: ServerId) -> bool {
        let Some(row) = self.ledger.set(set) else { return false };
        let ordered = self.watches[usize::from(set.0)].round.copy;
        row.state == SetState::Available
            && self.is_new(set, server)
            && row.ex_member.is_none_or(|(member, _)| member.server != server)
            && ordered.is_none_or(|order| order.to.server != server)
            && self.is_redundant(set)
    }

    /// Tells servers which key sets belong elsewhere: secondaries until they are let go, others
    /// once.
    pub(super) fn tell_unplaced(&mut self, now: Time, asks: &mut Asks) {
        let ids = self.ledger.servers().map(|row| row.entry.id);
        let measured: Vec<_> = ids
            .filter(|&id| self.space(id).is_some())
            .filter_map(|id| self.available(id))
            .collect();
        for member in measured {
            for set in (0..self.ledger.cluster().sets).map(KeySet) {
                if let Some((link, epoch)) = self.untold(now, set, member) {
                    asks.unplaced.entry(link).or_default().push((set, epoch));
                    let pulse = self.pulses.get_mut(&member.server);
                    let moved = &mut pulse.expect("who is available has a pulse").moved;
                    moved.told.insert(set, (link, epoch, now));
                }
            }
        }
    }

    /// The link and the epoch of what `member` should be told of `set` now, if anything.
    fn untold(&self, now: Time, set: KeySet, member: Member) -> Option<(LinkId, Epoch)> {
        if self.is_placed(set, member.server) {
            return None;
        }
        let epoch = self.ledger.configuration(set)?.epoch;
        let link = self.link_to(member, set)?;
        let told = self.pulses.get(&member.server)?.moved.told.get(&set);
        let last = told.filter(|it| (it.0, it.1) == (link, epoch)).map(|it| it.2);
        let due = match last {
            None => self.is_foreign(set, member.server) || self.is_superfluous(now, set, member),
            Some(at) => {
                now.since(at) >= self.settings.timing.retry && self.is_superfluous(now, set, member)
            }
        };
        due.then_some((link, epoch))
    }

    /// A secondary asks to be let go of sets; whether it can be is looked into at every pass.
    pub(super) fn on_depart(&mut self, member: Member, sets: &[(KeySet, Epoch)]) -> bool {
        let mut taken = false;
        for &(set, epoch) in sets {
            let Some(configuration) = self.ledger.configuration(set) else { continue };
            if configuration.epoch == epoch && configuration.secondaries.contains(&member) {
                self.watches[usize::from(set.0)].round.departing.insert(member);
                taken = true;
            }
        }
        taken
    }
}
