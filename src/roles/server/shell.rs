//! Performs a worker's effects: sends, replies, store, links.
//!
//! Nothing here decides anything. What an engine completes at once are inputs of the same batch.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc as queue;
use tokio::task::spawn_local;

use super::bulk::{Bulk, keep_bulk_link};
use super::disk::{self, Told};
use super::engine::Engine;
use super::plan::Plan;
use super::worker::Driver;
use super::{Report, Reports, dial, memory};
use crate::driver::Shell;
use crate::net::{self, CloseReason, Connection, Endpoint};
use crate::protocol::effect::{Copied, Lane, Note, Ticket, WorkerEffect, WorkerInput};
use crate::protocol::message::{Answer, PeerMessage, ToMeta};
use crate::protocol::types::{Epoch, KeySet, LinkId, Member, WorkerId};
use crate::protocol::view::View;
use crate::protocol::worker::Worker;
use crate::store::durable::base::BaseError;
use crate::wire;

/// Streams that the key sets of a replication link share. Each costs a wake-up and a write at
/// both ends for every turn in which it has something; a lost packet holds up only those key sets
/// whose messages were in it or behind it on the same stream: half of them.
const REPLICATION_LANES: u16 = 2;

/// What a worker's effects need.
pub struct ServerShell {
    plan: Arc<Plan>,
    worker: WorkerId,
    pub endpoint: Rc<Endpoint>,
    reports: Reports,
    done: queue::UnboundedSender<()>,
    /// Itself, for the tasks that it starts; set by `begin`.
    driver: Option<Driver>,
    engine: Engine,
    pub member: Option<Member>,
    pub view: Rc<View>,
    links_last: u64,
    /// Replication links, dialled and accepted.
    pub peers: BTreeMap<LinkId, Connection>,
    /// Bulk connections beside the dialled links.
    pub bulk: BTreeMap<LinkId, Bulk>,
    pub clients: BTreeMap<LinkId, Connection>,
    pub meta: Option<Connection>,
    /// Followers that links are kept to.
    pub wanted: BTreeMap<Member, Rc<dial::Wanted>>,
    knows_epoch: bool,
    /// The process is about to end: nothing is done any more.
    failed: bool,
}

impl ServerShell {
    pub fn new(
        plan: Arc<Plan>,
        worker: WorkerId,
        endpoint: Rc<Endpoint>,
        reports: Reports,
        done: queue::UnboundedSender<()>,
        engine: Engine,
    ) -> ServerShell {
        ServerShell {
            plan,
            worker,
            endpoint,
            reports,
            done,
            driver: None,
            engine,
            member: None,
            view: Rc::new(View::default()),
            links_last: 0,
            peers: BTreeMap::new(),
            bulk: BTreeMap::new(),
            clients: BTreeMap::new(),
            meta: None,
            wanted: BTreeMap::new(),
            knows_epoch: false,
            failed: false,
        }
    }

    /// Lets the shell start tasks that come back to the driver.
    pub fn begin(&mut self, driver: &Driver, machine: &Worker) {
        self.driver = Some(driver.clone());
        if let Some(member) = machine.member() {
            self.engine.become_incarnation(member.incarnation);
            self.member = Some(member);
        }
        self.view = Rc::new(machine.view().clone());
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// A link's name: never used again by this worker.
    pub fn next_link(&mut self) -> LinkId {
        self.links_last += 1;
        LinkId(self.links_last)
    }

    /// The replication link that `peer` dialled, newest first: its bulk chunks belong to it.
    pub fn accepted_link(&self, peer: Member) -> Option<LinkId> {
        let mut links = self.peers.iter().rev();
        links.find(|(_, it)| !it.dialled() && it.hello().from == Some(peer)).map(|(&link, _)| link)
    }

    /// Touches what reads and writes of these keys are going to touch.
    pub fn look_over(&self, keys: &[(KeySet, &[u8])]) {
        self.engine.look_over(keys);
    }

    /// What the engine holds in memory, where that is all it has.
    pub fn memory_bytes(&self) -> u64 {
        self.engine.memory_bytes()
    }

    /// The server is nearly full, or is no longer: what was removed is to be free soon.
    pub fn set_tight(&mut self, machine: &Worker, is_tight: bool) {
        self.engine.set_tight(is_tight);
        self.engine.tend_checkpoint(machine);
    }

    fn report(&self, report: Report) {
        // The main thread is gone only when the process ends.
        let _ = self.reports.send(report);
    }

    fn reply(&mut self, ticket: Ticket, answer: &Answer) {
        let Some(connection) = self.clients.get(&ticket.link) else { return };
        let sent = connection.send(net::Lane::Control, |buffer, limits| {
            wire::encode_answer(buffer, limits, ticket.request, answer)
        });
        if let Err(error) = sent {
            tracing::debug!("an answer was not sent: {error}");
        }
    }

    fn send_meta(&mut self, message: &ToMeta, datagram: bool) {
        let Some(connection) = &self.meta else { return };
        let sent = if datagram {
            connection.send_datagram(|buffer, limits| wire::encode_to_meta(buffer, limits, message))
        } else {
            connection.send(net::Lane::Control, |buffer, limits| {
                wire::encode_to_meta(buffer, limits, message)
            })
        };
        if let Err(error) = sent {
            tracing::debug!("a message to the metaserver was not sent: {error}");
        }
    }

    fn send_peer(&mut self, link: LinkId, lane: Lane, message: &PeerMessage) {
        let sent = match lane {
            Lane::Bulk(set) => return self.send_bulk(link, set, message),
            Lane::Datagram => {
                let Some(connection) = self.peers.get(&link) else { return };
                connection
                    .send_datagram(|buffer, limits| wire::encode_peer(buffer, limits, message))
            }
            Lane::Set(set) => {
                let Some(connection) = self.peers.get(&link) else { return };
                let shared = net::Lane::Set(KeySet(set.0 % REPLICATION_LANES));
                connection.send(shared, |buffer, limits| wire::encode_peer(buffer, limits, message))
            }
        };
        let Err(error) = sent else { return };
        match (lane, self.peers.get(&link)) {
            // What follows it on its lane would be a gap: the link begins anew, or not at all.
            (Lane::Set(_), Some(connection)) if matches!(error, net::SendError::Frame(_)) => {
                tracing::error!(%link, "a message to a peer can not be sent: {error}");
                connection.close(CloseReason::Misbehaved("a message that can not be sent"));
            }
            _ => tracing::debug!(%link, "a message to a peer was not sent: {error}"),
        }
    }

    fn send_bulk(&mut self, link: LinkId, set: KeySet, message: &PeerMessage) {
        let (Some(connection), Some(driver)) = (self.peers.get(&link), &self.driver) else {
            return;
        };
        let bulk = self.bulk.entry(link).or_insert_with(|| {
            let (driver, beside) = (driver.clone(), connection.clone());
            spawn_local(keep_bulk_link(driver, beside, link));
            Bulk::default()
        });
        bulk.send(set, message.clone());
    }

    /// The disk tells what it has done; answers the completions.
    pub fn on_told(&mut self, told: Told, machine: &Worker) -> Vec<WorkerInput> {
        if self.failed {
            return Vec::new();
        }
        self.engine.on_told(told, machine).unwrap_or_else(|error| {
            self.fail(error);
            Vec::new()
        })
    }

    /// Nothing may be acknowledged or answered any more: the process has to end.
    fn fail(&mut self, error: anyhow::Error) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        let damage = matches!(error.downcast_ref(), Some(BaseError::Damaged(_)));
        let condemned =
            if damage { disk::condemn(&memory::folder(&self.plan, self.worker)) } else { Ok(()) };
        let error = condemned.err().unwrap_or(error);
        self.report(Report::Failed { worker: self.worker, error });
    }

    fn connect(&mut self, peer: Member) {
        let Some(driver) = self.driver.clone() else { return };
        let wanted = Rc::new(dial::Wanted::default());
        if self.wanted.insert(peer, wanted.clone()).is_none() {
            spawn_local(dial::keep_peer_link(driver, peer, wanted));
        }
    }

    fn disconnect(&mut self, peer: Member) {
        if let Some(wanted) = self.wanted.remove(&peer) {
            wanted.end();
        }
    }

    /// What a view says of key sets can not be done with another number of them.
    fn look_at(&mut self, view: &View) {
        let (ours, theirs) = (usize::from(self.plan.key_sets), view.sets.len());
        if theirs != 0 && theirs != ours {
            self.fail(anyhow::anyhow!(
                "cluster.toml says key_sets = {ours}, but the cluster was made with {theirs}: \
                 write key_sets = {theirs} there"
            ));
        }
    }

    fn on_view(&mut self, view: View) {
        self.look_at(&view);
        let epoch = view.sets.iter().filter_map(|it| Some(it.configuration.as_ref()?.epoch)).max();
        if let Some(epoch) = epoch.filter(|&epoch| !self.knows_epoch && epoch > Epoch(0)) {
            self.knows_epoch = true;
            self.report(Report::KnowsEpoch { cluster: view.cluster, epoch });
        }
        self.view = Rc::new(view);
    }
}

impl Shell<Worker> for ServerShell {
    fn perform(&mut self, effect: WorkerEffect, inputs: &mut VecDeque<WorkerInput>) {
        if self.failed {
            return;
        }
        if effect.is_for_engine() {
            if let Err(error) = self.engine.perform(effect, inputs) {
                self.fail(error);
            }
            return;
        }
        match effect {
            WorkerEffect::Connect { peer, .. } => self.connect(peer),
            WorkerEffect::Disconnect { peer } => self.disconnect(peer),
            WorkerEffect::CloseLink { link, reason } => {
                if let Some(connection) = self.peers.get(&link) {
                    connection.close(CloseReason::Misbehaved(reason));
                }
            }
            WorkerEffect::SendPeer { link, lane, message } => self.send_peer(link, lane, &message),
            WorkerEffect::SendMeta { message } => self.send_meta(&message, false),
            WorkerEffect::SendMetaDatagram { message } => self.send_meta(&message, true),
            WorkerEffect::Reply { ticket, answer } => self.reply(ticket, &answer),
            WorkerEffect::Registered { member, cluster, view } => {
                self.look_at(&view);
                if self.failed {
                    return;
                }
                self.member = Some(member);
                self.engine.become_incarnation(member.incarnation);
                self.report(Report::Registered { member, cluster, view });
            }
            WorkerEffect::Deposed { reason } => self.report(Report::Deposed { reason }),
            WorkerEffect::ViewChanged { view } => self.on_view(view),
            // The receiver is gone only when the worker ends.
            WorkerEffect::MayExit => drop(self.done.send(())),
            WorkerEffect::HeldUp { sets } => self.report(Report::HeldUp { sets }),
            WorkerEffect::Note { note } => log_note(note),
            other => unreachable!("{other:?} is the engine's"),
        }
    }

    fn is_due(&self) -> bool {
        self.engine.is_due()
    }

    fn settle(&mut self) {
        self.engine.settle();
    }
}

fn log_note(note: Note) {
    match note {
        Note::Opened { set, epoch } => tracing::info!(%set, %epoch, "open"),
        Note::Paused { set, epoch } => tracing::warn!(%set, %epoch, "paused: a lease ran out"),
        Note::Resigned { set, epoch } => tracing::info!(%set, %epoch, "resigned"),
        Note::Adopted { set, epoch, role } => tracing::info!(%set, %epoch, role, "adopted"),
        Note::RunStarted { set, learner } => tracing::info!(%set, %learner, "copy starts"),
        Note::RunEnded { set, learner, complete, copied: Copied { keys, bytes, base } } => {
            let since = base.map(|op| op.0);
            tracing::info!(%set, %learner, complete, keys, bytes, since, "copy ends");
        }
        Note::Unheeded { reason } => {
            let why = super::deposed(reason);
            tracing::error!("served on without a metaserver: {why}");
        }
        Note::Misbehaved { peer, reason } => {
            tracing::error!(%peer, reason, "a peer broke the protocol; its link is closed");
        }
    }
}
