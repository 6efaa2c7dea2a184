//! `cluster.toml`: what a cluster is made of, read once and checked in full.
//!
//! The file starts a cluster; afterwards the metaserver's durable view is the truth. Reading
//! ends in a `ClusterConfig` or in one error that names file, line, column, key and remedy. A
//! `ClusterConfig` can not be wrong in itself: its fields are private and only `parse` makes it,
//! so nobody who holds one checks it again.

mod addresses;
mod error;
mod example;
mod parse;
mod section;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use example::loopback_example;

use crate::identity::{Identity, META_ID, PartyRole};
use crate::protocol::space::Thresholds;
use crate::protocol::timing::Timing;
use crate::protocol::types::ServerId;

/// Key sets of a cluster whose file does not say how many: so many that those of a lost server
/// spread over a dozen others, and so few that writes of one turn share their messages.
pub const KEY_SETS: u16 = 64;

/// The most key sets that a cluster may have.
pub const KEY_SETS_MAX: u16 = 4_096;

/// The most workers that a server may have.
pub const WORKERS_MAX: usize = 64;

/// Bytes of a worker's log between two checkpoints, unless `cluster.toml` says otherwise.
pub const CHECKPOINT_LOG: u32 = 64 << 20;

/// A cluster as its `cluster.toml` describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterConfig {
    path: PathBuf,
    name: String,
    key_sets: u16,
    replicas: usize,
    min_write_copies: usize,
    engine: Engine,
    checkpoint_log: u32,
    timing: Timing,
    limits: Limits,
    thresholds: Thresholds,
    meta: MetaConfig,
    servers: Vec<ServerConfig>,
    certs: PathBuf,
    clients: Vec<String>,
    admins: Vec<String>,
}

/// Where servers keep what they hold.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Engine {
    /// On the disk, and synced before it is acknowledged.
    #[default]
    Durable,
    /// In memory: a server that stops has lost its copies.
    Memory,
}

/// The sizes beyond which keys and values are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub key_bytes_max: u32,
    pub value_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { key_bytes_max: 1 << 10, value_bytes_max: 1 << 20 }
    }
}

/// The metaserver. Servers and clients have a port each, so that a flood of clients can not
/// starve heartbeats.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetaConfig {
    /// Where it takes the servers' control connections.
    pub listen: SocketAddr,
    /// Where servers dial it.
    pub advertise: SocketAddr,
    /// Where it takes clients.
    pub client_listen: SocketAddr,
    /// Where clients dial it.
    pub client_advertise: SocketAddr,
    /// The folder of its durable state.
    pub state: PathBuf,
}

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerConfig {
    pub id: ServerId,
    /// Where each worker listens; at least one.
    pub workers: Vec<SocketAddr>,
    /// Where each worker is dialled; as many as `workers`.
    pub advertise: Vec<SocketAddr>,
    /// Whether the metaserver starts this server, on its own machine.
    pub spawn: bool,
    /// The folder of its lock, its log and its durable state.
    pub state: PathBuf,
    /// Bytes that it may keep there; none = all that its file system has.
    pub disk_capacity: Option<u64>,
    /// Bytes of keys and values that an engine in memory may hold; none = not limited.
    pub memory_capacity: Option<u64>,
}

/// Where a party's certificate and private key are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl ClusterConfig {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The file can not be read, or the first thing that is wrong in it.
    pub fn load(path: impl AsRef<Path>) -> Result<ClusterConfig, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_path_buf(), cause })?;
        ClusterConfig::parse(&text, path)
    }

    /// Checks the `text` of the file at `path`; `path` serves messages and relative paths.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<ClusterConfig, ConfigError> {
        parse::cluster(error::Source { path: path.as_ref(), text })
    }

    /// The file that this was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's name, as in every identity of it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of key sets: 1 to `KEY_SETS_MAX`.
    #[must_use]
    pub fn key_sets(&self) -> u16 {
        self.key_sets
    }

    /// Copies of each key set: 1 to the number of servers.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// A key set with fewer members refuses writes: 1 to `replicas`.
    #[must_use]
    pub fn min_write_copies(&self) -> usize {
        self.min_write_copies
    }

    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Bytes by which a worker's log grows before the next checkpoint; for the durable engine.
    #[must_use]
    pub fn checkpoint_log(&self) -> u32 {
        self.checkpoint_log
    }

    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// When a server counts as filling up, nearly full and full.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    #[must_use]
    pub fn meta(&self) -> &MetaConfig {
        &self.meta
    }

    /// All servers, by id; at least one.
    #[must_use]
    pub fn servers(&self) -> &[ServerConfig] {
        &self.servers
    }

    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerConfig> {
        let index = self.servers.binary_search_by_key(&id, |server| server.id).ok()?;
        Some(&self.servers[index])
    }

    /// The names of the clients, in the order of the file.
    #[must_use]
    pub fn clients(&self) -> &[String] {
        &self.clients
    }

    /// The names of the admins, in the order of the file; none is a client's name too.
    #[must_use]
    pub fn admins(&self) -> &[String] {
        &self.admins
    }

    /// The client or admin called `name`.
    #[must_use]
    pub fn client_or_admin(&self, name: &str) -> Option<Identity> {
        let role = if self.clients.iter().any(|client| client == name) {
            PartyRole::Client
        } else if self.admins.iter().any(|admin| admin == name) {
            PartyRole::Admin
        } else {
            return None;
        };
        Some(self.party(role, name))
    }

    /// The metaserver's identity.
    #[must_use]
    pub fn meta_identity(&self) -> Identity {
        self.party(PartyRole::Meta, META_ID)
    }

    /// The identity of a server, whether listed or not.
    #[must_use]
    pub fn server_identity(&self, id: ServerId) -> Identity {
        self.party(PartyRole::Server, &id.0.to_string())
    }

    /// Everyone that needs a certificate: the metaserver, the servers, clients and admins.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity> {
        let servers = self.servers.iter().map(|server| self.server_identity(server.id));
        let clients = self.clients.iter().map(|name| self.party(PartyRole::Client, name));
        let admins = self.admins.iter().map(|name| self.party(PartyRole::Admin, name));
        std::iter::once(self.meta_identity()).chain(servers).chain(clients).chain(admins).collect()
    }

    /// The folder of the certificates.
    #[must_use]
    pub fn certs(&self) -> &Path {
        &self.certs
    }

    /// The certificate of the cluster's CA, which everyone trusts.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.certs.join("ca.pem")
    }

    /// The CA's private key; only `tools/certs` needs it.
    #[must_use]
    pub fn ca_key_file(&self) -> PathBuf {
        self.certs.join("ca.key")
    }

    /// Where the certificate and the key of `identity` are.
    #[must_use]
    pub fn credential_files(&self, identity: &Identity) -> CredentialFiles {
        let stem = identity.file_stem();
        CredentialFiles {
            certificate: self.certs.join(format!("{stem}.pem")),
            key: self.certs.join(format!("{stem}.key")),
        }
    }

    /// An identity of this cluster; `id` was checked when the file was read.
    fn party(&self, role: PartyRole, id: &str) -> Identity {
        Identity { cluster: self.name.clone(), role, id: id.to_owned() }
    }
}
