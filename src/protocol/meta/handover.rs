//! Handovers that the metaserver orders: back to the preferred primary, and away from a server
//! that wants to stop (rule 9).
//!
//! The order is a wish: the primary drains, asks for the change by itself, and resumes if it gets
//! no answer. A key set pauses from the order until its new primary has opened; and because all
//! that become durable together are announced together, few are ordered at a time.

use super::MetaServer;
use super::asks::Asks;
use super::watch::Order;
use crate::protocol::message::Activity;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, Member};

/// Key sets that are handed over at a time: each one's messages wait for those of the others.
pub(super) const HANDOVERS_MAX: usize = 2;

impl MetaServer {
    pub(super) fn order_handovers(&mut self, now: Time, asks: &mut Asks) {
        let vanished = self.most_vanished(now);
        let (mut active, mut waiting) = (0, Vec::new());
        for set in (0..self.ledger.cluster().sets).map(KeySet) {
            let wanted = self.successor_for(now, set, vanished);
            let retry = self.settings.timing.retry;
            let resign = self.settings.timing.resign;
            let round = &mut self.watches[usize::from(set.0)].round;
            round.handover = round.handover.filter(|order| Some(order.to) == wanted);
            match (&mut round.handover, wanted) {
                (Some(order), Some(to)) => {
                    active += usize::from(now.since(order.first) < resign);
                    if order.repeat(now, retry) {
                        self.send_handover(set, to, asks);
                    }
                }
                (None, Some(to)) => waiting.push((set, to)),
                (Some(_) | None, None) => {}
            }
        }
        for (set, to) in waiting.into_iter().take(HANDOVERS_MAX.saturating_sub(active)) {
            let order = Order::given(to, now, self.settings.timing.retry);
            self.watches[usize::from(set.0)].round.handover = Some(order);
            self.send_handover(set, to, asks);
        }
    }

    /// Who should be primary of `set` instead of the one that is.
    fn successor_for(&self, now: Time, set: KeySet, vanished: bool) -> Option<Member> {
        let configuration = self.ledger.configuration(set)?;
        let row = self.ledger.set(set)?;
        let watch = &self.watches[usize::from(set.0)];
        if !self.is_open(now, set) || watch.round.resigned {
            return None;
        }
        let ready = |member: Member| {
            self.available(member.server) == Some(member)
                && self.report(now, member, set).is_some_and(|report| {
                    report.epoch == configuration.epoch && report.activity == Activity::Secondary
                })
        };
        let mut secondaries = configuration.secondaries.iter().copied();
        if self.ledger.server(configuration.primary.server).is_some_and(|it| it.leaving) {
            let place = |member: &Member| {
                let place = row.target.iter().position(|&server| server == member.server);
                place.unwrap_or(row.target.len())
            };
            return secondaries.filter(|&member| ready(member)).min_by_key(place);
        }
        let waits = vanished
            || now < watch.handover_after
            || !self.is_redundant(set)
            || self.is_copying(set);
        if waits || row.target.first() == Some(&configuration.primary.server) {
            return None;
        }
        secondaries.find(|&it| row.target.first() == Some(&it.server) && ready(it))
    }

    fn send_handover(&self, set: KeySet, to: Member, asks: &mut Asks) {
        let Some(configuration) = self.ledger.configuration(set) else { return };
        if let Some(link) = self.link_to(configuration.primary, set) {
            asks.handovers.entry((link, to)).or_default().push((set, configuration.epoch));
        }
    }
}
