//! Processes that start and end: registration, crashes, and what a crash leaves behind.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use super::estate::Estate;
use super::network::Side;
use super::node::{Fate, Input, MetaProcess, ServerProcess, Target};
use super::truth::Fact;
use super::world::{Event, World};
use super::{Node, Process, TRAIL_BYTES_MAX};
use crate::protocol::effect::{MetaInput, WorkerInput};
use crate::protocol::limits::Limits;
use crate::protocol::message::Registration;
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::meta::{MetaServer, MetaSettings};
use crate::protocol::space::Thresholds;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{ServerId, WorkerId};
use crate::protocol::view::View;
use crate::protocol::worker::{Start, Worker, WorkerSettings};
use crate::store::MemoryEngine;

/// Where a server would listen; links go by names, so that it only has to look like one.
#[must_use]
pub fn address(server: ServerId) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7_000 + server.0))
}

impl World {
    /// Starts a process at a node that runs none.
    pub fn start(&mut self, node: Node) {
        match node {
            Node::Meta if self.meta.running.is_none() => self.start_meta(),
            Node::Server(server) => {
                if self.running(server).is_none() {
                    self.start_server(server);
                }
                if self.settings.spawn
                    && let Some(process) = self.alive_at(node)
                {
                    let process = process.0;
                    self.hand_to_meta(MetaInput::ProcessStarted { server, process });
                }
            }
            Node::Meta | Node::Client(_) => {}
        }
    }

    fn start_server(&mut self, server: ServerId) {
        let number = self.next_process();
        let limits = self.limits();
        let timing = self.settings.timing;
        let (key_sets, durable) = (self.settings.key_sets, self.settings.durable);
        let at = self.agenda.now();
        let Some(node) = self.servers.get_mut(&server) else { return };
        if durable {
            node.estate.get_or_insert_with(|| Estate::new(key_sets, &limits));
        }
        let estate = node.estate.as_ref().filter(|it| it.incarnation.is_some());
        let registration = Registration {
            server,
            workers: vec![address(server)],
            cluster: node.directory.cluster,
            highest_epoch: node.directory.highest_epoch,
            inherits: estate.and_then(|it| it.incarnation),
            process: number.0,
        };
        let start = Start::Register(registration);
        let inheritance = estate.map(Estate::inheritance).unwrap_or_default();
        let engine = estate.map(Estate::store);
        let copies: Vec<_> = estate.iter().flat_map(|it| it.copies()).collect();
        let worker = WorkerId(0);
        let settings = WorkerSettings { worker, workers: 1, timing, limits, start, inheritance };
        node.running = Some(ServerProcess {
            number,
            worker: Worker::new(settings, node.host.clock.read(at)),
            engine: engine.unwrap_or_else(|| MemoryEngine::with_trail(key_sets, TRAIL_BYTES_MAX)),
            member: None,
            view: View::default(),
            wanted: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            completions: VecDeque::new(),
            completed_last: Time(0),
            syncs: VecDeque::new(),
            fate: Fate::default(),
        });
        self.learn(Fact::Started { process: number, server });
        for (set, applied, newest, log) in &copies {
            let (process, set, applied, newest) = (number, *set, *applied, *newest);
            self.learn(Fact::Inherited { process, set, applied, newest, log });
        }
        self.want(Node::Server(server), Target::Meta);
        // Wall clocks differ, and nothing but the moment of an expiry depends on them.
        let ahead_ms = 1_795_000_000_000 + 40 * u64::from(server.0);
        let input = Input::Worker(WorkerInput::WallClock { ahead_ms });
        self.hand_in(Node::Server(server), number, input);
        self.measure(server);
        self.set_timer(Node::Server(server));
    }

    /// The limits that servers run by.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { min_write_copies: self.settings.min_write_copies, ..self.settings.limits }
    }

    fn start_meta(&mut self) {
        let number = self.next_process();
        let servers = self.servers.keys().map(|&server| (server, self.settings.spawn)).collect();
        let settings = MetaSettings {
            timing: self.settings.timing,
            servers,
            key_sets: self.settings.key_sets,
            copies: self.settings.copies,
            min_write_copies: self.settings.min_write_copies,
            durable: self.settings.durable,
            thresholds: Thresholds::default(),
            replace_after: self.settings.replace_after,
            new_cluster: self.cluster,
        };
        let now = self.meta.host.clock.read(self.agenda.now());
        let records = self.meta.disk.records();
        let known = records.clone();
        self.meta.running = Some(MetaProcess {
            number,
            machine: MetaServer::new(settings, records, now),
            view: View::default(),
            persisted_last: Time(0),
            fate: Fate::default(),
        });
        if self.settings.spawn {
            self.adopt(&known);
        }
        self.hand_to_meta(MetaInput::Tick);
    }

    /// Tells a metaserver that starts which of the processes that it knew still run.
    fn adopt(&mut self, records: &[MetaRecord]) {
        let servers: Vec<_> = self.servers.keys().copied().collect();
        for server in servers {
            if let Some(process) = self.alive_at(Node::Server(server)) {
                self.hand_to_meta(MetaInput::ProcessStarted { server, process: process.0 });
            }
        }
        for record in records {
            if let MetaRecord::Server(row) = record
                && self.alive_at(Node::Server(row.entry.id)) != Some(Process(row.process))
            {
                let (server, process) = (row.entry.id, row.process);
                self.hand_to_meta(MetaInput::ProcessExited { server, process });
            }
        }
    }

    /// Ends the process at a node: its memory is gone, and so are its ends of all links.
    pub fn kill(&mut self, node: Node) {
        let Some(process) = self.alive_at(node) else { return };
        match node {
            Node::Meta => {
                self.meta.running = None;
                while self.meta.disk.pending() > 0 && self.rng.chance(500_000) {
                    self.finish_transaction();
                }
                self.meta.disk.crash();
            }
            Node::Server(server) => {
                if let Some(it) = self.servers.get_mut(&server) {
                    it.running = None;
                    if let Some(estate) = &mut it.estate {
                        estate.crash(&mut self.rng);
                    }
                }
                self.learn(Fact::Died { process });
                if self.settings.spawn {
                    let later = self.rng.span(Span::from_millis(1), Span::from_millis(20));
                    let at = self.now() + later;
                    self.agenda.enter(at, Event::ExitSeen { server, process });
                }
            }
            Node::Client(_) => return,
        }
        self.drop_host(node);
        let idle = self.network.settings.idle;
        for link in self.network.links_of(node) {
            let Some(side) = self.network.links.get(&link).and_then(|it| it.side_of(node)) else {
                continue;
            };
            self.network.take_down(link, side);
            let noticed = self.now() + self.rng.span(idle.scaled(1, 4), idle);
            self.agenda.enter(noticed, Event::Down { link, side: side.other() });
        }
    }

    /// Ends the process of a server, and loses its disk with it.
    pub fn wipe(&mut self, server: ServerId) {
        self.kill(Node::Server(server));
        if let Some(it) = self.servers.get_mut(&server) {
            it.estate = None;
        }
    }

    /// Forgets the pause of a node whose process is gone.
    fn drop_host(&mut self, node: Node) {
        self.network.thaw(node);
        if let Some(host) = self.host_mut(node) {
            host.frozen_until = None;
            host.deferred.clear();
        }
    }

    /// Makes the metaserver's oldest transaction durable; answers its number.
    fn finish_transaction(&mut self) -> Option<u64> {
        let (number, records) = self.meta.disk.finish()?;
        for record in &records {
            if let MetaRecord::Set(row) = record
                && let Some(configuration) = &row.configuration
            {
                self.learn(Fact::Configured { set: row.set, configuration });
            }
        }
        Some(number)
    }

    pub(super) fn persisted(&mut self, process: Process) {
        if self.alive_at(Node::Meta) != Some(process) {
            return;
        }
        if let Some(number) = self.finish_transaction() {
            self.hand_to_meta(MetaInput::Persisted { number });
        }
    }

    /// Stops everything that a node does for a while, its clock excepted.
    pub fn freeze(&mut self, node: Node, span: Span) {
        let now = self.now();
        let Some(host) = self.host_mut(node) else { return };
        if host.frozen_until.is_some() {
            return;
        }
        host.frozen_until = Some(now + span);
        self.network.freeze(node, now);
        self.agenda.enter(now + span, Event::Thaw { node });
        self.check_idle_later(node);
    }

    pub(super) fn thaw(&mut self, node: Node) {
        let now = self.now();
        let Some(host) = self.host_mut(node) else { return };
        if host.frozen_until.is_none_or(|until| until > now) {
            return;
        }
        host.frozen_until = None;
        let deferred = std::mem::take(&mut host.deferred);
        self.network.thaw(node);
        for (process, input) in deferred {
            self.hand_in(node, process, input);
        }
    }

    /// Cuts one direction between two nodes.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.network.cut(from, to, self.agenda.now());
        self.check_idle_later(from);
    }

    fn check_idle_later(&mut self, node: Node) {
        let at = self.now() + self.network.settings.idle;
        for link in self.network.links_of(node) {
            self.agenda.enter(at, Event::IdleCheck { link });
        }
    }

    /// Ends one directed cut.
    pub fn mend(&mut self, from: Node, to: Node) {
        self.network.mend(from, to);
        for link in self.network.links_between(from, to) {
            self.kick(link, Span::from_millis(20));
        }
    }

    /// Ends all cuts.
    pub fn mend_all(&mut self) {
        self.network.mend_all();
        self.resume_lanes();
    }

    /// What a cut held up is sent again, unless its connection died of it.
    fn resume_lanes(&mut self) {
        let links: Vec<_> = self.network.links.keys().copied().collect();
        for link in links {
            self.kick(link, Span::from_millis(20));
        }
    }

    /// Asks a server to stop in good order.
    pub fn ask_to_stop(&mut self, server: ServerId) {
        if let Some(process) = self.alive_at(Node::Server(server)) {
            let input = super::node::Input::Worker(WorkerInput::Stop);
            self.hand_in(Node::Server(server), process, input);
        }
    }

    /// The live connections between two nodes, for a look from outside.
    #[must_use]
    pub fn connected(&self, one: Node, other: Node) -> bool {
        self.network.links.values().any(|link| {
            let ends = (link.end(Side::Dialler).node, link.end(Side::Acceptor).node);
            ends == (one, other) || ends == (other, one)
        })
    }
}
