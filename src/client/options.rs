//! Where a client finds its cluster, and who it is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::transport::Endpoint;
use crate::config::ClusterConfig;
use crate::identity::Identity;
use crate::wire;

/// The most connections of one client to each worker. A server lets in 4,096 in all.
pub const CONNECTIONS_MAX: u16 = 1_024;

/// Where a client finds its cluster, and who it is.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The cluster's name, as in its certificates.
    pub cluster: String,
    /// The metaserver's address for clients.
    pub metaserver: Endpoint,
    /// Who hands out the view: servers, and the metaserver last.
    pub endpoints: Vec<Endpoint>,
    /// The authority that all parties' certificates come from, in PEM.
    pub authority: PathBuf,
    /// This client's certificate and its key, in PEM.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The cluster's limits on keys and values.
    pub limits: wire::Limits,
    /// The time that an operation has, unless a session is given another.
    pub timeout: Duration,
    /// Operations that a session may have in flight.
    pub outstanding_max: usize,
    /// Connections to each worker of a server, 1 to `CONNECTIONS_MAX`: session number i of the
    /// client uses connection i modulo this, dialled when first needed. One serves all sessions
    /// best, because what they send at a time leaves together. More help where sessions must not
    /// wait for one another: a connection's bytes arrive in order, and it is lost as a whole.
    /// Questions for the view and to the metaserver need no connections of their own.
    pub connections: u16,
}

/// Why there is no client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConnectError {
    /// The configuration lists neither a client nor an admin of this name.
    UnknownName { name: String, known: Vec<String> },
    /// `ClientOptions::connections` is 0 or beyond `CONNECTIONS_MAX`.
    Connections { asked: u16 },
    /// The credentials can not be used, or this machine refuses what the client needs.
    NotStarted { reason: String },
}

impl std::error::Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::UnknownName { name, known } => write!(
                f,
                "the configuration lists no client or admin \"{name}\"; it lists {}; add it and \
                 run tools/certs init",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ),
            ConnectError::Connections { asked } => write!(
                f,
                "a client has 1 to {CONNECTIONS_MAX} connections to each worker, and {asked} were \
                 asked for; set `connections` of its options"
            ),
            ConnectError::NotStarted { reason } => write!(f, "the client can not start: {reason}"),
        }
    }
}

impl ClientOptions {
    /// The client or admin called `name` in `config`.
    ///
    /// # Errors
    /// The configuration lists nobody of this name.
    pub fn from_config(config: &ClusterConfig, name: &str) -> Result<ClientOptions, ConnectError> {
        let identity: Identity = config.client_or_admin(name).ok_or_else(|| {
            let known = config.clients().iter().chain(config.admins()).cloned().collect();
            ConnectError::UnknownName { name: name.to_owned(), known }
        })?;
        let files = config.credential_files(&identity);
        let metaserver =
            Endpoint { identity: config.meta_identity(), address: config.meta().client_advertise };
        let servers = config.servers().iter().filter_map(|server| {
            let &address = server.advertise.first()?;
            Some(Endpoint { identity: config.server_identity(server.id), address })
        });
        let limits = config.limits();
        Ok(ClientOptions {
            cluster: config.name().to_owned(),
            endpoints: servers.chain([metaserver.clone()]).collect(),
            metaserver,
            authority: config.ca_file(),
            certificate: files.certificate,
            key: files.key,
            limits: wire::Limits {
                key_bytes_max: limits.key_bytes_max,
                value_bytes_max: limits.value_bytes_max,
            },
            timeout: Duration::from_secs(5),
            outstanding_max: 4_096,
            connections: 1,
        })
    }
}
