//! What a driver does: hands inputs to machines, and performs their effects in order.
//!
//! Completions of a store come back before anything else happens, or after a while and in order,
//! as the settings say. A process that is bound to crash dies between two effects.

use super::coverage::Moment;
use super::estate::Estate;
use super::network::{Channel, Payload};
use super::node::Target;
use super::truth::{Ending, Fact, OperationId, write_id};
use super::world::{Event, World};
use super::{ClientId, Node, Process};
use crate::protocol::Machine;
use crate::protocol::effect::{
    Lane, MetaEffect, MetaInput, MetaNote, Note, Ticket, WorkerEffect, WorkerInput,
};
use crate::protocol::message::{Answer, PeerMessage};
use crate::protocol::session::{Outcome, SessionEffect, SessionInput};
use crate::protocol::time::Span;
use crate::protocol::types::{LinkId, ServerId};
use crate::protocol::view::View;
use crate::store::{ChunkRange, Engine};

impl World {
    pub(super) fn handle_worker(&mut self, server: ServerId, input: WorkerInput) {
        let node = Node::Server(server);
        let Some(process) = self.alive_at(node) else { return };
        let mut next = Some(input);
        while let Some(input) = next {
            self.take_request(server, process, &input);
            self.trace.step(self.agenda.now(), node, &input);
            let now = self.agenda.now();
            let windows = self.windows_of_full(server);
            let Some(it) = self.servers.get_mut(&server) else { return };
            let reading = it.host.clock.read(now);
            let Some(running) = it.running.as_mut() else { return };
            let mut effects = Vec::new();
            running.worker.handle(reading, input, &mut effects);
            self.look_at_admitted(server, windows);
            for effect in effects {
                if self.burns(node, process) {
                    return self.kill(node);
                }
                self.trace.say(now, || format!("    {node} {effect:?}"));
                self.perform_worker(server, process, effect);
                if self.alive_at(node) != Some(process) {
                    return;
                }
            }
            self.look_for_stale_primaries(server);
            next = self.running_mut(server).and_then(|it| it.completions.pop_front());
        }
    }

    /// Counts down to a crash that was set; true when it is due.
    fn burns(&mut self, node: Node, process: Process) -> bool {
        let Some(fate) = self.fate_mut(node, process) else { return false };
        match &mut fate.fuse {
            None => false,
            Some(0) => self.crashes(node),
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    /// Remembers requests until they are answered.
    fn take_request(&mut self, server: ServerId, process: Process, input: &WorkerInput) {
        let Some(running) = self.running_mut(server) else { return };
        match input {
            WorkerInput::Request { ticket, request } => {
                running.unanswered.insert(*ticket, request.clone());
                self.learn(Fact::Requested { process });
            }
            WorkerInput::ClientGone { link } => {
                let before = running.unanswered.len();
                running.unanswered.retain(|ticket, _| ticket.link != *link);
                let requests = before - running.unanswered.len();
                self.learn(Fact::Abandoned { process, requests });
            }
            _ => {}
        }
    }

    fn perform_worker(&mut self, server: ServerId, process: Process, effect: WorkerEffect) {
        let node = Node::Server(server);
        match effect {
            WorkerEffect::Connect { peer, .. } => self.want(node, Target::Peer(peer)),
            WorkerEffect::Disconnect { peer } => self.unwant(node, Target::Peer(peer)),
            WorkerEffect::CloseLink { link, reason } => {
                self.learn(Fact::Accused { process, reason });
                self.close(link, node);
            }
            WorkerEffect::SendPeer { link, lane, message } => {
                self.send_peer(node, link, lane, message);
            }
            WorkerEffect::SendMeta { message } => {
                if let Some(link) = self.meta_link(server) {
                    self.send(link, node, Channel::Control, Payload::ToMeta(message));
                }
            }
            WorkerEffect::SendMetaDatagram { message } => {
                if let Some(link) = self.meta_link(server) {
                    self.send_datagram(link, node, Payload::ToMeta(message));
                }
            }
            WorkerEffect::Reply { ticket, answer } => self.reply(server, process, ticket, answer),
            WorkerEffect::Registered { member, cluster, view } => {
                if let Some(it) = self.servers.get_mut(&server) {
                    it.directory.cluster = Some(cluster);
                    if let Some(estate) = &mut it.estate {
                        estate.incarnation = Some(member.incarnation);
                    }
                }
                if let Some(running) = self.running_mut(server) {
                    running.member = Some(member);
                }
                self.learn(Fact::Registered { process, member });
                self.view_changed(server, process, view);
            }
            WorkerEffect::ViewChanged { view } => self.view_changed(server, process, view),
            WorkerEffect::Deposed { .. } => {
                self.moments.push(Moment::at("deposed", &[node]));
                self.kill(node);
                if !self.settings.spawn {
                    let at = self.now() + self.settings.restart_after;
                    self.agenda.enter(at, Event::Start { node });
                }
            }
            WorkerEffect::MayExit => self.kill(node),
            // No simulated administrator stops the whole cluster.
            WorkerEffect::HeldUp { .. } | WorkerEffect::Settle => {}
            WorkerEffect::Note { note } => self.worker_noted(server, process, note),
            WorkerEffect::Read { .. }
            | WorkerEffect::ReadRange { .. }
            | WorkerEffect::ReadChanges { .. }
            | WorkerEffect::Append { .. }
            | WorkerEffect::Cut { .. }
            | WorkerEffect::Apply { .. }
            | WorkerEffect::StoreChunk { .. }
            | WorkerEffect::StoreChanges { .. }
            | WorkerEffect::Rebase { .. }
            | WorkerEffect::Expire { .. }
            | WorkerEffect::DropTombstones { .. }
            | WorkerEffect::Remember { .. }
            | WorkerEffect::Clear { .. } => self.perform_store(server, process, effect),
        }
    }

    fn send_peer(&mut self, node: Node, link: LinkId, lane: Lane, message: PeerMessage) {
        let payload = Payload::Peer(message);
        match lane {
            Lane::Set(set) => self.send(link, node, Channel::Set(set), payload),
            Lane::Bulk(set) => self.send(link, node, Channel::Bulk(set), payload),
            Lane::Datagram => self.send_datagram(link, node, payload),
        }
    }

    fn meta_link(&self, server: ServerId) -> Option<LinkId> {
        self.running(server)?.wanted.get(&Target::Meta).copied().flatten()
    }

    fn reply(&mut self, server: ServerId, process: Process, ticket: Ticket, answer: Answer) {
        let request = self.running_mut(server).and_then(|it| it.unanswered.remove(&ticket));
        let Some(request) = request else { return };
        let set = request.operation.key_set(self.settings.key_sets);
        self.learn(Fact::Answered { process, set, request: &request, answer: &answer });
        let payload = Payload::Answer { number: ticket.request, answer };
        self.send(ticket.link, Node::Server(server), Channel::Control, payload);
    }

    fn view_changed(&mut self, server: ServerId, process: Process, view: View) {
        for entry in &view.sets {
            if let Some(configuration) = &entry.configuration {
                let (set, epoch) = (entry.set, configuration.epoch);
                self.learn(Fact::Viewed { process, set, epoch });
                if let Some(it) = self.servers.get_mut(&server) {
                    it.directory.highest_epoch = it.directory.highest_epoch.max(epoch);
                }
            }
        }
        if let Some(running) = self.running_mut(server) {
            running.view = view;
        }
    }

    fn worker_noted(&mut self, server: ServerId, process: Process, note: Note) {
        let node = Node::Server(server);
        let moment = match note {
            Note::Opened { set, epoch } => {
                self.learn(Fact::Opened { process, set, epoch });
                self.look_for_rivals(set, epoch);
                Moment::at("opened", &[node])
            }
            Note::Paused { .. } => Moment::at("paused", &[node]),
            Note::Resigned { .. } => Moment::at("resigned", &[node]),
            Note::Adopted { .. } => Moment::at("adopted", &[node]),
            Note::RunStarted { learner, .. } => {
                Moment::at("run started", &[node, Node::Server(learner.server)])
            }
            Note::RunEnded { learner, .. } => {
                Moment::at("run ended", &[node, Node::Server(learner.server)])
            }
            Note::Unheeded { .. } => return,
            Note::Misbehaved { reason, .. } => {
                self.learn(Fact::Accused { process, reason });
                return;
            }
        };
        self.moments.push(moment);
    }

    fn perform_store(&mut self, server: ServerId, process: Process, effect: WorkerEffect) {
        let Some(node) = self.servers.get_mut(&server) else { return };
        let Some(running) = node.running.as_mut() else { return };
        if let Some(estate) = &mut node.estate
            && !effect.is_read()
        {
            estate.write(&effect);
        }
        let engine = &mut running.engine;
        match effect {
            WorkerEffect::Read { set, token, key } => {
                let found = engine.get(set, &key);
                self.complete(server, WorkerInput::ReadDone { set, token, key, found });
            }
            WorkerEffect::ReadRange { set, token, prefix, after, items_max, bytes_max } => {
                let page = engine.range(set, &prefix, after.as_deref(), items_max, bytes_max);
                let (records, more) = (page.records, page.more);
                self.complete(server, WorkerInput::RangeDone { set, token, records, more });
            }
            WorkerEffect::ReadChanges { set, token, span, items_max, bytes_max } => {
                let found = engine.changes(set, span, items_max, bytes_max);
                self.complete(server, WorkerInput::ChangesDone { set, token, found });
            }
            WorkerEffect::Append { set, entries } => {
                engine.append(set, &entries);
                let through = entries.last().map(|entry| entry.op).unwrap_or_default();
                self.learn(Fact::Appended { process, set, entries: &entries });
                self.complete(server, WorkerInput::Appended { set, through });
            }
            WorkerEffect::Cut { set, through } => {
                engine.cut(set, through);
                self.learn(Fact::Cut { process, set, through });
            }
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
                engine.apply(set, revision, &entry, keep_tombstone);
                let (entry, copying) = (&entry, keep_tombstone);
                self.learn(Fact::Applied { process, set, revision, entry, copying });
            }
            WorkerEffect::StoreChunk { set, run, after, through, read_at, records } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                engine.store_chunk(set, range, read_at, &records);
                let (first, last) = (after.is_none(), through.is_none());
                self.learn(Fact::Chunk { process, set, read_at, first, last });
                self.moments.push(Moment::at("chunk stored", &[Node::Server(server)]));
                self.complete(server, WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::DropTombstones { set } => engine.drop_tombstones(set),
            WorkerEffect::Expire { .. } => {}
            WorkerEffect::Remember { set, number, .. } => {
                self.complete(server, WorkerInput::Remembered { set, number });
            }
            WorkerEffect::StoreChanges { set, run, through, read_at, records, deleted } => {
                engine.store_changes(set, read_at, &records, &deleted);
                let (first, last) = (false, through.is_none());
                self.learn(Fact::Chunk { process, set, read_at, first, last });
                self.complete(server, WorkerInput::ChunkStored { set, run, through });
            }
            WorkerEffect::Rebase { set, at, .. } => {
                engine.rebase(set, at);
                self.learn(Fact::Rebased { process, set, at });
            }
            WorkerEffect::Clear { set, at, .. } => {
                engine.clear(set, at);
                self.learn(Fact::Cleared { process, set });
            }
            other => unreachable!("{other:?} is no effect on the store"),
        }
    }

    /// Brings the completion of a store effect back.
    fn complete(&mut self, server: ServerId, input: WorkerInput) {
        let longest = self.settings.store_max;
        let now = self.agenda.now();
        let at = now + self.rng.span(Span::ZERO, longest);
        let Some(node) = self.servers.get_mut(&server) else { return };
        let Some(running) = node.running.as_mut() else { return };
        if longest == Span::ZERO && running.completed_last < now {
            running.completions.push_back(input);
            if let Some(estate) = &mut node.estate {
                estate.sync_all();
            }
            return;
        }
        running.syncs.push_back(node.estate.as_ref().map_or(0, Estate::written));
        let at = at.max(running.completed_last);
        running.completed_last = at;
        let process = running.number;
        self.agenda.enter(at, Event::Completed { server, process, input });
    }

    /// A delayed completion comes: what was written before it is on the disk.
    pub(super) fn synced(&mut self, server: ServerId, process: Process) {
        let Some(node) = self.servers.get_mut(&server) else { return };
        let Some(running) = node.running.as_mut().filter(|it| it.number == process) else { return };
        if let (Some(through), Some(estate)) = (running.syncs.pop_front(), &mut node.estate) {
            estate.sync(through);
        }
    }

    pub(super) fn handle_meta(&mut self, input: MetaInput) {
        let node = Node::Meta;
        let Some(process) = self.alive_at(node) else { return };
        let now = self.agenda.now();
        self.trace.step(now, node, &input);
        let reading = self.meta.host.clock.read(now);
        let Some(running) = self.meta.running.as_mut() else { return };
        let mut effects = Vec::new();
        running.machine.handle(reading, input, &mut effects);
        for effect in effects {
            if self.burns(node, process) {
                return self.kill(node);
            }
            self.trace.say(now, || format!("    {node} {effect:?}"));
            self.perform_meta(process, effect);
        }
    }

    fn perform_meta(&mut self, process: Process, effect: MetaEffect) {
        let node = Node::Meta;
        match effect {
            MetaEffect::Persist { number, records } => {
                self.meta.disk.begin(number, records);
                let (least, most) = (self.settings.disk_min, self.settings.disk_max);
                let at = self.now() + self.rng.span(least, most);
                let Some(running) = self.meta.running.as_mut() else { return };
                let at = at.max(running.persisted_last);
                running.persisted_last = at;
                self.agenda.enter(at, Event::Persisted { process });
                self.moments.push(Moment::at("persisting", &[node]));
            }
            MetaEffect::Send { link, message } => {
                self.send(link, node, Channel::Control, Payload::ToServer(message));
            }
            MetaEffect::SendDatagram { link, message } => {
                self.send_datagram(link, node, Payload::ToServer(message));
            }
            MetaEffect::CloseLink { link, .. } => self.close(link, node),
            MetaEffect::Reply { ticket, answer } => {
                self.meta.answers.insert(ticket.request, answer);
            }
            MetaEffect::Spawn { server } => {
                let at = self.now() + Span::from_millis(20);
                self.agenda.enter(at, Event::Start { node: Node::Server(server) });
            }
            MetaEffect::ViewChanged { view } => {
                if let Some(running) = self.meta.running.as_mut() {
                    running.view = view;
                }
            }
            // No simulated administrator stops the whole cluster.
            MetaEffect::MayExit { .. } => {}
            MetaEffect::Note { note } => self.meta_noted(process, note),
        }
    }

    fn meta_noted(&mut self, process: Process, note: MetaNote) {
        let server = Node::Server;
        let moment = match note {
            MetaNote::Registered { member } => Moment::at("registered", &[server(member.server)]),
            MetaNote::Suspected { member } => Moment::at("suspected", &[server(member.server)]),
            MetaNote::Heard { .. }
            | MetaNote::Born { .. }
            | MetaNote::Unfit { .. }
            | MetaNote::StopEntered { .. } => return,
            MetaNote::Dead { member } => Moment::at("dead", &[server(member.server)]),
            MetaNote::Promoted { primary, .. } => Moment::at("promoted", &[server(primary.server)]),
            MetaNote::Removed { member, .. } => Moment::at("removed", &[server(member.server)]),
            MetaNote::LetGo { member, .. } => Moment::at("let go", &[server(member.server)]),
            MetaNote::Added { member, .. } => Moment::at("added", &[server(member.server)]),
            MetaNote::HandedOver { to, .. } => Moment::at("handed over", &[server(to.server)]),
            MetaNote::Moving { from, to, .. } => Moment::at("moving", &[server(from), server(to)]),
            MetaNote::Lost { .. } => Moment::at("lost", &[]),
            MetaNote::RecoveryStarted { .. } => Moment::at("recovery started", &[Node::Meta]),
            MetaNote::RecoveryStep { .. } => Moment::at("recovery step", &[Node::Meta]),
            MetaNote::RecoveryDone { .. } => Moment::at("recovery done", &[Node::Meta]),
            MetaNote::Misbehaved { reason, .. } => {
                self.learn(Fact::Accused { process, reason });
                return;
            }
        };
        self.moments.push(moment);
    }

    pub(super) fn handle_client(&mut self, client: ClientId, input: SessionInput) {
        let now = self.agenda.now();
        self.trace.step(now, Node::Client(client), &input);
        let Some(node) = self.clients.get_mut(&client) else { return };
        let reading = node.host.clock.read(now);
        let mut effects = Vec::new();
        node.running.machine.handle(reading, input, &mut effects);
        for effect in effects {
            self.trace.say(now, || format!("    c{} {effect:?}", client.0));
            self.perform_client(client, effect);
        }
    }

    fn perform_client(&mut self, client: ClientId, effect: SessionEffect) {
        let node = Node::Client(client);
        let Some(it) = self.clients.get_mut(&client) else { return };
        let running = &mut it.running;
        match effect {
            SessionEffect::Connect { peer, .. } => self.want(node, Target::Server(peer)),
            SessionEffect::Send { link, attempt, request } => {
                if let Some(origin) = request.origin {
                    let fits = running.flying.values_mut().find(|(operation, write)| {
                        *operation == request.operation
                            && write.is_none_or(|write| write == write_id(origin))
                    });
                    if let Some((_, write)) = fits {
                        *write = Some(write_id(origin));
                    }
                }
                let payload = Payload::Request { number: attempt.0, request };
                self.send(link, node, Channel::Control, payload);
            }
            SessionEffect::FetchView => {
                if !std::mem::replace(&mut running.asking, true) {
                    self.ask_view(client, Span::ZERO);
                }
            }
            SessionEffect::Complete { call, outcome } => {
                self.ended(client, OperationId(call.0), outcome);
            }
        }
    }

    fn ended(&mut self, client: ClientId, operation: OperationId, outcome: Outcome) {
        let Some(it) = self.clients.get_mut(&client) else { return };
        let write = it.running.flying.remove(&operation).and_then(|(_, write)| write);
        let again = it.running.workload.is_some();
        if !again {
            it.running.outcomes.insert(operation, outcome.clone());
        }
        let ending = match &outcome {
            Outcome::Done(answer) => Ending::Done(answer),
            Outcome::NotDone(_) => Ending::NotDone,
            Outcome::Unknown(_) => Ending::Unknown,
        };
        self.learn(Fact::Ended { operation, write, ending });
        if again {
            self.wish_later(client);
        }
    }
}
