//! TLS: this party's credentials, and the configurations made from them.
//!
//! TLS 1.3 only, both sides show a certificate, no tickets, no resumption and no 0-RTT: every
//! connection is judged anew. The hybrid group X25519MLKEM768 is offered first. The chain is
//! checked here; the party that a certificate names is checked after the handshake.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::certificate::PeerCertificate;
use super::verify::{AccepterVerifier, DiallerVerifier, Witness};
use crate::identity::Identity;

/// Names the protocol and its major version in the handshake.
pub const ALPN: &[u8] = b"tandem/1";

/// What a party shows to others, and what it trusts.
#[derive(Debug)]
pub struct Credentials {
    identity: Identity,
    certificate: PeerCertificate,
    provider: Arc<CryptoProvider>,
    shown: Arc<SingleCertAndKey>,
    diallers: Arc<dyn ClientCertVerifier>,
    accepters: Arc<WebPkiServerVerifier>,
}

/// Why credentials can not be used; names the file and the remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialsError {
    pub file: PathBuf,
    pub what: String,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for CredentialsError {}

impl Credentials {
    /// Reads the authority's certificate, this party's certificate chain and its key, in PEM.
    ///
    /// # Errors
    /// A file can not be read or holds something else, the key is not the certificate's, or the
    /// certificate names no party.
    pub fn load(
        ca: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Credentials, CredentialsError> {
        let roots = read_certificates(ca)?;
        let chain = read_certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
        let own = chain.first().and_then(|leaf| PeerCertificate::parse(leaf));
        let Some((own, identity)) = own.and_then(|own| Some((own.clone(), own.identity()?))) else {
            return Err(fault(certificate, "does not name one party as tandem://..."));
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let shown = CertifiedKey::from_der(chain, private, &provider)
            .map_err(|error| fault(key, &format!("does not fit the certificate: {error}")))?;
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(|error| fault(ca, &format!("is no authority: {error}")))?;
        }
        let store = Arc::new(store);
        let no_authority = |error| fault(ca, &format!("holds no authority: {error}"));
        let diallers = WebPkiClientVerifier::builder_with_provider(store.clone(), provider.clone())
            .build()
            .map_err(no_authority)?;
        let accepters = WebPkiServerVerifier::builder_with_provider(store, provider.clone())
            .build()
            .map_err(no_authority)?;
        let shown = Arc::new(SingleCertAndKey::from(shown));
        Ok(Credentials { identity, certificate: own, provider, shown, diallers, accepters })
    }

    /// Who this party is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// This party's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }

    /// The configuration for one accepted handshake, which `witness` watches.
    pub(super) fn accepting(&self, witness: Witness) -> Result<ServerConfig, rustls::Error> {
        let verifier = DiallerVerifier { webpki: self.diallers.clone(), witness };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The configuration for one dialled handshake, which `witness` watches.
    pub(super) fn dialling(&self, witness: Witness) -> Result<ClientConfig, rustls::Error> {
        let verifier = AccepterVerifier { webpki: self.accepters.clone(), witness };
        // `dangerous` is the only door for a verifier that remembers; this one leaves every
        // judgement to webpki.
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }

    /// The provider's keyed hash, for tokens that must outlive a restart.
    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(file, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(file, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn unreadable(file: &Path, error: &pem::Error) -> CredentialsError {
    fault(file, &format!("can not be read: {error}"))
}

fn fault(file: &Path, what: &str) -> CredentialsError {
    let what = format!("{what}; make it with `tools/certs`, or name another file");
    CredentialsError { file: file.to_owned(), what }
}
