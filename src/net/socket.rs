//! What an endpoint stands on: a UDP socket; in test builds also a network in memory.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use super::transport;

/// A socket, and what runs the tasks of its endpoint.
pub(super) struct Ground {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) runtime: Arc<dyn Runtime>,
    /// Fixes what QUIC draws at random; only where a run must be the same again.
    pub(super) seed: Option<[u8; 32]>,
}

/// Binds `address`.
///
/// # Errors
/// The address can not be bound.
pub(super) fn bind(address: SocketAddr) -> io::Result<Ground> {
    #[cfg(feature = "hooks")]
    if let Some(bound) = super::memory::bind(address) {
        return bound;
    }
    let runtime = Arc::new(TokioRuntime);
    let socket = Arc::new(Narrow(runtime.wrap_udp_socket(transport::bind(address)?)?));
    Ok(Ground { socket, runtime, seed: None })
}

/// The most that the system joins into one datagram to receive (`GRO_LEGACY_MAX_SIZE`).
const JOINED_BYTES_MAX: usize = 64 << 10;

/// A socket whose buffers to receive are no larger than what the system puts into one. The largest
/// count of packets in one, 64, is that of the smallest packets; together with our largest packets
/// it would make each of the 32 buffers six times as large, and a burst, which fills them all,
/// touch 13 MB that were never touched before.
#[derive(Debug)]
struct Narrow(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Narrow {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        let largest = usize::from(transport::PACKET_BYTES_MAX);
        self.0.max_receive_segments().min(JOINED_BYTES_MAX.div_ceil(largest))
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a buffer holds all that the system joins, and not much more.
    //! Method: what quinn makes of the answer, for a socket that joins packets.

    use super::*;

    #[tokio::test]
    async fn a_buffer_holds_what_the_system_joins() {
        let ground = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let segments = ground.socket.max_receive_segments();
        let buffer = usize::from(transport::PACKET_BYTES_MAX) * segments;
        let largest = JOINED_BYTES_MAX + usize::from(transport::PACKET_BYTES_MAX);
        assert!(segments == 1 || (JOINED_BYTES_MAX..largest).contains(&buffer), "{buffer} bytes");
    }
}
