//! What a certificate says, read back from its text.

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The parts of a certificate that people and checks ask for.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    pub subject: String,
    /// The subject's organisation: the cluster's name.
    pub cluster: String,
    /// Subject alternative names that are URIs; a leaf has one, its identity.
    pub uris: Vec<String>,
    /// Subject alternative names that are DNS names.
    pub dns_names: Vec<String>,
    /// In hexadecimal.
    pub serial: String,
    #[serde(serialize_with = "as_rfc3339")]
    pub not_before: OffsetDateTime,
    #[serde(serialize_with = "as_rfc3339")]
    pub not_after: OffsetDateTime,
    /// Whether it may sign others.
    pub ca: bool,
    /// Whether its party may accept connections (TLS server).
    pub accepts: bool,
    /// Whether its party may dial (TLS client).
    pub dials: bool,
    #[serde(skip)]
    pub(crate) public_key: Vec<u8>,
}

impl Facts {
    /// Reads the first certificate in `pem`.
    ///
    /// # Errors
    /// There is none, or it can not be read.
    pub fn read(pem: &str) -> Result<Facts> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| anyhow!("there is no certificate in PEM form: {error}"))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).context("the certificate can not be read")?;
        let (uris, dns_names) = names(&certificate)?;
        let usage = certificate
            .extended_key_usage()
            .context("the certificate's usage can not be read")?
            .map(|extension| extension.value);
        let cluster = certificate.subject().iter_organization().next();
        Ok(Facts {
            subject: certificate.subject().to_string(),
            cluster: cluster.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned(),
            uris,
            dns_names,
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            ca: certificate.is_ca(),
            accepts: usage.is_some_and(|usage| usage.server_auth),
            dials: usage.is_some_and(|usage| usage.client_auth),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// How many whole days are left at `now`; negative once it is over.
    #[must_use]
    pub fn days_left(&self, now: OffsetDateTime) -> i64 {
        (self.not_after - now).whole_seconds().div_euclid(86_400)
    }
}

/// A time as messages to people have it.
pub(crate) fn words(time: OffsetDateTime) -> String {
    let second = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    // Every part of the format is a part of every time.
    time.to_offset(UtcOffset::UTC).format(second).unwrap_or_else(|_| time.to_string())
}

/// The URIs and the DNS names among the subject alternative names.
fn names(certificate: &X509Certificate<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let names = certificate
        .subject_alternative_name()
        .context("the certificate's alternative names can not be read")?;
    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
            // No other kind of name means anything to a cluster.
            _ => {}
        }
    }
    Ok((uris, dns_names))
}

fn as_rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
