//! The production metaserver in a world: its disk, its control links, its clock.
//!
//! It acts by its clock and by what it hears, so that a world with it has few choices of its own:
//! what is heard when, which heartbeats are lost, when its disk is done, when it restarts. Its own
//! ticks, and those of the servers, come with every tick of the world: a pause is told by
//! heartbeats that are lost and messages that wait.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tandem::protocol::Machine;
use tandem::protocol::effect::{MetaEffect, MetaInput, MetaNote, WorkerInput};
use tandem::protocol::message::{Registration, ToMeta};
use tandem::protocol::meta::durable::MetaRecord;
use tandem::protocol::meta::{MetaServer, MetaSettings};
use tandem::protocol::space::Thresholds;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::{ClusterId, Epoch, LinkId, Member, WorkerId};
use tandem::sim::Process;
use tandem::sim::truth::Fact;

use super::World;
use super::act::Action;
use super::authority::server_id;
use super::judge::{SET, Violation};
use crate::hash::{CLOCK_START, Clock, Fingerprint};
use crate::plan::{Plan, TICK};

/// The process, its disk, and what is on its way to it.
#[derive(Clone, Debug, Hash)]
pub struct Metaserver {
    machine: MetaServer,
    /// The newest row of each kind and name.
    disk: Vec<MetaRecord>,
    writing: VecDeque<(u64, Vec<MetaRecord>)>,
    /// By server: its control link, what it said on it (none = the link is gone), its newest
    /// heartbeat.
    links: Vec<Option<LinkId>>,
    inbox: Vec<VecDeque<(LinkId, Option<Rc<ToMeta>>)>>,
    beats: Vec<Option<Rc<ToMeta>>>,
    links_made: u64,
}

fn settings(plan: &Plan) -> MetaSettings {
    MetaSettings {
        durable: false,
        thresholds: Thresholds::default(),
        timing: plan.timing(),
        servers: (0..plan.servers).map(|server| (server_id(server), false)).collect(),
        key_sets: 1,
        copies: plan.members as u16,
        min_write_copies: 1,
        replace_after: Span(1 << 40),
        new_cluster: ClusterId([1; 16]),
    }
}

/// Whether a row takes the place of another.
fn replaces(new: &MetaRecord, old: &MetaRecord) -> bool {
    match (new, old) {
        (MetaRecord::Cluster(_), MetaRecord::Cluster(_)) => true,
        (MetaRecord::Server(new), MetaRecord::Server(old)) => new.entry.id == old.entry.id,
        (MetaRecord::Set(new), MetaRecord::Set(old)) => new.set == old.set,
        (MetaRecord::Recovery(new), MetaRecord::Recovery(old)) => new.id == old.id,
        (MetaRecord::RecoveryForgotten(new), MetaRecord::Recovery(old)) => *new == old.id,
        _ => false,
    }
}

impl Metaserver {
    #[must_use]
    pub fn new(plan: &Plan) -> Metaserver {
        Metaserver {
            machine: MetaServer::new(settings(plan), Vec::new(), Time(CLOCK_START)),
            disk: Vec::new(),
            writing: VecDeque::new(),
            links: vec![None; plan.servers],
            inbox: vec![VecDeque::new(); plan.servers],
            beats: vec![None; plan.servers],
            links_made: 0,
        }
    }

    /// All its times are on its own clock, and so is nothing that is on its way.
    #[must_use]
    pub fn fingerprint(&self, clock: Clock) -> u64 {
        let mut fingerprint = Fingerprint::at(clock);
        self.hash(&mut fingerprint);
        fingerprint.finish()
    }

    /// Says something to the metaserver.
    pub fn hear(&mut self, server: usize, message: ToMeta) {
        if let Some(link) = self.links[server] {
            self.inbox[server].push_back((link, Some(Rc::new(message))));
        }
    }

    /// As a datagram.
    pub fn hear_datagram(&mut self, server: usize, message: ToMeta) {
        if self.links[server].is_some() {
            self.beats[server] = Some(Rc::new(message));
        }
    }

    /// A server is gone: what it said is still under way.
    pub fn lose(&mut self, server: usize) {
        self.beats[server] = None;
        if let Some(link) = self.links[server].take() {
            self.inbox[server].push_back((link, None));
        }
    }
}

impl World {
    /// A world with the production metaserver, from an empty cluster on until it is served.
    pub(super) fn found(&mut self) {
        self.feed_meta(MetaInput::Tick);
        for server in 0..self.places.len() {
            self.start_unregistered(server);
            self.reach(server);
        }
        for _ in 0..32 {
            self.settle_down();
            let copies = self.plan.members;
            let configuration = self.judge.truth.configurations.get(&SET);
            let whole = configuration.is_some_and(|it| it.copies() == copies);
            let idle = self.metaserver.as_ref().is_some_and(|it| it.writing.is_empty());
            if whole && idle && self.places.iter().any(|it| it.answer.is_some()) {
                return;
            }
            let ticks = self.budget.ticks;
            self.tick();
            self.budget.ticks = ticks;
            self.refresh();
        }
        let words = "the cluster is not served".to_owned();
        self.violated(Violation { property: "birth", words });
    }

    fn meta_now(&self) -> Time {
        Time(CLOCK_START + self.ticks * TICK)
    }

    pub(super) fn meta_clock(&self) -> Clock {
        Clock { now: self.meta_now().0, unit: TICK, horizon: self.plan.horizon() + 4 }
    }

    fn metaserver_mut(&mut self) -> Option<&mut Metaserver> {
        self.metaserver.as_mut().map(Rc::make_mut)
    }

    pub(super) fn registration(server: usize, process: Process) -> Registration {
        let port = server as u16 + 1;
        Registration {
            server: server_id(server),
            workers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
            cluster: None,
            highest_epoch: Epoch(0),
            inherits: None,
            process: process.0,
        }
    }

    pub(super) fn list_metaserver_actions(&self, actions: &mut Vec<Action>) {
        let Some(meta) = &self.metaserver else { return };
        if !meta.writing.is_empty() {
            actions.push(Action::Written);
        }
        for server in 0..self.places.len() {
            if !meta.inbox[server].is_empty() {
                actions.push(Action::MetaHears(server));
            }
            if meta.beats[server].is_some() {
                actions.push(Action::Beat(server));
            }
            let free = meta.links[server].is_none() && meta.inbox[server].is_empty();
            if free && self.places[server].node.is_some() {
                actions.push(Action::Reach(server));
            }
        }
    }

    /// Hands an input to the metaserver, which takes the steps that it made possible at once.
    pub(super) fn feed_meta(&mut self, input: MetaInput) {
        let now = self.meta_now();
        let Some(meta) = self.metaserver_mut() else { return };
        let mut effects = Vec::new();
        meta.machine.handle(now, input, &mut effects);
        if meta.machine.deadline() == Some(Time(0)) {
            meta.machine.handle(now, MetaInput::Tick, &mut effects);
        }
        for effect in effects {
            self.perform_meta(effect);
        }
    }

    fn perform_meta(&mut self, effect: MetaEffect) {
        let Some(meta) = self.metaserver_mut() else { return };
        match effect {
            MetaEffect::Persist { number, records } => meta.writing.push_back((number, records)),
            MetaEffect::Send { link, message } => {
                if let Some(server) = meta.links.iter().position(|it| *it == Some(link)) {
                    self.tell(server, message);
                }
            }
            MetaEffect::CloseLink { link, .. } => {
                if let Some(server) = meta.links.iter().position(|it| *it == Some(link)) {
                    self.cut_control(server);
                }
            }
            MetaEffect::Note { note: MetaNote::Misbehaved { reason, .. } } => {
                self.learn(&Fact::Accused { process: Process(0), reason });
            }
            // An echo tells a server only that its metaserver lives.
            MetaEffect::SendDatagram { .. }
            | MetaEffect::Reply { .. }
            | MetaEffect::Spawn { .. }
            | MetaEffect::ViewChanged { .. }
            | MetaEffect::MayExit { .. }
            | MetaEffect::Note { .. } => {}
        }
    }

    /// A server's control link is gone, with all that is on it.
    fn cut_control(&mut self, server: usize) {
        self.places[server].control.clear();
        let Some(meta) = self.metaserver_mut() else { return };
        meta.links[server] = None;
        meta.inbox[server].clear();
        meta.beats[server] = None;
        self.feed(server, WorkerInput::MetaDown);
    }

    /// A server's control link is up.
    pub(super) fn reach(&mut self, server: usize) -> bool {
        let Some(member) = self.node(server).map(|it| it.member) else { return false };
        let Some(meta) = self.metaserver_mut() else { return false };
        meta.links_made += 1;
        let link = LinkId(meta.links_made);
        meta.links[server] = Some(link);
        self.feed_meta(MetaInput::ServerUp { link, member, worker: WorkerId(0) });
        self.feed(server, WorkerInput::MetaUp);
        true
    }

    /// The oldest transaction is durable.
    pub(super) fn written(&mut self) -> bool {
        let Some(meta) = self.metaserver_mut() else { return false };
        let Some((number, records)) = meta.writing.pop_front() else { return false };
        for record in &records {
            meta.disk.retain(|old| !replaces(record, old));
            if !matches!(record, MetaRecord::RecoveryForgotten(_)) {
                meta.disk.push(record.clone());
            }
        }
        for record in &records {
            if let MetaRecord::Set(row) = record
                && let Some(configuration) = &row.configuration
            {
                self.learn(&Fact::Configured { set: row.set, configuration });
            }
        }
        self.feed_meta(MetaInput::Persisted { number });
        true
    }

    /// The metaserver hears what a server said next, or that its link is gone.
    pub(super) fn meta_hears(&mut self, server: usize) -> bool {
        let Some(meta) = self.metaserver_mut() else { return false };
        let Some((link, next)) = meta.inbox[server].pop_front() else { return false };
        self.feed_meta(match next {
            Some(message) => MetaInput::FromServer { link, message: Rc::unwrap_or_clone(message) },
            None => MetaInput::ServerDown { link },
        });
        true
    }

    /// A heartbeat arrives.
    pub(super) fn beat(&mut self, server: usize) -> bool {
        let Some(meta) = self.metaserver_mut() else { return false };
        let (Some(message), Some(link)) = (meta.beats[server].take(), meta.links[server]) else {
            return false;
        };
        let message = Rc::unwrap_or_clone(message);
        self.feed_meta(MetaInput::FromServer { link, message });
        true
    }

    /// The process ends, and another begins with what is on the disk.
    pub(super) fn restart_metaserver(&mut self) {
        for server in 0..self.places.len() {
            self.cut_control(server);
        }
        let (now, settings) = (self.meta_now(), settings(&self.plan));
        let Some(meta) = self.metaserver_mut() else { return };
        meta.writing.clear();
        meta.machine = MetaServer::new(settings, meta.disk.clone(), now);
        self.feed_meta(MetaInput::Tick);
    }

    /// Time passes for the metaserver, and for all servers that run with it.
    pub(super) fn tick_metaserver(&mut self) {
        let Some(meta) = self.metaserver_mut() else { return };
        meta.beats.fill(None);
        for server in 0..self.places.len() {
            self.wake(server);
        }
        self.feed_meta(MetaInput::Tick);
    }

    /// The process at a server knows who it is.
    pub(super) fn registered(&mut self, server: usize, process: Process, member: Member) {
        if let Some(node) = self.node_mut(server) {
            node.member = member;
        }
        self.learn(&Fact::Registered { process, member });
    }
}
