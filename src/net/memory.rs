//! Test builds only: QUIC over a network in memory, in virtual time, the same again from a seed.
//!
//! ```text
//!   endpoint --Port::try_send--> Network::carry   (delays, loses, reorders: the test's own)
//!            <--Port::poll_recv-- Port::deliver
//! ```
//!
//! Endpoints that are bound on a thread while `Standing` lives stand on its network. What QUIC
//! draws at random and what shows in sizes or times of packets comes from the port's seed. Keys
//! and connection ids stay random: they change the bytes of packets and nothing else.
//!
//! An endpoint's tasks run in the `LocalSet` that binds it, so that a process which shares its
//! thread with others can be dropped in the middle of anything, like one that is killed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use super::socket::Ground;

/// Hands out ports, and takes what is sent from them.
pub trait Network: Send + Sync {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// It is in use.
    fn bind(self: Arc<Self>, address: SocketAddr) -> io::Result<Arc<Port>>;

    /// Takes a packet that `port` sends to `to`.
    fn carry(&self, port: &Port, to: SocketAddr, packet: Bytes);
}

/// A socket of a network in memory.
pub struct Port {
    address: SocketAddr,
    seed: [u8; 32],
    network: Arc<dyn Network>,
    inbox: Mutex<Inbox>,
}

/// What arrived and was not read yet.
#[derive(Default)]
struct Inbox {
    packets: VecDeque<(SocketAddr, Bytes)>,
    reader: Option<Waker>,
}

impl Port {
    #[must_use]
    pub fn new(address: SocketAddr, seed: [u8; 32], network: Arc<dyn Network>) -> Port {
        Port { address, seed, network, inbox: Mutex::default() }
    }

    /// Where it was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands over a packet.
    pub fn deliver(&self, from: SocketAddr, packet: Bytes) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.packets.push_back((from, packet));
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.address)
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let packet = Bytes::copy_from_slice(transmit.contents);
        self.network.carry(self, transmit.destination, packet);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (buffer, meta) in bufs.iter_mut().zip(meta) {
            let Some((from, packet)) = inbox.packets.pop_front() else { break };
            // A packet that is too large for the reader is cut, as by the system.
            let len = packet.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet[..len]);
            *meta = RecvMeta { addr: from, len, stride: len, ..RecvMeta::default() };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Memory takes every packet.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Tokio's timers and clock, which may be paused, and tasks of the current `LocalSet`.
#[derive(Debug)]
pub struct LocalRuntime;

impl Runtime for LocalRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::task::spawn_local(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::other("a real socket on a network in memory"))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

thread_local! {
    static NETWORK: RefCell<Option<Arc<dyn Network>>> = const { RefCell::new(None) };
}

/// While this lives, endpoints that are bound on its thread stand on its network.
pub struct Standing(PhantomData<Rc<()>>);

impl Standing {
    #[must_use]
    pub fn on(network: Arc<dyn Network>) -> Standing {
        NETWORK.set(Some(network));
        Standing(PhantomData)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        NETWORK.set(None);
    }
}

/// Binds on this thread's network; none if it has none.
pub(super) fn bind(address: SocketAddr) -> Option<io::Result<Ground>> {
    let network = NETWORK.with_borrow(Clone::clone)?;
    Some(network.bind(address).map(|port| {
        let seed = Some(port.seed);
        Ground { socket: port, runtime: Arc::new(LocalRuntime), seed }
    }))
}
