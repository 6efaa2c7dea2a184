//! Frames that end early, and frames that claim 4 GiB, from a party with a good certificate.
//!
//! The first of them comes in place of the `Hello`, the second after a good one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{BufMut, BytesMut};
use indicatif::ProgressBar;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tandem::config::ClusterConfig;
use tandem::identity::NODE_NAME;
use tandem::net::ALPN;
use tandem::wire::{self, Limits};

use super::Met;
use super::handshakes::{Kind, Target};

/// How long the other side may take to close.
const CLOSED: Duration = Duration::from_secs(5);

/// Attempts under way at once.
const AT_ONCE: u64 = 6;

/// Sends `target` a wrong frame `count` times, each on a connection of its own.
///
/// # Errors
/// The credentials can not be used, or this machine refuses a socket.
pub async fn attack(
    config: &ClusterConfig,
    kind: Kind,
    target: &Target,
    count: u64,
    bar: &ProgressBar,
) -> Result<Met> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut endpoint = quinn::Endpoint::client(any).context("no free UDP port")?;
    endpoint.set_default_client_config(good_tls(config, target)?);
    let bytes = bytes(kind, target)?;
    let mut met = Met::default();
    let mut done = 0;
    while done < count {
        let mut flying = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE.min(count - done) {
            let connecting = endpoint.connect(target.address, NODE_NAME)?;
            let bytes = bytes.clone();
            flying.spawn_local(async move { attempt(connecting, &bytes).await });
            done += 1;
        }
        while let Some(ended) = flying.join_next().await {
            match ended.context("an attempt panicked")? {
                None => met.on_let_in(),
                Some(error) => met.on_refused(name(&error), || error.to_string()),
            }
            bar.inc(1);
        }
    }
    Ok(met)
}

/// Sends `bytes` and the end of the stream; how the other side closes, none if it does not.
async fn attempt(connecting: quinn::Connecting, bytes: &[u8]) -> Option<ConnectionError> {
    let connection: Connection = match connecting.await {
        Ok(connection) => connection,
        Err(error) => return Some(error),
    };
    let Ok((mut send, mut recv)) = connection.open_bi().await else {
        return connection.close_reason();
    };
    // What fails here shows in how the connection is closed.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    let drain = async {
        while let Ok(Some(_)) = recv.read_chunk(usize::MAX, true).await {}
        connection.closed().await
    };
    tokio::time::timeout(CLOSED, drain).await.ok()
}

/// What is sent.
fn bytes(kind: Kind, target: &Target) -> Result<BytesMut> {
    let mut bytes = BytesMut::new();
    let hello = target.good_hello();
    match kind {
        Kind::Truncated | Kind::Huge => {
            wire::encode_hello(&mut bytes, &Limits::default(), &hello)?;
        }
        Kind::TruncatedHello | Kind::HugeHello => {}
        Kind::ForeignAuthority
        | Kind::Expired
        | Kind::ClientAsServer
        | Kind::OtherName
        | Kind::OtherCluster => anyhow::bail!("'{}' is no wrong frame", kind.name()),
    }
    let number = match kind {
        Kind::TruncatedHello | Kind::HugeHello => wire::Kind::Hello,
        _ if target.member.is_none() && target.good_hello().from.is_some() => wire::Kind::ToMeta,
        _ => wire::Kind::MetaRequest,
    };
    let claimed = if matches!(kind, Kind::Huge | Kind::HugeHello) { u32::MAX } else { 200 };
    bytes.put_u32_le(claimed);
    bytes.put_u8(number as u8);
    bytes.put_bytes(0, 40);
    Ok(bytes)
}

/// TLS of a party that `target` lets in.
fn good_tls(config: &ClusterConfig, target: &Target) -> Result<quinn::ClientConfig> {
    let files = config.credential_files(&target.good_party(config)?);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(config.ca_file())?)?;
    let chain = CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<_, _>>()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key)?)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

/// A short name of how a connection ended, the same for all of its kind.
fn name(error: &ConnectionError) -> String {
    let ConnectionError::ApplicationClosed(close) = error else { return error.to_string() };
    let text = String::from_utf8_lossy(&close.reason).into_owned();
    let named = [("ends early", "truncated"), ("4294967295 bytes", "too long")];
    named
        .iter()
        .find(|(part, _)| text.contains(part))
        .map_or(text.clone(), |(_, name)| (*name).to_owned())
}
