//! The world: all nodes, links and disks, and the one place where events reach machines.
//!
//! `step` lets the next event happen. An event becomes at most one input of one machine, whose
//! effects are performed in order before anything else happens, up to the moment at which that
//! process is bound to crash.

use std::collections::BTreeMap;

use super::agenda::{Agenda, Entered};
use super::clients::{ClientMachine, ClientProcess, Pinned};
use super::clock::NodeClock;
use super::coverage::Moment;
use super::disk::{MetaDisk, StateDirectory};
use super::faults::Fault;
use super::invariants::{Invariants, Violation};
use super::network::{Channel, Network, Payload, Side};
use super::node::{ClientNode, Fate, Host, Input, MetaNode, ServerNode, Target, Wake};
use super::rng::Rng;
use super::trace::Trace;
use super::truth::{Fact, OperationId, Truth};
use super::workload::Workload;
use super::{ClientId, Node, Process, Settings};
use crate::protocol::Machine;
use crate::protocol::effect::{MetaInput, WorkerInput};
use crate::protocol::message::Operation;
use crate::protocol::session::{CallId, Session, SessionInput, SessionSettings};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{ClusterId, LinkId, Member, ServerId, SessionId};
use crate::protocol::view::View;

/// Something that may happen next.
#[derive(Clone, Debug)]
pub enum Event {
    Tick {
        node: Node,
        process: Process,
    },
    /// The head of a lane is due at the side named.
    Lane {
        link: LinkId,
        to: Side,
        channel: Channel,
    },
    Datagram {
        link: LinkId,
        to: Side,
        payload: Payload,
    },
    Dial {
        node: Node,
        process: Process,
        target: Target,
    },
    /// A client learns that it was not connected.
    DialFailed {
        client: ClientId,
        process: Process,
        peer: Member,
    },
    /// A connection attempt reaches the other side.
    Accept {
        link: LinkId,
    },
    /// The acceptance reaches the dialler.
    Up {
        link: LinkId,
    },
    /// An end notices that its connection is gone.
    Down {
        link: LinkId,
        side: Side,
    },
    /// Time to see whether a connection was silent for too long.
    IdleCheck {
        link: LinkId,
    },
    /// A store effect is done.
    Completed {
        server: ServerId,
        process: Process,
        input: WorkerInput,
    },
    /// The oldest transaction of the metaserver is durable.
    Persisted {
        process: Process,
    },
    ViewAsked {
        client: ClientId,
        node: Node,
    },
    ViewGiven {
        client: ClientId,
        view: View,
    },
    /// A client wants to begin an operation.
    Wish {
        client: ClientId,
    },
    Thaw {
        node: Node,
    },
    Start {
        node: Node,
    },
    /// The kernel tells the spawner of a process's end.
    ExitSeen {
        server: ServerId,
        process: Process,
    },
    Fault(Fault),
}

/// All machines and what is between them.
#[derive(Clone, Debug)]
pub struct World {
    pub settings: Settings,
    pub meta: MetaNode,
    pub servers: BTreeMap<ServerId, ServerNode>,
    pub clients: BTreeMap<ClientId, ClientNode>,
    pub network: Network,
    pub truth: Truth,
    pub invariants: Invariants,
    pub trace: Trace,
    /// What a fault may aim at, since the driver looked last.
    pub moments: Vec<Moment>,
    pub violation: Option<Violation>,
    /// More inputs than this are a run that gets nowhere.
    pub steps_max: u64,
    pub(super) agenda: Agenda<Event>,
    pub(super) rng: Rng,
    pub(super) cluster: ClusterId,
    process_last: u32,
    operation_last: u64,
}

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, trace: Trace) -> World {
        let mut rng = Rng::new(seed);
        let mut cluster = [0; 16];
        cluster[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        let servers = (1..=settings.servers).map(ServerId).map(|id| {
            let host = Host::new(World::draw_clock(&settings, &mut rng));
            let directory = StateDirectory::default();
            (id, ServerNode { id, host, directory, estate: None, running: None })
        });
        let servers = servers.collect();
        let meta = MetaNode {
            host: Host::new(World::draw_clock(&settings, &mut rng)),
            disk: MetaDisk::default(),
            running: None,
            answers: BTreeMap::new(),
        };
        World {
            network: Network::new(settings.network),
            meta,
            servers,
            clients: BTreeMap::new(),
            truth: Truth::default(),
            invariants: Invariants::default(),
            trace,
            moments: Vec::new(),
            violation: None,
            steps_max: u64::MAX,
            agenda: Agenda::default(),
            rng,
            cluster: ClusterId(cluster),
            process_last: 0,
            operation_last: 0,
            settings,
        }
    }

    fn draw_clock(settings: &Settings, rng: &mut Rng) -> NodeClock {
        let offset = Time(rng.between(1_000_000_000, 1_000_000_000_000));
        let skew = rng.between(0, 2 * settings.skew_ppm_max) as i64;
        NodeClock::new(offset, skew - settings.skew_ppm_max as i64)
    }

    /// Starts the metaserver and all servers.
    pub fn start_all(&mut self) {
        self.start(Node::Meta);
        let servers: Vec<_> = self.servers.keys().copied().collect();
        for server in servers {
            self.start(Node::Server(server));
        }
    }

    /// Adds a client that follows the view, or one that is pinned to a server.
    pub fn add_client(&mut self, pinned: Option<ServerId>, workload: Option<Workload>) -> ClientId {
        let id = ClientId(self.clients.len() as u16);
        let session = SessionId(u128::from(self.rng.next_u64()) << 16 | u128::from(id.0));
        let machine = match pinned {
            Some(server) => ClientMachine::Pinned(Pinned::new(server, session)),
            None => {
                let settings = SessionSettings::new(session, self.rng.next_u64());
                ClientMachine::Session(Box::new(Session::new(settings)))
            }
        };
        let host = Host::new(World::draw_clock(&self.settings, &mut self.rng));
        let running = ClientProcess {
            number: self.next_process(),
            machine,
            wanted: BTreeMap::new(),
            flying: BTreeMap::new(),
            workload,
            outcomes: BTreeMap::new(),
            wake: None,
            asking: false,
        };
        self.clients.insert(id, ClientNode { host, running });
        if running_on_its_own(&self.clients[&id]) {
            self.agenda.enter(self.now(), Event::Wish { client: id });
        }
        id
    }

    pub(super) fn next_process(&mut self) -> Process {
        self.process_last += 1;
        Process(self.process_last)
    }

    /// True time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.agenda.now()
    }

    /// Begins an operation of a client, to be done within `patience` by the client's clock.
    pub fn submit(
        &mut self,
        client: ClientId,
        operation: Operation,
        patience: Span,
    ) -> OperationId {
        self.operation_last += 1;
        let id = OperationId(self.operation_last);
        let set = operation.key_set(self.settings.key_sets);
        self.learn(Fact::Invoked { operation: id, set, what: &operation });
        let Some(node) = self.clients.get_mut(&client) else { return id };
        node.running.flying.insert(id, (operation.clone(), None));
        let deadline = node.host.clock.read(self.agenda.now()) + patience;
        let process = node.running.number;
        let input = SessionInput::Submit { call: CallId(id.0), operation, deadline };
        self.hand_in(Node::Client(client), process, Input::Client(input));
        id
    }

    /// The number that the next operation will have: makes its value unique.
    #[must_use]
    pub fn next_operation(&self) -> u64 {
        self.operation_last + 1
    }

    /// Judges a fact and takes it in.
    pub(super) fn learn(&mut self, fact: Fact<'_>) {
        let at = self.agenda.now();
        if self.violation.is_none() {
            self.violation = self.invariants.judge(at, &fact, &self.truth).err();
        }
        self.truth.take(&fact);
    }

    /// Events that may happen next: the earliest of each lane, timer and process.
    #[must_use]
    pub fn enabled(&self) -> Vec<Entered> {
        self.agenda.iter().map(|(entered, _)| entered).collect()
    }

    /// Lets one of the enabled events happen.
    pub fn step_to(&mut self, entered: Entered) {
        if let Some(event) = self.agenda.take(entered) {
            self.happen(event);
        }
    }

    /// Lets the next event happen; false if there is none.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.agenda.pop() else { return false };
        self.happen(event);
        if self.trace.steps() > self.steps_max && self.violation.is_none() {
            let words = format!("{} inputs, and no end", self.trace.steps());
            self.violation = Some(Violation { at: self.now(), invariant: "livelock", words });
        }
        true
    }

    /// Lets everything happen that is due in the next `span`, or until a rule is broken.
    pub fn run(&mut self, span: Span) {
        let end = self.now() + span;
        while self.violation.is_none() && self.agenda.next_time().is_some_and(|at| at <= end) {
            self.step();
        }
        self.agenda.advance(end);
    }

    /// Runs until `done`, for at most `span`; tells whether it came to that.
    pub fn run_until(&mut self, span: Span, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now() + span;
        while !done(self) {
            let due = self.agenda.next_time().is_some_and(|at| at <= end);
            if !due || self.violation.is_some() {
                return false;
            }
            self.step();
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, process } => self.tick(node, process),
            Event::Lane { link, to, channel } => self.lane_due(link, to, channel),
            Event::Datagram { link, to, payload } => self.datagram_due(link, to, payload),
            Event::Dial { node, process, target } => self.dial(node, process, target),
            Event::DialFailed { client, process, peer } => {
                self.client_dial_failed(client, process, peer);
            }
            Event::Accept { link } => self.accept(link),
            Event::Up { link } => self.up(link),
            Event::Down { link, side } => self.down(link, side),
            Event::IdleCheck { link } => self.idle_check(link),
            Event::Completed { server, process, input } => {
                self.synced(server, process);
                self.hand_in(Node::Server(server), process, Input::Worker(input));
            }
            Event::Persisted { process } => self.persisted(process),
            Event::ViewAsked { client, node } => self.view_asked(client, node),
            Event::ViewGiven { client, view } => self.view_given(client, view),
            Event::Wish { client } => self.wish(client),
            Event::Thaw { node } => self.thaw(node),
            Event::Start { node } => self.start(node),
            Event::ExitSeen { server, process } => {
                let input = MetaInput::ProcessExited { server, process: process.0 };
                self.hand_to_meta(input);
            }
            Event::Fault(fault) => self.strike(fault),
        }
    }

    fn tick(&mut self, node: Node, process: Process) {
        if let Some(fate) = self.fate_mut(node, process) {
            fate.wake = None;
        }
        let input = match node {
            Node::Meta => Input::Meta(MetaInput::Tick),
            Node::Server(_) => Input::Worker(WorkerInput::Tick),
            Node::Client(client) => {
                if let Some(node) = self.clients.get_mut(&client) {
                    node.running.wake = None;
                }
                Input::Client(SessionInput::Tick)
            }
        };
        self.hand_in(node, process, input);
    }

    /// Hands an input to the process, which still has to be there: at once, or after its pause.
    pub(super) fn hand_in(&mut self, node: Node, process: Process, input: Input) {
        if self.alive_at(node) != Some(process) {
            return;
        }
        let Some(host) = self.host_mut(node) else { return };
        if host.frozen_until.is_some() {
            host.deferred.push_back((process, input));
            return;
        }
        match (node, input) {
            (Node::Meta, Input::Meta(input)) => self.handle_meta(input),
            (Node::Server(server), Input::Worker(input)) => self.handle_worker(server, input),
            (Node::Client(client), Input::Client(input)) => self.handle_client(client, input),
            (node, input) => unreachable!("{node} has no use for {input:?}"),
        }
        self.set_timer(node);
    }

    pub(super) fn hand_to_meta(&mut self, input: MetaInput) {
        if let Some(process) = self.alive_at(Node::Meta) {
            self.hand_in(Node::Meta, process, Input::Meta(input));
        }
    }

    /// Enters the machine's next tick, and takes back the one that was entered before.
    pub(super) fn set_timer(&mut self, node: Node) {
        let Some(process) = self.alive_at(node) else { return };
        let deadline = match node {
            Node::Meta => self.meta.running.as_ref().and_then(|it| it.machine.deadline()),
            Node::Server(server) => self.running(server).and_then(|it| it.worker.deadline()),
            Node::Client(client) => {
                self.clients.get(&client).and_then(|it| it.running.machine.deadline())
            }
        };
        let Some(clock) = self.host_mut(node).map(|host| host.clock) else { return };
        let known = self.wake_of(node);
        if known.map(|wake| wake.deadline) == deadline {
            return;
        }
        if let Some(known) = known {
            self.agenda.take_back(known.entered);
        }
        let now = self.now();
        let late = self.lateness();
        let wake = deadline.map(|deadline| {
            // What is due already needs no timer of the system, and so is not late.
            let due = clock.when(deadline);
            let at = if due <= now { now + Span::from_micros(1) } else { due + late };
            Wake { deadline, entered: self.agenda.enter(at, Event::Tick { node, process }) }
        });
        self.set_wake(node, wake);
    }

    fn lateness(&mut self) -> Span {
        let late = self.settings.tick_late;
        if late == Span::ZERO { late } else { self.rng.span(Span::ZERO, late) }
    }

    fn wake_of(&self, node: Node) -> Option<Wake> {
        match node {
            Node::Meta => self.meta.running.as_ref()?.fate.wake,
            Node::Server(server) => self.running(server)?.fate.wake,
            Node::Client(client) => self.clients.get(&client)?.running.wake,
        }
    }

    fn set_wake(&mut self, node: Node, wake: Option<Wake>) {
        match node {
            Node::Client(client) => {
                if let Some(node) = self.clients.get_mut(&client) {
                    node.running.wake = wake;
                }
            }
            Node::Meta | Node::Server(_) => {
                let Some(process) = self.alive_at(node) else { return };
                if let Some(fate) = self.fate_mut(node, process) {
                    fate.wake = wake;
                }
            }
        }
    }

    /// The timer and the crash of a process that runs the metaserver or a server.
    pub(super) fn fate_mut(&mut self, node: Node, process: Process) -> Option<&mut Fate> {
        match node {
            Node::Meta => {
                let running = self.meta.running.as_mut()?;
                (running.number == process).then_some(&mut running.fate)
            }
            Node::Server(server) => {
                let running = self.servers.get_mut(&server)?.running.as_mut()?;
                (running.number == process).then_some(&mut running.fate)
            }
            Node::Client(_) => None,
        }
    }
}

fn running_on_its_own(client: &ClientNode) -> bool {
    client.running.workload.is_some()
}
