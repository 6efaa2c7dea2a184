//! Handshakes of parties that must not be let in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use tandem::clock;
use tandem::config::ClusterConfig;
use tandem::identity::Identity;
use tandem::net::{CloseReason, Credentials, Endpoint, EndpointOptions, HandshakeError};
use tandem::protocol::message::{Hello, Purpose};
use tandem::protocol::meta::Status;
use tandem::protocol::types::{ClusterId, Incarnation, Member, ServerId};
use tandem::wire::{self, HelloRefusal};
use tandem_certs::{Authority, Pem, Validity, issue_leaf, make_ca};
use tandem_local::{CLIENT, Cluster};
use tokio::task::JoinSet;

use super::Met;

/// Whom the attacker's certificates name where they name a server.
const ATTACKER: Member = Member { server: ServerId(2), incarnation: Incarnation(1_000) };

/// Attempts under way at once: below what makes an endpoint ask for a proof of the address.
const AT_ONCE: u64 = 6;

/// A wrong way to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    ForeignAuthority,
    Expired,
    ClientAsServer,
    /// A leaf of this very authority that names another cluster.
    OtherName,
    /// The cluster of that name that was there before.
    OtherCluster,
    TruncatedHello,
    Truncated,
    HugeHello,
    Huge,
}

impl Kind {
    pub const ALL: [Kind; super::KINDS as usize] = [
        Kind::ForeignAuthority,
        Kind::Expired,
        Kind::ClientAsServer,
        Kind::OtherName,
        Kind::OtherCluster,
        Kind::TruncatedHello,
        Kind::Truncated,
        Kind::HugeHello,
        Kind::Huge,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::ForeignAuthority => "foreign authority",
            Kind::Expired => "expired leaf",
            Kind::ClientAsServer => "client dialling as a server",
            Kind::OtherName => "wrong cluster name",
            Kind::OtherCluster => "another cluster's number",
            Kind::TruncatedHello => "truncated Hello",
            Kind::Truncated => "truncated frame",
            Kind::HugeHello => "Hello that claims 4 GiB",
            Kind::Huge => "frame that claims 4 GiB",
        }
    }

    /// Whether `target` refuses this at the handshake. The cluster of a server is judged when it
    /// registers, with all else that it brings.
    pub fn fits(self, target: &Target) -> bool {
        self != Kind::OtherCluster || target.purpose != Purpose::Control
    }

    /// Whether the error called `name` is the right one.
    pub fn is_refused_by(self, name: &str) -> bool {
        match self {
            Kind::ForeignAuthority => ["alert 48", "alert 51"].contains(&name),
            Kind::Expired => name == "alert 45",
            Kind::ClientAsServer => name == "role",
            Kind::OtherName => name == "wrong party",
            Kind::OtherCluster => name == "other cluster",
            Kind::TruncatedHello | Kind::Truncated => name == "truncated",
            Kind::HugeHello | Kind::Huge => name == "too long",
        }
    }
}

/// Whom to attack.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    pub identity: Identity,
    /// Where it is a server.
    pub member: Option<Member>,
    /// What servers come for.
    purpose: Purpose,
}

impl Target {
    /// A server, and the metaserver's port for clients.
    ///
    /// # Errors
    /// The cluster has no servers.
    pub fn all(cluster: &Cluster, status: &Status) -> Result<Vec<Target>> {
        let config = cluster.config();
        let server = config.servers().first().context("a cluster has servers")?;
        let known = status.servers.iter().find(|it| it.id == server.id);
        let member = known.map(|it| Member { server: it.id, incarnation: it.incarnation });
        Ok(vec![
            Target {
                name: "server",
                address: server.advertise[0],
                identity: config.server_identity(server.id),
                member,
                purpose: Purpose::Replication,
            },
            Target {
                name: "metaserver",
                address: config.meta().client_advertise,
                identity: config.meta_identity(),
                member: None,
                purpose: Purpose::Client,
            },
            Target {
                name: "metaserver's port for servers",
                address: config.meta().advertise,
                identity: config.meta_identity(),
                member: None,
                purpose: Purpose::Control,
            },
        ])
    }

    /// Who may come here: a client, or a server where only servers may.
    ///
    /// # Errors
    /// The cluster lists no client.
    pub fn good_party(&self, config: &ClusterConfig) -> Result<Identity> {
        if self.purpose == Purpose::Control {
            return Ok(config.server_identity(ATTACKER.server));
        }
        config.client_or_admin(CLIENT).context("every plan lists this client")
    }

    /// What that party says.
    pub fn good_hello(&self) -> Hello {
        let hello = Hello { to: self.member, ..wire::client_hello(None) };
        if self.purpose == Purpose::Control {
            return Hello { purpose: self.purpose, from: Some(ATTACKER), ..hello };
        }
        hello
    }
}

/// Dials `target` wrongly `count` times.
///
/// # Errors
/// The certificates can not be made, or this machine refuses a socket.
pub async fn attack(
    config: &ClusterConfig,
    kind: Kind,
    target: &Target,
    count: u64,
    bar: &ProgressBar,
) -> Result<Met> {
    let credentials = Arc::new(credentials(config, kind, target)?);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let endpoint = Rc::new(Endpoint::bind(any, credentials, EndpointOptions::default())?);
    let hello = hello(kind, target);
    let (mut met, mut started) = (Met::default(), 0);
    let mut flying = JoinSet::new();
    loop {
        while started < count && (flying.len() as u64) < AT_ONCE {
            let (endpoint, target, hello) = (endpoint.clone(), target.clone(), hello.clone());
            flying.spawn_local(async move {
                endpoint.dial(target.address, &target.identity, hello).await
            });
            started += 1;
        }
        let Some(ended) = flying.join_next().await else { return Ok(met) };
        match ended.context("an attempt panicked")? {
            Ok(connection) => {
                met.on_let_in();
                connection.close(CloseReason::Done);
            }
            Err(error) => met.on_refused(name(&error), || error.to_string()),
        }
        bar.inc(1);
    }
}

fn hello(kind: Kind, target: &Target) -> Hello {
    let server = Hello {
        purpose: target.purpose,
        from: Some(ATTACKER),
        to: target.member,
        ..wire::client_hello(None)
    };
    match kind {
        Kind::ClientAsServer => Hello {
            // Where only clients may come, a client that claims to be a server is one as well.
            purpose: if target.purpose == Purpose::Client {
                Purpose::Control
            } else {
                target.purpose
            },
            from: None,
            ..server
        },
        Kind::OtherCluster if target.purpose == Purpose::Client => {
            Hello { cluster: ClusterId([0xee; 16]), from: None, ..server }
        }
        Kind::OtherCluster => Hello { cluster: ClusterId([0xee; 16]), ..server },
        Kind::ForeignAuthority
        | Kind::Expired
        | Kind::OtherName
        | Kind::TruncatedHello
        | Kind::Truncated
        | Kind::HugeHello
        | Kind::Huge => server,
    }
}

/// What the attacker shows; it trusts the cluster's authority like everybody.
fn credentials(config: &ClusterConfig, kind: Kind, target: &Target) -> Result<Credentials> {
    let server = config.server_identity(ATTACKER.server);
    let client = config.client_or_admin(CLIENT).context("every plan lists this client")?;
    let own = |identity: &Identity| {
        let files = config.credential_files(identity);
        Ok(Credentials::load(&config.ca_file(), &files.certificate, &files.key)?)
    };
    let pem = match kind {
        Kind::ForeignAuthority => {
            let day = Validity::from_now(Duration::from_secs(86_400))?;
            issue_leaf(&make_ca(config.name(), day)?, &server, day)?
        }
        Kind::Expired => {
            let now = clock::wall_clock();
            let validity = Validity { not_before: now - DAY * 20, not_after: now - DAY };
            issue_leaf(&authority(config)?, &server, validity)?
        }
        Kind::OtherName => misnamed(config)?,
        Kind::OtherCluster if target.purpose != Purpose::Client => return own(&server),
        Kind::OtherCluster
        | Kind::ClientAsServer
        | Kind::TruncatedHello
        | Kind::Truncated
        | Kind::HugeHello
        | Kind::Huge => return own(&client),
    };
    let folder = config.certs().join("attack");
    std::fs::create_dir_all(&folder).context("a folder for wrong certificates")?;
    let (certificate, key) = (folder.join("leaf.pem"), folder.join("leaf.key"));
    std::fs::write(&certificate, pem.certificate).context("writing a wrong certificate")?;
    std::fs::write(&key, pem.key).context("writing a wrong certificate's key")?;
    Ok(Credentials::load(&config.ca_file(), &certificate, &key)?)
}

const DAY: time::Duration = time::Duration::DAY;

/// The cluster's own authority.
fn authority(config: &ClusterConfig) -> Result<Authority> {
    let pem = ca(config)?;
    Authority::from_pem(pem)
}

fn ca(config: &ClusterConfig) -> Result<Pem> {
    let certificate = config.ca_file();
    let key = config.ca_key_file();
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    Ok(Pem { certificate: read(&certificate)?, key: read(&key)? })
}

/// A leaf that the cluster's authority never makes: of a cluster of another name.
fn misnamed(config: &ClusterConfig) -> Result<Pem> {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
    let pem = ca(config)?;
    let issuer = Issuer::from_ca_cert_pem(&pem.certificate, KeyPair::from_pem(&pem.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let uri = "tandem://other/server/2".try_into()?;
    let node = tandem::identity::NODE_NAME.try_into()?;
    params.subject_alt_names = vec![SanType::URI(uri), SanType::DnsName(node)];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pem { certificate, key: key.serialize_pem() })
}

/// A short name of an error, the same for all of its kind.
fn name(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Certificate(refusal) => format!("certificate: {:?}", refusal.fault),
        HandshakeError::OwnCertificate { alert, .. } => format!("alert {alert}"),
        HandshakeError::Refused(HelloRefusal::Role { .. }) => "role".to_owned(),
        HandshakeError::Refused(HelloRefusal::OtherCluster { .. }) => "other cluster".to_owned(),
        HandshakeError::Refused(refusal) => format!("refused: {refusal:?}"),
        HandshakeError::Ended(reason) => closed(reason),
        HandshakeError::Wire(error) => format!("wire: {error}"),
        HandshakeError::TimedOut => "timed out".to_owned(),
        HandshakeError::NotStarted(words) => format!("not started: {words}"),
    }
}

/// Close codes are `CloseReason`'s.
fn closed(reason: &CloseReason) -> String {
    match reason {
        CloseReason::ByPeer { code: 6, .. } => "wrong party".to_owned(),
        CloseReason::ByPeer { code, text } => format!("closed ({code}): {text}"),
        CloseReason::Done
        | CloseReason::Shutdown
        | CloseReason::Misbehaved(_)
        | CloseReason::Wire(_)
        | CloseReason::SlowPeer { .. }
        | CloseReason::Refused(_)
        | CloseReason::Party(_)
        | CloseReason::StreamEnded
        | CloseReason::TimedOut
        | CloseReason::Restarted
        | CloseReason::Transport(_) => format!("ended: {reason}"),
    }
}
