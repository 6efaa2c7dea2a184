//! Links between servers: lanes in order, datagrams that overtake or are lost, ends that notice.
//!
//! What an end says before it goes is still under way when it is gone; what is said to an end that
//! is gone is lost. A broken link loses everything.

use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::Rc;

use tandem::protocol::effect::Lane;
use tandem::protocol::message::PeerMessage;
use tandem::protocol::types::{LinkId, Member};

use crate::hash::Fingerprint;

/// One of the two ends.
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
}

/// What waits for one end.
#[derive(Clone, Debug, Default, Hash)]
pub struct Inbound {
    pub stream: VecDeque<Rc<PeerMessage>>,
    pub bulk: VecDeque<Rc<PeerMessage>>,
    /// The newest datagram: an older one that is not there yet never comes.
    pub datagram: Option<Rc<PeerMessage>>,
    /// This end is attached, and can still be told anything.
    pub attached: bool,
}

impl Inbound {
    fn attached() -> Inbound {
        Inbound { attached: true, ..Inbound::default() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stream.is_empty() && self.bulk.is_empty() && self.datagram.is_none()
    }

    fn detach(&mut self) {
        *self = Inbound::default();
    }
}

/// A replication link with the bulk connection beside it.
#[derive(Clone, Debug)]
pub struct Link {
    pub id: LinkId,
    /// Servers, by index.
    pub dialler: usize,
    pub acceptor: usize,
    /// The incarnation that the dialler means.
    pub peer_member: Member,
    to_dialler: Inbound,
    to_acceptor: Inbound,
}

impl Link {
    #[must_use]
    pub fn new(id: LinkId, dialler: usize, acceptor: usize, peer_member: Member) -> Link {
        let (to_dialler, to_acceptor) = (Inbound::attached(), Inbound::attached());
        Link { id, dialler, acceptor, peer_member, to_dialler, to_acceptor }
    }

    #[must_use]
    pub fn server(&self, side: Side) -> usize {
        match side {
            Side::Dialler => self.dialler,
            Side::Acceptor => self.acceptor,
        }
    }

    #[must_use]
    pub fn to(&self, side: Side) -> &Inbound {
        match side {
            Side::Dialler => &self.to_dialler,
            Side::Acceptor => &self.to_acceptor,
        }
    }

    pub fn to_mut(&mut self, side: Side) -> &mut Inbound {
        match side {
            Side::Dialler => &mut self.to_dialler,
            Side::Acceptor => &mut self.to_acceptor,
        }
    }

    /// The side of an attached server.
    #[must_use]
    pub fn side_of(&self, server: usize) -> Option<Side> {
        [Side::Dialler, Side::Acceptor]
            .into_iter()
            .find(|&side| self.server(side) == server && self.to(side).attached)
    }

    /// Puts a message on its way to `side`.
    pub fn send(&mut self, side: Side, lane: Lane, message: PeerMessage) {
        let inbound = self.to_mut(side);
        if !inbound.attached {
            return;
        }
        // Who hears of a configuration a second time ignores it: a primary that knocks again and
        // again at one that has passed its epoch needs one answer.
        let again = |it: &Rc<PeerMessage>| **it == message;
        if matches!(message, PeerMessage::Fenced { .. }) && inbound.stream.iter().any(again) {
            return;
        }
        let message = Rc::new(message);
        match lane {
            Lane::Set(_) => inbound.stream.push_back(message),
            Lane::Bulk(_) => inbound.bulk.push_back(message),
            Lane::Datagram => inbound.datagram = Some(message),
        }
    }

    /// One end is gone.
    pub fn detach(&mut self, side: Side) {
        self.to_mut(side).detach();
    }

    /// Datagrams that are still under way never come.
    pub fn lose_datagrams(&mut self) {
        self.to_dialler.datagram = None;
        self.to_acceptor.datagram = None;
    }

    /// Nobody is attached any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.to_dialler.attached && !self.to_acceptor.attached
    }

    /// The times in its messages are on the dialler's clock: only the dialler asks for leases,
    /// and acknowledgements echo what it asked.
    pub fn fingerprint(&self, fingerprint: &mut Fingerprint) {
        self.id.hash(fingerprint);
        self.to_dialler.hash(fingerprint);
        self.to_acceptor.hash(fingerprint);
    }
}
