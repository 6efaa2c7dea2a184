//! Faults: what may go wrong with nodes and with what is between them.
//!
//! Where a world is under siege, that is where faults come from a random driver, a fault that
//! would go beyond the budget does not happen, and every one that does is counted.

use std::collections::{BTreeMap, BTreeSet};

use super::coverage::{Cell, Coverage, Role};
use super::node::Input;
use super::world::{Event, World};
use super::{Node, Process};
use crate::protocol::effect::WorkerInput;
use crate::protocol::meta::durable::Step;
use crate::protocol::space::{Level, Space};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::ServerId;

/// One thing that goes wrong, or ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The process is gone, with its memory; what a durable server had synced stays.
    Kill(Node),
    /// The process is gone, and so is the server's disk.
    Wipe(ServerId),
    /// It dies after performing that many more effects, in the middle of a step.
    KillSoon(Node, u32),
    /// All processes of servers and the metaserver are gone, with whatever was not synced.
    Power,
    Start(Node),
    Freeze(Node, Span),
    /// One direction.
    Cut(Node, Node),
    /// Both directions.
    CutBoth(Node, Node),
    /// Cut both ways and mended again and again, that many times, after this span each.
    Flap(Node, Node, Span, u32),
    /// From all other servers and the metaserver, both directions.
    Isolate(Node),
    /// Asked to stop in good order.
    Stop(ServerId),
    /// Its store completes nothing for a while.
    Stall(ServerId, Span),
    Mend(Node, Node),
    MendAll,
    /// It measures that it is so full.
    Space(ServerId, Level),
}

/// The kinds of faults, for choosing and for counting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Kind {
    Kill,
    Wipe,
    Crash,
    Freeze,
    CutOneWay,
    CutBothWays,
    Flap,
    Isolate,
    Stop,
    Stall,
}

pub const KINDS: [Kind; 10] = [
    Kind::Kill,
    Kind::Wipe,
    Kind::Crash,
    Kind::Freeze,
    Kind::CutOneWay,
    Kind::CutBothWays,
    Kind::Flap,
    Kind::Isolate,
    Kind::Stop,
    Kind::Stall,
];

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Wipe => "loss of disk",
            Kind::Crash => "crash",
            Kind::Freeze => "freeze",
            Kind::CutOneWay => "cut one way",
            Kind::CutBothWays => "cut both ways",
            Kind::Flap => "flapping cut",
            Kind::Isolate => "isolation",
            Kind::Stop => "stop",
            Kind::Stall => "store stall",
        }
    }
}

impl Fault {
    /// The kind, for counting; none if this ends something. A crash counts when it happens, and a
    /// power cut apart from all others.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        match self {
            Fault::Kill(_) => Some(Kind::Kill),
            Fault::Wipe(_) => Some(Kind::Wipe),
            Fault::Freeze(..) => Some(Kind::Freeze),
            Fault::Cut(..) => Some(Kind::CutOneWay),
            Fault::CutBoth(..) => Some(Kind::CutBothWays),
            Fault::Flap(..) => Some(Kind::Flap),
            Fault::Isolate(_) => Some(Kind::Isolate),
            Fault::Stop(_) => Some(Kind::Stop),
            Fault::Stall(..) => Some(Kind::Stall),
            Fault::KillSoon(..) | Fault::Power => None,
            Fault::Start(_) | Fault::Mend(..) | Fault::MendAll | Fault::Space(..) => None,
        }
    }

    /// Whom it befalls.
    fn victims(self) -> [Option<Node>; 2] {
        match self {
            Fault::Kill(node)
            | Fault::KillSoon(node, _)
            | Fault::Freeze(node, _)
            | Fault::Isolate(node) => [Some(node), None],
            Fault::Stop(server) | Fault::Stall(server, _) | Fault::Wipe(server) => {
                [Some(Node::Server(server)), None]
            }
            Fault::Cut(from, to) | Fault::CutBoth(from, to) | Fault::Flap(from, to, ..) => {
                [Some(from), Some(to)]
            }
            Fault::Power | Fault::Start(_) | Fault::Mend(..) | Fault::MendAll => [None, None],
            Fault::Space(..) => [None, None],
        }
    }
}

/// What a random driver keeps of its faults.
#[derive(Clone, Debug, Default)]
pub struct Siege {
    /// Everything that struck or ended, with its true time.
    pub strikes: Vec<(Time, Fault)>,
    pub coverage: Coverage,
    /// Servers that were asked to stop, until they are gone.
    pub leaving: BTreeSet<Process>,
    /// How full each server is; empty where nothing is measured.
    pub levels: BTreeMap<ServerId, Level>,
}

impl Siege {
    /// How often the power was cut.
    #[must_use]
    pub fn power_cuts(&self) -> u64 {
        self.strikes.iter().filter(|(_, fault)| *fault == Fault::Power).count() as u64
    }
}

impl World {
    /// Enters a fault.
    pub fn plan(&mut self, after: Span, fault: Fault) {
        self.agenda.enter(self.now() + after, Event::Fault(fault));
    }

    /// Lets a fault strike now.
    pub fn strike(&mut self, fault: Fault) {
        let now = self.now();
        if self.siege.is_some() {
            if !self.is_within_budget(fault) {
                return;
            }
            let cells = fault.kind().map(|kind| self.cells(kind, fault.victims()));
            if let Some(siege) = &mut self.siege {
                siege.strikes.push((now, fault));
                if let Some(cells) = cells {
                    siege.coverage.fault(cells);
                }
            }
        }
        self.trace.say(now, || format!("*** {fault:?}"));
        match fault {
            Fault::Kill(node) => self.kill(node),
            Fault::Wipe(server) => self.wipe(server),
            Fault::KillSoon(node, effects) => self.set_fuse(node, Some(effects)),
            Fault::Power => self.cut_power(),
            Fault::Start(node) => self.start(node),
            Fault::Freeze(node, span) => self.freeze(node, span),
            Fault::Cut(from, to) => self.cut(from, to),
            Fault::CutBoth(one, other) => {
                self.cut(one, other);
                self.cut(other, one);
            }
            Fault::Flap(one, other, span, times) => self.flap(one, other, span, times),
            Fault::Isolate(node) => self.isolate(node),
            Fault::Stop(server) => {
                if let Some(process) = self.alive_at(Node::Server(server))
                    && let Some(siege) = &mut self.siege
                {
                    siege.leaving.insert(process);
                }
                self.ask_to_stop(server);
            }
            Fault::Stall(server, span) => self.stall(server, span),
            Fault::Mend(one, other) => {
                self.mend(one, other);
                self.mend(other, one);
            }
            Fault::MendAll => self.mend_all(),
            Fault::Space(server, level) => {
                if let Some(siege) = &mut self.siege {
                    siege.levels.insert(server, level);
                }
                self.measure(server);
            }
        }
    }

    /// Ends all faults: what was cut is mended, what was to strike later never will.
    pub fn make_peace(&mut self) {
        let strikes = |event: &Event| match event {
            Event::Fault(Fault::Start(_)) => false,
            Event::Fault(_) => true,
            _ => false,
        };
        let due = self.agenda.iter().filter(|(_, event)| strikes(event));
        let due: Vec<_> = due.map(|(entered, _)| entered).collect();
        for entered in due {
            self.agenda.take_back(entered);
        }
        let servers: Vec<_> = self.servers.keys().copied().map(Node::Server).collect();
        for node in servers.into_iter().chain([Node::Meta]) {
            self.set_fuse(node, None);
        }
        let levels = self.siege.iter().flat_map(|siege| &siege.levels);
        let full: Vec<_> = levels.filter(|it| *it.1 > Level::Ok).map(|it| *it.0).collect();
        for server in full {
            self.strike(Fault::Space(server, Level::Ok));
        }
        self.strike(Fault::MendAll);
    }

    /// A server that runs measures how full it is.
    pub(super) fn measure(&mut self, server: ServerId) {
        let levels = self.siege.as_ref().map(|siege| &siege.levels);
        let Some(&level) = levels.and_then(|levels| levels.get(&server)) else { return };
        let Some(process) = self.alive_at(Node::Server(server)) else { return };
        let used = match level {
            Level::Ok => 500,
            Level::Soft => 860,
            Level::High => 920,
            Level::Hard => 970,
        };
        let space = Space { level, used, capacity: 1_000, ..Space::default() };
        self.hand_in(Node::Server(server), process, Input::Worker(WorkerInput::Space { space }));
    }

    fn cut_power(&mut self) {
        let servers: Vec<_> = self.servers.keys().copied().map(Node::Server).collect();
        self.kill(Node::Meta);
        servers.into_iter().for_each(|node| self.kill(node));
    }

    fn isolate(&mut self, node: Node) {
        let servers = self.servers.keys().copied().map(Node::Server);
        let others: Vec<_> = servers.chain([Node::Meta]).collect();
        for other in others.into_iter().filter(|&it| it != node) {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    fn flap(&mut self, one: Node, other: Node, span: Span, times: u32) {
        self.cut(one, other);
        self.cut(other, one);
        self.plan(span, Fault::Mend(one, other));
        if times > 1 {
            self.plan(span + span, Fault::Flap(one, other, span, times - 1));
        }
    }

    /// Holds up the completions of a server's store.
    fn stall(&mut self, server: ServerId, span: Span) {
        let until = self.now() + span;
        if let Some(running) = self.running_mut(server) {
            running.completed_last = running.completed_last.max(until);
        }
    }

    /// Sets or takes back the crash that a process is heading for.
    fn set_fuse(&mut self, node: Node, effects: Option<u32>) {
        if let Some(process) = self.alive_at(node)
            && let Some(fate) = self.fate_mut(node, process)
        {
            fate.fuse = effects;
        }
    }

    /// A crash is due: whether it happens, as far as the budget is concerned.
    pub(super) fn crashes(&mut self, node: Node) -> bool {
        if self.siege.is_none() {
            return true;
        }
        if !self.is_within_budget(Fault::Kill(node)) {
            self.set_fuse(node, None);
            return false;
        }
        let cells = self.cells(Kind::Crash, [Some(node), None]);
        if let Some(siege) = &mut self.siege {
            siege.coverage.fault(cells);
        }
        true
    }

    /// The cells that a fault of `kind` hits now.
    fn cells(&self, kind: Kind, victims: [Option<Node>; 2]) -> Vec<Cell> {
        let mut steps: Vec<Option<Step>> = self
            .meta
            .disk
            .recoveries()
            .map(|recovery| recovery.step)
            .filter(|&step| step != Step::Done)
            .map(Some)
            .collect();
        steps.sort_unstable();
        steps.dedup();
        if steps.is_empty() {
            steps.push(None);
        }
        let mut roles: Vec<Role> =
            victims.into_iter().flatten().flat_map(|it| self.roles(it)).collect();
        roles.sort_unstable();
        roles.dedup();
        let cells = roles.into_iter().flat_map(|role| {
            let steps = &steps;
            steps.iter().map(move |&step| (kind, role, step))
        });
        cells.collect()
    }

    /// What a node is, in the key sets that it holds.
    #[must_use]
    pub fn roles(&self, node: Node) -> BTreeSet<Role> {
        let server = match node {
            Node::Meta => return BTreeSet::from([Role::Metaserver]),
            Node::Server(server) => server,
            Node::Client(_) => return BTreeSet::new(),
        };
        let Some(running) = self.running(server) else { return BTreeSet::new() };
        let roles: BTreeSet<_> = running
            .worker
            .replicas()
            .iter()
            .filter_map(|replica| {
                let held = [
                    (replica.is_primary(), Role::Primary),
                    (replica.is_secondary(), Role::Secondary),
                    (replica.is_learner(), Role::Learner),
                ];
                held.into_iter().find(|(holds, _)| *holds).map(|(_, role)| role)
            })
            .collect();
        if roles.is_empty() { BTreeSet::from([Role::Outsider]) } else { roles }
    }
}
