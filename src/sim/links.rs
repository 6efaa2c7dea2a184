//! Connections in the world: dialling, what arrives on them, and how their ends learn that they
//! are gone.

use std::rc::Rc;

use super::network::{Channel, Payload, Phase, Side};
use super::node::{Host, Input, ServerProcess, Target, Wanted};
use super::world::{Event, World};
use super::{ClientId, Node, Process};
use crate::protocol::effect::{MetaInput, Ticket, WorkerInput};
use crate::protocol::message::Purpose;
use crate::protocol::session::{AttemptId, SessionInput};
use crate::protocol::time::Span;
use crate::protocol::types::{Incarnation, KeySet, LinkId, Member, Revision, ServerId, WorkerId};
use crate::protocol::view::View;

impl World {
    /// The process that runs at a node.
    #[must_use]
    pub fn alive_at(&self, node: Node) -> Option<Process> {
        match node {
            Node::Meta => self.meta.running.as_ref().map(|it| it.number),
            Node::Server(server) => self.running(server).map(|it| it.number),
            Node::Client(client) => self.clients.get(&client).map(|it| it.running.number),
        }
    }

    /// The process that runs a server.
    #[must_use]
    pub fn running(&self, server: ServerId) -> Option<&ServerProcess> {
        self.servers.get(&server)?.running.as_ref()
    }

    pub(super) fn running_mut(&mut self, server: ServerId) -> Option<&mut ServerProcess> {
        self.servers.get_mut(&server)?.running.as_mut()
    }

    pub(super) fn host_mut(&mut self, node: Node) -> Option<&mut Host> {
        match node {
            Node::Meta => Some(&mut self.meta.host),
            Node::Server(server) => self.servers.get_mut(&server).map(|it| &mut it.host),
            Node::Client(client) => self.clients.get_mut(&client).map(|it| &mut it.host),
        }
    }

    pub(super) fn is_frozen(&mut self, node: Node) -> bool {
        self.host_mut(node).is_some_and(|host| host.frozen_until.is_some())
    }

    fn wanted_mut(&mut self, node: Node) -> Option<&mut Wanted> {
        match node {
            Node::Meta => None,
            Node::Server(server) => Some(&mut self.running_mut(server)?.wanted),
            Node::Client(client) => Some(&mut self.clients.get_mut(&client)?.running.wanted),
        }
    }

    pub(super) fn delay(&mut self) -> Span {
        self.network.settings.delay(&mut self.rng)
    }

    /// Whether a server's link to the metaserver's present process is up at both ends.
    #[must_use]
    pub fn is_attached(&self, server: ServerId) -> bool {
        let link = self.running(server).and_then(|it| *it.wanted.get(&Target::Meta)?);
        let ends = link.and_then(|link| self.network.links.get(&link));
        ends.is_some_and(|it| {
            let (own, meta) = (it.end(Side::Dialler), it.end(Side::Acceptor));
            own.phase == Phase::Up
                && meta.phase == Phase::Up
                && Some(meta.process) == self.alive_at(Node::Meta)
        })
    }

    /// A link that is down at one end only.
    #[must_use]
    pub fn half_open(&self) -> Option<LinkId> {
        let mut links = self.network.links.iter();
        let half = links.find(|(_, it)| {
            let phases = [it.end(Side::Dialler).phase, it.end(Side::Acceptor).phase];
            phases.contains(&Phase::Up) && phases.contains(&Phase::Down)
        });
        half.map(|(&link, _)| link)
    }

    /// Wants a link, and dials at once if it is new.
    pub(super) fn want(&mut self, node: Node, target: Target) {
        let Some(process) = self.alive_at(node) else { return };
        let Some(wanted) = self.wanted_mut(node) else { return };
        if wanted.contains_key(&target) {
            return;
        }
        wanted.insert(target, None);
        self.agenda.enter(self.now(), Event::Dial { node, process, target });
    }

    /// Wants a link no longer, and closes it.
    pub(super) fn unwant(&mut self, node: Node, target: Target) {
        let link = self.wanted_mut(node).and_then(|wanted| wanted.remove(&target)).flatten();
        if let Some(link) = link {
            self.close(link, node);
        }
    }

    /// Closes a link from one end: the other one hears of it.
    pub(super) fn close(&mut self, link: LinkId, node: Node) {
        let Some(side) = self.network.links.get(&link).and_then(|it| it.side_of(node)) else {
            return;
        };
        let now = self.now();
        let delay = self.delay();
        self.agenda.enter(now, Event::Down { link, side });
        self.agenda.enter(now + delay, Event::Down { link, side: side.other() });
    }

    fn node_of(target: Target) -> Node {
        match target {
            Target::Meta => Node::Meta,
            Target::Peer(member) | Target::Server(member) => Node::Server(member.server),
        }
    }

    pub(super) fn dial(&mut self, node: Node, process: Process, target: Target) {
        if self.alive_at(node) != Some(process) {
            return;
        }
        let Some(wanted) = self.wanted_mut(node) else { return };
        if wanted.get(&target) != Some(&None) {
            return;
        }
        let to = World::node_of(target);
        let acceptor = self.alive_at(to);
        let cut = self.network.is_cut(node, to) || self.network.is_cut(to, node);
        let (Some(acceptor), false) = (acceptor, cut) else {
            return self.dial_failed(node, process, target);
        };
        let purpose = match target {
            Target::Meta => Purpose::Control,
            Target::Peer(_) => Purpose::Replication,
            Target::Server(_) => Purpose::Client,
        };
        let link = self.network.dial(purpose, (node, process), (to, acceptor));
        if let Some(wanted) = self.wanted_mut(node) {
            wanted.insert(target, Some(link));
        }
        let delay = self.delay() + self.delay() + self.delay();
        self.agenda.enter(self.now() + delay, Event::Accept { link });
    }

    /// A server dials again after a while; a client is told.
    fn dial_failed(&mut self, node: Node, process: Process, target: Target) {
        let longest = self.network.settings.reconnect_max;
        let pause = self.rng.span(Span::from_millis(10), longest.max(Span::from_millis(10)));
        match (node, target) {
            (Node::Client(client), Target::Server(peer)) => {
                let at = self.now() + pause;
                self.agenda.enter(at, Event::DialFailed { client, process, peer });
            }
            (Node::Meta | Node::Server(_) | Node::Client(_), _) => {
                if let Some(wanted) = self.wanted_mut(node)
                    && wanted.contains_key(&target)
                {
                    wanted.insert(target, None);
                    self.agenda.enter(self.now() + pause, Event::Dial { node, process, target });
                }
            }
        }
    }

    pub(super) fn client_dial_failed(&mut self, client: ClientId, process: Process, peer: Member) {
        let node = Node::Client(client);
        if let Some(wanted) = self.wanted_mut(node) {
            wanted.remove(&Target::Server(peer));
        }
        let input = SessionInput::ConnectFailed { peer, worker: WorkerId(0) };
        self.hand_in(node, process, Input::Client(input));
    }

    /// What a link is for, as its dialler sees it.
    fn target_of(&self, link: LinkId) -> Option<(Node, Process, Target)> {
        let end = self.network.links.get(&link)?.end(Side::Dialler);
        let wanted = match end.node {
            Node::Meta => return None,
            Node::Server(server) => &self.running(server)?.wanted,
            Node::Client(client) => &self.clients.get(&client)?.running.wanted,
        };
        let (&target, _) = wanted.iter().find(|(_, it)| **it == Some(link))?;
        Some((end.node, end.process, target))
    }

    /// Whether the process at `node` is the one that a dialler means to reach.
    fn is_meant(&self, node: Node, target: Target) -> bool {
        match (node, target) {
            (Node::Server(server), Target::Peer(member) | Target::Server(member)) => {
                let any = matches!(target, Target::Server(_)) && member.incarnation.0 == 0;
                any || self.running(server).and_then(|it| it.member) == Some(member)
            }
            (Node::Meta, Target::Meta) => true,
            (Node::Meta | Node::Server(_) | Node::Client(_), _) => false,
        }
    }

    pub(super) fn accept(&mut self, link: LinkId) {
        let Some(known) = self.network.links.get(&link) else { return };
        let (dialler, acceptor) = (known.end(Side::Dialler), known.end(Side::Acceptor));
        let purpose = known.purpose;
        let target = self.target_of(link).map(|(_, _, target)| target);
        let fits = target.is_some_and(|target| self.is_meant(acceptor.node, target));
        let alive = self.alive_at(acceptor.node) == Some(acceptor.process)
            && dialler.phase == Phase::Dialling
            && acceptor.phase == Phase::Dialling;
        let cut = self.network.is_cut(dialler.node, acceptor.node);
        if !fits || !alive || cut || self.is_frozen(acceptor.node) {
            let delay = self.delay();
            self.agenda.enter(self.now(), Event::Down { link, side: Side::Acceptor });
            self.agenda.enter(self.now() + delay, Event::Down { link, side: Side::Dialler });
            return;
        }
        if let Some(it) = self.network.links.get_mut(&link) {
            it.end_mut(Side::Acceptor).phase = Phase::Up;
        }
        let member = self.member_at(dialler.node);
        let input = match purpose {
            Purpose::Replication => {
                Some(Input::Worker(WorkerInput::PeerAccepted { peer: member, link }))
            }
            Purpose::Control => {
                let worker = WorkerId(0);
                Some(Input::Meta(MetaInput::ServerUp { link, member, worker }))
            }
            Purpose::Client | Purpose::Bulk => None,
        };
        if let Some(input) = input {
            self.hand_in(acceptor.node, acceptor.process, input);
        }
        let delay = self.delay();
        self.agenda.enter(self.now() + delay, Event::Up { link });
    }

    /// Who runs at a server's node; incarnation 0 before its registration.
    fn member_at(&self, node: Node) -> Member {
        match node {
            Node::Server(server) => {
                let unregistered = Member { server, incarnation: Incarnation(0) };
                self.running(server).and_then(|it| it.member).unwrap_or(unregistered)
            }
            Node::Meta | Node::Client(_) => Member::default(),
        }
    }

    pub(super) fn up(&mut self, link: LinkId) {
        let Some(known) = self.network.links.get(&link) else { return };
        let (dialler, acceptor) = (known.end(Side::Dialler), known.end(Side::Acceptor));
        if dialler.phase != Phase::Dialling || acceptor.phase == Phase::Down {
            self.agenda.enter(self.now(), Event::Down { link, side: Side::Dialler });
            return;
        }
        if self.network.is_cut(acceptor.node, dialler.node) {
            self.agenda.enter(self.now() + Span::from_millis(10), Event::Up { link });
            return;
        }
        let Some((_, _, target)) = self.target_of(link) else {
            return self.close(link, dialler.node);
        };
        if let Some(it) = self.network.links.get_mut(&link) {
            it.end_mut(Side::Dialler).phase = Phase::Up;
        }
        let input = match target {
            Target::Meta => Input::Worker(WorkerInput::MetaUp),
            Target::Peer(peer) => Input::Worker(WorkerInput::PeerUp { peer, link }),
            Target::Server(peer) => {
                let bases = self.bases_at(acceptor.node);
                let worker = WorkerId(0);
                Input::Client(SessionInput::LinkUp { peer, worker, link, bases })
            }
        };
        self.hand_in(dialler.node, dialler.process, input);
        self.kick(link, Span::ZERO);
    }

    /// What a server tells a client that connects of its committed points.
    fn bases_at(&self, node: Node) -> Vec<(KeySet, Revision)> {
        match node {
            Node::Server(server) => {
                self.running(server).map(|it| it.worker.bases()).unwrap_or_default()
            }
            Node::Meta | Node::Client(_) => Vec::new(),
        }
    }

    /// Looks again at lanes that were stalled.
    pub(super) fn kick(&mut self, link: LinkId, after_max: Span) {
        for (to, channel) in self.network.stalled(link) {
            let pause = self.rng.span(Span::ZERO, after_max);
            self.agenda.enter(self.now() + pause, Event::Lane { link, to, channel });
        }
    }

    pub(super) fn down(&mut self, link: LinkId, side: Side) {
        let Some(known) = self.network.links.get(&link) else { return };
        let (end, purpose) = (known.end(side), known.purpose);
        if end.phase == Phase::Down {
            return;
        }
        let target = match side {
            Side::Dialler => self.target_of(link),
            Side::Acceptor => None,
        };
        let was_up = self.network.take_down(link, side);
        let input = match (purpose, side) {
            (Purpose::Control, Side::Dialler) => Input::Worker(WorkerInput::MetaDown),
            (Purpose::Control, Side::Acceptor) => Input::Meta(MetaInput::ServerDown { link }),
            (Purpose::Client, Side::Dialler) => Input::Client(SessionInput::LinkDown { link }),
            (Purpose::Client, Side::Acceptor) => Input::Worker(WorkerInput::ClientGone { link }),
            (Purpose::Replication | Purpose::Bulk, _) => {
                Input::Worker(WorkerInput::PeerDown { link })
            }
        };
        if was_up {
            self.hand_in(end.node, end.process, input);
        }
        match target {
            Some((node @ Node::Client(_), _, target)) if was_up => {
                if let Some(wanted) = self.wanted_mut(node) {
                    wanted.remove(&target);
                }
            }
            Some((node, process, target)) => self.dial_failed(node, process, target),
            None => {}
        }
    }

    /// Takes a connection down at the ends to which nothing came for the idle time.
    pub(super) fn idle_check(&mut self, link: LinkId) {
        let Some(known) = self.network.links.get(&link) else { return };
        let ends = [Side::Dialler, Side::Acceptor].map(|side| (side, known.end(side)));
        let idle = self.network.settings.idle;
        for (side, end) in ends {
            let from = ends[usize::from(side == Side::Dialler)].1.node;
            let silent = self
                .network
                .blocked_since(from, end.node)
                .is_some_and(|since| self.now().since(since) >= idle);
            if silent && end.phase != Phase::Down {
                let later = self.rng.span(Span::ZERO, idle);
                self.agenda.enter(self.now(), Event::Down { link, side });
                self.agenda.enter(self.now() + later, Event::Down { link, side: side.other() });
            }
        }
    }

    pub(super) fn lane_due(&mut self, link: LinkId, to: Side, channel: Channel) {
        let now = self.now();
        let (payload, next) = self.network.arrive(link, to, channel, now);
        if let Some(at) = next {
            self.agenda.enter(at, Event::Lane { link, to, channel });
        }
        if let Some(payload) = payload {
            self.arrived(link, to, payload);
        }
    }

    pub(super) fn datagram_due(&mut self, link: LinkId, to: Side, payload: Payload) {
        let Some(known) = self.network.links.get(&link) else { return };
        let cut = self.network.is_cut(known.end(to.other()).node, known.end(to).node);
        if known.end(to).phase == Phase::Up && !cut {
            self.arrived(link, to, payload);
        }
    }

    fn arrived(&mut self, link: LinkId, to: Side, payload: Payload) {
        let Some(end) = self.network.links.get(&link).map(|it| it.end(to)) else { return };
        let input = match payload {
            Payload::Peer(message) => Input::Worker(WorkerInput::FromPeer { link, message }),
            Payload::ToServer(message) => Input::Worker(WorkerInput::FromMeta(message)),
            Payload::ToMeta(message) => Input::Meta(MetaInput::FromServer { link, message }),
            Payload::Request { number, request } => {
                let ticket = Ticket { link, request: number };
                Input::Worker(WorkerInput::Request { ticket, request })
            }
            Payload::Answer { number, answer } => {
                let attempt = AttemptId(number);
                Input::Client(SessionInput::Answer { link, attempt, answer })
            }
        };
        self.hand_in(end.node, end.process, input);
    }

    /// Puts a message on a lane.
    pub(super) fn send(&mut self, link: LinkId, from: Node, channel: Channel, payload: Payload) {
        let Some(known) = self.network.links.get(&link) else { return };
        let Some(side) = known.side_of(from) else { return };
        let to = known.end(side.other()).node;
        self.mark(from, to, &payload);
        let delay = match channel {
            Channel::Bulk(_) => self.delay() + self.delay(),
            Channel::Control | Channel::Set(_) => self.delay(),
        };
        let arrives = self.now() + delay;
        if let Some(at) = self.network.send(link, side, channel, payload, arrives) {
            self.agenda.enter(at, Event::Lane { link, to: side.other(), channel });
        }
    }

    /// Sends a datagram, which may get lost, doubled or overtaken.
    pub(super) fn send_datagram(&mut self, link: LinkId, from: Node, payload: Payload) {
        let Some(known) = self.network.links.get(&link) else { return };
        let Some(side) = known.side_of(from) else { return };
        let to = side.other();
        let cut = self.network.is_cut(from, known.end(to).node);
        let up = known.end(side).phase == Phase::Up;
        if !up || cut || self.rng.chance(self.network.settings.drop_ppm) {
            return;
        }
        let again = self.rng.chance(self.network.settings.double_ppm);
        for _ in 0..1 + u8::from(again) {
            let at = self.now() + self.delay();
            self.agenda.enter(at, Event::Datagram { link, to, payload: payload.clone() });
        }
    }

    pub(super) fn view_asked(&mut self, client: ClientId, node: Node) {
        let from = Node::Client(client);
        let cut = self.network.is_cut(from, node) || self.network.is_cut(node, from);
        let view = match node {
            Node::Meta => self.meta.running.as_ref().map(|it| it.view.clone()),
            Node::Server(server) => self.running(server).map(|it| it.view.clone()),
            Node::Client(_) => None,
        };
        match view.filter(|view| !cut && !view.sets.is_empty()) {
            Some(view) if !self.is_frozen(node) => {
                let delay = self.delay();
                self.agenda.enter(self.now() + delay, Event::ViewGiven { client, view });
            }
            Some(_) | None => self.ask_view(client, Span::from_millis(100)),
        }
    }

    /// Lets a client ask a node for the view.
    pub(super) fn ask_view(&mut self, client: ClientId, pause: Span) {
        let mut nodes: Vec<_> = self.servers.keys().copied().map(Node::Server).collect();
        nodes.push(Node::Meta);
        let Some(&node) = self.rng.pick(&nodes) else { return };
        let at = self.now() + pause + self.delay();
        self.agenda.enter(at, Event::ViewAsked { client, node });
    }

    pub(super) fn view_given(&mut self, client: ClientId, view: View) {
        let Some(node) = self.clients.get_mut(&client) else { return };
        node.running.asking = false;
        let process = node.running.number;
        let input = Input::Client(SessionInput::ViewLearned(Rc::new(view)));
        self.hand_in(Node::Client(client), process, input);
    }
}
