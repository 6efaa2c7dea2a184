//! Goal: every rule of a session holds, one test a rule.
//! Method: hand inputs to the machine and read its effects; two servers, one key set, no network.

use std::net::SocketAddr;

use bytes::Bytes;

use super::*;
use crate::protocol::message::{Expect, Request};
use crate::protocol::types::{
    Configuration, Epoch, Incarnation, LossEpoch, Op, Origin, Position, ServerId, ViewVersion,
    Written,
};
use crate::protocol::view::{ServerEntry, SetEntry, SetState};

mod outcomes;
mod routing;

const S1: Member = Member { server: ServerId(1), incarnation: Incarnation(1) };
const S2: Member = Member { server: ServerId(2), incarnation: Incarnation(2) };
const W0: WorkerId = WorkerId(0);
const SET: KeySet = KeySet(0);

/// A session under test, at its own time.
struct Bench {
    session: Session,
    now: Time,
    calls: u64,
}

/// An attempt as the session sent it.
struct Sent {
    link: LinkId,
    attempt: AttemptId,
    request: Request,
}

impl Sent {
    fn origin(&self) -> Origin {
        self.request.origin.expect("a write has an origin")
    }
}

impl Bench {
    fn new() -> Bench {
        let mut settings = SessionSettings::new(SessionId(7), 42);
        settings.outstanding_max = 4;
        Bench { session: Session::new(settings), now: Time(1_000_000_000), calls: 0 }
    }

    /// A session that knows that S1 is primary, and has link 1 to it.
    fn connected() -> Bench {
        let mut bench = Bench::new();
        bench.input(SessionInput::ViewLearned(Rc::new(view(1, S1, &[S1, S2]))));
        let (_, effects) = bench.submit(get());
        assert_eq!(dials(&effects), vec![S1]);
        let sent = bench.link_up(S1, 1);
        bench.answer(&sent[0], absent(1, 5));
        bench
    }

    fn input(&mut self, input: SessionInput) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        self.session.handle(self.now, input, &mut effects);
        assert!(self.session.deadline().is_none_or(|due| due > self.now), "no timer is overdue");
        effects
    }

    fn submit(&mut self, operation: Operation) -> (CallId, Vec<SessionEffect>) {
        self.calls += 1;
        let call = CallId(self.calls);
        let deadline = self.now + Span::from_millis(5_000);
        let effects = self.input(SessionInput::Submit { call, operation, deadline });
        (call, effects)
    }

    /// Submits and expects one attempt at once.
    fn send(&mut self, operation: Operation) -> (CallId, Sent) {
        let (call, effects) = self.submit(operation);
        (call, only(sends(effects)))
    }

    fn link_up(&mut self, peer: Member, link: u64) -> Vec<Sent> {
        let bases = vec![(SET, revision(3))];
        let link = LinkId(link);
        sends(self.input(SessionInput::LinkUp { peer, worker: W0, link, bases }))
    }

    fn answer(&mut self, sent: &Sent, answer: Answer) -> Vec<SessionEffect> {
        let Sent { link, attempt, .. } = *sent;
        self.input(SessionInput::Answer { link, attempt, answer })
    }

    fn refuse(&mut self, sent: &Sent, refusal: Refusal) -> Vec<SessionEffect> {
        self.answer(sent, Answer::Refused(refusal))
    }

    /// Goes from timer to timer until `wanted` is among the effects, or none is left.
    fn tick_until(&mut self, wanted: impl Fn(&SessionEffect) -> bool) -> Vec<SessionEffect> {
        let mut all = Vec::new();
        while let Some(due) = self.session.deadline() {
            self.now = due;
            all.extend(self.input(SessionInput::Tick));
            if all.iter().any(&wanted) {
                break;
            }
        }
        all
    }

    fn tick_until_sent(&mut self) -> Sent {
        let is_send = |effect: &SessionEffect| matches!(effect, SessionEffect::Send { .. });
        only(sends(self.tick_until(is_send)))
    }

    fn tick_until_complete(&mut self) -> Outcome {
        let is_end = |effect: &SessionEffect| matches!(effect, SessionEffect::Complete { .. });
        only(outcomes(&self.tick_until(is_end)))
    }

    /// The answer to a question for the view, S2 being primary now.
    fn learn_failover(&mut self) -> Vec<SessionEffect> {
        self.input(SessionInput::ViewLearned(Rc::new(view(2, S2, &[S1, S2]))))
    }
}

fn only<T>(mut items: Vec<T>) -> T {
    assert_eq!(items.len(), 1, "exactly one is expected");
    items.remove(0)
}

fn sends(effects: Vec<SessionEffect>) -> Vec<Sent> {
    let sent = effects.into_iter().filter_map(|effect| match effect {
        SessionEffect::Send { link, attempt, request } => Some(Sent { link, attempt, request }),
        SessionEffect::Connect { .. }
        | SessionEffect::FetchView
        | SessionEffect::Complete { .. } => None,
    });
    sent.collect()
}

fn dials(effects: &[SessionEffect]) -> Vec<Member> {
    let dialled = effects.iter().filter_map(|effect| match effect {
        SessionEffect::Connect { peer, .. } => Some(*peer),
        SessionEffect::Send { .. } | SessionEffect::FetchView | SessionEffect::Complete { .. } => {
            None
        }
    });
    dialled.collect()
}

fn outcomes(effects: &[SessionEffect]) -> Vec<Outcome> {
    let ended = effects.iter().filter_map(|effect| match effect {
        SessionEffect::Complete { outcome, .. } => Some(outcome.clone()),
        SessionEffect::Send { .. } | SessionEffect::FetchView | SessionEffect::Connect { .. } => {
            None
        }
    });
    ended.collect()
}

fn asks_for_view(effects: &[SessionEffect]) -> bool {
    effects.contains(&SessionEffect::FetchView)
}

fn address(server: ServerId) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_000 + server.0))
}

fn configuration(epoch: u64, primary: Member) -> Configuration {
    let secondaries = [S1, S2].into_iter().filter(|&it| it != primary).collect();
    Configuration { loss_epoch: LossEpoch(0), epoch: Epoch(epoch), primary, secondaries }
}

/// A view of one key set; its version is its epoch.
fn view(epoch: u64, primary: Member, servers: &[Member]) -> View {
    let mut view = View::unborn(Default::default(), 1);
    view.version = ViewVersion(epoch);
    view.servers = servers
        .iter()
        .map(|it| ServerEntry {
            id: it.server,
            incarnation: it.incarnation,
            workers: vec![address(it.server)],
        })
        .collect();
    let configuration = Some(configuration(epoch, primary));
    view.sets[0] = SetEntry { set: SET, configuration, state: SetState::Available };
    view
}

fn revision(op: u64) -> Revision {
    Revision { loss_epoch: LossEpoch(0), op: Op(op) }
}

fn position(epoch: u64, op: u64) -> Position {
    Position { loss_epoch: LossEpoch(0), epoch: Epoch(epoch), op: Op(op) }
}

fn absent(epoch: u64, op: u64) -> Answer {
    Answer::Absent { position: position(epoch, op) }
}

fn stored(epoch: u64, op: u64) -> Answer {
    Answer::Written { position: position(epoch, op), written: Written::Stored }
}

fn mismatch(epoch: u64, op: u64) -> Answer {
    Answer::Mismatch { position: position(epoch, op), found: Some(revision(1)) }
}

fn get() -> Operation {
    Operation::Get { key: Bytes::from_static(b"a") }
}

fn put() -> Operation {
    Operation::Put { key: Bytes::from_static(b"a"), value: Bytes::from_static(b"1") }
}

fn cas() -> Operation {
    let value = Some(Bytes::from_static(b"1"));
    Operation::Cas { key: Bytes::from_static(b"a"), expect: Expect::Absent, value }
}
