//! Goal: what a hostile reading of the replica found stays mended; one test a finding.
//! Method: one worker, whose peers, metaserver and store are played by hand.

mod heirs;

use bytes::Bytes;

use super::{Start, Worker, WorkerSettings};
use crate::protocol::Machine;
use crate::protocol::effect::{Lane, Ticket, WorkerEffect, WorkerInput};
use crate::protocol::limits::Limits;
use crate::protocol::message::{
    Answer, Expect, LeaseAsk, Operation, PeerMessage, Refusal, Request, ToMeta, ToServer,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::timing::Timing;
use crate::protocol::types::{
    Change, ClusterId, Configuration, Entry, Epoch, Incarnation, KeySet, LinkId, LossEpoch, Member,
    Op, Origin, RequestNumber, Revision, RunId, ServerId, SessionId, WorkerId, Written,
};
use crate::protocol::view::{SetEntry, SetState, Update, View};

const SET: KeySet = KeySet(0);
const CLIENT: LinkId = LinkId(900);

fn member(server: u16) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(u64::from(server)) }
}

fn configuration(epoch: u64, primary: u16, secondaries: &[u16]) -> Configuration {
    Configuration {
        loss_epoch: LossEpoch(0),
        epoch: Epoch(epoch),
        primary: member(primary),
        secondaries: secondaries.iter().map(|&it| member(it)).collect(),
    }
}

fn entry(epoch: u64, op: u64) -> Entry {
    Entry {
        epoch: Epoch(epoch),
        born: Epoch(epoch),
        op: Op(op),
        origin: None,
        key: Bytes::from_static(b"k"),
        change: Change::Put(Bytes::from(format!("value {op}"))),
        written: Written::Stored,
    }
}

/// Server 1's only worker.
struct Stage {
    worker: Worker,
    now: Time,
    effects: Vec<WorkerEffect>,
    requests: u64,
    /// The engine has not made standings durable yet: nobody says `Remembered`.
    forgetful: bool,
}

impl Stage {
    fn new(limits: Limits) -> Stage {
        let view = View::unborn(ClusterId([1; 16]), 1);
        let settings = WorkerSettings {
            worker: WorkerId(0),
            workers: 1,
            timing: Timing::default(),
            limits,
            start: Start::Attached { member: member(1), cluster: ClusterId([1; 16]), view },
            inheritance: Vec::new(),
        };
        let now = Time(1_000_000_000);
        let worker = Worker::new(settings, now);
        Stage { worker, now, effects: Vec::new(), requests: 0, forgetful: false }
    }

    /// Hands in one input, and the completions of a store that is empty and at once done.
    fn input(&mut self, input: WorkerInput) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.worker.handle(self.now, input, &mut effects);
            for effect in &effects {
                match effect {
                    WorkerEffect::Append { set, entries } => {
                        let through = entries.last().map_or(Op(0), |entry| entry.op);
                        inputs.push_back(WorkerInput::Appended { set: *set, through });
                    }
                    WorkerEffect::Remember { set, number, .. } if !self.forgetful => {
                        let (set, number) = (*set, *number);
                        inputs.push_back(WorkerInput::Remembered { set, number });
                    }
                    WorkerEffect::Read { set, token, .. } => {
                        let (set, token) = (*set, *token);
                        inputs.push_back(WorkerInput::ReadDone { set, token, found: None });
                    }
                    _ => {}
                }
            }
            self.effects.extend(effects);
        }
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.input(WorkerInput::Tick);
        }
    }

    fn learn(&mut self, configuration: Configuration, dead: &[u16]) {
        let update = Update {
            sets: vec![SetEntry {
                set: SET,
                configuration: Some(configuration),
                state: SetState::Available,
            }],
            dead: dead.iter().map(|&it| member(it)).collect(),
            ..Update::default()
        };
        self.input(WorkerInput::FromMeta(ToServer::Update(update)));
    }

    fn peer(&mut self, link: u64, message: PeerMessage) {
        self.input(WorkerInput::FromPeer { link: LinkId(link), message });
    }

    fn accept(&mut self, peer: u16, link: u64) {
        self.input(WorkerInput::PeerAccepted { peer: member(peer), link: LinkId(link) });
    }

    fn up(&mut self, peer: u16, link: u64) {
        self.input(WorkerInput::PeerUp { peer: member(peer), link: LinkId(link) });
    }

    fn ask(&self) -> LeaseAsk {
        LeaseAsk { sent: self.now, lease: Timing::default().lease }
    }

    fn new_epoch(
        &self,
        configuration: Configuration,
        committed: u64,
        prepared: u64,
    ) -> PeerMessage {
        let (committed, prepared) = (Op(committed), Op(prepared));
        PeerMessage::NewEpoch { set: SET, configuration, committed, prepared, ask: self.ask() }
    }

    fn prepare(&self, epoch: u64, entries: Vec<Entry>, commit: u64) -> PeerMessage {
        let (epoch, commit) = (Epoch(epoch), Op(commit));
        PeerMessage::Prepare { set: SET, epoch, entries, commit, ask: self.ask() }
    }

    fn ack(&self, epoch: u64, accepted: u64) -> PeerMessage {
        let (epoch, accepted) = (Epoch(epoch), Op(accepted));
        PeerMessage::Ack { set: SET, epoch, accepted, sent: self.now }
    }

    fn is_open(&self) -> bool {
        self.worker.replica(SET).is_some_and(|it| it.base().is_some())
    }

    fn acks(&self) -> Vec<(Epoch, Op)> {
        self.sent()
            .filter_map(|message| match message {
                PeerMessage::Ack { epoch, accepted, .. } => Some((*epoch, *accepted)),
                _ => None,
            })
            .collect()
    }

    fn sent(&self) -> impl Iterator<Item = &PeerMessage> {
        self.effects.iter().filter_map(|effect| match effect {
            WorkerEffect::SendPeer { message, .. } => Some(message),
            _ => None,
        })
    }

    fn request(&mut self, operation: Operation) -> u64 {
        self.requests += 1;
        let origin = Origin {
            session: SessionId(7),
            number: RequestNumber(self.requests),
            answered_below: RequestNumber(1),
            base: Revision::default(),
        };
        let request = Request {
            operation,
            origin: Some(origin),
            read_level: Default::default(),
            ack_level: Default::default(),
            expiry_ms: None,
        };
        let ticket = Ticket { link: CLIENT, request: self.requests };
        self.input(WorkerInput::Request { ticket, request });
        self.settle();
        self.requests
    }

    fn answer(&self, request: u64) -> Option<&Answer> {
        self.effects.iter().find_map(|effect| match effect {
            WorkerEffect::Reply { ticket, answer } if ticket.request == request => Some(answer),
            _ => None,
        })
    }

    fn put(&mut self, value: &str) -> u64 {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from(value.to_owned()));
        self.request(Operation::Put { key, value })
    }
}

/// Server 1 is primary of epoch 1 with server 2, open and leased.
fn open_primary(limits: Limits) -> Stage {
    let mut stage = Stage::new(limits);
    stage.input(WorkerInput::MetaUp);
    stage.learn(configuration(1, 1, &[2]), &[]);
    stage.up(2, 10);
    let ack = stage.ack(1, 0);
    stage.peer(10, ack);
    assert!(stage.is_open());
    stage
}

#[test]
fn a_promoted_secondary_opens_only_after_its_window_is_committed() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1, 3]), &[]);
    stage.accept(9, 20);
    let first = stage.new_epoch(configuration(1, 9, &[1, 3]), 0, 0);
    stage.peer(20, first);
    let write = stage.prepare(1, vec![entry(1, 1)], 0);
    stage.peer(20, write);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(1), Op(1))));
    stage.learn(configuration(2, 1, &[3]), &[9]);
    stage.up(3, 30);
    stage.settle();
    let ack = stage.ack(2, 0);
    stage.peer(30, ack);
    assert!(!stage.is_open(), "op 1 may have been acknowledged, and is not committed here");
    let ack = stage.ack(2, 1);
    stage.peer(30, ack);
    assert!(stage.is_open());
}

#[test]
fn a_learner_keeps_its_feed_over_its_primarys_change_of_epoch() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(5, 9, &[3]), &[]);
    stage.accept(9, 20);
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(1),
        configuration: configuration(5, 9, &[3]),
        committed: Op(99),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    stage.learn(configuration(6, 9, &[]), &[3]);
    let late = stage.prepare(5, vec![entry(5, 100)], 99);
    stage.peer(20, late);
    let first = stage.new_epoch(configuration(6, 9, &[]), 99, 100);
    stage.peer(20, first);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(6), Op(100))));
}

#[test]
fn below_the_write_floor_nothing_commits_beyond_what_was_confirmed() {
    let mut stage = open_primary(Limits { min_write_copies: 2, ..Limits::default() });
    stage.now += Span::from_millis(1_000);
    let first = stage.put("before the question");
    let sets = vec![(SET, Epoch(1))];
    let question = ToServer::ConfirmRemoval { nonce: 1, member: member(2), sets };
    stage.input(WorkerInput::FromMeta(question));
    let confirmed = stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::SendMeta { message: ToMeta::RemovalConfirmed { sets, .. } } => Some(sets[0]),
        _ => None,
    });
    assert_eq!(confirmed, Some((SET, Epoch(1), Op(1))));
    let second = stage.put("after the answer");
    stage.learn(configuration(2, 1, &[]), &[]);
    stage.settle();
    assert!(matches!(stage.answer(first), Some(Answer::Written { .. })));
    assert_eq!(stage.answer(second), None, "the removed member does not hold it");
}

#[test]
fn failed_conditions_that_wait_are_limited() {
    let mut stage = open_primary(Limits { queue_requests_max: 8, ..Limits::default() });
    stage.put("in the window, never acknowledged");
    let mut last = 0;
    for _ in 0..20 {
        let key = Bytes::from_static(b"k");
        let value = Some(Bytes::from_static(b"other"));
        last = stage.request(Operation::Cas { key, expect: Expect::Absent, value });
    }
    assert_eq!(stage.answer(last), Some(&Answer::Refused(Refusal::Busy)));
}

#[test]
fn a_lease_longer_than_any_closes_the_link_and_stops_nothing() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1]), &[]);
    stage.accept(9, 20);
    let ask = LeaseAsk { sent: stage.now, lease: Span(u64::MAX) };
    let (committed, prepared) = (Op(0), Op(0));
    let configuration = configuration(1, 9, &[1]);
    stage.peer(20, PeerMessage::NewEpoch { set: SET, configuration, committed, prepared, ask });
    stage.peer(20, PeerMessage::Beacon { number: 1, ask, sets: vec![(SET, Epoch(1))] });
    stage.settle();
    assert!(stage.acks().is_empty());
    let closed = |it: &&WorkerEffect| matches!(it, WorkerEffect::CloseLink { .. });
    assert_eq!(stage.effects.iter().filter(closed).count(), 2);
}

#[test]
fn a_beacon_of_an_older_epoch_is_answered_with_the_newer_configuration() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(2, 9, &[1]), &[]);
    stage.accept(9, 20);
    let ask = stage.ask();
    stage.peer(20, PeerMessage::Beacon { number: 1, ask, sets: vec![(SET, Epoch(1))] });
    let fenced = |it: &&PeerMessage| matches!(it, PeerMessage::Fenced { .. });
    assert_eq!(stage.sent().filter(fenced).count(), 1);
}

#[test]
fn an_acknowledgement_of_an_earlier_run_counts_for_nothing() {
    let mut stage = open_primary(Limits::default());
    let order = |stage: &mut Stage| {
        let (recovery, sets) = (Default::default(), vec![(SET, Epoch(1))]);
        let copy = ToServer::Copy { recovery, learner: member(3), sets };
        stage.input(WorkerInput::FromMeta(copy));
    };
    order(&mut stage);
    stage.up(3, 30);
    let old = stage.ack(1, 0);
    stage.now += Span::from_millis(100);
    stage.input(WorkerInput::PeerDown { link: LinkId(30) });
    stage.now += Span::from_millis(100);
    stage.up(3, 31);
    stage.settle();
    let scans = |stage: &Stage| {
        let scan = |it: &&WorkerEffect| matches!(it, WorkerEffect::ReadRange { .. });
        stage.effects.iter().filter(scan).count()
    };
    stage.peer(31, old);
    assert_eq!(scans(&stage), 0, "an old acknowledgement began the scan");
    let new = stage.ack(1, 0);
    stage.peer(31, new);
    assert_eq!(scans(&stage), 1);
}

#[test]
fn copy_chunks_travel_on_the_bulk_link_and_nothing_else_does() {
    let mut stage = open_primary(Limits::default());
    let (recovery, sets) = (Default::default(), vec![(SET, Epoch(1))]);
    let copy = ToServer::Copy { recovery, learner: member(3), sets };
    stage.input(WorkerInput::FromMeta(copy));
    stage.up(3, 30);
    let ack = stage.ack(1, 0);
    stage.peer(30, ack);
    let token = stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::ReadRange { token, .. } => Some(*token),
        _ => None,
    });
    let token = token.expect("the scan began");
    let (records, more) = (Vec::new(), false);
    stage.input(WorkerInput::RangeDone { set: SET, token, records, more });
    for effect in &stage.effects {
        if let WorkerEffect::SendPeer { lane, message, .. } = effect {
            let is_chunk = matches!(message, PeerMessage::CopyChunk { .. });
            assert_eq!(is_chunk, matches!(lane, Lane::Bulk(_)));
        }
    }
    assert!(stage.sent().any(|it| matches!(it, PeerMessage::CopyChunk { .. })));
}
