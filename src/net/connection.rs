//! A connection after its handshake: lanes to send on, and a loop that hands over what arrives.
//!
//! ```text
//!   send(lane, ..) -> the lane's pieces -> its writer: one write of all that is queued
//!   its reader: bytes as they come -> whole frames -> FrameHandler::on_frame, up to a turn's worth
//! ```
//!
//! Everything of a connection runs on one thread. A handler is called directly by the readers:
//! no channel, no task and no allocation a frame. What is queued for a peer that does not read
//! is limited: beyond the limit the connection is closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use quinn::SendDatagramError;

use super::outgoing::Outgoing;
use super::reason::CloseReason;
use crate::identity::Identity;
use crate::protocol::message::{Hello, HelloAck};
use crate::protocol::types::KeySet;
use crate::wire::{DATAGRAM_BYTES_MAX, Frame, Limits, WireError};

/// A stream of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Lane {
    /// The stream that the `Hello` came on.
    Control,
    /// The stream of a key set, or of several, named after one of them; opened by the side that
    /// dialled when it first sends on it.
    Set(KeySet),
}

/// Takes what arrives. Called on the connection's thread, never while it is being called.
pub trait FrameHandler {
    /// One whole frame. An error closes the connection with that reason.
    ///
    /// # Errors
    /// The peer broke the protocol, or is not wanted any more.
    fn on_frame(&mut self, lane: Lane, frame: Frame<'_>) -> Result<(), CloseReason>;

    /// One datagram; it may have overtaken others.
    ///
    /// # Errors
    /// As for `on_frame`.
    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason>;

    /// No more frames for this turn: what was held back to be done together is done now.
    fn on_batch_end(&mut self);
}

/// Why something was not sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SendError {
    /// The connection is closed.
    Closed(CloseReason),
    /// The message is larger than the limits allow; the connection goes on.
    Frame(WireError),
    /// The datagram does not fit a packet; the connection goes on.
    DatagramTooLarge { bytes: usize, bytes_max: usize },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Closed(reason) => write!(f, "the connection is closed: {reason}"),
            SendError::Frame(error) => write!(f, "not sent: {error}"),
            SendError::DatagramTooLarge { bytes, bytes_max } => {
                write!(f, "a datagram of {bytes} bytes is not sent; {bytes_max} fit a packet")
            }
        }
    }
}

impl std::error::Error for SendError {}

/// What the handshake agreed on.
pub(super) struct Agreed {
    pub(super) quinn: quinn::Connection,
    pub(super) party: Identity,
    pub(super) hello: Hello,
    pub(super) ack: HelloAck,
    pub(super) dialled: bool,
    pub(super) limits: Limits,
    pub(super) queue_bytes_max: usize,
    pub(super) control: LaneStream,
}

/// A lane's stream, with what came on it beyond its first frame.
pub(super) struct LaneStream {
    pub(super) send: quinn::SendStream,
    pub(super) recv: quinn::RecvStream,
    pub(super) received: BytesMut,
}

/// A handle on a connection whose handshake is done; cheap to clone, of one thread.
#[derive(Clone)]
pub struct Connection {
    shared: Rc<Shared>,
}

pub(super) struct Shared {
    pub(super) quinn: quinn::Connection,
    pub(super) limits: Limits,
    pub(super) dialled: bool,
    party: Identity,
    hello: Hello,
    ack: HelloAck,
    queue_bytes_max: usize,
    state: RefCell<State>,
}

struct State {
    lanes: BTreeMap<Lane, Outgoing>,
    /// Bytes on all lanes.
    queued_bytes: usize,
    /// Who waits until there are no more than so many of them.
    drain: Option<(usize, Waker)>,
    /// Lanes that were sent on and have no stream yet; the dialling side opens them.
    unopened: VecDeque<Lane>,
    opener: Option<Waker>,
    /// Key sets whose stream the other side opened.
    claimed: BTreeSet<KeySet>,
    /// Until `run` takes it.
    control: Option<LaneStream>,
    /// Why this side closed it.
    closed: Option<CloseReason>,
}

impl Connection {
    pub(super) fn new(agreed: Agreed) -> Connection {
        let state = State {
            lanes: BTreeMap::from([(Lane::Control, Outgoing::default())]),
            queued_bytes: 0,
            drain: None,
            unopened: VecDeque::new(),
            opener: None,
            claimed: BTreeSet::new(),
            control: Some(agreed.control),
            closed: None,
        };
        let shared = Shared {
            quinn: agreed.quinn,
            limits: agreed.limits,
            dialled: agreed.dialled,
            party: agreed.party,
            hello: agreed.hello,
            ack: agreed.ack,
            queue_bytes_max: agreed.queue_bytes_max,
            state: RefCell::new(state),
        };
        Connection { shared: Rc::new(shared) }
    }

    /// The party that the other side's certificate names.
    #[must_use]
    pub fn party(&self) -> &Identity {
        &self.shared.party
    }

    /// The `Hello` of the side that dialled.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// The answer to it.
    #[must_use]
    pub fn ack(&self) -> &HelloAck {
        &self.shared.ack
    }

    /// Whether this side dialled.
    #[must_use]
    pub fn dialled(&self) -> bool {
        self.shared.dialled
    }

    /// Lets at most `bytes` be sent and not acknowledged; the rest waits in its queue.
    pub fn limit_in_flight(&self, bytes: usize) {
        self.shared.quinn.set_send_window(bytes as u64);
    }

    /// The bare QUIC connection, for tools that measure what stands above it. Whoever uses it
    /// does not call `run`.
    #[must_use]
    pub fn bare(&self) -> &quinn::Connection {
        &self.shared.quinn
    }

    /// The other side's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.shared.quinn.remote_address()
    }

    /// Bytes that wait in this process; what QUIC already took is not counted.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared.state.borrow().queued_bytes
    }

    /// Waits until no more than `bytes` wait in this process, or the connection is closed. One
    /// task at a time waits.
    pub async fn drained_to(&self, bytes: usize) {
        poll_fn(|cx| {
            let mut state = self.shared.state.borrow_mut();
            if state.queued_bytes <= bytes {
                return Poll::Ready(());
            }
            state.drain = Some((bytes, cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Queues what `encode` appends on `lane`; it leaves with all else that is queued there when
    /// the caller's task yields. On a key set's lane that the other side has not opened yet, it
    /// waits.
    ///
    /// # Errors
    /// The connection is closed, also by this call where too much is queued; or `encode` failed.
    pub fn send(
        &self,
        lane: Lane,
        encode: impl FnOnce(&mut BytesMut, &Limits) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        let mut state = self.shared.state.borrow_mut();
        let state = &mut *state;
        if let Some(reason) = &state.closed {
            return Err(SendError::Closed(reason.clone()));
        }
        if state.queued_bytes > self.shared.queue_bytes_max {
            let reason = CloseReason::SlowPeer { queued_bytes: state.queued_bytes };
            self.shared.quinn.close(reason.code(), reason.to_string().as_bytes());
            state.close(reason.clone());
            return Err(SendError::Closed(reason));
        }
        let outgoing = match state.lanes.get_mut(&lane) {
            Some(outgoing) => outgoing,
            None => {
                if self.shared.dialled {
                    state.unopened.push_back(lane);
                    if let Some(opener) = state.opener.take() {
                        opener.wake();
                    }
                }
                state.lanes.entry(lane).or_default()
            }
        };
        let limits = &self.shared.limits;
        let queued = outgoing.append(|buffer| encode(buffer, limits));
        state.queued_bytes += queued.map_err(SendError::Frame)?;
        Ok(())
    }

    /// Sends what `encode` appends as one datagram. It may be lost, and is when too many wait.
    ///
    /// # Errors
    /// It does not fit, or the connection is closed.
    pub fn send_datagram(
        &self,
        encode: impl FnOnce(&mut BytesMut, &Limits) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        let mut buffer = BytesMut::with_capacity(DATAGRAM_BYTES_MAX);
        encode(&mut buffer, &self.shared.limits).map_err(SendError::Frame)?;
        let bytes = buffer.len();
        self.shared.quinn.send_datagram(buffer.freeze()).map_err(|error| match error {
            SendDatagramError::TooLarge => {
                let bytes_max = self.shared.quinn.max_datagram_size().unwrap_or_default();
                SendError::DatagramTooLarge { bytes, bytes_max }
            }
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                SendError::DatagramTooLarge { bytes, bytes_max: 0 }
            }
            SendDatagramError::ConnectionLost(error) => {
                SendError::Closed(self.shared.reason_of(error))
            }
        })
    }

    /// Closes the connection at once: what is queued is dropped. The first reason stands.
    pub fn close(&self, reason: CloseReason) {
        self.shared.close(reason);
    }

    /// Hands over what arrives, and sends what is queued, until the connection ends; gives the
    /// reason. Must run within a `LocalSet`, once for a connection.
    pub async fn run(self, handler: impl FrameHandler + 'static) -> CloseReason {
        let control = self.shared.state.borrow_mut().control.take();
        match control {
            Some(control) => super::lanes::run(self.shared, control, handler).await,
            None => CloseReason::Done,
        }
    }
}

impl State {
    /// Drops what is queued, so that a closed connection holds no memory.
    fn close(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
        self.lanes.values_mut().for_each(Outgoing::clear);
        self.unqueue(self.queued_bytes);
    }

    /// So many bytes left a lane.
    fn unqueue(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        if let Some((_, waker)) = self.drain.take_if(|(most, _)| self.queued_bytes <= *most) {
            waker.wake();
        }
    }
}

impl Shared {
    pub(super) fn close(&self, reason: CloseReason) -> CloseReason {
        self.quinn.close(reason.code(), reason.to_string().as_bytes());
        let mut state = self.state.borrow_mut();
        state.close(reason.clone());
        state.closed.clone().unwrap_or(reason)
    }

    /// Why the connection ended, given what QUIC says: this side's own reason, if it closed it.
    pub(super) fn reason_of(&self, error: quinn::ConnectionError) -> CloseReason {
        self.state.borrow().closed.clone().unwrap_or_else(|| CloseReason::from(error))
    }

    /// The next lane whose stream is to be opened.
    pub(super) fn poll_unopened(&self, cx: &mut Context<'_>) -> Poll<Lane> {
        let mut state = self.state.borrow_mut();
        match state.unopened.pop_front() {
            Some(lane) => Poll::Ready(lane),
            None => {
                state.opener = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes all that is queued on `lane` into an empty `into`.
    pub(super) fn poll_queued(
        &self,
        lane: Lane,
        cx: &mut Context<'_>,
        into: &mut Vec<Bytes>,
    ) -> Poll<()> {
        self.state.borrow_mut().lanes.entry(lane).or_default().poll_take(cx, into)
    }

    /// Takes the lane of `set` for a stream that the other side opened; false if it has one.
    pub(super) fn claim(&self, set: KeySet) -> bool {
        self.state.borrow_mut().claimed.insert(set)
    }

    /// QUIC took this many of the queued bytes.
    pub(super) fn on_taken(&self, bytes: usize) {
        self.state.borrow_mut().unqueue(bytes);
    }
}
