//! What the metaserver keeps in memory about one key set: questions, and how long they wait.
//!
//! Nothing here is needed after a restart: the durable rows say what is to be done, and the
//! questions are asked anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::message::ProbeReport;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{LinkId, Member};
use crate::protocol::view::Resignation;

/// Resignations kept for servers that were away; older ones are superseded by newer epochs.
pub(super) const RESIGNATIONS_MAX: usize = 8;

/// The watch over one key set.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Watch {
    /// Belongs to the current epoch, and ends with it.
    pub(super) round: Round,
    /// The last resignations of primaries, for members that hear of them late.
    pub(super) resignations: Vec<Resignation>,
    /// Epochs given in a row to primaries that did not serve: each waits longer than the last.
    pub(super) idle_rounds: u32,
    /// A primary that gave up although its server was up gets its role back no sooner.
    pub(super) handover_after: Time,
}

/// What goes on in one epoch of a key set.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Round {
    /// The primary's own word that it fell silent.
    pub(super) resigned: bool,
    /// A heartbeat named the primary open: every secondary follows its log.
    pub(super) opened: bool,
    /// Since when the primary's live server does not name it as serving.
    pub(super) idle_since: Option<Time>,
    /// Since when a successor is looked for.
    pub(super) troubled_since: Option<Time>,
    pub(super) probes: BTreeMap<Member, Question<ProbeReport>>,
    pub(super) removals: BTreeMap<Member, Question<()>>,
    /// Secondaries that asked to be let go.
    pub(super) departing: BTreeSet<Member>,
    /// Followers that the primary complained of, and when it did so last.
    pub(super) complaints: BTreeMap<Member, Time>,
    pub(super) copy: Option<Order>,
    pub(super) handover: Option<Order>,
    /// When the primary was last told to resign, and its configuration sent again.
    pub(super) resign_sent: Option<Time>,
    pub(super) entry_sent: Option<Time>,
}

/// A question that is repeated; only an answer to a recent asking counts.
#[derive(Clone, Debug, Hash)]
pub(super) struct Question<A> {
    /// Recent askings: nonce, link and time.
    asked: Vec<(u64, LinkId, Time)>,
    answer: Option<(Time, A)>,
}

impl<A> Default for Question<A> {
    fn default() -> Question<A> {
        Question { asked: Vec::new(), answer: None }
    }
}

impl<A: Copy> Question<A> {
    /// Whether to ask (again), `interval` after the last asking; if so it is noted as asked.
    pub(super) fn ask(
        &mut self,
        now: Time,
        link: LinkId,
        nonce: u64,
        interval: Span,
        bound: Span,
    ) -> bool {
        if self.asked.last().is_some_and(|&(_, _, at)| now.since(at) < interval) {
            return false;
        }
        self.asked.retain(|&(_, _, at)| now.since(at) <= bound);
        self.asked.push((nonce, link, now));
        true
    }

    /// Whether the answer that names `nonce` and came on `link` is one to an asking within
    /// `bound`.
    pub(super) fn expects(&self, now: Time, link: LinkId, nonce: u64, bound: Span) -> bool {
        self.asked.iter().any(|&(asked_nonce, asked_link, at)| {
            asked_nonce == nonce && asked_link == link && now.since(at) <= bound
        })
    }

    pub(super) fn set_answer(&mut self, now: Time, answer: A) {
        self.answer = Some((now, answer));
    }

    /// The last answer, if it is not older than `bound`.
    pub(super) fn answer(&self, now: Time, bound: Span) -> Option<A> {
        self.answer.filter(|&(at, _)| now.since(at) <= bound).map(|(_, answer)| answer)
    }
}

/// An order to the primary that is repeated, at growing intervals, until the epoch changes.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Order {
    pub(super) to: Member,
    pub(super) first: Time,
    sent: Time,
    interval: Span,
}

/// How often the interval of an order may double.
const ORDER_GROWTH: u64 = 16;

impl Order {
    /// An order given now, to be repeated after `interval`.
    pub(super) fn given(to: Member, now: Time, interval: Span) -> Order {
        Order { to, first: now, sent: now, interval }
    }

    /// Whether to repeat it now; if so it is noted as sent, and the next wait is longer.
    pub(super) fn repeat(&mut self, now: Time, retry: Span) -> bool {
        if now.since(self.sent) < self.interval {
            return false;
        }
        self.sent = now;
        self.interval = self.interval.scaled(2, 1).min(retry.scaled(ORDER_GROWTH, 1));
        true
    }
}

/// Whether something sent last at `sent` is due again; if so it is noted as sent now.
pub(super) fn due(sent: &mut Option<Time>, now: Time, interval: Span) -> bool {
    if sent.is_some_and(|at| now.since(at) < interval) {
        return false;
    }
    *sent = Some(now);
    true
}
