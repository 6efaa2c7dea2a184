//! QUIC's settings for a local network, and the socket under them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::HmacKey;
use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::CryptoError;
use rustls::crypto::CryptoProvider;
use rustls::crypto::tls13::{Hkdf, OkmBlock};
use socket2::{Domain, Protocol, Socket, Type};

use super::endpoint::EndpointOptions;

/// Silence after which a connection counts as dead.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// How often a quiet connection says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Until a path is measured: on a local network a lost handshake packet costs three of these.
const INITIAL_RTT: Duration = Duration::from_millis(10);

/// How long an acknowledgement may wait. QUIC's own 25 ms would be part of every retransmission.
const ACK_DELAY_MAX: Duration = Duration::from_millis(2);

/// So many packets are acknowledged together, if none was lost: an acknowledgement that waits a
/// little leaves with the answers to what it acknowledges, instead of in a packet of its own.
const ACK_EVERY: VarInt = VarInt::from_u32(10);

/// What one stream may have under way: the product of delay and bandwidth, and some.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// What all streams of a connection may have under way to us.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// What may be sent and unacknowledged on a connection.
const SEND_WINDOW_BYTES: u64 = 8 << 20;

/// Stale heartbeats and beacons are dropped rather than queued.
const DATAGRAM_BUFFER_BYTES: usize = 64 << 10;

/// Paths are probed for packets up to this size, as jumbo frames and the loopback allow. Ten of
/// them go out in one call, and beyond 65,507 bytes together the system would drop them all.
pub(super) const PACKET_BYTES_MAX: u16 = 6_500;

/// With the system's default, hundreds of packets a second are lost under load.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Below this a person should know.
const SOCKET_BUFFER_BYTES_MIN: usize = 1 << 20;

/// The transport's settings for connections whose other side may open `streams` streams.
pub(super) fn config(options: &EndpointOptions, streams: u32) -> Arc<TransportConfig> {
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY_MAX));
    acks.ack_eliciting_threshold(ACK_EVERY);
    let mut packets = MtuDiscoveryConfig::default();
    packets.upper_bound(PACKET_BYTES_MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_MAX).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .ack_frequency_config(Some(acks))
        .initial_mtu(options.mtu)
        .mtu_discovery_config(Some(packets))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    Arc::new(config)
}

/// The settings of the endpoint at `address`. With `reset_seed`, kept beside the state, a
/// restarted process still recognises the connections of its predecessor, and tells the other
/// sides at once.
pub(super) fn endpoint(
    provider: &CryptoProvider,
    reset_seed: Option<[u8; 32]>,
    address: SocketAddr,
) -> EndpointConfig {
    let hkdf = provider.cipher_suites.iter().find_map(|suite| suite.tls13());
    let mut config = match (reset_seed, hkdf) {
        (Some(seed), Some(suite)) => {
            let key = ResetKey { hkdf: suite.hkdf_provider, seed }.of(address);
            let mut number = [0; 8];
            key.sign(b"connection ids", &mut number);
            let number = u64::from_le_bytes(number);
            let mut config = EndpointConfig::new(Arc::new(key));
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(number)));
            config
        }
        (None, _) | (_, None) => EndpointConfig::default(),
    };
    config
        .max_udp_payload_size(PACKET_BYTES_MAX)
        .expect("a packet may be larger than QUIC's smallest");
    config
}

/// Signs stateless resets with the TLS library's HMAC.
struct ResetKey {
    hkdf: &'static dyn Hkdf,
    seed: [u8; 32],
}

impl ResetKey {
    /// The key of one endpoint of the process: with a shared one, a token of one endpoint would
    /// end connections of another (RFC 9000, section 10.3.2).
    fn of(&self, address: SocketAddr) -> ResetKey {
        let mut seed = [0; 32];
        self.sign(format!("endpoint {address}").as_bytes(), &mut seed);
        ResetKey { hkdf: self.hkdf, seed }
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let tag = self.hkdf.hmac_sign(&OkmBlock::new(&self.seed), data);
        let bytes = tag.as_ref().iter().chain(std::iter::repeat(&0));
        signature_out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0; 32];
        self.sign(data, &mut expected);
        // Every byte is looked at, so that the time taken tells nothing.
        let differ = expected.iter().zip(signature).fold(0, |sum, (a, b)| sum | (a ^ b));
        if differ == 0 && signature.len() == expected.len() { Ok(()) } else { Err(CryptoError) }
    }
}

/// Binds a UDP socket with large buffers.
///
/// # Errors
/// The address can not be bound.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    // The system cuts these down in silence: what counts is what is read back.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    let bytes = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if bytes < SOCKET_BUFFER_BYTES_MIN {
        tracing::warn!(
            bytes,
            "the system keeps socket buffers small; raise net.core.rmem_max and \
             net.core.wmem_max to {SOCKET_BUFFER_BYTES}"
        );
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    //! Goal: each endpoint of a process has a reset key of its own, the same after a restart.
    //! Method: tokens of the same connection id, by keys that were made apart.

    use super::*;

    #[test]
    fn every_endpoint_has_a_reset_key_of_its_own() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let suite = provider.cipher_suites.iter().find_map(|it| it.tls13()).expect("TLS 1.3");
        let token = |seed, port| {
            let key = ResetKey { hkdf: suite.hkdf_provider, seed: [seed; 32] };
            let mut token = [0; 32];
            key.of(SocketAddr::from(([127, 0, 0, 1], port))).sign(b"id", &mut token);
            token
        };
        assert_eq!(token(1, 4702), token(1, 4702));
        assert_ne!(token(1, 4702), token(1, 4703), "another worker");
        assert_ne!(token(1, 4702), token(2, 4702), "another server");
    }
}
