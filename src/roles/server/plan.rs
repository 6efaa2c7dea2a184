//! What a server's process needs to know before its workers start.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::{disk, space};
use crate::config::{ClusterConfig, Engine, ServerConfig};
use crate::identity::Identity;
use crate::net::Credentials;
use crate::process::{StateDir, StateError};
use crate::protocol::limits::Limits;
use crate::protocol::message::Registration;
use crate::protocol::timing::Timing;
use crate::protocol::types::Epoch;
use crate::store::durable::CHECKPOINT_FILES;
use crate::store::durable::log::is_full;

/// What all workers of a process share, read-only.
pub struct Plan {
    pub server: ServerConfig,
    pub cluster_name: String,
    pub key_sets: u16,
    pub engine: Engine,
    /// Of a durable engine's log.
    pub log_file_bytes: u64,
    pub gauge: space::Gauge,
    pub timing: Timing,
    pub limits: Limits,
    pub meta: std::net::SocketAddr,
    pub meta_identity: Identity,
    pub credentials: Arc<Credentials>,
    pub registration: Registration,
    /// See `EndpointOptions`.
    pub reset_seed: [u8; 32],
}

impl Plan {
    /// The plan of a server whose state directory is held.
    ///
    /// # Errors
    /// Its files can not be read, or do not fit what it keeps.
    pub fn new(
        config: &ClusterConfig,
        server: &ServerConfig,
        state: &StateDir,
        process: u32,
    ) -> Result<Plan> {
        let known = state.cluster()?;
        check_kept(config, server, state)?;
        let identity = config.server_identity(server.id);
        let files = config.credential_files(&identity);
        let credentials = Credentials::load(&config.ca_file(), &files.certificate, &files.key)?;
        let limits = Limits {
            key_bytes_max: config.limits().key_bytes_max,
            value_bytes_max: config.limits().value_bytes_max,
            min_write_copies: u16::try_from(config.min_write_copies()).unwrap_or(u16::MAX),
            ..Limits::default()
        };
        let registration = Registration {
            server: server.id,
            workers: server.advertise.clone(),
            cluster: known.map(|it| it.cluster),
            highest_epoch: known.map_or(Epoch(0), |it| it.highest_epoch),
            inherits: None,
            process,
        };
        let gauge = space::Gauge::new(config, server);
        let file_bytes = u64::from(config.checkpoint_log()) / CHECKPOINT_FILES;
        Ok(Plan {
            server: server.clone(),
            cluster_name: config.name().to_owned(),
            key_sets: config.key_sets(),
            engine: config.engine(),
            log_file_bytes: gauge.log_file_bytes(file_bytes),
            gauge,
            timing: config.timing(),
            limits,
            meta: config.meta().advertise,
            meta_identity: config.meta_identity(),
            credentials: Arc::new(credentials),
            registration,
            reset_seed: state.reset_seed()?,
        })
    }
}

/// Takes the state directory; on a full disk with the room that was kept for a start.
///
/// # Errors
/// Another process has it, or the disk refused.
pub fn lock(server: &ServerConfig) -> Result<StateDir> {
    match StateDir::lock(&server.state) {
        Err(StateError::Io { error, .. })
            if is_full(&error) && disk::release_reserves(&server.state, server.workers.len())? =>
        {
            Ok(StateDir::lock(&server.state)?)
        }
        locked => Ok(locked?),
    }
}

/// What is kept is divided by worker: with another number of them, none would find its own. In
/// memory none would look.
///
/// # Errors
/// The file says something else than before.
fn check_kept(config: &ClusterConfig, server: &ServerConfig, state: &StateDir) -> Result<()> {
    let count = server.workers.len();
    let (file, folder) = (config.path().display(), state.path().display());
    let id = server.id.0;
    let or = "or, while all of it has copies elsewhere, move that directory away, and everything \
              is copied anew";
    match (config.engine(), state.workers()?) {
        (Engine::Durable, Some(kept)) if kept != count => bail!(
            "{file} lists {count} in `workers` of server {id}, but what {folder} holds is divided \
             among {kept}: list {kept} again; {or}"
        ),
        (Engine::Memory, Some(_)) => bail!(
            "{file} says engine = \"memory\", but {folder} holds what server {id} kept on the \
             disk: write engine = \"durable\" again; {or}"
        ),
        (Engine::Durable, None) => Ok(state.store_workers(count)?),
        (Engine::Durable, Some(_)) | (Engine::Memory, None) => Ok(()),
    }
}
