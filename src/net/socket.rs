//! What an endpoint stands on: a UDP socket; in test builds also a network in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};

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
    let socket = runtime.wrap_udp_socket(transport::bind(address)?)?;
    Ok(Ground { socket, runtime, seed: None })
}
