//! The schedule: which faults strike when, all from one seed before anything begins.
//!
//! Kinds are dealt like cards: each of them once, in a random order, then anew. A step is one
//! kind's fault, or several at once; after each the network rests a moment, often too short for
//! the cluster to recover.

use std::fmt::Write;

use tandem::protocol::time::Span;
use tandem::sim::rng::Rng;

use super::kind::Kind;
use crate::nodes::{Edge, Node};
use crate::relay::Impairment;

/// What is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Edges are impaired; with `flap`, for this long at a time, and as long not.
    Impair { edges: Vec<Edge>, what: Impairment, flap: Option<Span> },
    /// A server is killed, and started again at the end.
    Kill { server: u8 },
    /// A process stands still.
    Pause { node: Node },
    /// The metaserver is killed, and started again at the end.
    KillMeta,
    /// Every server is stopped in order and started again.
    Restart,
}

/// A fault of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Planned {
    pub kind: Kind,
    /// After the beginning of its step.
    pub at: Span,
    pub lasts: Span,
    /// In words: what strikes whom.
    pub label: String,
    pub action: Action,
}

impl Planned {
    /// The server whose memory it destroys.
    pub fn victim(&self) -> Option<u8> {
        match self.action {
            Action::Kill { server } => Some(server),
            Action::Impair { .. } | Action::Pause { .. } | Action::KillMeta | Action::Restart => {
                None
            }
        }
    }
}

/// Faults that belong together, and the rest after them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    pub faults: Vec<Planned>,
    pub rest: Span,
}

/// Who can be struck.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub servers: u8,
    pub clients: u8,
    /// Servers that may be killed before the cluster is whole again.
    pub kills: u8,
}

/// An endless schedule.
pub struct Schedule {
    rng: Rng,
    cast: Cast,
    kinds: Vec<Kind>,
    /// Kinds that are still to come before all come again.
    deck: Vec<Kind>,
}

impl Schedule {
    pub fn new(seed: u64, cast: Cast, kinds: Vec<Kind>) -> Schedule {
        Schedule { rng: Rng::new(seed), cast, kinds, deck: Vec::new() }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
        }
        let card = self.rng.below(self.deck.len() as u64) as usize;
        let kind = self.deck.swap_remove(card);
        let faults = match kind {
            Kind::Storm => self.storm(),
            Kind::Kill => self.kills(),
            other => vec![self.one(other)],
        };
        Step { faults, rest: self.span(200, 3_000) }
    }

    fn span(&mut self, low_ms: u64, high_ms: u64) -> Span {
        Span::from_millis(self.rng.between(low_ms, high_ms))
    }

    fn server(&mut self) -> u8 {
        self.rng.between(1, u64::from(self.cast.servers)) as u8
    }

    fn one(&mut self, kind: Kind) -> Planned {
        match kind {
            Kind::Cut => self.cut(),
            Kind::Flap => self.flap(),
            Kind::Isolate => self.isolate(),
            Kind::Loss | Kind::Delay | Kind::Duplicate | Kind::Corrupt | Kind::Rate => {
                self.bad_lines(kind)
            }
            Kind::Pause => {
                let server = self.server();
                self.pause(Kind::Pause, Node::Server(server))
            }
            Kind::PauseMeta => self.pause(Kind::PauseMeta, Node::Meta),
            Kind::KillMeta => self.kill_meta(),
            Kind::Kill | Kind::Restart | Kind::Storm => Planned {
                kind: Kind::Restart,
                at: Span::ZERO,
                lasts: Span::ZERO,
                label: "restart every server in turn".to_owned(),
                action: Action::Restart,
            },
            Kind::Power => unreachable!("power cuts go by rounds, not by a schedule"),
        }
    }

    /// A pair of nodes: each kind of pair as often as the others.
    fn pair(&mut self) -> (Node, Node) {
        let server = self.server();
        match self.rng.below(3) {
            0 if self.cast.servers > 1 => {
                let skip = self.rng.between(1, u64::from(self.cast.servers) - 1) as u8;
                let other = (server - 1 + skip) % self.cast.servers + 1;
                (Node::Server(server), Node::Server(other))
            }
            1 => {
                let client = self.rng.between(1, u64::from(self.cast.clients)) as u8;
                (Node::Client(client), Node::Server(server))
            }
            _ => (Node::Server(server), Node::Meta),
        }
    }

    /// One direction between a pair or both, in words as well.
    fn link(&mut self) -> (Vec<Edge>, String) {
        let (a, b) = self.pair();
        match self.rng.below(3) {
            0 => (vec![Edge::new(a, b)], format!("{a} -> {b}")),
            1 => (vec![Edge::new(b, a)], format!("{b} -> {a}")),
            _ => (Edge::both(a, b).to_vec(), format!("{a} <-> {b}")),
        }
    }

    fn cut(&mut self) -> Planned {
        let (edges, words) = self.link();
        let action = Action::Impair { edges, what: Impairment::CUT, flap: None };
        self.planned(Kind::Cut, (500, 6_000), words, action)
    }

    fn flap(&mut self) -> Planned {
        let (edges, words) = self.link();
        let half = self.span(50, 900);
        let words = format!("{words} every {} ms", half.as_millis());
        let action = Action::Impair { edges, what: Impairment::CUT, flap: Some(half) };
        self.planned(Kind::Flap, (2_000, 6_000), words, action)
    }

    fn isolate(&mut self) -> Planned {
        let node = match self.rng.below(5) {
            0 => Node::Meta,
            1 => Node::Client(self.rng.between(1, u64::from(self.cast.clients)) as u8),
            _ => Node::Server(self.server()),
        };
        let edges = self.edges_of(node);
        let action = Action::Impair { edges, what: Impairment::CUT, flap: None };
        self.planned(Kind::Isolate, (500, 6_000), node.to_string(), action)
    }

    /// Packets lost, late, doubled, corrupt or few, at one node or everywhere.
    fn bad_lines(&mut self, kind: Kind) -> Planned {
        let (edges, whom) = if self.rng.below(2) == 0 {
            let server = Node::Server(self.server());
            (self.edges_of(server), server.to_string())
        } else {
            (self.edges_of_all(), "all".to_owned())
        };
        let mut what = Impairment::default();
        let mut words = whom;
        // Writing to a string does not fail.
        let _ = match kind {
            Kind::Delay => {
                what.delay = self.span(0, 40);
                what.jitter = self.span(1, 60);
                let (least, most) = (what.delay.as_millis(), what.jitter.as_millis());
                write!(words, ": {least} to {} ms late", least + most)
            }
            Kind::Duplicate => {
                what.duplicate_ppm = self.percent(5, 50);
                what.jitter = self.span(0, 20);
                write!(words, ": {} % twice", what.duplicate_ppm / 10_000)
            }
            Kind::Corrupt => {
                what.corrupt_ppm = self.percent(1, 20);
                write!(words, ": {} % corrupt", what.corrupt_ppm / 10_000)
            }
            Kind::Rate => {
                let kib = self.rng.between(24, 400);
                what.bytes_per_s = Some(kib << 10);
                write!(words, ": {kib} KiB a second")
            }
            _ => {
                what.loss_ppm = self.percent(1, 30);
                write!(words, ": {} % lost", what.loss_ppm / 10_000)
            }
        };
        let action = Action::Impair { edges, what, flap: None };
        self.planned(kind, (2_000, 6_000), words, action)
    }

    fn percent(&mut self, low: u64, high: u64) -> u64 {
        self.rng.between(low, high) * 10_000
    }

    /// One server killed, or as many as there are copies to lose, one shortly after the other.
    fn kills(&mut self) -> Vec<Planned> {
        let first = self.server();
        let kills = self.rng.between(1, u64::from(self.cast.kills)) as u8;
        (0..kills)
            .map(|number| {
                let mut kill = self.kill((first - 1 + number) % self.cast.servers + 1);
                kill.at = if number == 0 { Span::ZERO } else { self.span(0, 900) };
                kill
            })
            .collect()
    }

    fn kill(&mut self, server: u8) -> Planned {
        let down = match self.rng.below(3) {
            0 => Span::ZERO,
            1 => self.span(50, 400),
            _ => self.span(500, 4_000),
        };
        let words = format!("server {server}, back after {} ms", down.as_millis());
        let at = Span::ZERO;
        Planned { kind: Kind::Kill, at, lasts: down, label: words, action: Action::Kill { server } }
    }

    fn pause(&mut self, kind: Kind, node: Node) -> Planned {
        let lasts = match self.rng.below(3) {
            0 => self.span(160, 400),
            _ => self.span(450, 4_000),
        };
        let label = format!("{node} for {} ms", lasts.as_millis());
        Planned { kind, at: Span::ZERO, lasts, label, action: Action::Pause { node } }
    }

    fn kill_meta(&mut self) -> Planned {
        let lasts = self.span(0, 4_000);
        let label = format!("back after {} ms", lasts.as_millis());
        Planned { kind: Kind::KillMeta, at: Span::ZERO, lasts, label, action: Action::KillMeta }
    }

    /// Kills and, within the next moments, everything else that destroys no memory.
    fn storm(&mut self) -> Vec<Planned> {
        let mut faults = self.kills();
        let mut others = vec![self.kill_meta()];
        let alive = (1..=self.cast.servers)
            .filter(|it| faults.iter().all(|kill| kill.victim() != Some(*it)));
        let alive: Vec<u8> = alive.collect();
        if let Some(&server) = self.rng.pick(&alive) {
            others.push(self.pause(Kind::Pause, Node::Server(server)));
        }
        others.push(self.cut());
        for kind in [Kind::Loss, Kind::Delay, Kind::Duplicate, Kind::Corrupt] {
            others.push(self.bad_lines(kind));
        }
        for mut fault in others {
            fault.at = self.span(0, 1_500);
            faults.push(fault);
        }
        faults
    }

    fn planned(&mut self, kind: Kind, ms: (u64, u64), label: String, action: Action) -> Planned {
        Planned { kind, at: Span::ZERO, lasts: self.span(ms.0, ms.1), label, action }
    }

    /// All that a node sends and receives, the observer apart.
    fn edges_of(&self, node: Node) -> Vec<Edge> {
        let others = self.nodes().into_iter().filter(|&it| it != node);
        others.flat_map(|other| Edge::both(node, other)).collect()
    }

    fn edges_of_all(&self) -> Vec<Edge> {
        let nodes = self.nodes();
        nodes
            .iter()
            .flat_map(|&from| nodes.iter().map(move |&to| Edge::new(from, to)))
            .filter(|it| it.from != it.to)
            .collect()
    }

    fn nodes(&self) -> Vec<Node> {
        let all = Node::all(self.cast.servers, self.cast.clients);
        all.into_iter().filter(|&it| it != Node::Observer).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a seed gives one schedule, every kind comes, and the observer is never struck.
    //! Method: draw schedules and look at their steps.

    use std::collections::BTreeSet;

    use super::*;

    const CAST: Cast = Cast { servers: 3, clients: 3, kills: 1 };

    fn steps(seed: u64, count: usize) -> Vec<Step> {
        let mut schedule = Schedule::new(seed, CAST, Kind::ALL.to_vec());
        (0..count).map(|_| schedule.step()).collect()
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        assert_eq!(steps(7, 100), steps(7, 100));
        assert_ne!(steps(7, 100), steps(8, 100));
    }

    #[test]
    fn every_kind_comes_once_a_round() {
        for seed in 0..20 {
            let first = steps(seed, Kind::ALL.len());
            let storms = first.iter().filter(|it| it.faults.len() > 1).count();
            let singles = first.iter().filter(|it| it.faults.len() == 1);
            let kinds: BTreeSet<Kind> = singles.map(|it| it.faults[0].kind).collect();
            assert_eq!((storms, kinds.len()), (1, Kind::ALL.len() - 1));
        }
    }

    #[test]
    fn the_observer_is_never_struck() {
        for planned in steps(7, 500).iter().flat_map(|it| &it.faults) {
            if let Action::Impair { edges, .. } = &planned.action {
                assert!(!edges.is_empty());
                for edge in edges {
                    assert!(edge.from != edge.to, "{planned:?}");
                    assert!(edge.from != Node::Observer && edge.to != Node::Observer);
                }
            }
        }
    }

    #[test]
    fn a_step_kills_within_the_budget_and_begins_with_it() {
        for kills in 1..=2 {
            let mut schedule = Schedule::new(7, Cast { kills, ..CAST }, Kind::ALL.to_vec());
            let mut most = 0;
            for step in (0..500).map(|_| schedule.step()) {
                let victims: Vec<u8> = step.faults.iter().filter_map(Planned::victim).collect();
                let different: BTreeSet<u8> = victims.iter().copied().collect();
                assert_eq!(different.len(), victims.len(), "{step:?}");
                most = most.max(victims.len());
                if !victims.is_empty() {
                    let first = &step.faults[0];
                    assert!(first.victim().is_some() && first.at == Span::ZERO, "{step:?}");
                }
            }
            assert_eq!(most, usize::from(kills));
        }
    }

    #[test]
    fn every_kind_of_pair_is_cut_each_way_and_both() {
        let mut seen = BTreeSet::new();
        for planned in steps(7, 2_000).iter().flat_map(|it| &it.faults) {
            let Action::Impair { edges, .. } = &planned.action else { continue };
            if planned.kind == Kind::Cut {
                let rank = |it: Node| match it {
                    Node::Meta => 0,
                    Node::Server(_) => 1,
                    Node::Client(_) => 2,
                    Node::Observer => 3,
                };
                seen.insert((rank(edges[0].from), rank(edges[0].to), edges.len()));
            }
        }
        // Server to server one way and both; to and from meta and clients, and both ways.
        assert_eq!(seen.len(), 8, "{seen:?}");
    }
}
