//! A client that says everything several times: what "applied once" is tried with.
//!
//! It sends a write again under the same number, while it waits for the answer and long after
//! it, to the primary, to the next primary and to servers that are none. The first answer counts.
//! What may not be repeated is not: a write whose first answer says that nothing was written has
//! no record by which a primary could recognise it.

use std::collections::BTreeMap;

use super::rng::Rng;
use crate::protocol::Machine;
use crate::protocol::message::{AckLevel, Answer, Operation, ReadLevel, Refusal, Request};
use crate::protocol::session::{
    AttemptId, CallId, NotDone, Outcome, SessionEffect, SessionInput, Unknown, Waiting,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{
    Incarnation, LinkId, Member, Origin, RequestNumber, Revision, ServerId, SessionId, WorkerId,
};

/// The longest pause between two attempts.
const PAUSE_MAX: Span = Span::from_millis(300);

/// Attempts after the answer, at most.
const ECHOES_MAX: u64 = 3;

#[derive(Clone, Debug)]
struct Call {
    id: CallId,
    operation: Operation,
    deadline: Time,
    number: RequestNumber,
    base: Revision,
    /// Attempts that were not refused so far.
    open: Vec<AttemptId>,
    next: Time,
    /// Once its client knows the end: attempts that are left.
    echoes: Option<u64>,
}

impl Call {
    /// Whether another attempt is recognised as the same write.
    fn is_repeatable(&self) -> bool {
        match self.operation {
            Operation::Put { .. }
            | Operation::PutFor { .. }
            | Operation::Cas { .. }
            | Operation::CasFor { .. }
            | Operation::Incr { .. } => true,
            // Equal deletes are not told apart by whoever keeps the books.
            Operation::Delete { .. }
            | Operation::Get { .. }
            | Operation::Scan { .. }
            | Operation::Changes { .. } => false,
        }
    }
}

/// See the file's page.
#[derive(Clone, Debug)]
pub struct Repeater {
    servers: Vec<ServerId>,
    session: SessionId,
    rng: Rng,
    /// None = it is being dialled.
    links: BTreeMap<ServerId, Option<LinkId>>,
    /// Who was called primary last.
    guess: ServerId,
    calls: Vec<Call>,
    number_last: RequestNumber,
    attempt_last: AttemptId,
}

impl Repeater {
    #[must_use]
    pub fn new(servers: Vec<ServerId>, session: SessionId, rng: Rng) -> Repeater {
        Repeater {
            guess: servers.first().copied().unwrap_or_default(),
            servers,
            session,
            rng,
            links: BTreeMap::new(),
            calls: Vec::new(),
            number_last: RequestNumber(0),
            attempt_last: AttemptId(0),
        }
    }

    /// Lets every call that is due have its next attempt, and gives up those that are overdue.
    fn tend(&mut self, now: Time, effects: &mut Vec<SessionEffect>) {
        for index in 0..self.calls.len() {
            if self.calls[index].next <= now {
                self.attempt(now, index, effects);
            }
        }
        for index in 0..self.calls.len() {
            let call = &self.calls[index];
            if call.echoes.is_none() && call.deadline <= now {
                let waiting = Waiting::Answer;
                let outcome = if call.open.is_empty() {
                    Outcome::NotDone(NotDone::Deadline { waiting, refusal: None })
                } else {
                    Outcome::Unknown(Unknown::Deadline { waiting })
                };
                // What was called not done is never sent again.
                let again = !call.open.is_empty();
                self.end(now, index, outcome, again, effects);
            }
        }
        self.calls.retain(|call| call.echoes != Some(0));
    }

    fn end(
        &mut self,
        now: Time,
        index: usize,
        outcome: Outcome,
        again: bool,
        effects: &mut Vec<SessionEffect>,
    ) {
        let echoes = self.rng.below(ECHOES_MAX + 1);
        let pause = self.rng.span(Span::ZERO, PAUSE_MAX);
        let call = &mut self.calls[index];
        let again = again && call.is_repeatable();
        match call.echoes {
            None => {
                call.next = now + pause;
                call.echoes = Some(if again { echoes } else { 0 });
                effects.push(SessionEffect::Complete { call: call.id, outcome });
            }
            Some(left) => call.echoes = Some(if again { left } else { 0 }),
        }
    }

    fn attempt(&mut self, now: Time, index: usize, effects: &mut Vec<SessionEffect>) {
        let pause = self.rng.span(Span::from_millis(2), PAUSE_MAX);
        let astray = self.rng.chance(200_000);
        let anyone = self.rng.pick(&self.servers).copied();
        let server = anyone.filter(|_| astray).unwrap_or(self.guess);
        let answered_below = self.calls.iter().map(|it| it.number).min().unwrap_or_default();
        let call = &mut self.calls[index];
        call.next = now + pause;
        if !call.is_repeatable() && !call.open.is_empty() {
            return;
        }
        match self.links.get(&server) {
            Some(Some(link)) => {
                self.attempt_last.0 += 1;
                call.open.push(self.attempt_last);
                call.echoes = call.echoes.map(|left| left.saturating_sub(1));
                let origin = call.operation.is_write().then_some(Origin {
                    session: self.session,
                    number: call.number,
                    answered_below,
                    base: call.base,
                });
                let request = Request {
                    operation: call.operation.clone(),
                    origin,
                    read_level: ReadLevel::default(),
                    ack_level: AckLevel::default(),
                    expiry_ms: None,
                };
                let (link, attempt) = (*link, self.attempt_last);
                effects.push(SessionEffect::Send { link, attempt, request });
            }
            Some(None) => {}
            None => {
                self.links.insert(server, None);
                let peer = Member { server, incarnation: Incarnation(0) };
                let address = super::processes::address(server);
                effects.push(SessionEffect::Connect { peer, worker: WorkerId(0), address });
            }
        }
    }

    fn on_answer(
        &mut self,
        now: Time,
        attempt: AttemptId,
        answer: Answer,
        effects: &mut Vec<SessionEffect>,
    ) {
        let Some(index) = self.calls.iter().position(|it| it.open.contains(&attempt)) else {
            return;
        };
        match answer {
            Answer::Refused(refusal) => self.on_refused(now, index, attempt, refusal, effects),
            Answer::Forgotten { .. } | Answer::Moved { .. } => {
                self.end(now, index, Outcome::Unknown(Unknown::Forgotten), false, effects);
            }
            Answer::Written { .. } => {
                self.end(now, index, Outcome::Done(answer), true, effects);
            }
            Answer::Found { .. }
            | Answer::Absent { .. }
            | Answer::Mismatch { .. }
            | Answer::Rejected { .. }
            | Answer::Page { .. }
            | Answer::Changes { .. } => {
                // Another attempt that is still on its way may write after this one did not.
                let outcome = if self.calls[index].open.len() == 1 {
                    Outcome::Done(answer)
                } else {
                    Outcome::Unknown(Unknown::Forgotten)
                };
                self.end(now, index, outcome, false, effects);
            }
        }
    }

    fn on_refused(
        &mut self,
        now: Time,
        index: usize,
        attempt: AttemptId,
        refusal: Refusal,
        effects: &mut Vec<SessionEffect>,
    ) {
        let call = &mut self.calls[index];
        call.open.retain(|it| *it != attempt);
        match refusal {
            Refusal::BaseNeeded { base } if call.open.is_empty() && call.echoes.is_none() => {
                call.base = base;
                call.next = now;
            }
            // An attempt may have been admitted: its base can not be changed any more.
            Refusal::BaseNeeded { .. } => {
                self.end(now, index, Outcome::Unknown(Unknown::Forgotten), false, effects);
            }
            Refusal::NotPrimary { configuration: Some(configuration) } => {
                self.guess = configuration.primary.server;
            }
            _ => {}
        }
    }
}

impl Machine for Repeater {
    type Input = SessionInput;
    type Effect = SessionEffect;

    fn handle(&mut self, now: Time, input: SessionInput, effects: &mut Vec<SessionEffect>) {
        match input {
            SessionInput::Tick | SessionInput::ViewLearned(_) => {}
            SessionInput::Submit { call, operation, deadline } => {
                self.number_last.0 += 1;
                let (number, base) = (self.number_last, Revision::default());
                self.calls.push(Call {
                    id: call,
                    operation,
                    deadline,
                    number,
                    base,
                    open: Vec::new(),
                    next: now,
                    echoes: None,
                });
            }
            SessionInput::LinkUp { peer, link, .. } => {
                self.links.insert(peer.server, Some(link));
                for call in self.calls.iter_mut().filter(|it| it.open.is_empty()) {
                    call.next = now;
                }
            }
            SessionInput::ConnectFailed { peer, .. } => {
                self.links.remove(&peer.server);
                if self.guess == peer.server
                    && let Some(&other) = self.rng.pick(&self.servers)
                {
                    self.guess = other;
                }
            }
            SessionInput::LinkDown { link } => self.links.retain(|_, it| *it != Some(link)),
            SessionInput::Answer { attempt, answer, .. } => {
                self.on_answer(now, attempt, answer, effects);
            }
        }
        self.tend(now, effects);
    }

    fn deadline(&self) -> Option<Time> {
        let due = |call: &Call| match call.echoes {
            None => call.next.min(call.deadline),
            Some(_) => call.next,
        };
        self.calls.iter().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a write is sent several times under one number, and never after it was called not
    //! done; what leaves no record is sent once.
    //! Method: one call each, the answers given by hand.

    use super::*;
    use crate::protocol::types::{Epoch, Key, LossEpoch, Op, Position, Value, Written};

    fn repeater() -> (Repeater, Vec<SessionEffect>) {
        let mut it = Repeater::new(vec![ServerId(1)], SessionId(7), Rng::new(1));
        let mut effects = Vec::new();
        let value = Value::from_static(b"1");
        let operation = Operation::Put { key: Key::from_static(b"a"), value };
        let deadline = Time(0) + Span::from_millis(400);
        let submit = SessionInput::Submit { call: CallId(1), operation, deadline };
        it.handle(Time(0), submit, &mut effects);
        (it, effects)
    }

    fn sent(effects: &[SessionEffect]) -> Vec<(AttemptId, RequestNumber)> {
        let origin = |it: &SessionEffect| match it {
            SessionEffect::Send { attempt, request, .. } => {
                Some((*attempt, request.origin?.number))
            }
            _ => None,
        };
        effects.iter().filter_map(origin).collect()
    }

    fn run(it: &mut Repeater, effects: &mut Vec<SessionEffect>, ms: u64) {
        while let Some(at) = it.deadline().filter(|at| *at <= Time(0) + Span::from_millis(ms)) {
            it.handle(at, SessionInput::Tick, effects);
        }
    }

    #[test]
    fn a_write_is_repeated_under_its_number() {
        let (mut it, mut effects) = repeater();
        let peer = Member { server: ServerId(1), incarnation: Incarnation(0) };
        let (worker, link, bases) = (WorkerId(0), LinkId(1), Vec::new());
        it.handle(Time(1), SessionInput::LinkUp { peer, worker, link, bases }, &mut effects);
        run(&mut it, &mut effects, 350);
        let before = sent(&effects).len();
        assert!(before > 1, "{effects:?}");
        let position = Position { loss_epoch: LossEpoch(0), epoch: Epoch(1), op: Op(1) };
        let answer = Answer::Written { position, written: Written::Stored };
        let attempt = AttemptId(1);
        let at = Time(0) + Span::from_millis(351);
        it.handle(at, SessionInput::Answer { link, attempt, answer }, &mut effects);
        run(&mut it, &mut effects, 5_000);
        assert!(sent(&effects).iter().all(|(_, number)| *number == RequestNumber(1)));
        let ends = effects.iter().filter(|it| matches!(it, SessionEffect::Complete { .. }));
        assert_eq!(ends.count(), 1);
    }

    #[test]
    fn what_was_called_not_done_is_never_sent() {
        let (mut it, mut effects) = repeater();
        run(&mut it, &mut effects, 5_000);
        assert!(sent(&effects).is_empty());
        let ended = SessionEffect::Complete {
            call: CallId(1),
            outcome: Outcome::NotDone(NotDone::Deadline {
                waiting: Waiting::Answer,
                refusal: None,
            }),
        };
        assert!(effects.contains(&ended), "{effects:?}");
        assert!(it.calls.is_empty());
    }
}
