//! Where a session sends its calls: the view, the dials, and the search for a newer view.
//!
//! A call goes to the primary that the newest known configuration names. When that changes, an
//! unanswered call goes to the new primary at once, and its first attempt stays open.

use std::net::SocketAddr;

use super::call::{Identity, Phase};
use super::{AttemptId, CallId, Session, SessionEffect};
use crate::protocol::message::{AckLevel, ReadLevel, Refusal, Request};
use crate::protocol::time::Time;
use crate::protocol::types::{
    Configuration, KeySet, LinkId, Member, Origin, RequestNumber, Revision, WorkerId,
};
use crate::protocol::view::{SetEntry, SetState, Update, View};

/// A worker that the session dialled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(super) enum Dial {
    /// `failures` dials in a row failed before this one.
    Dialling {
        failures: u32,
    },
    Up {
        link: LinkId,
    },
    /// Not before `until` again.
    Failed {
        until: Time,
        failures: u32,
    },
}

/// The search for a newer view.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub(super) struct Fetch {
    pub(super) wanted: bool,
    /// The next question is asked no sooner.
    pub(super) due: Time,
    /// Questions since the view last changed, for the backoff.
    pub(super) asked: u32,
}

/// Why a call can not be sent now.
enum Obstacle {
    /// No view yet.
    View,
    /// No such key set.
    UnknownSet,
    /// No primary with a known address.
    Primary,
}

impl Session {
    /// The worker that serves the call's key set, as far as the view knows.
    fn route(&self, id: CallId) -> Result<(KeySet, Member, WorkerId, SocketAddr), Obstacle> {
        let call = self.calls.get(&id).expect("a call in flight is routed");
        let count = u16::try_from(self.view.sets.len()).unwrap_or(u16::MAX);
        if count == 0 {
            return Err(Obstacle::View);
        }
        let set = call.operation.key_set(count);
        let entry = self.view.set(set).ok_or(Obstacle::UnknownSet)?;
        let primary = entry.configuration.as_ref().ok_or(Obstacle::Primary)?.primary;
        let server = self.view.server(primary.server).ok_or(Obstacle::Primary)?;
        if server.incarnation != primary.incarnation || self.view.is_dead(primary) {
            return Err(Obstacle::Primary);
        }
        let (worker, address) = server.address(set).ok_or(Obstacle::Primary)?;
        Ok((set, primary, worker, address))
    }

    /// Brings a call as far as it can get now.
    pub(super) fn dispatch(&mut self, now: Time, id: CallId, effects: &mut Vec<SessionEffect>) {
        let (set, peer, worker, address) = match self.route(id) {
            Ok(route) => route,
            Err(Obstacle::UnknownSet) => {
                self.refuse(id, Refusal::UnknownSet, effects);
                return;
            }
            Err(Obstacle::View | Obstacle::Primary) => {
                self.want_view();
                self.enter(id, Phase::NoPrimary);
                self.rest(now, id);
                return;
            }
        };
        let dial = self.dials.get(&(peer, worker)).copied();
        match dial {
            Some(Dial::Up { link }) => self.send(now, id, set, peer, link, effects),
            Some(Dial::Failed { until, .. }) if until > now => {
                self.want_view();
                self.enter(id, Phase::BackingOff { from: Some(peer) });
                self.set_timer(id, until);
            }
            Some(Dial::Dialling { .. }) => {
                self.enter(id, Phase::Dialling { peer, worker });
                self.rest(now, id);
            }
            None | Some(Dial::Failed { .. }) => {
                let failures = match dial {
                    Some(Dial::Failed { failures, .. }) => failures,
                    None | Some(Dial::Dialling { .. } | Dial::Up { .. }) => 0,
                };
                self.dials.insert((peer, worker), Dial::Dialling { failures });
                effects.push(SessionEffect::Connect { peer, worker, address });
                self.enter(id, Phase::Dialling { peer, worker });
                self.rest(now, id);
            }
        }
    }

    fn enter(&mut self, id: CallId, phase: Phase) {
        self.calls.get_mut(&id).expect("a call in flight changes its phase").phase = phase;
    }

    /// Sends a call, unless its attempt on this very link is still unanswered.
    fn send(
        &mut self,
        now: Time,
        id: CallId,
        set: KeySet,
        peer: Member,
        link: LinkId,
        effects: &mut Vec<SessionEffect>,
    ) {
        let call = self.calls.get_mut(&id).expect("a call in flight is sent");
        if let Some(attempt) = call.open_on(link) {
            call.phase = Phase::Sent { attempt };
            self.rest(now, id);
            return;
        }
        if call.operation.is_write() && call.identity.is_none() {
            self.number_last = RequestNumber(self.number_last.0 + 1);
            let base = self.bases.get(&set).copied().unwrap_or_default();
            call.identity = Some(Identity { number: self.number_last, base });
            self.unanswered.insert(self.number_last);
        }
        let answered_below = self.unanswered.first().copied();
        let origin = call.identity.map(|Identity { number, base }| Origin {
            session: self.settings.session,
            number,
            answered_below: answered_below.expect("a sent write is itself unanswered"),
            base,
        });
        self.attempt_last = AttemptId(self.attempt_last.0 + 1);
        let view = &self.view;
        call.opened(self.attempt_last, peer, link, |member| view.is_dead(member));
        let request = Request {
            operation: call.operation.clone(),
            origin,
            read_level: ReadLevel::Linearizable,
            ack_level: AckLevel::Every,
            expiry_ms: None,
        };
        self.attempts.insert(self.attempt_last, id);
        effects.push(SessionEffect::Send { link, attempt: self.attempt_last, request });
        self.rest(now, id);
    }

    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        peer: Member,
        worker: WorkerId,
        link: LinkId,
        bases: &[(KeySet, Revision)],
        effects: &mut Vec<SessionEffect>,
    ) {
        for &(set, base) in bases {
            self.learn_base(set, base);
        }
        self.dials.insert((peer, worker), Dial::Up { link });
        for id in self.calls_where(|phase| phase == Phase::Dialling { peer, worker }) {
            self.dispatch(now, id, effects);
        }
    }

    pub(super) fn on_connect_failed(&mut self, now: Time, peer: Member, worker: WorkerId) {
        let failures = match self.dials.get(&(peer, worker)) {
            Some(&Dial::Dialling { failures }) => failures,
            // A dial that this session did not ask for, or that is over.
            None | Some(Dial::Up { .. } | Dial::Failed { .. }) => return,
        };
        let until = now + self.backoff(failures);
        let failures = failures.saturating_add(1);
        self.dials.insert((peer, worker), Dial::Failed { until, failures });
        for id in self.calls_where(|phase| phase == Phase::Dialling { peer, worker }) {
            self.enter(id, Phase::BackingOff { from: Some(peer) });
            self.set_timer(id, until);
        }
        self.want_view();
    }

    pub(super) fn on_link_down(
        &mut self,
        now: Time,
        link: LinkId,
        effects: &mut Vec<SessionEffect>,
    ) {
        let up = self.dials.iter().find(|(_, dial)| **dial == Dial::Up { link });
        if let Some((&worker, _)) = up {
            let until = now + self.backoff(0);
            self.dials.insert(worker, Dial::Failed { until, failures: 1 });
        }
        self.drop_strays(|_, on| on == link);
        let mut unsent = Vec::new();
        for (&id, call) in &mut self.calls {
            let Some(lost) = call.lose(link) else { continue };
            self.attempts.remove(&lost);
            if call.phase == (Phase::Sent { attempt: lost }) {
                unsent.push(id);
            }
        }
        if !unsent.is_empty() {
            self.want_view();
        }
        for id in unsent {
            self.dispatch(now, id, effects);
        }
    }

    pub(super) fn on_view(&mut self, now: Time, view: &View, effects: &mut Vec<SessionEffect>) {
        let changed = if self.view.sets.is_empty() {
            self.view = view.clone();
            !view.sets.is_empty()
        } else {
            let version = self.view.version;
            self.view.merge(&view.as_update());
            self.view.version > version
        };
        if changed {
            self.fetch.asked = 0;
            let view = &self.view;
            self.dials.retain(|(peer, _), dial| match dial {
                Dial::Up { .. } | Dial::Dialling { .. } => true,
                Dial::Failed { .. } => !view.is_dead(*peer),
            });
        }
        self.refuse_lost(effects);
        let waiting = self.calls_where(|phase| match phase {
            Phase::NoPrimary | Phase::Dialling { .. } | Phase::Sent { .. } => true,
            Phase::BackingOff { from } => from.is_some() && changed,
        });
        self.reroute(now, waiting, effects);
    }

    /// Adopts a configuration that came with a refusal; whether it was news.
    pub(super) fn merge_configuration(
        &mut self,
        set: KeySet,
        configuration: &Configuration,
    ) -> bool {
        let known = self.view.configuration(set).map(|it| it.epoch);
        if Some(configuration.epoch) <= known {
            return false;
        }
        let configuration = Some(configuration.clone());
        let entry = SetEntry { set, configuration, state: SetState::Available };
        // The version stays: the rest of the view is as old as it was.
        let version = self.view.version;
        self.view.merge(&Update { version, sets: vec![entry], ..Update::default() });
        true
    }

    /// Sends on the calls of one key set, after its configuration changed.
    pub(super) fn reroute_set(&mut self, now: Time, set: KeySet, effects: &mut Vec<SessionEffect>) {
        let count = u16::try_from(self.view.sets.len()).unwrap_or(u16::MAX);
        let waiting = self.calls.iter().filter(|(_, call)| {
            call.operation.key_set(count) == set
                && !matches!(call.phase, Phase::BackingOff { from: None })
        });
        let waiting: Vec<CallId> = waiting.map(|(&id, _)| id).collect();
        self.reroute(now, waiting, effects);
    }

    /// Dispatches the calls whose way has changed; the others keep their phase and timer.
    fn reroute(&mut self, now: Time, ids: Vec<CallId>, effects: &mut Vec<SessionEffect>) {
        for id in ids {
            let phase = self.calls.get(&id).map(|call| call.phase);
            let target = self.route(id).ok().map(|(_, peer, worker, _)| (peer, worker));
            let stays = match phase {
                None => true,
                Some(Phase::NoPrimary) => false,
                Some(Phase::Dialling { peer, worker }) => target == Some((peer, worker)),
                Some(Phase::Sent { attempt }) => {
                    let open = &self.calls[&id].open;
                    let member = open.iter().find(|it| it.id == attempt).map(|it| it.member);
                    // Without a primary, the answer may still come from the old one.
                    target.is_none() || target.map(|(peer, _)| peer) == member
                }
                Some(Phase::BackingOff { from }) => {
                    target.is_none() || target.map(|(peer, _)| peer) == from
                }
            };
            if !stays {
                self.dispatch(now, id, effects);
            }
        }
    }

    fn calls_where(&self, wanted: impl Fn(Phase) -> bool) -> Vec<CallId> {
        self.calls.iter().filter(|(_, call)| wanted(call.phase)).map(|(&id, _)| id).collect()
    }

    /// A set that the metaserver calls lost has nobody left to refuse its calls.
    fn refuse_lost(&mut self, effects: &mut Vec<SessionEffect>) {
        let count = u16::try_from(self.view.sets.len()).unwrap_or(u16::MAX);
        if count == 0 {
            return;
        }
        let lost = |set| self.view.set(set).is_some_and(|it| it.state == SetState::Lost);
        let calls = self.calls.iter().filter(|(_, call)| lost(call.operation.key_set(count)));
        let calls: Vec<CallId> = calls.map(|(&id, _)| id).collect();
        for id in calls {
            self.refuse(id, Refusal::Lost, effects);
        }
    }

    pub(super) fn learn_base(&mut self, set: KeySet, base: Revision) {
        let known = self.bases.entry(set).or_default();
        *known = (*known).max(base);
    }

    pub(super) fn want_view(&mut self) {
        self.fetch.wanted = true;
    }

    pub(super) fn fetch_if_due(&mut self, now: Time, effects: &mut Vec<SessionEffect>) {
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
        effects.push(SessionEffect::FetchView);
    }
}
