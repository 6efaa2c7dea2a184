//! A stage for one worker, whose peers, metaserver and store are played by hand: for tests, and for
//! the cases that find planted bugs.

use std::rc::Rc;

use bytes::Bytes;

use super::{Start, Worker, WorkerSettings};
use crate::protocol::Machine;
use crate::protocol::effect::{Ticket, WorkerEffect, WorkerInput};
use crate::protocol::limits::Limits;
use crate::protocol::message::{Answer, LeaseAsk, Operation, PeerMessage, Request, ToServer};
use crate::protocol::time::Time;
use crate::protocol::timing::Timing;
use crate::protocol::types::{
    Change, ClusterId, Configuration, Entry, Epoch, Incarnation, KeySet, LinkId, LossEpoch, Member,
    Op, Origin, RequestNumber, Revision, ServerId, SessionId, WorkerId, Written,
};
use crate::protocol::view::{SetEntry, SetState, Update, View};

/// The worker's only key set.
pub const SET: KeySet = KeySet(0);
/// The link of the client whose requests `request` hands in.
pub const CLIENT: LinkId = LinkId(900);

/// The first incarnation of a server.
pub fn member(server: u16) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(u64::from(server)) }
}

pub fn configuration(epoch: u64, primary: u16, secondaries: &[u16]) -> Configuration {
    Configuration {
        loss_epoch: LossEpoch(0),
        epoch: Epoch(epoch),
        primary: member(primary),
        secondaries: secondaries.iter().map(|&it| member(it)).collect(),
    }
}

pub fn entry(epoch: u64, op: u64) -> Rc<Entry> {
    Rc::new(Entry {
        epoch: Epoch(epoch),
        born: Epoch(epoch),
        op: Op(op),
        origin: None,
        key: Bytes::from_static(b"k"),
        change: Change::Put(Bytes::from(format!("value {op}"))),
        written: Written::Stored,
    })
}

/// Server 1's only worker.
pub struct Stage {
    pub worker: Worker,
    pub now: Time,
    /// Everything that it wanted done so far.
    pub effects: Vec<WorkerEffect>,
    pub requests: u64,
    /// The engine has not made standings durable yet: nobody says `Remembered`.
    pub forgetful: bool,
}

impl Stage {
    pub fn new(limits: Limits) -> Stage {
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
    pub fn input(&mut self, input: WorkerInput) {
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
                    WorkerEffect::Read { set, token, key } => {
                        let (set, token, key) = (*set, *token, key.clone());
                        inputs.push_back(WorkerInput::ReadDone { set, token, key, found: None });
                    }
                    _ => {}
                }
            }
            self.effects.extend(effects);
        }
    }

    pub fn settle(&mut self) {
        for _ in 0..3 {
            self.input(WorkerInput::Tick);
        }
    }

    pub fn learn(&mut self, configuration: Configuration, dead: &[u16]) {
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

    pub fn peer(&mut self, link: u64, message: PeerMessage) {
        self.input(WorkerInput::FromPeer { link: LinkId(link), message });
    }

    pub fn accept(&mut self, peer: u16, link: u64) {
        self.input(WorkerInput::PeerAccepted { peer: member(peer), link: LinkId(link) });
    }

    pub fn up(&mut self, peer: u16, link: u64) {
        self.input(WorkerInput::PeerUp { peer: member(peer), link: LinkId(link) });
    }

    pub fn ask(&self) -> LeaseAsk {
        LeaseAsk { sent: self.now, lease: Timing::default().lease }
    }

    pub fn new_epoch(
        &self,
        configuration: Configuration,
        committed: u64,
        prepared: u64,
    ) -> PeerMessage {
        let (committed, prepared) = (Op(committed), Op(prepared));
        PeerMessage::NewEpoch { set: SET, configuration, committed, prepared, ask: self.ask() }
    }

    pub fn prepare(&self, epoch: u64, entries: Vec<Rc<Entry>>, commit: u64) -> PeerMessage {
        let (epoch, commit) = (Epoch(epoch), Op(commit));
        PeerMessage::Prepare { set: SET, epoch, entries, commit, ask: self.ask() }
    }

    pub fn ack(&self, epoch: u64, accepted: u64) -> PeerMessage {
        let (epoch, accepted) = (Epoch(epoch), Op(accepted));
        PeerMessage::Ack { set: SET, epoch, accepted, sent: self.now }
    }

    pub fn is_open(&self) -> bool {
        self.worker.replica(SET).is_some_and(|it| it.base().is_some())
    }

    pub fn acks(&self) -> Vec<(Epoch, Op)> {
        self.sent()
            .filter_map(|message| match message {
                PeerMessage::Ack { epoch, accepted, .. } => Some((*epoch, *accepted)),
                _ => None,
            })
            .collect()
    }

    pub fn sent(&self) -> impl Iterator<Item = &PeerMessage> {
        self.effects.iter().filter_map(|effect| match effect {
            WorkerEffect::SendPeer { message, .. } => Some(message),
            _ => None,
        })
    }

    pub fn request(&mut self, operation: Operation) -> u64 {
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

    pub fn answer(&self, request: u64) -> Option<&Answer> {
        self.effects.iter().find_map(|effect| match effect {
            WorkerEffect::Reply { ticket, answer } if ticket.request == request => Some(answer),
            _ => None,
        })
    }

    pub fn put(&mut self, value: &str) -> u64 {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from(value.to_owned()));
        self.request(Operation::Put { key, value })
    }
}

/// Server 1 is primary of epoch 1 with server 2, open and leased.
pub fn open_primary(limits: Limits) -> Stage {
    let mut stage = Stage::new(limits);
    stage.input(WorkerInput::MetaUp);
    stage.learn(configuration(1, 1, &[2]), &[]);
    stage.up(2, 10);
    let ack = stage.ack(1, 0);
    stage.peer(10, ack);
    assert!(stage.is_open());
    stage
}
