//! What a peer's certificate says, and why one was refused, in words for people.
//!
//! Everything here was written by the other side: texts are cut to a length and escaped before
//! they reach a log.

use std::fmt;

use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::extensions::GeneralName;

use crate::identity::Identity;

/// Longest subject or URI that is kept, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Most URIs that are kept; a good certificate has one.
const URIS_MAX: usize = 4;

/// What a certificate says about its holder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerCertificate {
    pub subject: String,
    /// The URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// Seconds since 1970.
    pub valid_from: i64,
    /// Seconds since 1970.
    pub valid_until: i64,
}

impl PeerCertificate {
    /// Reads a certificate in DER; none if it can not be read.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<PeerCertificate> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let uris = names.iter().flat_map(|it| &it.value.general_names).filter_map(|name| {
            match name {
                GeneralName::URI(uri) => Some(cut(uri)),
                // Other kinds of names say nothing about a party.
                _ => None,
            }
        });
        Some(PeerCertificate {
            subject: cut(&certificate.subject().to_string()),
            uris: uris.take(URIS_MAX).collect(),
            valid_from: certificate.validity().not_before.timestamp(),
            valid_until: certificate.validity().not_after.timestamp(),
        })
    }

    /// The party that it names: its only URI, if that is an identity.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match self.uris.as_slice() {
            [uri] => uri.parse().ok(),
            _ => None,
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subject {:?}, URI {:?}, valid from {} until {}",
            self.subject,
            self.uris,
            Moment(self.valid_from),
            Moment(self.valid_until)
        )
    }
}

/// A moment in seconds since 1970, as people read it.
pub(super) struct Moment(pub(super) i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        match OffsetDateTime::from_unix_timestamp(self.0).map(|it| it.format(&format)) {
            Ok(Ok(text)) => f.write_str(&text),
            Ok(Err(_)) | Err(_) => write!(f, "second {} of 1970", self.0),
        }
    }
}

/// Why this side refused the other's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateRefusal {
    /// None if it can not even be read.
    pub certificate: Option<PeerCertificate>,
    pub fault: Fault,
    /// Whom this side wants to see.
    pub expected: String,
    /// This machine's clock at that moment, seconds since 1970.
    pub clock: i64,
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    Expired,
    NotYetValid,
    ForeignAuthority,
    Revoked,
    /// Not exactly one URI that names a party, or the party of another cluster.
    NoParty,
    /// A good certificate of somebody else.
    WrongParty,
    /// Anything else, in the words of the TLS library.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Expired => "it has expired; issue a new one with `tools/certs issue`",
            Fault::NotYetValid => "it is not valid yet; set the clocks of both machines",
            Fault::ForeignAuthority => {
                "it is not signed by this cluster's authority; issue it with the `tools/certs` \
                 of this cluster"
            }
            Fault::Revoked => "it is revoked; issue a new one with `tools/certs issue`",
            Fault::NoParty => {
                "it does not name one party of this cluster; check the cluster's name and issue \
                 it with `tools/certs`"
            }
            Fault::WrongParty => "it belongs to somebody else; check the address",
            Fault::Other(words) => return write!(f, "{words}; issue it with `tools/certs`"),
        })
    }
}

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side's certificate is refused (")?;
        match &self.certificate {
            Some(certificate) => fmt::Display::fmt(certificate, f)?,
            None => f.write_str("unreadable")?,
        }
        let (fault, expected, clock) = (&self.fault, &self.expected, Moment(self.clock));
        write!(f, "): {fault}. Expected {expected}; this machine's clock says {clock}")
    }
}

impl std::error::Error for CertificateRefusal {}
