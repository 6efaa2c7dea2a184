//! Moments that messages mark: the steps of the protocol at which a fault hurts most.

use super::Node;
use super::coverage::Moment;
use super::network::Payload;
use super::world::World;
use crate::protocol::message::{Answer, ChangeKind, PeerMessage, ToMeta, ToServer};

impl World {
    /// Takes note of a message that is being sent, if it marks a moment.
    pub(super) fn mark(&mut self, from: Node, to: Node, payload: &Payload) {
        if self.siege.is_none() {
            return;
        }
        let marked = match payload {
            Payload::ToMeta(message) => of_a_word_to_meta(from, message),
            Payload::ToServer(message) => of_an_order(to, message),
            Payload::Peer(message) => of_replication(from, to, message),
            Payload::Answer { answer: Answer::Written { .. }, .. } => {
                Some(Moment::at("acknowledged", &[from]))
            }
            Payload::Request { .. } | Payload::Answer { .. } => None,
        };
        self.moments.extend(marked);
    }
}

fn of_a_word_to_meta(from: Node, message: &ToMeta) -> Option<Moment> {
    let at = |name, other| Some(Moment::at(name, &[from, other]));
    match message {
        ToMeta::Register(_) => at("registering", Node::Meta),
        ToMeta::ProbeAnswer { .. } => at("probe answered", Node::Meta),
        ToMeta::RemovalConfirmed { member, .. } => {
            at("removal confirmed", Node::Server(member.server))
        }
        ToMeta::Change { kind, .. } => match kind {
            ChangeKind::Add { learner, .. } => at("proposed", Node::Server(learner.server)),
            ChangeKind::HandOver { to } => at("handover drained", Node::Server(to.server)),
            ChangeKind::Reaffirm => at("withdrawn", Node::Meta),
        },
        ToMeta::Left => at("left", Node::Meta),
        ToMeta::Depart { .. } => at("departing", Node::Meta),
        ToMeta::Heartbeat { .. }
        | ToMeta::Complaint { .. }
        | ToMeta::Resigned { .. }
        | ToMeta::Leaving
        | ToMeta::Space(_)
        | ToMeta::Testimony(_)
        | ToMeta::Quiet
        | ToMeta::Halted => None,
    }
}

fn of_an_order(to: Node, message: &ToServer) -> Option<Moment> {
    let at = |name, other| Some(Moment::at(name, &[to, other]));
    match message {
        ToServer::ConfirmRemoval { member, .. } => at("removal asked", Node::Server(member.server)),
        ToServer::ConfirmLeave { member, .. } => at("leave asked", Node::Server(member.server)),
        ToServer::Released => at("released", Node::Meta),
        ToServer::Unplaced { .. } => at("unplaced", Node::Meta),
        ToServer::HandOver { to, .. } => at("handover ordered", Node::Server(to.server)),
        ToServer::Resign { .. } => at("resign ordered", Node::Meta),
        ToServer::Changed { .. } => at("change answered", Node::Meta),
        ToServer::Registered { .. }
        | ToServer::RegistrationRefused(_)
        | ToServer::Update(_)
        | ToServer::HeartbeatEcho { .. }
        | ToServer::Probe { .. }
        | ToServer::Copy { .. }
        | ToServer::CancelCopy { .. }
        | ToServer::Testify { .. }
        | ToServer::Quiesce
        | ToServer::Halt => None,
    }
}

fn of_replication(from: Node, to: Node, message: &PeerMessage) -> Option<Moment> {
    let at = |name| Some(Moment::at(name, &[from, to]));
    match message {
        PeerMessage::NewEpoch { .. } => at("greeted"),
        PeerMessage::Fenced { .. } => at("fenced"),
        PeerMessage::CopyChunk { through: None, .. } => at("last chunk sent"),
        PeerMessage::CopyChanges { through: None, .. } => at("last change sent"),
        PeerMessage::RunLost { .. } => at("run lost"),
        PeerMessage::CopyChunk { .. }
        | PeerMessage::CopyChanges { .. }
        | PeerMessage::RunBase { .. }
        | PeerMessage::RunExpiries { .. }
        | PeerMessage::Prepare { .. }
        | PeerMessage::Ack { .. }
        | PeerMessage::Resigned { .. }
        | PeerMessage::RunStart { .. }
        | PeerMessage::ChunkStored { .. }
        | PeerMessage::Beacon { .. }
        | PeerMessage::Grant { .. }
        | PeerMessage::Space { .. } => None,
    }
}
