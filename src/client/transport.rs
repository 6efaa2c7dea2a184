//! What the client library needs of the network: dial, send, and events that come back.
//!
//! One thread owns a transport. Its tasks report into `Events`, and the client's loop takes all
//! that gathered since its last turn, so that a wake-up serves many answers.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::identity::{Identity, PartyRole};
use crate::protocol::message::{Answer, MetaAnswer, MetaRequest, Request};
use crate::protocol::types::{KeySet, LinkId, Member, Revision, ServerId};

/// Someone to dial, and who must answer there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub identity: Identity,
    pub address: SocketAddr,
}

impl Endpoint {
    /// A worker of server `id` in the cluster called `cluster`.
    #[must_use]
    pub fn server(cluster: &str, id: ServerId, address: SocketAddr) -> Endpoint {
        let id = id.0.to_string();
        let identity = Identity { cluster: cluster.to_owned(), role: PartyRole::Server, id };
        Endpoint { identity, address }
    }
}

/// Connections to servers and the metaserver. Nothing here waits.
pub trait Transport {
    /// Dials once. Ends as `Event::Up` or `Event::Down`, in bounded time. With `peer`, no other
    /// incarnation of that server will do.
    fn dial(&mut self, link: LinkId, endpoint: &Endpoint, peer: Option<Member>);

    /// Sends a request; its answer comes as `Event::Answer` with the same `id`. Requests of one
    /// turn go out together. On a link that is not up it does nothing: `Event::Down` tells.
    fn send(&mut self, link: LinkId, id: u64, request: &Request);

    /// The same for a question to the metaserver, or for the view to any server.
    fn ask(&mut self, link: LinkId, id: u64, request: &MetaRequest);

    /// Closes all links, and gives the other sides a short time to learn it.
    fn shutdown(&mut self) -> impl Future<Output = ()>;
}

/// What the network reports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The dial succeeded; who answered, where it is a server, and the bases that it told.
    Up {
        link: LinkId,
        peer: Option<Member>,
        bases: Vec<(KeySet, Revision)>,
    },
    /// The dial failed or the link is gone, for the reason given; the last event of its link.
    Down {
        link: LinkId,
        reason: String,
    },
    Answer {
        link: LinkId,
        id: u64,
        answer: Answer,
    },
    MetaAnswer {
        link: LinkId,
        id: u64,
        answer: MetaAnswer,
    },
}

/// The events that the client's loop has not taken yet.
#[derive(Clone, Debug, Default)]
pub struct Events {
    queue: Rc<(RefCell<Vec<Event>>, Notify)>,
}

impl Events {
    /// Reports an event and wakes the client's loop.
    pub fn push(&self, event: Event) {
        let (queue, notify) = &*self.queue;
        let mut queue = queue.borrow_mut();
        if queue.is_empty() {
            notify.notify_one();
        }
        queue.push(event);
    }

    /// Takes all events, oldest first, into an empty `into`.
    pub(super) fn take(&self, into: &mut Vec<Event>) {
        std::mem::swap(&mut *self.queue.0.borrow_mut(), into);
    }

    pub(super) async fn wait(&self) {
        self.queue.1.notified().await;
    }
}
