//! The handshake after TLS: whose certificate it is, then `Hello` and its answer.
//!
//! With QUIC, the dialling side's TLS is done before the accepting side has judged its
//! certificate. So nothing counts before the accepting side's word has arrived.

use std::time::Duration;

use bytes::BytesMut;
use quinn::{ConnectionError, ReadError};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout;

use super::certificate::{Fault, PeerCertificate};
use super::connection::{Agreed, Connection, LaneStream};
use super::endpoint::EndpointOptions;
use super::lanes::{FirstError, read_first};
use super::reason::{CloseReason, HandshakeError};
use super::tls::Credentials;
use super::verify::{Witness, clock};
use crate::identity::Identity;
use crate::protocol::message::{Hello, HelloAck, Purpose};
use crate::wire::{self, Decoder, HelloRefusal, Kind, WireError, check_party};

/// TLS alerts travel in QUIC's transport errors from here on (RFC 9001, section 4.8).
const CRYPTO_ERROR_FIRST: u64 = 0x100;

/// TLS alerts that are about a certificate (RFC 8446, section 6.2), or a signature under one.
const CERTIFICATE_ALERTS: [u8; 9] = [42, 43, 44, 45, 46, 48, 49, 51, 116];

/// How long a dialling side waits for the first sign of the other. QUIC repeats its first packet at
/// ever longer intervals, half a second by then: whoever starts meanwhile is found sooner by a new
/// attempt. Once there is a sign, the handshake has its whole time.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// One handshake, either side.
pub(super) struct Handshake<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) options: &'a EndpointOptions,
    pub(super) witness: Witness,
}

impl Handshake<'_> {
    /// Dials: sends `hello`, and waits for the answer of `expected`.
    pub(super) async fn dial(
        &self,
        mut connecting: quinn::Connecting,
        expected: &Identity,
        hello: Hello,
    ) -> Result<Connection, HandshakeError> {
        // What failed is told by the handshake itself.
        if timeout(ANSWER_MAX, connecting.handshake_data()).await.is_err() {
            return Err(HandshakeError::TimedOut);
        }
        let quinn = connecting.await.map_err(|error| self.failure(error))?;
        let certificate = certificate_of(&quinn);
        match certificate.as_ref().and_then(PeerCertificate::identity) {
            Some(party) if party == *expected => {}
            Some(_) => return Err(self.refuse(&quinn, certificate, Fault::WrongParty)),
            None => return Err(self.refuse(&quinn, certificate, Fault::NoParty)),
        }
        let (mut send, mut recv) = quinn.open_bi().await.map_err(|error| self.failure(error))?;
        let mut frame = BytesMut::new();
        wire::encode_hello(&mut frame, &self.options.limits, &hello)
            .map_err(HandshakeError::Wire)?;
        // A failed write shows again, with its reason, in the read below.
        let _ = send.write_chunk(frame.freeze()).await;
        let mut received = BytesMut::new();
        let kinds = [Kind::HelloAck, Kind::HelloRefused];
        let decoder = Decoder::new(self.options.limits);
        let answer = read_first(&mut recv, &mut received, &decoder, &kinds)
            .await
            .map_err(|error| self.first_failure(&quinn, error))?;
        if answer.kind == Kind::HelloRefused {
            let refusal = wire::decode_hello_refused(&answer).map_err(|e| wrong(&quinn, e))?;
            quinn.close(CloseReason::Done.code(), b"");
            return Err(HandshakeError::Refused(refusal));
        }
        let ack = wire::decode_hello_ack(&answer).map_err(|error| wrong(&quinn, error))?;
        let control = LaneStream { send, recv, received };
        Ok(self.agreed(quinn, expected.clone(), hello, ack, true, control))
    }

    /// Accepts: waits for the `Hello`, has it judged, and answers it.
    pub(super) async fn accept(
        &self,
        connecting: quinn::Connecting,
        judge: impl FnOnce(&Identity, &Hello) -> Result<HelloAck, HelloRefusal>,
    ) -> Result<Connection, HandshakeError> {
        let quinn = connecting.await.map_err(|error| self.failure(error))?;
        let certificate = certificate_of(&quinn);
        let cluster = &self.credentials.identity().cluster;
        let party = match certificate.as_ref().and_then(PeerCertificate::identity) {
            Some(party) if party.cluster == *cluster => party,
            Some(_) | None => return Err(self.refuse(&quinn, certificate, Fault::NoParty)),
        };
        let (mut send, mut recv) = quinn.accept_bi().await.map_err(|error| self.failure(error))?;
        let mut received = BytesMut::new();
        let decoder = Decoder::new(self.options.limits);
        let frame = read_first(&mut recv, &mut received, &decoder, &[Kind::Hello])
            .await
            .map_err(|error| self.first_failure(&quinn, error))?;
        let hello = wire::decode_hello(&frame).map_err(|error| wrong(&quinn, error))?;
        let judged = check_party(&party, &hello).and_then(|()| judge(&party, &hello));
        let mut answer = BytesMut::new();
        let encoded = match &judged {
            Ok(ack) => wire::encode_hello_ack(&mut answer, &self.options.limits, ack),
            Err(refusal) => wire::encode_hello_refused(&mut answer, &self.options.limits, refusal),
        };
        encoded.map_err(|error| wrong(&quinn, error))?;
        let written = send.write_chunk(answer.freeze()).await;
        match judged {
            Ok(ack) => {
                written.map_err(|error| ended(CloseReason::Transport(error.to_string())))?;
                quinn.set_max_concurrent_bi_streams(self.options.streams_of(hello.purpose));
                let control = LaneStream { send, recv, received };
                Ok(self.agreed(quinn, party, hello, ack, false, control))
            }
            Err(refusal) => {
                // Closing at once could drop the answer: the other side closes once it has it,
                // and the handshake's time limit ends the wait.
                let _ = send.finish();
                quinn.closed().await;
                Err(HandshakeError::Refused(refusal))
            }
        }
    }

    fn agreed(
        &self,
        quinn: quinn::Connection,
        party: Identity,
        hello: Hello,
        ack: HelloAck,
        dialled: bool,
        control: LaneStream,
    ) -> Connection {
        let (limits, queue_bytes_max) = (self.options.limits, self.options.queue_bytes_max);
        let agreed = Agreed { quinn, party, hello, ack, dialled, limits, queue_bytes_max, control };
        Connection::new(agreed)
    }

    /// Closes a connection for what its certificate says.
    fn refuse(
        &self,
        quinn: &quinn::Connection,
        certificate: Option<PeerCertificate>,
        fault: Fault,
    ) -> HandshakeError {
        let refusal = Box::new(self.witness.refuse(certificate, fault));
        let reason = CloseReason::Party(refusal.clone());
        quinn.close(reason.code(), reason.to_string().as_bytes());
        HandshakeError::Certificate(refusal)
    }

    /// Words for a connection that failed: what this side refused, or what the other did.
    fn failure(&self, error: ConnectionError) -> HandshakeError {
        if let Some(refusal) = self.witness.take() {
            return HandshakeError::Certificate(Box::new(refusal));
        }
        let alert = match &error {
            ConnectionError::ConnectionClosed(close) => {
                u64::from(close.error_code).checked_sub(CRYPTO_ERROR_FIRST)
            }
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => None,
        };
        match alert.and_then(|alert| u8::try_from(alert).ok()) {
            Some(alert) if CERTIFICATE_ALERTS.contains(&alert) => HandshakeError::OwnCertificate {
                alert,
                own: self.credentials.certificate().clone(),
                clock: clock(UnixTime::now()),
            },
            Some(_) | None => HandshakeError::Ended(CloseReason::from(error)),
        }
    }

    fn first_failure(&self, quinn: &quinn::Connection, error: FirstError) -> HandshakeError {
        match error {
            FirstError::Wire(error) => wrong(quinn, error),
            FirstError::Read(ReadError::ConnectionLost(error)) => self.failure(error),
            FirstError::Read(error) => ended(CloseReason::Transport(error.to_string())),
        }
    }
}

impl EndpointOptions {
    /// How many streams the dialling side may have, by what the connection is for.
    fn streams_of(&self, purpose: Purpose) -> quinn::VarInt {
        quinn::VarInt::from_u32(match purpose {
            Purpose::Replication | Purpose::Bulk => self.lanes_max.saturating_add(1),
            Purpose::Control | Purpose::Client => 1,
        })
    }
}

/// Closes a connection on which something else came than a handshake.
fn wrong(quinn: &quinn::Connection, error: WireError) -> HandshakeError {
    let reason = CloseReason::Wire(error);
    quinn.close(reason.code(), reason.to_string().as_bytes());
    HandshakeError::Wire(error)
}

fn ended(reason: CloseReason) -> HandshakeError {
    HandshakeError::Ended(reason)
}

fn certificate_of(quinn: &quinn::Connection) -> Option<PeerCertificate> {
    let chain = quinn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PeerCertificate::parse(chain.first()?)
}
