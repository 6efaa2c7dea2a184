//! One worker of a server: its replicas, its links, and what they share.
//!
//! ```text
//!   metaserver <--- control link ---> Worker <--- lanes, beacons ---> the same worker elsewhere
//!                                       |
//!                       a Replica for every key set of this worker
//! ```
//!
//! Worker 0 registers the process; the others start with the identity that it was given. A key
//! set belongs to one worker, so that nothing here is shared between threads. What one batch of
//! inputs leaves to send goes out at the next `Tick`, which the deadline asks for at once.

mod beacons;
mod explore;
mod halt;
mod leave;
mod orders;
mod peers;
#[cfg(any(test, feature = "mutants"))]
pub mod stage;
mod testify;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::halt::Halt;
use self::leave::Leave;
use super::Machine;
use super::effect::{Ticket, WorkerEffect, WorkerInput};
use super::inheritance::Inheritance;
use super::limits::Limits;
use super::message::{Answer, ReadLevel, Refusal, Registration, Request, ToMeta};
use super::placement;
use super::replica::{Context, Numbers, Replica, Wishes};
use super::space::{Level, Space};
use super::time::Time;
use super::timing::Timing;
use super::types::{ClusterId, Expiry, KeySet, LinkId, Member, Revision, WorkerId};
use super::view::{SetState, View};

/// How a worker begins.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Start {
    /// Worker 0: registers this process.
    Register(Registration),
    /// Any other: worker 0 has registered.
    Attached { member: Member, cluster: ClusterId, view: View },
}

/// What a worker is made of.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct WorkerSettings {
    pub worker: WorkerId,
    /// Workers of this server.
    pub workers: u16,
    pub timing: Timing,
    pub limits: Limits,
    pub start: Start,
    /// What a durable engine gives back of this worker's key sets; empty where memory is gone.
    pub inheritance: Vec<Inheritance>,
}

/// One worker.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Worker {
    worker: WorkerId,
    workers: u16,
    timing: Timing,
    limits: Limits,
    /// Sent whenever the control link comes up, until it is answered.
    registration: Option<Registration>,
    me: Option<Member>,
    /// The process id that it registered; 0 where another worker did.
    process: u32,
    view: View,
    /// Until the process has its identity.
    inheritance: Vec<Inheritance>,
    /// By key set, those of this worker only.
    replicas: Vec<Replica>,
    /// Links to followers, dialled by this worker.
    dialled: BTreeMap<Member, LinkId>,
    /// The newest link that each peer dialled: what still comes on an older one is not heard.
    accepted: BTreeMap<Member, LinkId>,
    /// All replication links, dialled or accepted, by the peer at their other end.
    links: BTreeMap<LinkId, Member>,
    /// Followers that a link was asked for.
    wanted: Vec<Member>,
    meta_up: bool,
    meta_heard: Time,
    /// By how much the wall clock is ahead of this machine's, in milliseconds.
    wall_ahead_ms: Option<u64>,
    /// Bytes in all windows.
    window_bytes: usize,
    /// How full this server is; none where nothing is measured.
    space: Option<Space>,
    numbers: Numbers,
    wishes: Wishes,
    beacon_number: u64,
    heartbeat_sequence: u64,
    heartbeat_at: Time,
    housekeeping_at: Time,
    leave: Option<Leave>,
    halt: Option<Halt>,
}

impl Worker {
    /// A worker that starts at `now`.
    #[must_use]
    pub fn new(settings: WorkerSettings, now: Time) -> Worker {
        let mut worker = Worker {
            worker: settings.worker,
            workers: settings.workers.max(1),
            timing: settings.timing,
            limits: settings.limits,
            registration: None,
            me: None,
            process: 0,
            view: View::default(),
            inheritance: settings.inheritance,
            replicas: Vec::new(),
            dialled: BTreeMap::new(),
            accepted: BTreeMap::new(),
            links: BTreeMap::new(),
            wanted: Vec::new(),
            meta_up: false,
            meta_heard: Time(0),
            wall_ahead_ms: None,
            window_bytes: 0,
            space: None,
            numbers: Numbers::default(),
            wishes: Wishes::default(),
            beacon_number: 0,
            heartbeat_sequence: 0,
            heartbeat_at: Time(0),
            housekeeping_at: Time(0),
            leave: None,
            halt: None,
        };
        match settings.start {
            Start::Register(registration) => {
                worker.process = registration.process;
                worker.registration = Some(registration);
            }
            Start::Attached { member, view, .. } => worker.begin(now, member, view),
        }
        worker
    }

    /// The process has its identity: the replicas come to life.
    fn begin(&mut self, now: Time, member: Member, view: View) {
        self.me = Some(member);
        self.registration = None;
        let (mine, workers) = (self.worker, self.workers);
        self.replicas = (0..view.sets.len() as u16)
            .map(KeySet)
            .filter(|&set| placement::worker(set, workers) == mine)
            .map(Replica::new)
            .collect();
        for inheritance in std::mem::take(&mut self.inheritance) {
            let index = usize::from(inheritance.set.0 / workers);
            if let Some(replica) = self.replicas.get_mut(index)
                && replica.set() == inheritance.set
            {
                *replica = Replica::heir(inheritance, now);
            }
        }
        self.window_bytes = self.replicas.iter().map(|it| it.log().window_bytes()).sum();
        self.view = View { sets: view.sets.clone(), ..View::unborn(view.cluster, 0) };
        for entry in &mut self.view.sets {
            entry.configuration = None;
        }
        self.view.merge(&view.as_update());
    }

    #[must_use]
    pub fn member(&self) -> Option<Member> {
        self.me
    }

    /// How full this server is, if it measures that.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.space.map(|space| space.level)
    }

    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The replicas of this worker, by key set.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// What an heir of this worker would begin with, if everything that was handed to the engine
    /// were durable.
    pub fn inheritance(&self) -> impl Iterator<Item = Inheritance> {
        self.replicas.iter().map(Replica::inheritance)
    }

    #[must_use]
    pub fn replica(&self, set: KeySet) -> Option<&Replica> {
        let index = usize::from(set.0 / self.workers);
        self.replicas.get(index).filter(|it| it.set() == set)
    }

    /// The committed points of the sets that are open here: bases for clients' first writes.
    #[must_use]
    pub fn bases(&self) -> Vec<(KeySet, Revision)> {
        self.replicas.iter().filter_map(|it| Some((it.set(), it.base()?))).collect()
    }

    /// Runs `act` on one replica. None if the set is not this worker's.
    fn with<R>(
        &mut self,
        set: KeySet,
        now: Time,
        effects: &mut Vec<WorkerEffect>,
        act: impl FnOnce(&mut Replica, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let me = self.me?;
        let index = usize::from(set.0 / self.workers);
        let replica = self.replicas.get_mut(index).filter(|it| it.set() == set)?;
        let mut ctx = Context {
            now,
            me,
            timing: &self.timing,
            limits: &self.limits,
            view: &self.view,
            dialled: &self.dialled,
            meta_heard: self.meta_heard,
            meta_up: self.meta_up,
            window_bytes: self.window_bytes,
            wall: self.wall_ahead_ms.map(|ahead| Expiry(ahead + now.0 / 1_000_000)),
            level: self.space.map(|space| space.level),
            numbers: &mut self.numbers,
            wishes: &mut self.wishes,
            effects,
        };
        let before = replica.log().window_bytes();
        let done = act(replica, &mut ctx);
        let after = replica.log().window_bytes();
        self.window_bytes = self.window_bytes + after - before;
        Some(done)
    }

    /// Runs `act` on every replica.
    fn with_all(
        &mut self,
        now: Time,
        effects: &mut Vec<WorkerEffect>,
        mut act: impl FnMut(&mut Replica, &mut Context<'_>),
    ) {
        let sets: Vec<KeySet> = self.replicas.iter().map(Replica::set).collect();
        for set in sets {
            self.with(set, now, effects, &mut act);
        }
    }

    fn on_tick(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + self.timing.lease.scaled(1, 6);
            self.wishes.wake = None;
            self.with_all(now, effects, |replica, ctx| replica.on_housekeeping(ctx));
            self.tend_leave(now, effects);
            self.tend_halt(effects);
            self.send_beacons(now, effects);
        } else if self.wishes.wake.is_some_and(|wake| wake <= now) {
            self.wishes.wake = None;
            self.with_all(now, effects, |replica, ctx| replica.on_deaths(ctx));
        }
        if self.heartbeat_at <= now {
            self.heartbeat_at = now + self.timing.heartbeat;
            self.send_heartbeat(now, effects);
        }
        let mut dirty = std::mem::take(&mut self.wishes.dirty);
        for set in dirty.drain(..) {
            self.with(set, now, effects, |replica, ctx| replica.flush(ctx));
        }
        if self.wishes.dirty.is_empty() {
            // Its memory is used again.
            self.wishes.dirty = dirty;
        }
    }

    /// A client's request: checked against the limits, then the replica's.
    fn on_request(
        &mut self,
        now: Time,
        ticket: Ticket,
        request: Request,
        effects: &mut Vec<WorkerEffect>,
    ) {
        let refuse = |refusal| WorkerEffect::Reply { ticket, answer: Answer::Refused(refusal) };
        if self.halt.is_some() {
            return effects.push(refuse(Refusal::Busy));
        }
        let set = match self.judge(&request) {
            Ok(set) => set,
            Err(refusal) => return effects.push(refuse(refusal)),
        };
        let done = self.with(set, now, effects, |replica, ctx| {
            replica.on_request(ctx, ticket, request);
        });
        if done.is_none() {
            let configuration = self.view.configuration(set).cloned();
            effects.push(refuse(Refusal::NotPrimary { configuration }));
        }
    }

    /// The key set that a request is for, or what is wrong with it before any replica looks at it.
    fn judge(&self, request: &Request) -> Result<KeySet, Refusal> {
        if self.me.is_none() || self.view.sets.is_empty() {
            return Err(Refusal::Unborn);
        }
        if let Some(key) = request.operation.key() {
            if key.is_empty() {
                return Err(Refusal::EmptyKey);
            }
            if key.len() > self.limits.key_bytes_max as usize {
                return Err(Refusal::KeyTooLarge { bytes_max: self.limits.key_bytes_max });
            }
        }
        let value = request.operation.value();
        if value.is_some_and(|value| value.len() > self.limits.value_bytes_max as usize) {
            return Err(Refusal::ValueTooLarge { bytes_max: self.limits.value_bytes_max });
        }
        if request.expiry_ms.is_some()
            || request.read_level != ReadLevel::Linearizable
            || request.ack_level != super::message::AckLevel::Every
        {
            return Err(Refusal::Unsupported);
        }
        let nameless = request.origin.is_none_or(|it| it.number.0 == 0);
        let lifeless = request.operation.lifetime_ms() == Some(0);
        if request.operation.is_write() && (nameless || lifeless) {
            return Err(Refusal::Malformed);
        }
        let set = request.operation.key_set(self.view.sets.len() as u16);
        match self.view.set(set) {
            None => Err(Refusal::UnknownSet),
            Some(entry) => match entry.state {
                SetState::Unborn => Err(Refusal::Unborn),
                SetState::Lost => Err(Refusal::Lost),
                SetState::Available | SetState::Unavailable => Ok(set),
            },
        }
    }

    fn on_meta_up(&mut self, now: Time, effects: &mut Vec<WorkerEffect>) {
        self.meta_up = true;
        if let Some(registration) = &self.registration {
            let message = ToMeta::Register(registration.clone());
            effects.push(WorkerEffect::SendMeta { message });
        }
        self.heartbeat_at = now;
        self.report_space(effects);
        self.with_all(now, effects, |replica, ctx| replica.on_meta_up(ctx));
    }

    fn on_space(&mut self, now: Time, space: Space, effects: &mut Vec<WorkerEffect>) {
        let before = self.space.replace(space);
        self.report_space(effects);
        if before.map(|it| it.level) != Some(space.level) {
            self.with_all(now, effects, |replica, ctx| replica.on_own_level(ctx));
        }
    }

    /// Tells the metaserver how full this server is.
    fn report_space(&self, effects: &mut Vec<WorkerEffect>) {
        let registered = self.worker == WorkerId(0) && self.me.is_some() && self.meta_up;
        if let Some(space) = self.space.filter(|_| registered) {
            effects.push(WorkerEffect::SendMeta { message: ToMeta::Space(space) });
        }
    }
}

impl Machine for Worker {
    type Input = WorkerInput;
    type Effect = WorkerEffect;

    fn handle(&mut self, now: Time, input: WorkerInput, effects: &mut Vec<WorkerEffect>) {
        if self.halt == Some(Halt::Ended) {
            return;
        }
        match input {
            WorkerInput::Tick => self.on_tick(now, effects),
            WorkerInput::MetaUp => self.on_meta_up(now, effects),
            WorkerInput::MetaDown => self.meta_up = false,
            WorkerInput::FromMeta(message) => self.on_order(now, message, effects),
            WorkerInput::PeerUp { peer, link } => self.on_peer_up(now, peer, link, effects),
            WorkerInput::PeerAccepted { peer, link } => {
                self.links.insert(link, peer);
                self.accepted.insert(peer, link);
            }
            WorkerInput::PeerDown { link } => self.on_peer_down(now, link, effects),
            WorkerInput::BulkDown { link } => {
                self.with_all(now, effects, |replica, ctx| replica.on_bulk_down(ctx, link));
            }
            WorkerInput::FromPeer { link, message } => {
                self.on_peer_message(now, link, message, effects);
            }
            WorkerInput::Request { ticket, request } => {
                self.on_request(now, ticket, request, effects);
            }
            WorkerInput::ClientGone { link } => {
                for replica in &mut self.replicas {
                    replica.on_client_gone(link);
                }
            }
            WorkerInput::ReadDone { set, token, key, found } => {
                self.with(set, now, effects, |it, ctx| it.on_read_done(ctx, token, key, found));
            }
            WorkerInput::ChangesDone { set, token, found } => {
                self.with(set, now, effects, |it, ctx| it.on_changes_done(ctx, token, found));
            }
            WorkerInput::RangeDone { set, token, records, more } => {
                self.with(set, now, effects, |it, ctx| it.on_range_done(ctx, token, records, more));
            }
            WorkerInput::Remembered { set, number } => {
                self.with(set, now, effects, |it, ctx| it.on_remembered(ctx, number));
            }
            WorkerInput::Appended { set, through } => {
                self.with(set, now, effects, |it, ctx| it.on_appended(ctx, through));
            }
            WorkerInput::ChunkStored { set, run, through } => {
                self.with(set, now, effects, |it, ctx| it.on_chunk_stored(ctx, run, through));
            }
            WorkerInput::WallClock { ahead_ms } => self.wall_ahead_ms = Some(ahead_ms),
            WorkerInput::Space { space } => self.on_space(now, space, effects),
            WorkerInput::Stop => self.on_stop(now, effects),
            WorkerInput::Settled => self.on_settled(effects),
        }
        self.want_links(effects);
    }

    fn deadline(&self) -> Option<Time> {
        if self.halt == Some(Halt::Ended) {
            return None;
        }
        if !self.wishes.dirty.is_empty() {
            return Some(Time(0));
        }
        let soonest = self.housekeeping_at.min(self.heartbeat_at);
        Some(self.wishes.wake.map_or(soonest, |wake| wake.min(soonest)))
    }
}
