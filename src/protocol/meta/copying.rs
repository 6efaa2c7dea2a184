//! Copy orders: every set that misses a copy gets a learner, a bounded number at a time.
//!
//! The order goes to the primary and is repeated, at growing intervals, until the learner is a
//! member; a learner that makes no progress costs messages, and never an epoch.

use std::collections::BTreeMap;

use super::MetaServer;
use super::asks::Asks;
use super::watch::Order;
use crate::protocol::message::Activity;
use crate::protocol::space::Level;
use crate::protocol::time::Time;
use crate::protocol::types::{Configuration, Incarnation, KeySet, Member, ServerId};

/// Key sets that are copied to one learner at a time.
pub(super) const COPIES_MAX: usize = 32;

impl MetaServer {
    pub(super) fn order_copies(&mut self, now: Time, asks: &mut Asks) {
        let mut active: BTreeMap<Member, usize> = BTreeMap::new();
        let mut waiting = Vec::new();
        for set in (0..self.ledger.cluster().sets).map(KeySet) {
            let learner = self.learner_for(now, set);
            self.drop_order(set, learner, asks);
            let Some(learner) = learner else { continue };
            match self.watches[usize::from(set.0)].round.copy {
                Some(order) => {
                    let moving = self.is_learning(now, learner, set)
                        || now.since(order.first) < self.settings.timing.resign;
                    *active.entry(learner).or_default() += usize::from(moving);
                    self.repeat_copy(now, set, asks);
                }
                None => {
                    let first =
                        self.recovery_of(set).is_some_and(|it| it.primary_of.contains(&set));
                    waiting.push((!first, set, learner));
                }
            }
        }
        waiting.sort_unstable();
        for (_, set, learner) in waiting {
            let active = active.entry(learner).or_default();
            if *active < COPIES_MAX {
                *active += 1;
                self.order_copy(now, set, learner, asks);
            }
        }
    }

    /// The learner that `set` should have now.
    fn learner_for(&self, now: Time, set: KeySet) -> Option<Member> {
        let configuration = self.ledger.configuration(set)?;
        if !self.is_serving(now, set) || self.watches[usize::from(set.0)].round.resigned {
            return None;
        }
        let row = self.ledger.set(set)?;
        let missing = |server: &&ServerId| configuration.members().all(|it| it.server != **server);
        // What is placed on it is not new to it; but a full one could only wait for room.
        let has_room = |server: &&ServerId| self.level(**server) < Level::Hard;
        let missing = row.target.iter().filter(missing).filter(has_room);
        let wanted = missing.copied().find_map(|server| self.available(server));
        wanted.or_else(|| self.stand_in(configuration))
    }

    /// Where all members mean to leave, another server has to hold the set meanwhile.
    fn stand_in(&self, configuration: &Configuration) -> Option<Member> {
        let leaving = |it: Member| self.ledger.server(it.server).is_some_and(|row| row.leaving);
        if !leaving(configuration.primary)
            || configuration.members().any(|it| self.available(it.server) == Some(it))
        {
            return None;
        }
        let others = self
            .ledger
            .servers()
            .filter_map(|row| self.roomy(row.entry.id))
            .filter(|member| configuration.members().all(|it| it.server != member.server));
        others.min_by_key(|member| (self.load(member.server), member.server))
    }

    /// Key sets that a server holds or should hold.
    pub(super) fn load(&self, server: ServerId) -> usize {
        let holds = |row: &&super::durable::SetRow| {
            row.target.contains(&server)
                || row
                    .configuration
                    .as_ref()
                    .is_some_and(|it| it.members().any(|member| member.server == server))
        };
        self.ledger.sets().filter(holds).count()
    }

    /// Whether a copy of `set` at `learner` is what the metaserver wants.
    pub(super) fn is_wanted(&self, set: KeySet, learner: Member) -> bool {
        let ordered = self.watches[usize::from(set.0)].round.copy;
        let stands_in = |failed: Member| {
            failed.server == learner.server && failed.incarnation == Incarnation(0)
        };
        ordered.is_some_and(|order| order.to == learner)
            || self.recovery_of(set).is_some_and(|it| stands_in(it.failed))
            || self.ledger.set(set).is_some_and(|row| row.target.contains(&learner.server))
    }

    fn is_learning(&self, now: Time, learner: Member, set: KeySet) -> bool {
        self.report(now, learner, set)
            .is_some_and(|report| matches!(report.activity, Activity::Learner { .. }))
    }

    /// Ends an order to another learner than the one wanted now. A learner that is merely not
    /// heard for a moment keeps its copy: its primary judges it.
    fn drop_order(&mut self, set: KeySet, wanted: Option<Member>, asks: &mut Asks) {
        let ordered = self.watches[usize::from(set.0)].round.copy;
        let Some(order) = ordered.filter(|order| Some(order.to) != wanted) else { return };
        let stays = self.ledger.live_member(order.to.server) == Some(order.to)
            && self.ledger.server(order.to.server).is_some_and(|row| !row.leaving);
        if wanted.is_none() && stays {
            return;
        }
        self.watches[usize::from(set.0)].round.copy = None;
        let Some(primary) = self.ledger.configuration(set).map(|it| it.primary) else { return };
        if let Some(link) = self.link_to(primary, set) {
            asks.cancels.entry((link, order.to)).or_default().push(set);
        }
    }

    fn order_copy(&mut self, now: Time, set: KeySet, learner: Member, asks: &mut Asks) {
        let retry = self.settings.timing.retry;
        self.watches[usize::from(set.0)].round.copy = Some(Order::given(learner, now, retry));
        self.send_copy(set, learner, asks);
    }

    fn repeat_copy(&mut self, now: Time, set: KeySet, asks: &mut Asks) {
        let retry = self.settings.timing.retry;
        let Some(order) = &mut self.watches[usize::from(set.0)].round.copy else { return };
        let learner = order.to;
        if order.repeat(now, retry) {
            self.send_copy(set, learner, asks);
        }
    }

    fn send_copy(&mut self, set: KeySet, learner: Member, asks: &mut Asks) {
        if self.recovery_of(set).is_none() {
            // Nothing failed here: the server was never a member, or stands in for another.
            let never = Member { server: learner.server, incarnation: Incarnation(0) };
            self.cover(never, set, false);
        }
        let Some(recovery) = self.recovery_of(set).map(|it| it.id) else { return };
        let Some(configuration) = self.ledger.configuration(set) else { return };
        if let Some(link) = self.link_to(configuration.primary, set) {
            let sets = asks.copies.entry((link, recovery, learner)).or_default();
            sets.push((set, configuration.epoch));
        }
    }
}
