//! Why connections end, and why they do not come up.

use std::fmt;

use quinn::{ConnectionError, VarInt};

use super::certificate::{CertificateRefusal, Moment, PeerCertificate};
use crate::wire::{HelloRefusal, WireError};

/// Longest text that is kept of what the other side says on closing, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// Why a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// This side has no more use for it.
    Done,
    /// This process stops.
    Shutdown,
    /// The other side broke the protocol.
    Misbehaved(&'static str),
    /// The other side sent bytes that are no message.
    Wire(WireError),
    /// The other side does not read, and too much is queued for it.
    SlowPeer { queued_bytes: usize },
    /// The `Hello` was refused, here.
    Refused(HelloRefusal),
    /// The certificate was refused after the TLS handshake, here.
    Party(Box<CertificateRefusal>),
    /// The other side ended a stream that lasts as long as the connection.
    StreamEnded,
    /// The other side closed it, with these words.
    ByPeer { code: u64, text: String },
    /// Nothing was heard for the idle timeout.
    TimedOut,
    /// The other side does not know the connection: it restarted.
    Restarted,
    /// QUIC failed, in the words of its library.
    Transport(String),
}

impl CloseReason {
    /// The number that travels with the close.
    pub(super) fn code(&self) -> VarInt {
        VarInt::from_u32(match self {
            CloseReason::Done => 0,
            CloseReason::Shutdown => 1,
            CloseReason::Misbehaved(_) => 2,
            CloseReason::Wire(_) => 3,
            CloseReason::SlowPeer { .. } => 4,
            CloseReason::Refused(_) => 5,
            CloseReason::Party(_) => 6,
            CloseReason::StreamEnded => 7,
            // These are learned from the other side or from QUIC and close nothing themselves.
            CloseReason::ByPeer { .. }
            | CloseReason::TimedOut
            | CloseReason::Restarted
            | CloseReason::Transport(_) => 8,
        })
    }
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> CloseReason {
        match error {
            ConnectionError::ApplicationClosed(close) => CloseReason::ByPeer {
                code: close.error_code.into_inner(),
                text: String::from_utf8_lossy(&close.reason).chars().take(TEXT_CHARS_MAX).collect(),
            },
            ConnectionError::TimedOut => CloseReason::TimedOut,
            ConnectionError::Reset => CloseReason::Restarted,
            ConnectionError::LocallyClosed => CloseReason::Done,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => CloseReason::Transport(error.to_string()),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Done => f.write_str("not needed any more"),
            CloseReason::Shutdown => f.write_str("the process stops"),
            CloseReason::Misbehaved(reason) => write!(f, "protocol violation: {reason}"),
            CloseReason::Wire(error) => write!(f, "received {error}"),
            CloseReason::SlowPeer { queued_bytes } => {
                write!(f, "the peer does not read: {queued_bytes} bytes are queued for it")
            }
            CloseReason::Refused(refusal) => write!(f, "refused: {refusal}"),
            CloseReason::Party(refusal) => fmt::Display::fmt(refusal, f),
            CloseReason::StreamEnded => f.write_str("the peer ended a stream"),
            CloseReason::ByPeer { code, text } => {
                write!(f, "closed by the peer ({code}): {text:?}")
            }
            CloseReason::TimedOut => f.write_str("the peer fell silent"),
            CloseReason::Restarted => f.write_str("the peer restarted"),
            CloseReason::Transport(words) => write!(f, "QUIC failed: {words}"),
        }
    }
}

impl std::error::Error for CloseReason {}

/// Why a handshake failed, on either side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HandshakeError {
    /// This side refused the other's certificate.
    Certificate(Box<CertificateRefusal>),
    /// The other side refused ours: its alert, our certificate, our clock.
    OwnCertificate { alert: u8, own: PeerCertificate, clock: i64 },
    /// The `Hello` was refused; by whom, depends on who dialled.
    Refused(HelloRefusal),
    /// What came is no `Hello`, or no answer to one.
    Wire(WireError),
    /// Not done in time.
    TimedOut,
    /// The connection ended before the handshake did.
    Ended(CloseReason),
    /// It could not even begin: an address or a configuration that can not be used.
    NotStarted(String),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeError::Certificate(refusal) => fmt::Display::fmt(refusal, f),
            HandshakeError::OwnCertificate { alert, own, clock } => write!(
                f,
                "the other side refuses this side's certificate ({own}): {}; this machine's \
                 clock says {}, the other side's log says what it expected",
                alert_words(*alert),
                Moment(*clock)
            ),
            HandshakeError::Refused(refusal) => write!(f, "refused: {refusal}"),
            HandshakeError::Wire(error) => write!(f, "received {error}"),
            HandshakeError::TimedOut => {
                f.write_str("no answer in time; check the address, and that the other side runs")
            }
            HandshakeError::Ended(reason) => fmt::Display::fmt(reason, f),
            HandshakeError::NotStarted(words) => write!(f, "can not connect: {words}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// A TLS alert (RFC 8446, section 6) as advice about the certificate that caused it.
fn alert_words(alert: u8) -> String {
    match alert {
        45 => "it has expired by the other side's clock".to_owned(),
        44 => "it is revoked".to_owned(),
        48 | 51 => "the other side has another authority; use certificates of one cluster".into(),
        116 => "it was not shown".to_owned(),
        _ => format!("TLS alert {alert}; issue it anew with `tools/certs issue`"),
    }
}
