//! Makes the CA of a cluster and the leaves that it signs, in memory.
//!
//! The organisation in every subject is the cluster's name, so a CA knows its cluster and refuses
//! to sign for another one.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use tandem::identity::{Identity, NODE_NAME, PartyRole, check_name};
use time::OffsetDateTime;

use crate::facts::{Facts, words};

/// Certificates are valid from this long before they are made, because clocks differ.
const BACKDATE: Duration = Duration::from_secs(300);

/// The longest validity that makes sense to ask for.
const VALIDITY_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// From shortly before now until `length` from now, in whole seconds.
    ///
    /// # Errors
    /// `length` is below a second or above a hundred years.
    pub fn from_now(length: Duration) -> Result<Validity> {
        ensure!(
            (Duration::from_secs(1)..=VALIDITY_MAX).contains(&length),
            "a validity of {} is out of range; ask for \"1s\" to \"36500d\"",
            humantime::format_duration(length)
        );
        let now = OffsetDateTime::from_unix_timestamp(tandem::clock::wall_clock().unix_timestamp())
            .context("the system's clock is out of range; set it")?;
        Ok(Validity { not_before: now - BACKDATE, not_after: now + length })
    }
}

/// A certificate and its private key, as text.
#[derive(Clone)]
pub struct Pem {
    pub certificate: String,
    pub key: String,
}

/// A cluster's CA with its private key.
pub struct Authority {
    pem: Pem,
    issuer: Issuer<'static, KeyPair>,
    cluster: String,
    not_after: OffsetDateTime,
}

impl Authority {
    /// The CA that `pem` holds.
    ///
    /// # Errors
    /// It is no CA, or the key is not its key.
    pub fn from_pem(pem: Pem) -> Result<Authority> {
        let facts = Facts::read(&pem.certificate)?;
        ensure!(facts.ca, "the certificate is not a CA's; put the cluster's CA there");
        let key = KeyPair::from_pem(&pem.key).context("the CA's private key can not be read")?;
        ensure!(
            facts.public_key == key.public_key_raw(),
            "the CA's key does not belong to its certificate; put back the pair that was made \
             together"
        );
        let issuer = Issuer::from_ca_cert_pem(&pem.certificate, key)
            .context("the CA's certificate can not sign")?;
        Ok(Authority { pem, issuer, cluster: facts.cluster, not_after: facts.not_after })
    }

    /// The cluster that it signs for.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its certificate and key.
    #[must_use]
    pub fn pem(&self) -> &Pem {
        &self.pem
    }
}

/// Makes a CA for the cluster called `cluster`.
///
/// # Errors
/// The name can not be a cluster's, or the key can not be made.
pub fn make_ca(cluster: &str, validity: Validity) -> Result<Authority> {
    check_name(cluster)?;
    let key = new_key()?;
    let mut params = parameters(cluster, &format!("{cluster} CA"), validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).context("the CA's certificate can not be made")?;
    Authority::from_pem(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a certificate for `identity`, signed by `ca`.
///
/// # Errors
/// `identity` is of another cluster, or the leaf would outlive the CA.
pub fn issue_leaf(ca: &Authority, identity: &Identity, validity: Validity) -> Result<Pem> {
    if identity.cluster != ca.cluster {
        bail!(
            "the CA is of cluster {:?} and can not sign for {identity}; use the cluster's own CA",
            ca.cluster
        );
    }
    ensure!(
        validity.not_after <= ca.not_after,
        "{identity} would be valid until {}, longer than its CA, which ends {}; ask for a shorter \
         --validity, or make a new CA",
        words(validity.not_after),
        words(ca.not_after)
    );
    let key = new_key()?;
    let mut params = parameters(&identity.cluster, &identity.file_stem(), validity)?;
    let uri = identity.to_string().try_into().context("the identity is no ASCII text")?;
    let node = NODE_NAME.try_into().context("the node name is no ASCII text")?;
    params.subject_alt_names = vec![SanType::URI(uri), SanType::DnsName(node)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role {
        PartyRole::Meta | PartyRole::Server => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        PartyRole::Client | PartyRole::Admin => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    let certificate = params
        .signed_by(&key, &ca.issuer)
        .with_context(|| format!("the certificate of {identity} can not be signed"))?;
    Ok(Pem { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ED25519).context("a private key can not be made")
}

/// What the CA and its leaves have in common.
fn parameters(cluster: &str, name: &str, validity: Validity) -> Result<CertificateParams> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, cluster);
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// A positive number of 126 random bits, always 16 bytes long.
fn random_serial() -> Result<SerialNumber> {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        bail!("the system gives no random numbers for a serial; try again");
    }
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    //! Goal: what is issued says what it must, and nothing is issued that the CA can not vouch
    //! for. Method: make a CA and leaves in memory and read them back.

    use super::*;

    fn year() -> Validity {
        Validity::from_now(Duration::from_secs(365 * 86_400)).expect("a good validity")
    }

    #[test]
    fn a_leaf_says_who_it_is_and_for_how_long() {
        // The same year for both: a leaf asked for a second later would outlive its CA.
        let year = year();
        let ca = make_ca("demo", year).expect("a CA");
        let identity: Identity = "tandem://demo/server/1".parse().expect("an identity");
        let leaf = issue_leaf(&ca, &identity, year).expect("a leaf");
        let facts = Facts::read(&leaf.certificate).expect("readable");
        assert_eq!(facts.subject, "O=demo, CN=server-1");
        assert_eq!(facts.uris, ["tandem://demo/server/1"]);
        assert_eq!(facts.dns_names, [NODE_NAME]);
        assert!(!facts.ca);
        assert_eq!((facts.accepts, facts.dials), (true, true));
        let lasts = facts.not_after - facts.not_before;
        assert_eq!(lasts, Duration::from_secs(365 * 86_400) + BACKDATE);
    }

    #[test]
    fn clients_and_admins_may_only_dial() {
        let year = year();
        let ca = make_ca("demo", year).expect("a CA");
        for name in ["tandem://demo/client/app", "tandem://demo/admin/ops"] {
            let identity: Identity = name.parse().expect("an identity");
            let leaf = issue_leaf(&ca, &identity, year).expect("a leaf");
            let facts = Facts::read(&leaf.certificate).expect("readable");
            assert_eq!((facts.accepts, facts.dials), (false, true), "{name}");
        }
    }

    #[test]
    fn serials_are_positive_and_differ() {
        let serials: Vec<String> = (0..8)
            .map(|_| {
                let ca = make_ca("demo", year()).expect("a CA");
                Facts::read(&ca.pem().certificate).expect("readable").serial
            })
            .collect();
        for (index, serial) in serials.iter().enumerate() {
            assert_eq!(serial.len(), 32, "{serial}");
            assert!(!serials[..index].contains(serial), "{serial} was given twice");
        }
    }

    #[test]
    fn no_leaf_outlives_its_ca_or_serves_another_cluster() {
        let day = Validity::from_now(Duration::from_secs(86_400)).expect("a good validity");
        let ca = make_ca("demo", day).expect("a CA");
        let identity: Identity = "tandem://demo/server/1".parse().expect("an identity");
        let error = issue_leaf(&ca, &identity, year()).err().expect("it would outlive the CA");
        assert!(error.to_string().contains("longer than its CA"), "{error}");
        let foreign: Identity = "tandem://other/server/1".parse().expect("an identity");
        let error = issue_leaf(&ca, &foreign, day).err().expect("another cluster");
        assert!(error.to_string().contains("can not sign for tandem://other/server/1"), "{error}");
    }

    #[test]
    fn a_key_of_another_ca_is_refused() {
        let (one, two) = (make_ca("demo", year()), make_ca("demo", year()));
        let certificate = one.expect("a CA").pem().certificate.clone();
        let key = two.expect("a CA").pem().key.clone();
        let error = Authority::from_pem(Pem { certificate, key }).err().expect("no pair");
        assert!(error.to_string().contains("does not belong"), "{error}");
    }
}
