//! The links of a client: as many a worker and incarnation as its options say, shared by all its
//! sessions.
//!
//! A session always uses the link of the same number, so that one that breaks disturbs its own
//! sessions only. Whoever only asks for the view, or asks the metaserver, uses the first.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::transport::{Endpoint, Transport};
use crate::protocol::types::{KeySet, LinkId, Member, Revision, WorkerId};

/// Names a session within its client; never reused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub(super) struct SessionSlot(pub(super) u32);

/// A session that asked for a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Asker {
    pub(super) slot: SessionSlot,
    pub(super) peer: Member,
    pub(super) worker: WorkerId,
}

/// Tells the links to one worker apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct LinkNumber(u32);

impl LinkNumber {
    const FIRST: LinkNumber = LinkNumber(0);
}

/// A link that was dialled and is not down yet.
#[derive(Debug)]
struct Link {
    address: SocketAddr,
    number: LinkNumber,
    /// The incarnation that was meant; none where any will do.
    wanted: Option<Member>,
    state: State,
    /// Sessions that use it, or wait for it.
    askers: Vec<Asker>,
}

#[derive(Debug)]
enum State {
    Dialling,
    Up { bases: Vec<(KeySet, Revision)> },
}

/// How a wish for a link stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Dialling(LinkId),
    Up(LinkId),
}

/// All links of a client.
#[derive(Debug)]
pub(super) struct Pool {
    /// Links to each worker.
    connections: u32,
    links: BTreeMap<LinkId, Link>,
    link_last: u64,
}

impl Pool {
    /// No links yet, and at most `connections` to each worker, which is not 0.
    pub(super) fn new(connections: u16) -> Pool {
        assert!(connections > 0, "a client's options are checked when it starts");
        Pool { connections: connections.into(), links: BTreeMap::new(), link_last: 0 }
    }

    /// The session's link to the worker at `endpoint`, dialled if there is none. The session is
    /// noted as one that uses it, or waits for it.
    pub(super) fn want(
        &mut self,
        transport: &mut impl Transport,
        endpoint: &Endpoint,
        asker: Asker,
    ) -> Wish {
        let number = LinkNumber(asker.slot.0 % self.connections);
        let wish = self.find(transport, endpoint, Some(asker.peer), number);
        let (Wish::Dialling(link) | Wish::Up(link)) = wish;
        self.share(link, asker);
        wish
    }

    /// A link to whichever incarnation is at `endpoint`, dialled if there is none.
    pub(super) fn want_any(&mut self, transport: &mut impl Transport, endpoint: &Endpoint) -> Wish {
        self.find(transport, endpoint, None, LinkNumber::FIRST)
    }

    fn find(
        &mut self,
        transport: &mut impl Transport,
        endpoint: &Endpoint,
        peer: Option<Member>,
        number: LinkNumber,
    ) -> Wish {
        let fits = |link: &Link| {
            link.address == endpoint.address
                && link.number == number
                && (peer.is_none() || link.wanted == peer)
        };
        // The latest link is the one most likely to live.
        if let Some((&id, link)) = self.links.iter().rev().find(|(_, link)| fits(link)) {
            return match link.state {
                State::Dialling => Wish::Dialling(id),
                State::Up { .. } => Wish::Up(id),
            };
        }
        self.link_last += 1;
        let id = LinkId(self.link_last);
        let link = Link {
            address: endpoint.address,
            number,
            wanted: peer,
            state: State::Dialling,
            askers: Vec::new(),
        };
        self.links.insert(id, link);
        transport.dial(id, endpoint, peer);
        Wish::Dialling(id)
    }

    fn share(&mut self, link: LinkId, asker: Asker) {
        if let Some(link) = self.links.get_mut(&link)
            && !link.askers.contains(&asker)
        {
            link.askers.push(asker);
        }
    }

    pub(super) fn is_up(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|it| matches!(it.state, State::Up { .. }))
    }

    /// The bases that came with a link that is up.
    pub(super) fn bases(&self, link: LinkId) -> Vec<(KeySet, Revision)> {
        match self.links.get(&link).map(|it| &it.state) {
            Some(State::Up { bases }) => bases.clone(),
            Some(State::Dialling) | None => Vec::new(),
        }
    }

    /// The dial succeeded: the sessions that waited for it.
    pub(super) fn up(
        &mut self,
        link: LinkId,
        peer: Option<Member>,
        bases: Vec<(KeySet, Revision)>,
    ) -> Vec<Asker> {
        let Some(link) = self.links.get_mut(&link) else { return Vec::new() };
        link.state = State::Up { bases };
        // Where any incarnation would do, it is known now, and sessions may share the link.
        link.wanted = link.wanted.or(peer);
        link.askers.clone()
    }

    /// The link is gone: whether it ever was up, and the sessions that had to do with it.
    pub(super) fn down(&mut self, link: LinkId) -> (bool, Vec<Asker>) {
        match self.links.remove(&link) {
            Some(link) => (matches!(link.state, State::Up { .. }), link.askers),
            None => (false, Vec::new()),
        }
    }

    /// A session ended.
    pub(super) fn forget(&mut self, slot: SessionSlot) {
        for link in self.links.values_mut() {
            link.askers.retain(|asker| asker.slot != slot);
        }
    }
}
