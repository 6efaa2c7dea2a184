//! Links that end or break, servers that crash and start again, a metaserver that restarts.

use std::collections::VecDeque;
use std::rc::Rc;

use tandem::protocol::effect::WorkerInput;
use tandem::protocol::message::{PeerMessage, ToServer};
use tandem::protocol::mutants::Mutant;
use tandem::protocol::types::{Incarnation, LinkId, Member};
use tandem::protocol::view::{ServerEntry, Update};
use tandem::sim::truth::Fact;

use super::World;
use super::act::Action;
use super::authority::index_of;
use super::judge::SET;
use super::link::Side;

impl World {
    pub(super) fn list_faults(&self, actions: &mut Vec<Action>) {
        let budget = &self.budget;
        for link in &self.links {
            let whole = [Side::Dialler, Side::Acceptor].iter().all(|&it| link.to(it).attached);
            if budget.breaks > 0 && whole {
                let sides = [Side::Dialler, Side::Acceptor];
                actions.extend(sides.map(|side| Action::Break { link: link.id, side }));
            }
        }
        for (server, place) in self.places.iter().enumerate() {
            if place.node.is_some() {
                if budget.crashes > 0 {
                    actions.push(Action::Crash(server));
                }
                if budget.control_breaks > 0 {
                    actions.push(Action::BreakControl(server));
                }
            } else {
                if budget.restarts > 0 {
                    actions.push(Action::Restart(server));
                }
                if budget.returns > 0 && place.estate.is_some() {
                    actions.push(Action::Return(server));
                }
            }
        }
        if budget.meta_restarts > 0 {
            actions.push(Action::RestartMeta);
        }
    }

    /// A server wants no link to this peer any more.
    pub(super) fn disconnect(
        &mut self,
        server: usize,
        peer: Member,
        inputs: &mut VecDeque<WorkerInput>,
    ) {
        if let Some(node) = self.node_mut(server) {
            node.wanted.remove(&peer);
        }
        for link in &mut self.links {
            let ours = link.dialler == server && link.peer_member == peer;
            if ours && link.to(Side::Dialler).attached {
                link.detach(Side::Dialler);
                inputs.push_back(WorkerInput::PeerDown { link: link.id });
            }
        }
        self.links.retain(|it| !it.is_over());
    }

    pub(super) fn notice(&mut self, link: LinkId, side: Side) -> bool {
        let Some(it) = self.links.iter_mut().find(|it| it.id == link) else { return false };
        it.detach(side);
        let server = it.server(side);
        self.links.retain(|it| !it.is_over());
        self.feed(server, WorkerInput::PeerDown { link });
        true
    }

    /// An acceptor on whose link nothing is left to come notices at once that it is gone: it
    /// can not tell the difference, since it only answers what comes.
    fn notice_the_silent(&mut self) {
        while let Some(link) = self.links.iter().find(|it| {
            let inbound = it.to(Side::Acceptor);
            inbound.attached && inbound.is_empty() && !it.to(Side::Dialler).attached
        }) {
            self.notice(link.id, Side::Acceptor);
        }
    }

    /// Lets happen at once what nobody can see the time of: it changes nothing that anything else
    /// looks at, and nothing else can change what comes of it.
    pub(super) fn clear_away(&mut self) {
        for server in 0..self.places.len() {
            while self.hears_old_news(server) {
                self.hear_meta(server);
            }
        }
        for index in 0..self.links.len() {
            for to in [Side::Dialler, Side::Acceptor] {
                while let Some(message) = self.links[index].to(to).stream.front()
                    && self.is_void(self.links[index].server(to), message)
                {
                    self.links[index].to_mut(to).stream.pop_front();
                }
                if let Some(message) = &self.links[index].to(to).datagram
                    && self.is_void(self.links[index].server(to), message)
                {
                    self.links[index].to_mut(to).datagram = None;
                }
            }
        }
        self.notice_the_silent();
    }

    /// What the metaserver says next is a configuration that this server has passed.
    fn hears_old_news(&self, server: usize) -> bool {
        let Some(ToServer::Update(update)) = self.places[server].control.front().map(|it| &**it)
        else {
            return false;
        };
        let Some(replica) = self.node(server).and_then(|it| it.worker.replica(SET)) else {
            return false;
        };
        let only_sets =
            update.dead.is_empty() && update.servers.is_empty() && update.resigned.is_empty();
        let mut configurations = update.sets.iter().filter_map(|it| it.configuration.as_ref());
        only_sets && configurations.all(|it| it.epoch <= replica.epoch())
    }

    /// A message that its receiver will ignore whenever it comes: epochs only grow, and roles
    /// change with them.
    fn is_void(&self, server: usize, message: &PeerMessage) -> bool {
        let Some(replica) = self.node(server).and_then(|it| it.worker.replica(SET)) else {
            return false;
        };
        let known = replica.epoch();
        let counts_always = self.plan.mutant == Some(Mutant::AcksOfAnyEpoch);
        let answers_nothing =
            |epoch| (epoch < known && !counts_always) || (epoch <= known && !replica.is_primary());
        match message {
            PeerMessage::Ack { epoch, .. } => answers_nothing(*epoch),
            PeerMessage::Grant { sets, .. } => sets.iter().all(|it| answers_nothing(it.1)),
            PeerMessage::Fenced { configuration, .. } => configuration.epoch <= known,
            PeerMessage::NewEpoch { .. }
            | PeerMessage::Prepare { .. }
            | PeerMessage::Resigned { .. }
            | PeerMessage::RunStart { .. }
            | PeerMessage::CopyChunk { .. }
            | PeerMessage::ChunkStored { .. }
            | PeerMessage::CopyChanges { .. }
            | PeerMessage::RunBase { .. }
            | PeerMessage::RunExpiries { .. }
            | PeerMessage::RunLost { .. }
            | PeerMessage::Beacon { .. }
            | PeerMessage::Space { .. } => false,
        }
    }

    /// A link breaks: one end notices, and what it had said may still arrive before the other
    /// end notices too.
    pub(super) fn break_link(&mut self, link: LinkId, side: Side) -> bool {
        self.budget.breaks -= 1;
        self.notice(link, side)
    }

    /// A server's control link breaks, and is up again with everything that is to be known.
    pub(super) fn break_control(&mut self, server: usize) {
        let Some(member) = self.node(server).map(|it| it.member) else { return };
        self.places[server].control.clear();
        Rc::make_mut(&mut self.authority).lose(member);
        self.feed(server, WorkerInput::MetaDown);
        self.tell(server, ToServer::Update(self.authority.greeting()));
        self.feed(server, WorkerInput::MetaUp);
    }

    /// The metaserver starts again: it knows what is durable, and hears everyone anew.
    pub(super) fn restart_meta(&mut self) -> bool {
        self.budget.meta_restarts -= 1;
        if self.metaserver.is_some() {
            self.restart_metaserver();
            return true;
        }
        for server in 0..self.places.len() {
            self.break_control(server);
        }
        true
    }

    /// A server loses its memory. What it said is still under way, and who spoke to it notices
    /// some day.
    pub(super) fn crash(&mut self, server: usize) -> bool {
        self.budget.crashes -= 1;
        self.end(server)
    }

    /// A process ends.
    pub(super) fn end(&mut self, server: usize) -> bool {
        if let Some(metaserver) = &mut self.metaserver {
            Rc::make_mut(metaserver).lose(server);
        }
        self.places[server].stale = true;
        self.places[server].control.clear();
        let Some(node) = self.places[server].node.take() else { return false };
        let node = Rc::unwrap_or_clone(node);
        self.places[server].estate = node.estate.map(Rc::new);
        self.learn(&Fact::Died { process: node.process });
        self.forget_attempts(node.unanswered.keys().copied());
        for link in &mut self.links {
            if let Some(side) = link.side_of(server) {
                link.detach(side);
            }
        }
        self.links.retain(|it| !it.is_over());
        true
    }

    /// A server starts again, with nothing: its registration proves that its predecessor is dead.
    pub(super) fn restart(&mut self, server: usize) -> bool {
        self.budget.restarts -= 1;
        self.places[server].estate = None;
        if self.metaserver.is_some() {
            self.start_unregistered(server);
            return true;
        }
        self.register(server, self.plan.mutant == Some(Mutant::EmptyHeir));
        self.start(server, None);
        true
    }

    /// A server starts again with its disk: it stands for its predecessor, unless that was proven
    /// dead before.
    pub(super) fn return_with_disk(&mut self, server: usize) -> bool {
        self.budget.returns -= 1;
        let Some(estate) = self.places[server].estate.take() else { return false };
        let dead = self.authority.is_dead(self.authority.member(server));
        self.register(server, !dead);
        self.start(server, Some(Rc::unwrap_or_clone(estate)));
        true
    }

    /// The metaserver issues the next incarnation of a server, and tells everyone.
    fn register(&mut self, server: usize, inherits: bool) {
        let authority = Rc::make_mut(&mut self.authority);
        let predecessor = authority.member(server);
        let last = authority.latest.iter().map(|it| it.0).max().unwrap_or_default();
        authority.latest[server] = Incarnation(last + 1);
        let heir = authority.member(server);
        let servers = vec![ServerEntry {
            id: heir.server,
            incarnation: heir.incarnation,
            workers: Vec::new(),
        }];
        self.tell_all(&ToServer::Update(Update { servers, ..Update::default() }));
        let now = &self.authority.configuration;
        if inherits && now.contains(predecessor) {
            let stand_in = |it: Member| if it == predecessor { heir } else { it };
            let secondaries = now.secondaries.iter().copied().map(stand_in).collect();
            self.install(stand_in(now.primary), secondaries);
        }
    }

    /// The metaserver has a proof that an incarnation is dead.
    pub(super) fn prove(&mut self, member: Member) -> bool {
        debug_assert!(self.places[index_of(member.server)].node.is_none(), "only the dead are");
        Rc::make_mut(&mut self.authority).dead.insert(member);
        let dead = vec![member];
        self.tell_all(&ToServer::Update(Update { dead, ..Update::default() }));
        true
    }
}
