//! Certificates for the peer: an authority, and one leaf that all its parties share.
//!
//! Tandem's own keys are Ed25519 in a form (RFC 5958, with the public key) that the peer's TLS
//! library does not read, so that the peer gets keys on P-256. It makes no difference once a
//! connection is up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};

/// The name in the leaf.
pub const NAME: &str = "peer";

/// The files, in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes an authority and a leaf in `folder`.
///
/// # Errors
/// The folder can not be written.
pub fn make(folder: &Path) -> Result<Files> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut params = CertificateParams::default();
    // A leaf with its authority's name would count as signed by itself.
    params.distinguished_name.push(DnType::CommonName, "the peer's authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let leaf = params.signed_by(&key, &issuer)?;
    let files = Files {
        authority: folder.join("ca.pem"),
        certificate: folder.join("peer.pem"),
        key: folder.join("peer.key"),
    };
    let all = [
        (&files.authority, authority.pem()),
        (&files.certificate, leaf.pem()),
        (&files.key, key.serialize_pem()),
    ];
    for (path, text) in all {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(files)
}
