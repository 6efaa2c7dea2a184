//! The client's transport over the network: a connection a link, all requests on its one stream.
//!
//! What a turn of the client's loop sends on a connection gathers in that connection's buffer
//! and leaves in one write when the loop waits again.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::transport::{Endpoint, Event, Events, Transport};
use crate::net::{
    self, CloseReason, Connection, Credentials, EndpointOptions, FrameHandler, Lane, SendError,
};
use crate::protocol::message::{Answer, MetaAnswer, MetaRefusal, MetaRequest, Refusal, Request};
use crate::protocol::types::{LinkId, Member};
use crate::wire::{self, Frame, Kind, Limits};

/// Requests beyond this many unsent bytes of a connection wait for their next turn.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// How long the end of a client waits until the other sides know.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

/// Links that are up, by link. They are few, and change rarely.
type Links = Rc<RefCell<Vec<(LinkId, Connection)>>>;

/// Connections over QUIC.
pub(super) struct QuicTransport {
    credentials: Arc<Credentials>,
    limits: Limits,
    events: Events,
    links: Links,
    /// The sockets for either version of IP, bound when first needed.
    v4: Option<Rc<net::Endpoint>>,
    v6: Option<Rc<net::Endpoint>>,
}

impl QuicTransport {
    pub(super) fn new(
        credentials: Arc<Credentials>,
        limits: Limits,
        events: Events,
    ) -> QuicTransport {
        QuicTransport { credentials, limits, events, links: Links::default(), v4: None, v6: None }
    }

    /// The socket from which `to` can be reached.
    fn socket(&mut self, to: SocketAddr) -> Result<Rc<net::Endpoint>, String> {
        let (socket, any) = match to {
            SocketAddr::V4(_) => (&mut self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&mut self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        if let Some(socket) = socket {
            return Ok(socket.clone());
        }
        // Twice the own limit, so that this side never closes a connection for being slow.
        let options = EndpointOptions {
            limits: self.limits,
            queue_bytes_max: 2 * QUEUE_BYTES_MAX,
            ..EndpointOptions::default()
        };
        let bound = net::Endpoint::bind(any, self.credentials.clone(), options)
            .map_err(|error| error.to_string())?;
        Ok(socket.insert(Rc::new(bound)).clone())
    }
}

fn connection(links: &[(LinkId, Connection)], link: LinkId) -> Option<&Connection> {
    let index = links.binary_search_by_key(&link, |(link, _)| *link).ok()?;
    Some(&links[index].1)
}

fn note(links: &mut Vec<(LinkId, Connection)>, link: LinkId, connection: Connection) {
    let index = links.partition_point(|(known, _)| *known < link);
    links.insert(index, (link, connection));
}

impl Transport for QuicTransport {
    fn dial(&mut self, link: LinkId, endpoint: &Endpoint, peer: Option<Member>) {
        let socket = match self.socket(endpoint.address) {
            Ok(socket) => socket,
            Err(reason) => {
                self.events.push(Event::Down { link, reason });
                return;
            }
        };
        let (events, links, endpoint) = (self.events.clone(), self.links.clone(), endpoint.clone());
        tokio::task::spawn_local(async move {
            let dialled =
                socket.dial(endpoint.address, &endpoint.identity, wire::client_hello(peer)).await;
            let reason = match dialled {
                Ok(connection) => {
                    let ack = connection.ack();
                    let (from, bases) = (ack.from, ack.bases.clone());
                    note(&mut links.borrow_mut(), link, connection.clone());
                    events.push(Event::Up { link, peer: from, bases });
                    let handler = Handler { link, events: events.clone() };
                    connection.run(handler).await.to_string()
                }
                Err(error) => format!("{} at {}: {error}", endpoint.identity, endpoint.address),
            };
            links.borrow_mut().retain(|(known, _)| *known != link);
            events.push(Event::Down { link, reason });
        });
    }

    fn send(&mut self, link: LinkId, id: u64, request: &Request) {
        let links = self.links.borrow();
        let Some(connection) = connection(&links, link) else { return };
        let refused = |refusal| Event::Answer { link, id, answer: Answer::Refused(refusal) };
        if connection.queued_bytes() > QUEUE_BYTES_MAX {
            self.events.push(refused(Refusal::Busy));
            return;
        }
        let sent = connection.send(Lane::Control, |buffer, limits| {
            wire::encode_request(buffer, limits, id, request)
        });
        match sent {
            // A connection that is closed reports it by the end of its task.
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(SendError::Frame(_) | SendError::DatagramTooLarge { .. }) => {
                self.events.push(refused(too_large(request, &self.limits)));
            }
        }
    }

    fn ask(&mut self, link: LinkId, id: u64, request: &MetaRequest) {
        let links = self.links.borrow();
        let Some(connection) = connection(&links, link) else { return };
        let sent = connection.send(Lane::Control, |buffer, limits| {
            wire::encode_meta_request(buffer, limits, id, request)
        });
        match sent {
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(SendError::Frame(_) | SendError::DatagramTooLarge { .. }) => {
                // Only a request of absurdly many key sets is that large.
                let answer = MetaAnswer::Refused(MetaRefusal::NotMetaserver);
                self.events.push(Event::MetaAnswer { link, id, answer });
            }
        }
    }

    async fn shutdown(&mut self) {
        for socket in [self.v4.take(), self.v6.take()].into_iter().flatten() {
            // Whoever has not heard it by then learns it from the silence.
            let _ = tokio::time::timeout(FAREWELL_MAX, socket.shutdown()).await;
        }
    }
}

/// What the server would say of a request that does not fit into a frame.
fn too_large(request: &Request, limits: &Limits) -> Refusal {
    let bytes_max = limits.key_bytes_max;
    match request.operation.key() {
        Some(key) if key.len() > bytes_max as usize => Refusal::KeyTooLarge { bytes_max },
        Some(_) => Refusal::ValueTooLarge { bytes_max: limits.value_bytes_max },
        None => Refusal::KeyTooLarge { bytes_max },
    }
}

/// Reports what arrives on a link.
struct Handler {
    link: LinkId,
    events: Events,
}

impl FrameHandler for Handler {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let (link, id) = (self.link, frame.request);
        let event = match frame.kind {
            Kind::Answer => {
                let answer = wire::decode_answer(frame).map_err(CloseReason::Wire)?;
                Event::Answer { link, id, answer }
            }
            Kind::MetaAnswer => {
                let answer = wire::decode_meta_answer(frame).map_err(CloseReason::Wire)?;
                Event::MetaAnswer { link, id, answer }
            }
            Kind::Hello
            | Kind::HelloAck
            | Kind::HelloRefused
            | Kind::Lane
            | Kind::Peer
            | Kind::ToMeta
            | Kind::ToServer
            | Kind::Request
            | Kind::MetaRequest => {
                return Err(CloseReason::Misbehaved("a client is sent answers only"));
            }
        };
        self.events.push(event);
        Ok(())
    }

    fn on_datagram(&mut self, _: Frame<'_>) -> Result<(), CloseReason> {
        Err(CloseReason::Misbehaved("a client is sent no datagrams"))
    }

    fn on_batch_end(&mut self) {}
}
