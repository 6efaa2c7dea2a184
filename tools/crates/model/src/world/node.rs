//! A server of the world: the production worker with the engine in memory, and its driver.
//!
//! Reductions, and why they lose nothing:
//! - What a batch of inputs left to send goes out at once, as a batch of one. A worker that
//!   waits sends less often: as if what it sent had been lost.
//! - The store completes at once, except for the reads that a world makes slow on purpose.
//! - Housekeeping follows every input, and happens at any time besides. What it sends may wait on
//!   its lane or be lost, so that a worker that keeps house late is one whose messages are late.
//!   The housekeeping of a server that is no primary only forgets promises that have ended, which
//!   every reader of promises does for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use tandem::protocol::Machine;
use tandem::protocol::effect::{Note, Ticket, WorkerEffect, WorkerInput};
use tandem::protocol::limits::Limits;
use tandem::protocol::message::{Answer, Request, ToMeta, ToServer};
use tandem::protocol::replica::explore::Explored;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::{ClusterId, Epoch, Incarnation, Member, WorkerId};
use tandem::protocol::view::Resignation;
use tandem::protocol::worker::{Start, Worker, WorkerSettings};
use tandem::sim::Process;
use tandem::sim::estate::Estate;
use tandem::sim::truth::Fact;
use tandem::store::{ChunkRange, Engine, MemoryEngine};

use super::World;
use super::authority::Asked;
use super::client::{READER, read};
use super::judge::{SET, Violation};
use crate::hash::{Clock, Fingerprint};

/// A process.
#[derive(Clone, Debug)]
pub struct Node {
    pub member: Member,
    pub process: Process,
    pub worker: Worker,
    pub engine: MemoryEngine,
    /// What its disk holds, in worlds where servers return.
    pub estate: Option<Estate>,
    /// Peers that it wants a link to.
    pub wanted: BTreeSet<Member>,
    pub unanswered: BTreeMap<Ticket, Request>,
    pub viewed: Epoch,
    /// Reads that its store has not done yet.
    pub reading: VecDeque<WorkerInput>,
}

/// The disk goes without saying: everything that the worker knows is on it at once.
impl Hash for Node {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Node { member, process, worker, engine, estate: _, .. } = self;
        (member, process, worker, engine).hash(hasher);
        engine.trails().for_each(|trail| trail.hash(hasher));
        (&self.wanted, &self.unanswered, self.viewed, &self.reading).hash(hasher);
    }
}

impl Node {
    /// The fingerprint of everything here; all times are on this server's clock.
    #[must_use]
    pub fn fingerprint(&self, clock: Clock) -> u64 {
        let mut fingerprint = Fingerprint::at(clock);
        self.hash(&mut fingerprint);
        fingerprint.finish()
    }

    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.worker.replica(SET).is_some_and(|it| it.is_primary())
    }

    /// What a reader would be answered now, if anything: tried out on a copy.
    #[must_use]
    pub fn answer(&self, now: Time) -> Option<Answer> {
        if !self.is_primary() {
            return None;
        }
        let mut worker = self.worker.clone();
        let mut inputs = VecDeque::from([WorkerInput::Request { ticket: READER, request: read() }]);
        let mut answer = None;
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            worker.handle(now, input, &mut effects);
            for effect in effects {
                match effect {
                    WorkerEffect::Read { set, token, key } => {
                        let found = self.engine.get(set, &key);
                        inputs.push_back(WorkerInput::ReadDone { set, token, key, found });
                    }
                    WorkerEffect::Reply { ticket: READER, answer: Answer::Refused(_) } => {}
                    WorkerEffect::Reply { ticket: READER, answer: it } => answer = Some(it),
                    _ => {}
                }
            }
        }
        answer
    }
}

impl World {
    /// Starts a process of the latest incarnation, which registers and is told everything; with
    /// its predecessor's disk, if that is not lost.
    pub(super) fn start(&mut self, server: usize, estate: Option<Estate>) {
        let (member, view) = (self.authority.member(server), self.authority.view());
        let cluster = ClusterId::default();
        let copies: Vec<_> = estate.iter().flat_map(Estate::copies).collect();
        let process = self.next_process();
        self.put(server, process, member, Start::Attached { member, cluster, view }, estate);
        for (set, applied, newest, log) in copies {
            self.learn(&Fact::Inherited { process, set, applied, newest, log: &log });
        }
        self.learn(&Fact::Registered { process, member });
        self.feed(server, WorkerInput::MetaUp);
        let greeting = ToServer::Update(self.authority.greeting());
        self.feed(server, WorkerInput::FromMeta(greeting));
        self.wake(server);
    }

    /// Starts a process that has to register with the production metaserver first.
    pub(super) fn start_unregistered(&mut self, server: usize) {
        let process = self.next_process();
        let registration = World::registration(server, process);
        let member = Member { server: registration.server, incarnation: Incarnation(0) };
        self.put(server, process, member, Start::Register(registration), None);
        self.wake(server);
    }

    fn put(
        &mut self,
        server: usize,
        process: Process,
        member: Member,
        start: Start,
        estate: Option<Estate>,
    ) {
        let limits = self.limits();
        let settings = WorkerSettings {
            worker: WorkerId(0),
            workers: 1,
            timing: self.plan.timing(),
            limits,
            start,
            inheritance: estate.as_ref().map(Estate::inheritance).unwrap_or_default(),
        };
        let engine = estate.as_ref().map_or_else(|| MemoryEngine::new(1), Estate::store);
        let keeps = self.plan.budget.returns > 0;
        let node = Node {
            member,
            process,
            worker: Worker::new(settings, self.now(server)),
            engine,
            estate: estate.or_else(|| keeps.then(|| Estate::new(1, &limits))),
            wanted: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            viewed: Epoch(0),
            reading: VecDeque::new(),
        };
        self.places[server].node = Some(Rc::new(node));
        self.places[server].stale = true;
        self.learn(&Fact::Started { process, server: member.server });
    }

    fn limits(&self) -> Limits {
        Limits { dedup_records_max: self.plan.dedup_records_max, ..Limits::default() }
    }

    /// Lets a server do what its clock asks for.
    pub(super) fn wake(&mut self, server: usize) {
        self.feed(server, WorkerInput::Tick);
    }

    /// Hands an input to a server, and everything that follows from it at once.
    pub(super) fn feed(&mut self, server: usize, input: WorkerInput) {
        let now = self.now(server);
        let questions = self.metaserver.is_some();
        let mut inputs = VecDeque::from([input]);
        let mut kept_house = false;
        while let Some(input) = inputs.pop_front() {
            if self.violation.is_some() {
                return;
            }
            if let WorkerInput::Request { ticket, request } = &input {
                let process = self.node(server).map(|it| it.process).unwrap_or_default();
                self.learn(&Fact::Requested { process });
                let (ticket, request) = (*ticket, request.clone());
                if let Some(node) = self.node_mut(server) {
                    node.unanswered.insert(ticket, request);
                }
            }
            let Some(node) = self.node_mut(server) else { return };
            let mut effects = Vec::new();
            let worker = &mut node.worker;
            let handled =
                catch_unwind(AssertUnwindSafe(|| worker.handle(now, input, &mut effects)));
            // The metaserver asks nothing, and what never ends in `plan` never ends.
            let reading = !node.reading.is_empty();
            let explored = Explored { never: Span(1 << 39), questions, reading };
            node.worker.forget_needless(now, explored);
            if let Err(panic) = handled {
                let words = format!("s{}: {}", server + 1, told(&*panic));
                return self.violated(Violation { property: "assertion", words });
            }
            for effect in effects {
                self.perform(server, effect, &mut inputs);
            }
            let deadline = self.node(server).and_then(|it| it.worker.deadline());
            let due = deadline.is_some_and(|it| it <= now && !kept_house);
            if inputs.is_empty() && (due || deadline == Some(Time(0))) {
                kept_house = true;
                inputs.push_back(WorkerInput::Tick);
            }
        }
    }

    fn perform(&mut self, server: usize, effect: WorkerEffect, inputs: &mut VecDeque<WorkerInput>) {
        let Some(process) = self.node(server).map(|it| it.process) else { return };
        match effect {
            WorkerEffect::Connect { peer, .. } => {
                if let Some(node) = self.node_mut(server) {
                    node.wanted.insert(peer);
                }
                inputs.extend(self.connect(server, peer));
            }
            WorkerEffect::Disconnect { peer } => self.disconnect(server, peer, inputs),
            WorkerEffect::CloseLink { reason, .. } => {
                self.learn(&Fact::Accused { process, reason });
            }
            WorkerEffect::SendPeer { link, lane, message } => {
                if let Some(it) = self.links.iter_mut().find(|it| it.id == link)
                    && let Some(side) = it.side_of(server)
                {
                    it.send(side.other(), lane, message);
                }
            }
            WorkerEffect::SendMeta { message } => self.hear(server, message),
            WorkerEffect::SendMetaDatagram { message } => {
                if let Some(metaserver) = &mut self.metaserver {
                    Rc::make_mut(metaserver).hear_datagram(server, message);
                }
            }
            WorkerEffect::Registered { member, .. } => self.registered(server, process, member),
            WorkerEffect::Deposed { .. } => {
                self.end(server);
            }
            WorkerEffect::Reply { ticket, answer } => {
                self.reply(server, process, ticket, &answer);
            }
            WorkerEffect::ViewChanged { view } => {
                let Some(epoch) = view.configuration(SET).map(|it| it.epoch) else { return };
                let viewed =
                    self.node_mut(server).map(|it| std::mem::replace(&mut it.viewed, epoch));
                if viewed != Some(epoch) {
                    self.learn(&Fact::Viewed { process, set: SET, epoch });
                }
            }
            WorkerEffect::Note { note: Note::Opened { set, epoch } } => {
                self.learn(&Fact::Opened { process, set, epoch });
            }
            WorkerEffect::Note { note: Note::Misbehaved { .. } | Note::Paused { .. } }
            | WorkerEffect::Note { note: Note::Resigned { .. } | Note::Adopted { .. } }
            | WorkerEffect::Note { note: Note::RunStarted { .. } | Note::RunEnded { .. } }
            | WorkerEffect::Note { note: Note::Unheeded { .. } }
            | WorkerEffect::MayExit
            | WorkerEffect::Settle
            | WorkerEffect::HeldUp { .. } => {}
            WorkerEffect::Read { .. }
            | WorkerEffect::ReadRange { .. }
            | WorkerEffect::ReadChanges { .. }
            | WorkerEffect::Append { .. }
            | WorkerEffect::Cut { .. }
            | WorkerEffect::Apply { .. }
            | WorkerEffect::StoreChunk { .. }
            | WorkerEffect::StoreChanges { .. }
            | WorkerEffect::Rebase { .. }
            | WorkerEffect::Expire { .. }
            | WorkerEffect::DropTombstones { .. }
            | WorkerEffect::Remember { .. }
            | WorkerEffect::Clear { .. } => self.perform_store(server, process, effect, inputs),
        }
    }

    /// Takes in what a server says to the metaserver. Hints and heartbeats say nothing to one
    /// that may do anything at any time.
    fn hear(&mut self, server: usize, message: ToMeta) {
        if let Some(metaserver) = &mut self.metaserver {
            return Rc::make_mut(metaserver).hear(server, message);
        }
        match message {
            ToMeta::Change { id, epoch, kind, .. } => {
                Rc::make_mut(&mut self.authority).inbox.insert(Asked { id, epoch, kind });
            }
            ToMeta::Resigned { set, epoch, member } => {
                let word = Resignation { set, epoch, member };
                if !self.authority.knows(&word) {
                    Rc::make_mut(&mut self.authority).words.insert(word);
                }
            }
            ToMeta::Register(_)
            | ToMeta::Heartbeat { .. }
            | ToMeta::ProbeAnswer { .. }
            | ToMeta::RemovalConfirmed { .. }
            | ToMeta::Complaint { .. }
            | ToMeta::Leaving
            | ToMeta::Left
            | ToMeta::Space(_)
            | ToMeta::Depart { .. }
            | ToMeta::Testimony(_)
            | ToMeta::Quiet
            | ToMeta::Halted => {}
        }
    }

    fn perform_store(
        &mut self,
        server: usize,
        process: Process,
        effect: WorkerEffect,
        inputs: &mut VecDeque<WorkerInput>,
    ) {
        let Some(node) = self.node_mut(server) else { return };
        if effect.is_read() {
            return node.perform_read(effect, inputs);
        }
        if let Some(estate) = &mut node.estate {
            estate.write(&effect);
            estate.sync_all();
        }
        let engine = &mut node.engine;
        match effect {
            WorkerEffect::Append { set, entries } => {
                engine.append(set, &entries);
                let through = entries.last().map(|entry| entry.op).unwrap_or_default();
                self.learn(&Fact::Appended { process, set, entries: &entries });
                inputs.push_back(WorkerInput::Appended { set, through });
            }
            WorkerEffect::Cut { set, through } => {
                engine.cut(set, through);
                self.learn(&Fact::Cut { process, set, through });
            }
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
                engine.apply(set, revision, &entry, keep_tombstone);
                let (entry, copying) = (&entry, keep_tombstone);
                self.learn(&Fact::Applied { process, set, revision, entry, copying });
            }
            WorkerEffect::StoreChunk { set, run, after, through, read_at, records } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                engine.store_chunk(set, range, read_at, &records);
                let (first, last) = (after.is_none(), through.is_none());
                self.learn(&Fact::Chunk { process, set, read_at, first, last });
                inputs.push_back(WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::DropTombstones { set } => engine.drop_tombstones(set),
            WorkerEffect::Expire { .. } => {}
            WorkerEffect::Remember { set, number, .. } => {
                inputs.push_back(WorkerInput::Remembered { set, number });
            }
            WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted } => {
                engine.store_changes(set, read_at, &records, &deleted);
                let (first, last) = (false, through.is_none());
                self.learn(&Fact::Chunk { process, set, read_at, first, last });
                inputs.push_back(WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::Rebase { set, at, .. } => {
                engine.rebase(set, at);
                self.learn(&Fact::Rebased { process, set, at });
            }
            WorkerEffect::Clear { set, at, .. } => {
                engine.clear(set, at);
                self.learn(&Fact::Cleared { process, set });
            }
            other => unreachable!("{other:?} is no effect on the store"),
        }
    }
}

impl Node {
    fn perform_read(&mut self, effect: WorkerEffect, inputs: &mut VecDeque<WorkerInput>) {
        let engine = &self.engine;
        match effect {
            WorkerEffect::Read { set, token, key } => {
                let found = engine.get(set, &key);
                let done = WorkerInput::ReadDone { set, token, key, found };
                if self.unanswered.contains_key(&READER) {
                    self.reading.push_back(done);
                } else {
                    inputs.push_back(done);
                }
            }
            WorkerEffect::ReadRange { set, token, prefix, after, items_max, bytes_max } => {
                let page = engine.range(set, &prefix, after.as_deref(), items_max, bytes_max);
                let (records, more) = (page.records, page.more);
                inputs.push_back(WorkerInput::RangeDone { set, token, records, more });
            }
            WorkerEffect::ReadChanges { set, token, span, items_max, bytes_max } => {
                let found = engine.changes(set, span, items_max, bytes_max);
                inputs.push_back(WorkerInput::ChangesDone { set, token, found });
            }
            other => unreachable!("{other:?} reads nothing"),
        }
    }
}

/// What a panic says.
fn told(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
