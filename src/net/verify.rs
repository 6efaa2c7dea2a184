//! Verifiers that delegate to the TLS library's own and remember what they refused.
//!
//! They decide nothing themselves: every judgement is webpki's. But a refusal reaches the caller
//! of a handshake as a bare alert, and what a person needs (whose certificate, its expiry, this
//! machine's clock) is known only here. Each handshake has a verifier of its own, so that what
//! it saw can not be mixed up with another's.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::{CertificateRefusal, Fault, PeerCertificate};

/// Shared between a handshake and its verifier.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    refused: Arc<Mutex<Option<CertificateRefusal>>>,
    expected: String,
}

impl Witness {
    /// `expected` says whom this side wants to see.
    pub(super) fn new(expected: String) -> Witness {
        Witness { refused: Arc::default(), expected }
    }

    /// Takes what was refused.
    pub(super) fn take(&self) -> Option<CertificateRefusal> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A refusal after the handshake, for what only this project checks.
    pub(super) fn refuse(
        &self,
        certificate: Option<PeerCertificate>,
        fault: Fault,
    ) -> CertificateRefusal {
        let clock = clock(UnixTime::now());
        CertificateRefusal { certificate, fault, expected: self.expected.clone(), clock }
    }

    fn note(&self, certificate: &CertificateDer<'_>, now: UnixTime, error: Option<&Error>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = error.map(|error| CertificateRefusal {
            certificate: PeerCertificate::parse(certificate),
            fault: fault_of(error),
            expected: self.expected.clone(),
            clock: clock(now),
        });
    }
}

/// The clock that certificates are judged by, in seconds since 1970.
pub(super) fn clock(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn fault_of(error: &Error) -> Fault {
    let Error::InvalidCertificate(error) = error else { return Fault::Other(error.to_string()) };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Fault::NotYetValid
        }
        // A foreign authority with the same name as ours shows as a wrong signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::ForeignAuthority,
        CertificateError::Revoked => Fault::Revoked,
        // The library's list of errors is open.
        other => Fault::Other(other.to_string()),
    }
}

/// Judges the side that was dialled.
#[derive(Debug)]
pub(super) struct AccepterVerifier {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    pub(super) witness: Witness,
}

impl ServerCertVerifier for AccepterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        self.witness.note(end_entity, now, judged.as_ref().err());
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Judges the side that dialled.
#[derive(Debug)]
pub(super) struct DiallerVerifier {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) witness: Witness,
}

impl ClientCertVerifier for DiallerVerifier {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judged = self.webpki.verify_client_cert(end_entity, intermediates, now);
        self.witness.note(end_entity, now, judged.as_ref().err());
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
