//! The network: connections like those of QUIC, and the cuts that a run puts between nodes.
//!
//! ```text
//!   lane       ordered, never loses a message while the connection lives; a cut makes it stall
//!   datagram   may be lost, doubled or overtaken; a cut makes it vanish
//!   connection dies when one direction was blocked for the idle time; its two ends notice at
//!              different moments; nothing of it arrives after an end has noticed
//! ```
//!
//! This file knows who is connected and what is on its way. When things arrive is the world's
//! business: it enters the events that this file's answers call for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::rng::Rng;
use super::{Node, Process};
use crate::protocol::message::{Answer, PeerMessage, Purpose, Request, ToMeta, ToServer};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{KeySet, LinkId};

/// How the network treats what it carries.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSettings {
    /// Most messages take from `delay_min` to `delay_max`.
    pub delay_min: Span,
    pub delay_max: Span,
    /// That many in a million take up to `tail_max`.
    pub tail_ppm: u64,
    pub tail_max: Span,
    /// Datagrams that vanish, and that arrive twice, in a million.
    pub drop_ppm: u64,
    pub double_ppm: u64,
    /// A connection that was blocked for this long is dead.
    pub idle: Span,
    /// The longest pause between attempts to connect.
    pub reconnect_max: Span,
}

impl NetworkSettings {
    /// A quiet network: every message takes the same short time and none is lost.
    #[must_use]
    pub fn quiet() -> NetworkSettings {
        NetworkSettings {
            delay_min: Span::from_micros(200),
            delay_max: Span::from_micros(200),
            tail_ppm: 0,
            tail_max: Span::ZERO,
            drop_ppm: 0,
            double_ppm: 0,
            idle: Span::from_millis(3_000),
            reconnect_max: Span::from_millis(200),
        }
    }

    /// How long one message is on its way.
    pub fn delay(&self, rng: &mut Rng) -> Span {
        if rng.chance(self.tail_ppm) {
            return rng.span(self.delay_max, self.tail_max.max(self.delay_max));
        }
        rng.span(self.delay_min, self.delay_max)
    }
}

/// What a connection carries.
#[derive(Clone, Debug, Hash)]
pub enum Payload {
    Peer(PeerMessage),
    ToMeta(ToMeta),
    ToServer(ToServer),
    Request { number: u64, request: Request },
    Answer { number: u64, answer: Answer },
}

/// A stream of a connection: what is ordered with what.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Channel {
    Control,
    Set(KeySet),
    Bulk(KeySet),
}

/// One end of a connection: the side that dialled, or the side that accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Acceptor,
            Side::Acceptor => Side::Dialler,
        }
    }

    fn index(self) -> usize {
        match self {
            Side::Dialler => 0,
            Side::Acceptor => 1,
        }
    }
}

/// How far an end of a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Phase {
    Dialling,
    Up,
    Down,
}

/// A node's end of a connection.
#[derive(Clone, Copy, Debug, Hash)]
pub struct End {
    pub node: Node,
    pub process: Process,
    pub phase: Phase,
}

/// Messages on their way on one stream, with the earliest time that each may arrive.
#[derive(Clone, Debug, Default)]
pub struct LaneQueue {
    pub messages: VecDeque<(Time, Payload)>,
    /// An event is entered that looks at the head.
    pub awaited: bool,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Link {
    pub purpose: Purpose,
    ends: [End; 2],
    /// By the side that receives.
    lanes: [BTreeMap<Channel, LaneQueue>; 2],
}

impl Link {
    #[must_use]
    pub fn end(&self, side: Side) -> End {
        self.ends[side.index()]
    }

    pub fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.index()]
    }

    pub fn lanes_mut(&mut self, to: Side) -> &mut BTreeMap<Channel, LaneQueue> {
        &mut self.lanes[to.index()]
    }

    /// The side that `node` is on.
    #[must_use]
    pub fn side_of(&self, node: Node) -> Option<Side> {
        [Side::Dialler, Side::Acceptor].into_iter().find(|&side| self.end(side).node == node)
    }
}

/// All connections and cuts.
#[derive(Clone, Debug)]
pub struct Network {
    pub settings: NetworkSettings,
    pub links: BTreeMap<LinkId, Link>,
    link_last: u64,
    /// Directed cuts, with the time since when.
    cuts: BTreeMap<(Node, Node), Time>,
    /// Frozen nodes: nothing of theirs moves, with the time since when.
    frozen: BTreeMap<Node, Time>,
}

impl Network {
    #[must_use]
    pub fn new(settings: NetworkSettings) -> Network {
        Network {
            settings,
            links: BTreeMap::new(),
            link_last: 0,
            cuts: BTreeMap::new(),
            frozen: BTreeMap::new(),
        }
    }

    /// A new connection attempt from `dialler` to `acceptor`.
    pub fn dial(
        &mut self,
        purpose: Purpose,
        dialler: (Node, Process),
        acceptor: (Node, Process),
    ) -> LinkId {
        self.link_last += 1;
        let id = LinkId(self.link_last);
        let end = |(node, process)| End { node, process, phase: Phase::Dialling };
        let ends = [end(dialler), end(acceptor)];
        self.links.insert(id, Link { purpose, ends, lanes: Default::default() });
        id
    }

    pub fn cut(&mut self, from: Node, to: Node, now: Time) {
        self.cuts.entry((from, to)).or_insert(now);
    }

    pub fn mend(&mut self, from: Node, to: Node) {
        self.cuts.remove(&(from, to));
    }

    pub fn mend_all(&mut self) {
        self.cuts.clear();
    }

    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.len()
    }

    /// Whether any cut touches `node`.
    #[must_use]
    pub fn touches(&self, node: Node) -> bool {
        self.cuts.keys().any(|&(from, to)| from == node || to == node)
    }

    pub fn freeze(&mut self, node: Node, now: Time) {
        self.frozen.entry(node).or_insert(now);
    }

    pub fn thaw(&mut self, node: Node) {
        self.frozen.remove(&node);
    }

    #[must_use]
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Since when something has blocked packets from `from` to `to`, in a way that `to` notices.
    #[must_use]
    pub fn blocked_since(&self, from: Node, to: Node) -> Option<Time> {
        let cut = self.cuts.get(&(from, to)).copied();
        let frozen = self.frozen.get(&from).copied();
        match (cut, frozen) {
            (Some(cut), Some(frozen)) => Some(cut.min(frozen)),
            (cut, frozen) => cut.or(frozen),
        }
    }

    /// Live connections that have an end at `node`.
    #[must_use]
    pub fn links_of(&self, node: Node) -> Vec<LinkId> {
        let touches = |link: &Link| link.ends.iter().any(|end| end.node == node);
        self.links.iter().filter(|(_, link)| touches(link)).map(|(&id, _)| id).collect()
    }

    /// Live connections between two nodes.
    #[must_use]
    pub fn links_between(&self, one: Node, other: Node) -> Vec<LinkId> {
        let joins = |link: &Link| {
            let [dialler, acceptor] = link.ends.map(|end| end.node);
            (dialler, acceptor) == (one, other) || (acceptor, dialler) == (one, other)
        };
        self.links.iter().filter(|(_, link)| joins(link)).map(|(&id, _)| id).collect()
    }

    /// Puts a message on a lane. Answers when its head is to be looked at, if nobody waits for
    /// that yet; none also if the sender's end is not up.
    pub fn send(
        &mut self,
        id: LinkId,
        from: Side,
        channel: Channel,
        payload: Payload,
        arrives: Time,
    ) -> Option<Time> {
        let link = self.links.get_mut(&id)?;
        if link.end(from).phase != Phase::Up || link.end(from.other()).phase == Phase::Down {
            return None;
        }
        let lane = link.lanes_mut(from.other()).entry(channel).or_default();
        let earliest = lane.messages.back().map_or(Time(0), |(time, _)| *time);
        let arrives = arrives.max(earliest);
        lane.messages.push_back((arrives, payload));
        if lane.awaited {
            return None;
        }
        lane.awaited = true;
        lane.messages.front().map(|(time, _)| *time)
    }

    /// Takes the head of a lane if it may arrive now; also answers when to look again.
    pub fn arrive(
        &mut self,
        id: LinkId,
        to: Side,
        channel: Channel,
        now: Time,
    ) -> (Option<Payload>, Option<Time>) {
        let Some(link) = self.links.get(&id) else { return (None, None) };
        let stalled = self.is_cut(link.end(to.other()).node, link.end(to).node);
        let ready = link.end(to).phase == Phase::Up && !stalled;
        let Some(link) = self.links.get_mut(&id) else { return (None, None) };
        let Some(lane) = link.lanes_mut(to).get_mut(&channel) else { return (None, None) };
        lane.awaited = false;
        if !ready {
            return (None, None);
        }
        let payload = match lane.messages.front() {
            Some((time, _)) if *time <= now => lane.messages.pop_front().map(|(_, it)| it),
            _ => None,
        };
        let next = lane.messages.front().map(|(time, _)| (*time).max(now));
        lane.awaited = next.is_some();
        (payload, next)
    }

    /// Lanes with messages that nobody looks at, after what stalled them has ended.
    pub fn stalled(&mut self, id: LinkId) -> Vec<(Side, Channel)> {
        let Some(link) = self.links.get_mut(&id) else { return Vec::new() };
        let mut found = Vec::new();
        for to in [Side::Dialler, Side::Acceptor] {
            for (&channel, lane) in link.lanes_mut(to) {
                if !lane.awaited && !lane.messages.is_empty() {
                    lane.awaited = true;
                    found.push((to, channel));
                }
            }
        }
        found
    }

    /// Takes an end down; answers whether it was up. A connection without living ends is gone.
    pub fn take_down(&mut self, id: LinkId, side: Side) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let was_up = link.end(side).phase == Phase::Up;
        link.end_mut(side).phase = Phase::Down;
        link.lanes_mut(side).clear();
        if link.ends.iter().all(|end| end.phase == Phase::Down) {
            self.links.remove(&id);
        }
        was_up
    }

    /// Pairs of nodes that have a cut between them, either way.
    #[must_use]
    pub fn cut_pairs(&self) -> BTreeSet<(Node, Node)> {
        self.cuts.keys().map(|&(a, b)| (a.min(b), a.max(b))).collect()
    }
}
