//! Links that others dial: who is let in, and what is done with their frames.

use super::turn::Turn;
use super::worker::Driver;
use crate::identity::Identity;
use crate::net::{self, Acceptor, CloseReason, Connection, FrameHandler};
use crate::protocol::effect::{Ticket, WorkerInput};
use crate::protocol::message::{
    Hello, HelloAck, MetaAnswer, MetaRefusal, MetaRequest, PeerMessage, Purpose,
};
use crate::protocol::types::{LinkId, Member};
use crate::wire::{self, Frame, HelloRefusal, Kind, Local};

/// Judges diallers by the view, and hands their connections to the driver.
pub struct Doorman {
    driver: Driver,
}

impl Doorman {
    pub fn new(driver: Driver) -> Doorman {
        Doorman { driver }
    }

    fn on_peer(&self, connection: Connection, peer: Member) {
        let driver = self.driver.clone();
        tokio::task::spawn_local(async move {
            let link = driver.with(|_, shell| {
                // Only the newest link of a peer is listened to. One that this takes the place of
                // is closed, for its dialler may still count on it: then it dials anew.
                if let Some(older) = shell.accepted_link(peer).and_then(|it| shell.peers.get(&it)) {
                    older.close(CloseReason::Done);
                }
                let link = shell.next_link();
                shell.peers.insert(link, connection.clone());
                link
            });
            driver.submit(WorkerInput::PeerAccepted { peer, link });
            let reader = PeerReader::new(driver.clone(), link);
            let reason = connection.run(reader).await;
            tracing::debug!(%peer, "accepted link ended: {reason}");
            driver.with(|_, shell| shell.peers.remove(&link));
            driver.submit(WorkerInput::PeerDown { link });
        });
    }

    fn on_bulk(&self, connection: Connection, peer: Member) {
        let reader = BulkReader { driver: Some(self.driver.clone()), peer: Some(peer) };
        tokio::task::spawn_local(async move {
            let reason = connection.run(reader).await;
            tracing::debug!(%peer, "accepted bulk link ended: {reason}");
        });
    }

    fn on_client(&self, connection: Connection) {
        let driver = self.driver.clone();
        tokio::task::spawn_local(async move {
            let link = driver.with(|_, shell| {
                let link = shell.next_link();
                shell.clients.insert(link, connection.clone());
                link
            });
            let party = connection.party().to_string();
            let (driver_too, connection_too) = (driver.clone(), connection.clone());
            let turn = Turn::default();
            let reader =
                ClientReader { driver: driver_too, link, connection: connection_too, turn };
            let reason = connection.run(reader).await;
            tracing::debug!(party, "client link ended: {reason}");
            driver.with(|_, shell| shell.clients.remove(&link));
            driver.submit(WorkerInput::ClientGone { link });
        });
    }
}

impl Acceptor for Doorman {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        self.driver.with(|machine, shell| {
            let local = Local { cluster: shell.view.cluster, member: shell.member };
            let mut ack = local.admit(hello)?;
            if let Some(from) = hello.from
                && shell.view.is_dead(from)
            {
                return Err(HelloRefusal::Superseded { member: from });
            }
            if hello.purpose == Purpose::Client {
                ack.bases = machine.bases();
            }
            Ok(ack)
        })
    }

    fn on_connection(&self, connection: Connection) {
        match (connection.hello().purpose, connection.hello().from) {
            (Purpose::Replication, Some(peer)) => self.on_peer(connection, peer),
            (Purpose::Bulk, Some(peer)) => self.on_bulk(connection, peer),
            (Purpose::Client, _) => self.on_client(connection),
            (Purpose::Control, _) | (Purpose::Replication | Purpose::Bulk, None) => {
                connection.close(CloseReason::Misbehaved("a connection for nothing here"));
            }
        }
    }
}

/// Reads a replication link, whoever dialled it.
pub struct PeerReader {
    driver: Driver,
    link: LinkId,
    turn: Turn,
}

impl PeerReader {
    pub fn new(driver: Driver, link: LinkId) -> PeerReader {
        PeerReader { driver, link, turn: Turn::default() }
    }
}

impl FrameHandler for PeerReader {
    fn on_frame(&mut self, _: net::Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let message = wire::decode_peer(frame).map_err(CloseReason::Wire)?;
        self.turn.push(WorkerInput::FromPeer { link: self.link, message });
        Ok(())
    }

    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason> {
        self.on_frame(net::Lane::Control, frame)
    }

    fn on_batch_end(&mut self) {
        self.turn.hand_over(&self.driver);
    }
}

/// Reads copy chunks; the sending side has nothing to read.
pub struct BulkReader {
    driver: Option<Driver>,
    peer: Option<Member>,
}

impl BulkReader {
    pub fn sender() -> BulkReader {
        BulkReader { driver: None, peer: None }
    }
}

impl FrameHandler for BulkReader {
    fn on_frame(&mut self, _: net::Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let message = wire::decode_peer(frame).map_err(CloseReason::Wire)?;
        let (Some(driver), Some(peer)) = (&self.driver, self.peer) else {
            return Err(CloseReason::Misbehaved("a message to the sending side of a bulk link"));
        };
        let is_chunk = |it: &PeerMessage| {
            matches!(it, PeerMessage::CopyChunk { .. } | PeerMessage::CopyChanges { .. })
        };
        if !is_chunk(&message) {
            return Err(CloseReason::Misbehaved("anything but a chunk on a bulk link"));
        }
        // Without its replication link a run is over anyway.
        if let Some(link) = driver.with(|_, shell| shell.accepted_link(peer)) {
            driver.input(WorkerInput::FromPeer { link, message });
        }
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Err(CloseReason::Misbehaved("a datagram on a bulk link"))
    }

    fn on_batch_end(&mut self) {
        if let Some(driver) = &self.driver {
            driver.settle();
        }
    }
}

/// Reads a client's requests.
struct ClientReader {
    driver: Driver,
    link: LinkId,
    connection: Connection,
    turn: Turn,
}

impl ClientReader {
    /// Any server hands out the view; all else is the metaserver's.
    fn answer(&self, frame: Frame<'_>) -> Result<(), CloseReason> {
        let answer = match wire::decode_meta_request(frame).map_err(CloseReason::Wire)? {
            MetaRequest::View => {
                let view = self.driver.with(|_, shell| shell.view.clone());
                MetaAnswer::View((*view).clone())
            }
            MetaRequest::Status
            | MetaRequest::Space
            | MetaRequest::Revive { .. }
            | MetaRequest::StopCluster { .. }
            | MetaRequest::OwnSpace
            | MetaRequest::Fence { .. } => MetaAnswer::Refused(MetaRefusal::NotMetaserver),
        };
        let sent = self.connection.send(net::Lane::Control, |buffer, limits| {
            wire::encode_meta_answer(buffer, limits, frame.request, &answer)
        });
        if let Err(error) = sent {
            tracing::debug!("an answer was not sent: {error}");
        }
        Ok(())
    }
}

impl FrameHandler for ClientReader {
    fn on_frame(&mut self, lane: net::Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        if lane != net::Lane::Control {
            return Err(CloseReason::Misbehaved("a client on a key set's lane"));
        }
        if frame.kind == Kind::MetaRequest {
            return self.answer(frame);
        }
        let request = wire::decode_request(frame).map_err(CloseReason::Wire)?;
        let ticket = Ticket { link: self.link, request: frame.request };
        self.turn.push(WorkerInput::Request { ticket, request });
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Err(CloseReason::Misbehaved("a datagram from a client"))
    }

    fn on_batch_end(&mut self) {
        self.turn.hand_over(&self.driver);
    }
}
