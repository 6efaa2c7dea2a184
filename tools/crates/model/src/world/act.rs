//! What can happen next, and what comes of it.

use std::rc::Rc;

use tandem::protocol::effect::WorkerInput;
use tandem::protocol::message::{ChangeRefusal, ToServer};
use tandem::protocol::types::{KeySet, LinkId, Member, RecoveryId};
use tandem::protocol::view::Resignation;

use super::World;
use super::authority::Asked;
use super::judge::SET;
use super::link::Side;
use super::node::Node;

/// The lane that a message waits on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Way {
    Stream,
    Bulk,
    Datagram,
}

/// One thing that can happen. Servers are named by index.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Action {
    /// Time passes for everyone, by one tick of each clock.
    Tick,
    /// A primary does what its clock asks for.
    Wake(usize),
    /// The next message of a lane arrives at one end.
    Arrive {
        link: LinkId,
        to: Side,
        way: Way,
    },
    /// An end notices that its link is gone.
    Notice {
        link: LinkId,
        side: Side,
    },
    /// A server reaches the peer that it wants a link to.
    Connect {
        server: usize,
        peer: Member,
    },
    /// A server hears the metaserver's next message.
    Hear(usize),
    /// The metaserver's own will.
    Install {
        primary: Member,
        secondaries: Vec<Member>,
    },
    /// A request reaches the metaserver, which does as asked if it may, or refuses for no reason.
    Decide(Asked),
    Refuse(Asked),
    /// A primary's word of resignation reaches the metaserver.
    Resigned(Resignation),
    /// Orders to the primary.
    OrderCopy(Member),
    OrderCancel(Member),
    OrderHandOver(Member),
    OrderResign,
    /// The end of a process is proven.
    Prove(Member),
    /// A client tries its write at a server.
    Try {
        client: usize,
        server: usize,
    },
    /// Someone reads at a server whose store takes its time; and that store is done.
    Read(usize),
    Stored(usize),
    /// With the production metaserver: its disk is done, it hears a server or its heartbeat, a
    /// server's control link is up.
    Written,
    MetaHears(usize),
    Beat(usize),
    Reach(usize),
    /// Faults.
    /// A link breaks, and this end is the first to notice.
    Break {
        link: LinkId,
        side: Side,
    },
    BreakControl(usize),
    RestartMeta,
    Crash(usize),
    Restart(usize),
    Return(usize),
}

impl Action {
    /// Something arrives that is on its way.
    #[must_use]
    pub fn is_delivery(&self) -> bool {
        matches!(
            self,
            Action::Arrive { .. }
                | Action::Notice { .. }
                | Action::Hear(_)
                | Action::Stored(_)
                | Action::Written
                | Action::MetaHears(_)
                | Action::Beat(_)
        )
    }
}

impl World {
    /// Everything that can happen next.
    #[must_use]
    pub fn enabled(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.violation.is_some() {
            return actions;
        }
        self.list_deliveries(&mut actions);
        self.list_client_actions(&mut actions);
        if self.metaserver.is_some() {
            self.list_metaserver_actions(&mut actions);
        } else {
            self.list_meta_actions(&mut actions);
        }
        self.list_faults(&mut actions);
        for server in 0..self.places.len() {
            let leads = self.node(server).is_some_and(Node::is_primary);
            if leads && self.metaserver.is_none() {
                actions.push(Action::Wake(server));
            }
        }
        if self.budget.ticks != Some(0) {
            actions.push(Action::Tick);
        }
        actions
    }

    fn list_deliveries(&self, actions: &mut Vec<Action>) {
        for link in &self.links {
            for to in [Side::Dialler, Side::Acceptor] {
                let inbound = link.to(to);
                let id = link.id;
                if !inbound.stream.is_empty() {
                    actions.push(Action::Arrive { link: id, to, way: Way::Stream });
                }
                if !inbound.bulk.is_empty() {
                    actions.push(Action::Arrive { link: id, to, way: Way::Bulk });
                }
                if inbound.datagram.is_some() {
                    actions.push(Action::Arrive { link: id, to, way: Way::Datagram });
                }
                if inbound.attached && !link.to(to.other()).attached {
                    actions.push(Action::Notice { link: id, side: to });
                }
            }
        }
        for (server, place) in self.places.iter().enumerate() {
            if !place.control.is_empty() {
                actions.push(Action::Hear(server));
            }
            let Some(node) = &place.node else { continue };
            if !node.reading.is_empty() {
                actions.push(Action::Stored(server));
            }
            for &peer in &node.wanted {
                let linked = self.links.iter().any(|it| {
                    it.dialler == server && it.to(Side::Dialler).attached && it.peer_member == peer
                });
                if !linked && self.server_of(peer).is_some() {
                    actions.push(Action::Connect { server, peer });
                }
            }
        }
    }

    fn list_meta_actions(&self, actions: &mut Vec<Action>) {
        let (budget, authority) = (&self.budget, &self.authority);
        for asked in &authority.inbox {
            actions.push(Action::Decide(*asked));
            if budget.refusals > 0 && authority.judge(asked).is_ok() {
                actions.push(Action::Refuse(*asked));
            }
        }
        actions.extend(authority.words.iter().map(|&it| Action::Resigned(it)));
        if budget.installs > 0 {
            let choices =
                authority.choices().into_iter().filter(|it| self.plan.allows(budget.installs, it));
            actions.extend(
                choices.map(|(primary, secondaries)| Action::Install { primary, secondaries }),
            );
        }
        let now = &authority.configuration;
        let primary = self.server_of(now.primary);
        if primary.is_some() {
            let outsiders = (0..self.places.len()).map(|server| authority.member(server));
            let outsiders = outsiders.filter(|it| now.members().all(|m| m.server != it.server));
            for member in outsiders {
                if budget.copies > 0 && self.server_of(member).is_some() {
                    actions.push(Action::OrderCopy(member));
                }
                if budget.cancels > 0 && budget.copies < self.plan.budget.copies {
                    actions.push(Action::OrderCancel(member));
                }
            }
            if budget.handovers > 0 {
                actions.extend(now.secondaries.iter().map(|&it| Action::OrderHandOver(it)));
            }
            if budget.resigns > 0 {
                actions.push(Action::OrderResign);
            }
        }
        for server in 0..self.places.len() {
            let member = authority.member(server);
            if self.places[server].node.is_none() && !authority.is_dead(member) {
                actions.push(Action::Prove(member));
            }
        }
    }

    /// What comes of an action; none if it changes nothing.
    #[must_use]
    pub fn step(&self, action: &Action) -> Option<World> {
        let mut world = self.clone();
        let happened = match action {
            Action::Tick => world.tick(),
            Action::Wake(server) => {
                world.wake(*server);
                true
            }
            Action::Arrive { link, to, way } => world.arrive(*link, *to, *way),
            Action::Notice { link, side } => world.notice(*link, *side),
            Action::Connect { server, peer } => {
                let up = world.connect(*server, *peer);
                up.is_some_and(|input| {
                    world.feed(*server, input);
                    true
                })
            }
            Action::Hear(server) => world.hear_meta(*server),
            Action::Install { primary, secondaries } => {
                world.budget.installs -= 1;
                world.install(*primary, secondaries.clone());
                true
            }
            Action::Decide(asked) => world.decide(asked, None),
            Action::Refuse(asked) => {
                world.budget.refusals -= 1;
                world.decide(asked, Some(ChangeRefusal::NotAllowed))
            }
            Action::Resigned(word) => {
                let news = Rc::make_mut(&mut world.authority).hear(*word);
                news.iter().for_each(|it| world.tell_all(it));
                true
            }
            Action::OrderCopy(_)
            | Action::OrderCancel(_)
            | Action::OrderHandOver(_)
            | Action::OrderResign => world.order(action),
            Action::Prove(member) => world.prove(*member),
            Action::Try { client, server } => world.attempt(*client, *server),
            Action::Read(server) => world.read_slowly(*server),
            Action::Stored(server) => world.stored(*server),
            Action::Written => world.written(),
            Action::MetaHears(server) => world.meta_hears(*server),
            Action::Beat(server) => world.beat(*server),
            Action::Reach(server) => world.reach(*server),
            Action::Break { link, side } => world.break_link(*link, *side),
            Action::BreakControl(server) => {
                world.budget.control_breaks -= 1;
                world.break_control(*server);
                true
            }
            Action::RestartMeta => world.restart_meta(),
            Action::Crash(server) => world.crash(*server),
            Action::Restart(server) => world.restart(*server),
            Action::Return(server) => world.return_with_disk(*server),
        };
        if !happened {
            return None;
        }
        world.clear_away();
        world.refresh();
        Some(world)
    }

    /// Time passes. A datagram that is still under way never comes: one that takes longer would
    /// give a shorter lease for a longer promise. (What streams carry may take any time.)
    pub(super) fn tick(&mut self) -> bool {
        self.ticks += 1;
        if let Some(left) = &mut self.budget.ticks {
            *left -= 1;
        }
        for link in &mut self.links {
            link.lose_datagrams();
        }
        for place in &mut self.places {
            place.stale = true;
        }
        self.tick_metaserver();
        true
    }

    fn arrive(&mut self, link: LinkId, to: Side, way: Way) -> bool {
        let Some(it) = self.links.iter_mut().find(|it| it.id == link) else { return false };
        let server = it.server(to);
        let inbound = it.to_mut(to);
        let message = match way {
            Way::Stream => inbound.stream.pop_front(),
            Way::Bulk => inbound.bulk.pop_front(),
            Way::Datagram => inbound.datagram.take(),
        };
        let Some(message) = message else { return false };
        let message = Rc::unwrap_or_clone(message);
        self.feed(server, WorkerInput::FromPeer { link, message });
        true
    }

    pub(super) fn hear_meta(&mut self, server: usize) -> bool {
        let Some(message) = self.places[server].control.pop_front() else { return false };
        self.feed(server, WorkerInput::FromMeta(Rc::unwrap_or_clone(message)));
        true
    }

    /// A request reaches the metaserver.
    fn decide(&mut self, asked: &Asked, refusal: Option<ChangeRefusal>) -> bool {
        let authority = Rc::make_mut(&mut self.authority);
        authority.inbox.remove(asked);
        let outcome = match (authority.judge(asked), refusal) {
            (Ok(_), Some(refusal)) | (Err(refusal), _) => {
                if refusal != ChangeRefusal::WrongEpoch {
                    authority.refuse(asked);
                }
                Err(refusal)
            }
            (Ok((primary, secondaries)), None) => {
                self.install(primary, secondaries);
                Ok(self.authority.configuration.clone())
            }
        };
        if let Some(server) = self.server_of(asked.id.member) {
            self.tell(server, ToServer::Changed { id: asked.id, set: SET, outcome });
        }
        true
    }

    /// The metaserver orders something of the primary.
    fn order(&mut self, action: &Action) -> bool {
        let now = &self.authority.configuration;
        let Some(server) = self.server_of(now.primary) else { return false };
        let sets: Vec<(KeySet, _)> = vec![(SET, now.epoch)];
        let budget = &mut self.budget;
        let message = match *action {
            Action::OrderCopy(learner) => {
                budget.copies -= 1;
                ToServer::Copy { recovery: RecoveryId(1), learner, sets }
            }
            Action::OrderCancel(learner) => {
                budget.cancels -= 1;
                ToServer::CancelCopy { learner, sets: vec![SET] }
            }
            Action::OrderHandOver(to) => {
                budget.handovers -= 1;
                ToServer::HandOver { to, sets }
            }
            _ => {
                budget.resigns -= 1;
                ToServer::Resign { sets }
            }
        };
        self.tell(server, message);
        true
    }
}
