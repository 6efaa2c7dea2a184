//! Where a session sends its calls: the view, the dials, and the search for a newer view.
//!
//! A call goes to the primary that the newest known configuration names. When that changes, an
//! unanswered call goes to the new primary at once, and its first attempt stays open.

use std::rc::Rc;

use super::call::Phase;
use super::calls::Slot;
use super::roads::{Dial, Target};
use super::{AttemptId, CallId, Session, SessionHost};
use crate::protocol::message::Refusal;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, LinkId, Member, Origin, RequestNumber, Revision, WorkerId};
use crate::protocol::view::{SetState, View};

/// The search for a newer view.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub(super) struct Fetch {
    pub(super) wanted: bool,
    /// The next question is asked no sooner.
    pub(super) due: Time,
    /// Questions since the view last changed, for the backoff.
    pub(super) asked: u32,
}

impl Session {
    /// Brings a call as far as it can get now.
    pub(super) fn dispatch(&mut self, now: Time, id: CallId, host: &mut impl SessionHost) {
        let (slot, call) = self.calls.with_slot(id).expect("a call in flight is dispatched");
        let Some(set) = call.placed(self.roads.sets()) else {
            self.wait_for_primary(now, id);
            return;
        };
        if let Some((peer, link)) = self.roads.way(set) {
            self.send(now, (id, slot), set, (peer, link), host);
        } else if self.roads.view().set(set).is_none() {
            self.refuse(id, Refusal::UnknownSet, host);
        } else if let Some(target) = self.roads.target(set) {
            self.dial(now, id, target, host);
        } else {
            self.wait_for_primary(now, id);
        }
    }

    fn wait_for_primary(&mut self, now: Time, id: CallId) {
        self.want_view();
        self.enter(id, Phase::NoPrimary);
        self.rest(now, id);
    }

    /// Waits for a link to the worker that serves a call, and dials it unless that is under way
    /// or was in vain just now.
    fn dial(&mut self, now: Time, id: CallId, target: Target, host: &mut impl SessionHost) {
        let Target { peer, worker, address } = target;
        let dial = self.roads.dial(peer, worker);
        match dial {
            Some(Dial::Failed { until, .. }) if until > now => {
                self.want_view();
                self.enter(id, Phase::BackingOff { from: Some(peer) });
                self.set_timer(id, until);
            }
            Some(Dial::Dialling { .. }) => {
                self.enter(id, Phase::Dialling { peer, worker });
                self.rest(now, id);
            }
            None | Some(Dial::Failed { .. } | Dial::Up { .. }) => {
                let failures = match dial {
                    Some(Dial::Failed { failures, .. }) => failures,
                    None | Some(Dial::Dialling { .. } | Dial::Up { .. }) => 0,
                };
                self.roads.set_dial(peer, worker, Dial::Dialling { failures });
                host.connect(peer, worker, address);
                self.enter(id, Phase::Dialling { peer, worker });
                self.rest(now, id);
            }
        }
    }

    fn enter(&mut self, id: CallId, phase: Phase) {
        self.calls.change(id).expect("a call in flight changes its phase").phase = phase;
    }

    /// Sends a call, unless its attempt on this very link is still unanswered.
    fn send(
        &mut self,
        now: Time,
        (id, slot): (CallId, Slot),
        set: KeySet,
        (peer, link): (Member, LinkId),
        host: &mut impl SessionHost,
    ) {
        let (_, call) = self.calls.at(slot).expect("a call in flight is sent");
        let due = now + self.settings.patience;
        if let Some(attempt) = call.open_on(link) {
            call.phase = Phase::Sent { attempt };
            self.timers.rest(id, call, due);
            return;
        }
        if call.is_write() {
            let origin = call.request.origin.get_or_insert_with(|| {
                self.number_last = RequestNumber(self.number_last.0 + 1);
                self.unanswered.add(self.number_last);
                Origin {
                    session: self.settings.session,
                    number: self.number_last,
                    answered_below: self.number_last,
                    base: self.bases.get(usize::from(set.0)).copied().unwrap_or_default(),
                }
            });
            let lowest = self.unanswered.lowest();
            origin.answered_below = lowest.expect("a sent write is itself unanswered");
        }
        self.attempt_last = AttemptId(self.attempt_last.0 + 1);
        let view = self.roads.view();
        call.opened(self.attempt_last, peer, link, |member| view.is_dead(member));
        self.attempts.insert(self.attempt_last.0, slot);
        host.send(link, self.attempt_last, &call.request);
        self.timers.rest(id, call, due);
    }

    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        peer: Member,
        worker: WorkerId,
        link: LinkId,
        bases: &[(KeySet, Revision)],
        host: &mut impl SessionHost,
    ) {
        for &(set, base) in bases {
            self.learn_base(set, base);
        }
        self.roads.set_dial(peer, worker, Dial::Up { link });
        for id in self.calls_where(|phase| phase == Phase::Dialling { peer, worker }) {
            self.dispatch(now, id, host);
        }
    }

    pub(super) fn on_connect_failed(&mut self, now: Time, peer: Member, worker: WorkerId) {
        let failures = match self.roads.dial(peer, worker) {
            Some(Dial::Dialling { failures }) => failures,
            // A dial that this session did not ask for, or that is over.
            None | Some(Dial::Up { .. } | Dial::Failed { .. }) => return,
        };
        let until = now + self.backoff(failures);
        let failures = failures.saturating_add(1);
        self.roads.set_dial(peer, worker, Dial::Failed { until, failures });
        for id in self.calls_where(|phase| phase == Phase::Dialling { peer, worker }) {
            self.enter(id, Phase::BackingOff { from: Some(peer) });
            self.set_timer(id, until);
        }
        self.want_view();
    }

    pub(super) fn on_link_down(&mut self, now: Time, link: LinkId, host: &mut impl SessionHost) {
        if let Some((peer, worker)) = self.roads.dialled_by(link) {
            let until = now + self.backoff(0);
            self.roads.set_dial(peer, worker, Dial::Failed { until, failures: 1 });
        }
        self.drop_strays(|_, on| on == link);
        let mut unsent = Vec::new();
        for id in self.calls.ids_where(|call| call.open_on(link).is_some()) {
            let call = self.calls.change(id).expect("it was just found");
            let Some(lost) = call.lose(link) else { continue };
            self.attempts.remove(lost.0);
            if call.phase == (Phase::Sent { attempt: lost }) {
                unsent.push(id);
            }
        }
        if !unsent.is_empty() {
            self.want_view();
        }
        for id in unsent {
            self.dispatch(now, id, host);
        }
    }

    pub(super) fn on_view(&mut self, now: Time, view: Rc<View>, host: &mut impl SessionHost) {
        // Where many calls wait long, many views come that say nothing new. They move no call that
        // has its way; those without a primary go on asking.
        let known = self.roads.knows(&view);
        let changed = self.roads.learn(view);
        if changed {
            self.fetch.asked = 0;
        }
        self.refuse_lost(host);
        let waiting = self.calls_where(|phase| match phase {
            Phase::NoPrimary => true,
            Phase::Dialling { .. } | Phase::Sent { .. } => !known,
            Phase::BackingOff { from } => from.is_some() && changed,
        });
        self.reroute(now, waiting, host);
    }

    /// Sends on the calls of one key set, after its configuration changed.
    pub(super) fn reroute_set(&mut self, now: Time, set: KeySet, host: &mut impl SessionHost) {
        let count = self.roads.sets();
        let waiting = self.calls.ids_where(|call| {
            call.key_set(count) == Some(set)
                && !matches!(call.phase, Phase::BackingOff { from: None })
        });
        self.reroute(now, waiting, host);
    }

    /// Dispatches the calls whose way has changed; the others keep their phase and timer.
    fn reroute(&mut self, now: Time, ids: Vec<CallId>, host: &mut impl SessionHost) {
        for id in ids {
            let Some(call) = self.calls.get(id) else { continue };
            let target = call.key_set(self.roads.sets()).and_then(|set| self.roads.target(set));
            let primary = target.map(|it| it.peer);
            let stays = match call.phase {
                Phase::NoPrimary => false,
                Phase::Dialling { peer, worker } => {
                    target.map(|it| (it.peer, it.worker)) == Some((peer, worker))
                }
                Phase::Sent { attempt } => {
                    let sent = call.open.iter().find(|it| it.id == attempt);
                    // Without a primary, the answer may still come from the old one.
                    primary.is_none() || primary == sent.map(|it| it.member)
                }
                Phase::BackingOff { from } => primary.is_none() || primary == from,
            };
            if !stays {
                self.dispatch(now, id, host);
            }
        }
    }

    fn calls_where(&self, wanted: impl Fn(Phase) -> bool) -> Vec<CallId> {
        self.calls.ids_where(|call| wanted(call.phase))
    }

    /// A set that the metaserver calls lost has nobody left to refuse its calls.
    fn refuse_lost(&mut self, host: &mut impl SessionHost) {
        let (count, view) = (self.roads.sets(), self.roads.view());
        if view.sets.iter().all(|entry| entry.state != SetState::Lost) {
            return;
        }
        let lost = |set| view.set(set).is_some_and(|it| it.state == SetState::Lost);
        for id in self.calls.ids_where(|call| call.key_set(count).is_some_and(lost)) {
            self.refuse(id, Refusal::Lost, host);
        }
    }

    pub(super) fn learn_base(&mut self, set: KeySet, base: Revision) {
        let index = usize::from(set.0);
        if self.bases.len() <= index {
            if base == Revision::default() {
                return;
            }
            self.bases.resize(index + 1, Revision::default());
        }
        let known = &mut self.bases[index];
        *known = (*known).max(base);
    }

    pub(super) fn want_view(&mut self) {
        self.fetch.wanted = true;
    }

    pub(super) fn fetch_if_due(&mut self, now: Time, host: &mut impl SessionHost) {
        if !self.fetch.wanted || self.fetch.due > now {
            return;
        }
        // A search that begins after a quiet time begins in a hurry.
        if now.since(self.fetch.due) > self.settings.backoff_max {
            self.fetch.asked = 0;
        }
        self.fetch.wanted = false;
        self.fetch.due = now + self.backoff(self.fetch.asked);
        self.fetch.asked = self.fetch.asked.saturating_add(1);
        host.fetch_view();
    }
}
