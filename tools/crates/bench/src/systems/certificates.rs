//! Certificates for a peer: an authority, and one leaf that all its parties share.
//!
//! Tandem's own keys are Ed25519 in a form (RFC 5958, with the public key) that Redis's TLS
//! library does not read, so that peers get keys on P-256. It makes no difference once a
//! connection is up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The name in the leaf.
pub const NAME: &str = "peer";

/// The leaf has this as well, for peers whose processes dial one another by it.
const LOOPBACK: &str = "127.0.0.1";

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
    let mut params = CertificateParams::new(vec![NAME.to_owned(), LOOPBACK.to_owned()])?;
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

/// TLS with the provider of Tandem's own and the leaf, for the protocols named.
///
/// # Errors
/// The files can not be read.
pub fn connector(files: &Files, protocols: &[&[u8]]) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.authority)?)?;
    let chain = CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(tls)))
}
