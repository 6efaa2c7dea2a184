//! Fills the folder of the certificates: the CA if there is none, and the leaves that are missing.
//!
//! Nothing that is there is replaced unless the caller says so, and the CA never: a new CA makes
//! every certificate of the cluster worthless, so a person removes the old one by hand.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tandem::config::{ClusterConfig, CredentialFiles};
use tandem::identity::Identity;

use crate::authority::{Authority, Pem, Validity, issue_leaf, make_ca};
use crate::facts::Facts;
use crate::folder::{Folder, Kept, kept, read};

/// How to issue.
#[derive(Clone, Copy, Debug)]
pub struct Issue {
    /// How long leaves are valid.
    pub validity: Duration,
    /// How long a new CA is valid.
    pub ca_validity: Duration,
    /// Replaces leaves that are there.
    pub force: bool,
}

impl Default for Issue {
    fn default() -> Issue {
        let day = Duration::from_secs(86_400);
        Issue { validity: day * 365, ca_validity: day * 3_650, force: false }
    }
}

/// What became of one certificate file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Made {
    pub certificate: PathBuf,
    /// False: it was there and stays.
    pub new: bool,
}

/// Makes the CA if there is none, and a leaf for each party of `config` that has none. All is
/// made before the first file is written, so that a refusal leaves the folder as it was.
///
/// # Errors
/// A half pair or a CA of another cluster is there, or a file can not be written.
pub fn init(config: &ClusterConfig, options: Issue) -> Result<Vec<Made>> {
    let folder = Folder::lock(config.certs())?;
    let identities = config.identities();
    let wanted = wanted(config, &identities, options)?;
    let validity = Validity::from_now(options.validity)?;
    let ca_files = ca_files(config);
    let mut pairs = Vec::new();
    let authority = if kept(&ca_files) == Kept::None {
        check_orphans(config, &identities, options)?;
        let authority = make_ca(config.name(), Validity::from_now(options.ca_validity)?)?;
        pairs.push((ca_files.clone(), authority.pem().clone()));
        Some(authority)
    } else {
        check_cluster(config)?;
        if wanted.is_empty() { None } else { Some(load_ca(config)?) }
    };
    let mut made = vec![Made { certificate: ca_files.certificate.clone(), new: !pairs.is_empty() }];
    for identity in &identities {
        let files = config.credential_files(identity);
        let new = wanted.contains(&identity);
        made.push(Made { certificate: files.certificate.clone(), new });
        if let Some(authority) = authority.as_ref().filter(|_| new) {
            pairs.push((files, issue_leaf(authority, identity, validity)?));
        }
    }
    for (files, pem) in &pairs {
        folder.write_pair(files, pem)?;
    }
    Ok(made)
}

/// Leaves without their CA are not covered by a new one.
fn check_orphans(config: &ClusterConfig, identities: &[Identity], options: Issue) -> Result<()> {
    let mut leaves = identities.iter().map(|identity| config.credential_files(identity));
    match leaves.find(|files| kept(files) != Kept::None) {
        Some(orphan) if !options.force => bail!(
            "{} is there but its CA is not; put {} and its key back, or replace all certificates \
             with --force",
            orphan.certificate.display(),
            config.ca_file().display()
        ),
        Some(_) | None => Ok(()),
    }
}

/// Makes the leaf of one party, whether `config` lists it or not.
///
/// # Errors
/// There is one already and `force` is not set, or there is no CA.
pub fn issue(config: &ClusterConfig, identity: &Identity, options: Issue) -> Result<Made> {
    let folder = Folder::lock(config.certs())?;
    let files = config.credential_files(identity);
    ensure!(
        options.force || kept(&files) == Kept::None,
        "{} or its key is there already; replace both with --force",
        files.certificate.display()
    );
    check_cluster(config)?;
    let authority = load_ca(config)?;
    let leaf = issue_leaf(&authority, identity, Validity::from_now(options.validity)?)?;
    folder.write_pair(&files, &leaf)?;
    Ok(Made { certificate: files.certificate, new: true })
}

/// The parties whose leaves are to be made.
fn wanted<'a>(
    config: &ClusterConfig,
    identities: &'a [Identity],
    options: Issue,
) -> Result<Vec<&'a Identity>> {
    let mut wanted = Vec::new();
    for identity in identities {
        let files = config.credential_files(identity);
        match kept(&files) {
            Kept::Both if !options.force => {}
            Kept::Half if !options.force => bail!(
                "of {} and {} only one is there; put the other back, or make both anew with: \
                 tools/certs issue {} {} --force",
                files.certificate.display(),
                files.key.display(),
                identity.role,
                identity.id
            ),
            Kept::Both | Kept::Half | Kept::None => wanted.push(identity),
        }
    }
    Ok(wanted)
}

/// The files of the CA.
pub(crate) fn ca_files(config: &ClusterConfig) -> CredentialFiles {
    CredentialFiles { certificate: config.ca_file(), key: config.ca_key_file() }
}

/// Whether the CA that is there is this cluster's.
fn check_cluster(config: &ClusterConfig) -> Result<()> {
    let path = config.ca_file();
    let text = read(&path).with_context(|| {
        format!("there is no CA at {}; make it with: tools/certs init", path.display())
    })?;
    let facts = Facts::read(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(
        facts.cluster == config.name(),
        "{} is the CA of cluster {:?}, not of {:?}; name another folder under [certs] in {}",
        path.display(),
        facts.cluster,
        config.name(),
        config.path().display()
    );
    Ok(())
}

fn load_ca(config: &ClusterConfig) -> Result<Authority> {
    let files = ca_files(config);
    let key = read(&files.key).with_context(|| {
        format!("the CA's key {} is needed to sign; put it back", files.key.display())
    })?;
    let pem = Pem { certificate: read(&files.certificate)?, key };
    Authority::from_pem(pem).with_context(|| format!("{}", files.certificate.display()))
}
