//! Performs the metaserver's effects: persists, sends, replies, spawns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc as queue;

use super::SharedView;
use super::clients::Reply;
use super::journal::Batch;
use crate::driver::Shell;
use crate::net::{CloseReason, Connection, Lane};
use crate::protocol::effect::{MetaEffect, MetaInput, MetaNote, Ticket};
use crate::protocol::message::{RegistrationRefusal, StopPhase, ToServer};
use crate::protocol::meta::MetaServer;
use crate::protocol::types::{LinkId, ServerId};
use crate::wire;

/// What the metaserver's effects need.
pub struct MetaShell {
    pub view: SharedView,
    pub batches: queue::UnboundedSender<Batch>,
    pub spawns: queue::UnboundedSender<ServerId>,
    /// Told once, by those who may run still, when the whole cluster was stopped.
    pub ends: queue::UnboundedSender<Vec<ServerId>>,
    /// Servers' control links.
    pub servers: BTreeMap<LinkId, Connection>,
    /// Where the answers to clients go, by ticket.
    pub waiting: BTreeMap<Ticket, Reply>,
    links_last: u64,
}

impl MetaShell {
    pub fn new(
        view: SharedView,
        batches: queue::UnboundedSender<Batch>,
        spawns: queue::UnboundedSender<ServerId>,
        ends: queue::UnboundedSender<Vec<ServerId>>,
    ) -> MetaShell {
        let (servers, waiting) = (BTreeMap::new(), BTreeMap::new());
        MetaShell { view, batches, spawns, ends, servers, waiting, links_last: 0 }
    }

    /// A link's name: never used again by this process.
    pub fn next_link(&mut self) -> LinkId {
        self.links_last += 1;
        LinkId(self.links_last)
    }

    fn send(&self, link: LinkId, message: &ToServer, datagram: bool) {
        let Some(connection) = self.servers.get(&link) else { return };
        let sent = if datagram {
            connection
                .send_datagram(|buffer, limits| wire::encode_to_server(buffer, limits, message))
        } else {
            connection.send(Lane::Control, |buffer, limits| {
                wire::encode_to_server(buffer, limits, message)
            })
        };
        if let Err(error) = sent {
            tracing::debug!(%link, "a message to a server was not sent: {error}");
        }
    }
}

impl Shell<MetaServer> for MetaShell {
    fn perform(&mut self, effect: MetaEffect, _: &mut VecDeque<MetaInput>) {
        match effect {
            // The journal's thread ends only after it reported why.
            MetaEffect::Persist { number, records } => drop(self.batches.send((number, records))),
            MetaEffect::Send { link, message } => self.send(link, &message, false),
            MetaEffect::SendDatagram { link, message } => self.send(link, &message, true),
            MetaEffect::CloseLink { link, reason } => {
                if let Some(connection) = self.servers.get(&link) {
                    connection.close(CloseReason::Misbehaved(reason));
                }
            }
            MetaEffect::Reply { ticket, answer } => {
                if let Some(reply) = self.waiting.remove(&ticket) {
                    // Whoever asked may be gone.
                    let _ = reply.send(answer);
                }
            }
            // The spawner's task lives as long as this shell.
            MetaEffect::Spawn { server } => drop(self.spawns.send(server)),
            // The control thread waits for exactly this.
            MetaEffect::MayExit { left } => drop(self.ends.send(left)),
            MetaEffect::ViewChanged { view } => self.view.store(Arc::new(view)),
            MetaEffect::Note { note } => {
                #[cfg(feature = "hooks")]
                super::hooks::exit_at(&note);
                log_note(note);
            }
        }
    }
}

fn log_note(note: MetaNote) {
    match note {
        MetaNote::Registered { member } => tracing::info!(%member, "registered"),
        MetaNote::Suspected { member } => tracing::warn!(%member, "suspected: it fell silent"),
        MetaNote::Heard { member } => tracing::info!(%member, "heard again"),
        MetaNote::Dead { member } => tracing::warn!(%member, "proven dead"),
        MetaNote::Promoted { set, epoch, primary } => {
            tracing::info!(%set, %epoch, %primary, "promoted");
        }
        MetaNote::Removed { set, epoch, member } => {
            tracing::info!(%set, %epoch, %member, "removed");
        }
        MetaNote::LetGo { set, epoch, member } => {
            tracing::info!(%set, %epoch, %member, "let go: others hold the set");
        }
        MetaNote::Added { set, epoch, member } => tracing::info!(%set, %epoch, %member, "added"),
        MetaNote::HandedOver { set, epoch, to } => {
            tracing::info!(%set, %epoch, %to, "handed over");
        }
        MetaNote::Moving { set, from, to } => {
            tracing::info!(%set, %from, %to, "moves, for a server is nearly full");
        }
        MetaNote::Lost { set } => tracing::error!(
            %set,
            "LOST: all copies are gone; see `tandem --role client admin revive --help`"
        ),
        MetaNote::Born { sets } => tracing::info!(sets, "key sets created"),
        MetaNote::RecoveryStarted { recovery, failed } => {
            tracing::warn!(%recovery, %failed, "recovery starts");
        }
        MetaNote::RecoveryStep { recovery, step } => {
            tracing::info!(%recovery, ?step, "recovery goes on");
        }
        MetaNote::StopEntered { phase: StopPhase::Quiescing } => {
            tracing::info!("the whole cluster is to stop: servers admit nothing more");
        }
        MetaNote::StopEntered { phase: StopPhase::Ending } => {
            tracing::info!("servers end, and keep what they hold");
        }
        MetaNote::StopEntered { phase: StopPhase::Over } => tracing::info!("servers have ended"),
        MetaNote::RecoveryDone { recovery } => tracing::info!(%recovery, "recovery done"),
        MetaNote::Unfit { server, reason: RegistrationRefusal::MetaserverEmpty } => {
            tracing::error!(
                %server,
                "this metaserver's state is empty, and a server of a cluster that exists asks for \
                 it: it is refused and serves on alone. Stop this metaserver; put its lost state \
                 back if there is a copy; if there is none see `tandem rebuild --help`"
            );
        }
        MetaNote::Unfit { server, reason } => tracing::error!(
            %server,
            ?reason,
            "this metaserver's state is older than what a server knows: the cluster has, or had, \
             a newer one. Stop this metaserver and start the one with the newest state"
        ),
        MetaNote::Misbehaved { link, reason } => {
            tracing::error!(%link, reason, "a server broke the protocol; its link is closed");
        }
    }
}
