//! Clients: sessions that follow redirects, pinned ones that never do, and repeaters.
//!
//! A pinned client asks one server, whatever the view says: it is who meets a stale primary. It
//! speaks the session's inputs and effects, so that one workload drives both kinds.

use std::collections::BTreeMap;

use super::Process;
use super::node::{Wake, Wanted};
use super::repeater::Repeater;
use super::truth::{OperationId, WriteId};
use super::workload::Workload;
use crate::protocol::Machine;
use crate::protocol::message::{AckLevel, Answer, Operation, ReadLevel, Refusal, Request};
use crate::protocol::session::{
    AttemptId, CallId, NotDone, Outcome, Session, SessionEffect, SessionInput, Unknown, Waiting,
};
use crate::protocol::time::Time;
use crate::protocol::types::{
    Incarnation, LinkId, Member, Origin, RequestNumber, Revision, ServerId, SessionId, WorkerId,
};

/// A running client.
#[derive(Clone, Debug)]
pub struct ClientProcess {
    pub number: Process,
    pub machine: ClientMachine,
    pub wanted: Wanted,
    /// Operations in flight, and the writes that their attempts are known by.
    pub flying: BTreeMap<OperationId, (Operation, Option<WriteId>)>,
    /// What it does of its own accord.
    pub workload: Option<Workload>,
    /// How operations ended, where no workload takes note.
    pub outcomes: BTreeMap<OperationId, Outcome>,
    pub wake: Option<Wake>,
    /// A question for the view is under way.
    pub asking: bool,
}

/// Either kind of client.
#[derive(Clone, Debug)]
pub enum ClientMachine {
    Session(Box<Session>),
    Pinned(Pinned),
    Repeater(Box<Repeater>),
}

impl Machine for ClientMachine {
    type Input = SessionInput;
    type Effect = SessionEffect;

    fn handle(&mut self, now: Time, input: SessionInput, effects: &mut Vec<SessionEffect>) {
        match self {
            ClientMachine::Session(session) => session.handle(now, input, effects),
            ClientMachine::Pinned(pinned) => pinned.handle(now, input, effects),
            ClientMachine::Repeater(repeater) => repeater.handle(now, input, effects),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self {
            ClientMachine::Session(session) => session.deadline(),
            ClientMachine::Pinned(pinned) => pinned.deadline(),
            ClientMachine::Repeater(repeater) => repeater.deadline(),
        }
    }
}

/// One operation of a pinned client.
#[derive(Clone, Debug)]
struct Call {
    id: CallId,
    operation: Operation,
    deadline: Time,
    number: RequestNumber,
    base: Revision,
    /// The attempt that is on its way.
    sent: Option<AttemptId>,
}

/// A client that asks one server only, once, and takes its first word.
#[derive(Clone, Debug)]
pub struct Pinned {
    server: ServerId,
    session: SessionId,
    link: Option<LinkId>,
    calls: Vec<Call>,
    number_last: RequestNumber,
    attempt_last: AttemptId,
}

impl Pinned {
    #[must_use]
    pub fn new(server: ServerId, session: SessionId) -> Pinned {
        Pinned {
            server,
            session,
            link: None,
            calls: Vec::new(),
            number_last: RequestNumber(0),
            attempt_last: AttemptId(0),
        }
    }

    /// Whom it asks.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    fn peer(&self) -> Member {
        Member { server: self.server, incarnation: Incarnation(0) }
    }

    fn send(&mut self, index: usize, effects: &mut Vec<SessionEffect>) {
        let Some(link) = self.link else { return };
        self.attempt_last.0 += 1;
        let call = &mut self.calls[index];
        call.sent = Some(self.attempt_last);
        // Records of this session are never asked for again, since it never tries twice.
        let origin = call.operation.is_write().then_some(Origin {
            session: self.session,
            number: call.number,
            answered_below: call.number,
            base: call.base,
        });
        let request = Request {
            operation: call.operation.clone(),
            origin,
            read_level: ReadLevel::default(),
            ack_level: AckLevel::default(),
            expiry_ms: None,
        };
        effects.push(SessionEffect::Send { link, attempt: self.attempt_last, request });
    }

    fn finish(&mut self, index: usize, outcome: Outcome, effects: &mut Vec<SessionEffect>) {
        let call = self.calls.remove(index);
        effects.push(SessionEffect::Complete { call: call.id, outcome });
    }

    fn on_answer(&mut self, attempt: AttemptId, answer: Answer, effects: &mut Vec<SessionEffect>) {
        let Some(index) = self.calls.iter().position(|it| it.sent == Some(attempt)) else {
            return;
        };
        match answer {
            Answer::Refused(Refusal::BaseNeeded { base }) => {
                self.calls[index].base = base;
                self.send(index, effects);
            }
            Answer::Refused(refusal) => {
                self.finish(index, Outcome::NotDone(NotDone::Refused(refusal)), effects);
            }
            Answer::Forgotten { .. } | Answer::Moved { .. } => {
                self.finish(index, Outcome::Unknown(Unknown::Forgotten), effects);
            }
            Answer::Found { .. }
            | Answer::Absent { .. }
            | Answer::Written { .. }
            | Answer::Mismatch { .. }
            | Answer::Rejected { .. }
            | Answer::Page { .. }
            | Answer::Changes { .. } => self.finish(index, Outcome::Done(answer), effects),
        }
    }

    /// Ends what is overdue, or everything that was sent where the link is gone.
    fn give_up(&mut self, over: impl Fn(&Call) -> bool, effects: &mut Vec<SessionEffect>) {
        while let Some(index) = self.calls.iter().position(&over) {
            let call = &self.calls[index];
            let waiting = Waiting::Answer;
            let outcome = match call.sent {
                Some(_) => Outcome::Unknown(Unknown::Deadline { waiting }),
                None => Outcome::NotDone(NotDone::Deadline { waiting, refusal: None }),
            };
            self.finish(index, outcome, effects);
        }
    }
}

impl Machine for Pinned {
    type Input = SessionInput;
    type Effect = SessionEffect;

    fn handle(&mut self, now: Time, input: SessionInput, effects: &mut Vec<SessionEffect>) {
        let (peer, worker) = (self.peer(), WorkerId(0));
        let connect = SessionEffect::Connect {
            peer,
            worker,
            address: super::processes::address(self.server),
        };
        match input {
            SessionInput::Tick => {}
            SessionInput::Submit { call, operation, deadline } => {
                self.number_last.0 += 1;
                let number = self.number_last;
                let base = Revision::default();
                self.calls.push(Call { id: call, operation, deadline, number, base, sent: None });
                match self.link {
                    Some(_) => self.send(self.calls.len() - 1, effects),
                    None => effects.push(connect),
                }
            }
            SessionInput::LinkUp { link, .. } => {
                self.link = Some(link);
                for index in 0..self.calls.len() {
                    self.send(index, effects);
                }
            }
            SessionInput::ConnectFailed { .. } => {
                if !self.calls.is_empty() {
                    effects.push(connect);
                }
            }
            SessionInput::LinkDown { .. } => {
                self.link = None;
                self.give_up(|call| call.sent.is_some(), effects);
            }
            SessionInput::Answer { attempt, answer, .. } => {
                self.on_answer(attempt, answer, effects);
            }
            SessionInput::ViewLearned(_) => {}
        }
        self.give_up(|call| call.deadline <= now, effects);
    }

    fn deadline(&self) -> Option<Time> {
        self.calls.iter().map(|call| call.deadline).min()
    }
}
