//! The network: QUIC with mutual TLS. The only place that names quinn and rustls.
//!
//! ```text
//!   Endpoint --dial--------> handshake ---> Connection --run--> FrameHandler
//!            --serve: Acceptor::judge, on_connection --^
//! ```
//!
//! A connection is up once TLS is done on both sides, the certificate names the right party, and
//! the `Hello` was answered by `HelloAck`. Before that nothing of the peer reaches anybody; after
//! it, the sender of every frame is known. All of an endpoint lives on one thread, in a
//! `tokio::task::LocalSet`. It moves frames and knows no machine.

mod certificate;
mod connection;
mod endpoint;
mod handshake;
mod lanes;
#[cfg(feature = "hooks")]
pub mod memory;
mod outgoing;
mod reason;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod verify;

pub use certificate::{CertificateRefusal, Fault, PeerCertificate};
pub use connection::{Connection, FrameHandler, Lane, SendError};
pub use endpoint::{Acceptor, BindError, Endpoint, EndpointOptions};
pub use reason::{CloseReason, HandshakeError};
pub use tls::{ALPN, Credentials, CredentialsError};
