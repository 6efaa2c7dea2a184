//! Judges every certificate file of a cluster as its peers will, before they do.
//!
//! The verdict on a chain is that of the same library, with the same settings, as in the product.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use tandem::config::{ClusterConfig, CredentialFiles};
use tandem::identity::{Identity, NODE_NAME, PartyRole};
use time::OffsetDateTime;

use crate::facts::{Facts, words};
use crate::folder::{Kept, kept, loose_mode, read};
use crate::init::ca_files;

/// A certificate that ends sooner than this is worth a warning.
const WARN_DAYS: i64 = 30;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The cluster does not work, or not safely.
    Problem,
    /// It will be a problem.
    Warning,
}

/// One thing that is wrong with one file.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub level: Level,
    pub file: PathBuf,
    pub problem: String,
    pub remedy: String,
}

/// All that is wrong with the certificates of `config`; nothing if all is well.
#[must_use]
pub fn check(config: &ClusterConfig, now: OffsetDateTime) -> Vec<Finding> {
    let mut report = Report { config, now, findings: Vec::new() };
    let ca = report.ca();
    for identity in config.identities() {
        report.leaf(&identity, ca.as_ref());
    }
    report.findings
}

/// Findings as they come up.
struct Report<'a> {
    config: &'a ClusterConfig,
    now: OffsetDateTime,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, level: Level, file: &Path, problem: String, remedy: &str) {
        let remedy = remedy.to_owned();
        self.findings.push(Finding { level, file: file.to_path_buf(), problem, remedy });
    }

    /// The CA's certificate, if leaves can be judged by it.
    fn ca(&mut self) -> Option<CertificateDer<'static>> {
        let files = ca_files(self.config);
        let init = self.command("init");
        let away = files.certificate.display();
        let renew = format!("move {away} and its key away, then: {init} --force");
        let (facts, certificate) = self.certificate(&files.certificate, &init)?;
        let name = self.config.name();
        if !facts.ca {
            self.problem(&files.certificate, "this is no CA's certificate".to_owned(), &renew);
        }
        if facts.cluster != name {
            let problem = format!("this is the CA of cluster {:?}, not of {name:?}", facts.cluster);
            self.problem(&files.certificate, problem, &renew);
        }
        let good_time = self.time(&facts, &files.certificate, &renew);
        // The CA's key may be kept elsewhere.
        if files.key.exists() {
            self.key(&files, &certificate, &renew);
        }
        (facts.ca && good_time).then_some(certificate)
    }

    fn leaf(&mut self, identity: &Identity, ca: Option<&CertificateDer<'static>>) {
        let files = self.config.credential_files(identity);
        let renew = self.command(&format!("issue {} {} --force", identity.role, identity.id));
        match kept(&files) {
            Kept::None => {
                let init = self.command("init");
                self.problem(&files.certificate, "it is missing, and its key".to_owned(), &init);
                return;
            }
            Kept::Half if !files.key.exists() => {
                self.problem(&files.key, "it is missing".to_owned(), &renew);
            }
            Kept::Half | Kept::Both => {}
        }
        let Some((facts, certificate)) = self.certificate(&files.certificate, &renew) else {
            return;
        };
        if facts.uris != [identity.to_string()] {
            let problem = format!("it is of {:?}, not of {identity}", facts.uris);
            self.problem(&files.certificate, problem, &renew);
        }
        let good_time = self.time(&facts, &files.certificate, &renew);
        if let Some(ca) = ca.filter(|_| good_time)
            && let Err(error) = judge(ca, &certificate, identity.role, self.now)
        {
            self.problem(&files.certificate, format!("{error:#}"), &renew);
        }
        if files.key.exists() {
            self.key(&files, &certificate, &renew);
        }
    }

    /// The certificate at `path`, if it can be read.
    fn certificate(
        &mut self,
        path: &Path,
        remedy: &str,
    ) -> Option<(Facts, CertificateDer<'static>)> {
        if !path.exists() {
            self.problem(path, "it is missing".to_owned(), remedy);
            return None;
        }
        let certificate = || -> Result<_> {
            let text = read(path)?;
            let facts = Facts::read(&text)?;
            let certificate = CertificateDer::from_pem_slice(text.as_bytes())
                .map_err(|error| anyhow!("there is no certificate in PEM form: {error}"))?;
            Ok((facts, certificate))
        };
        match certificate() {
            Ok(found) => Some(found),
            Err(error) => {
                self.problem(path, format!("{error:#}"), remedy);
                None
            }
        }
    }

    /// Whether the certificate is valid now; warns if not for long.
    fn time(&mut self, facts: &Facts, path: &Path, remedy: &str) -> bool {
        let now = self.now;
        let (from, until, clock) = (words(facts.not_before), words(facts.not_after), words(now));
        if facts.not_after < now {
            self.problem(path, format!("it expired {until} (this clock: {clock})"), remedy);
        } else if facts.not_before > now {
            let problem = format!("it is valid only from {from} (this clock: {clock})");
            self.problem(path, problem, "set this machine's clock");
        } else if facts.days_left(now) < WARN_DAYS {
            let problem = format!("it expires {until}, in {} days", facts.days_left(now));
            self.add(Level::Warning, path, problem, remedy);
        }
        (facts.not_before..=facts.not_after).contains(&now)
    }

    /// Whether the key is its owner's alone and fits the certificate.
    fn key(&mut self, files: &CredentialFiles, certificate: &CertificateDer<'_>, renew: &str) {
        match loose_mode(&files.key) {
            Ok(None) => {}
            Ok(Some(mode)) => {
                let problem = format!("others may use this private key (mode {mode:03o})");
                let remedy = format!("chmod 600 {}", files.key.display());
                self.problem(&files.key, problem, &remedy);
            }
            Err(error) => self.problem(&files.key, format!("{error:#}"), renew),
        }
        if let Err(error) = key_fits(&files.key, certificate) {
            self.problem(&files.key, format!("{error:#}"), renew);
        }
    }

    fn problem(&mut self, file: &Path, problem: String, remedy: &str) {
        self.add(Level::Problem, file, problem, remedy);
    }

    /// A command line of this tool that works for this configuration.
    fn command(&self, arguments: &str) -> String {
        let path = self.config.path();
        if path == Path::new("cluster.toml") {
            format!("tools/certs {arguments}")
        } else {
            format!("tools/certs {arguments} --config {}", path.display())
        }
    }
}

fn key_fits(path: &Path, certificate: &CertificateDer<'_>) -> Result<()> {
    let key = PrivateKeyDer::from_pem_slice(read(path)?.as_bytes())
        .map_err(|error| anyhow!("there is no private key in PEM form: {error}"))?;
    CertifiedKey::from_der(vec![certificate.clone().into_owned()], key, &default_provider())
        .map(drop)
        .context("the key does not belong to its certificate")
}

/// Whether peers that trust `ca` let the certificate do what its role needs, and nothing else.
fn judge(
    ca: &CertificateDer<'static>,
    certificate: &CertificateDer<'_>,
    role: PartyRole,
    now: OffsetDateTime,
) -> Result<()> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).context("the CA can not be trusted")?;
    let roots = Arc::new(roots);
    let seconds = u64::try_from(now.unix_timestamp()).context("this clock is before 1970")?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));

    WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .context("the CA can not be trusted")?
        .verify_client_cert(certificate, &[], time)
        .context("peers that are dialled refuse it")?;
    let name = ServerName::try_from(NODE_NAME).context("the node name is no DNS name")?;
    let accepted = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .context("the CA can not be trusted")?
        .verify_server_cert(certificate, &[], &name, &[], time);
    match role {
        PartyRole::Meta | PartyRole::Server => {
            accepted.map(drop).context("peers that dial refuse it")
        }
        PartyRole::Client | PartyRole::Admin if accepted.is_ok() => {
            Err(anyhow!("it may accept connections, which a {role} must not"))
        }
        PartyRole::Client | PartyRole::Admin => Ok(()),
    }
}
