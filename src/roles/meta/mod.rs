//! `--role meta`: the metaserver's machine on one thread, its clients on another.
//!
//! ```text
//!   control thread: endpoint for servers, Handle<MetaServer, MetaShell>, spawner
//!        |  ^                                   |  ^
//!        |  | status, administration           |  | persisted
//!        v  |                                   v  |
//!   clients thread: endpoint for clients      journal thread: one transaction a batch
//! ```
//!
//! Clients have a port and a thread of their own, so that a flood of views and handshakes can not
//! starve heartbeats. Views are answered there from the last durable one.

mod clients;
mod control;
mod hearing;
#[cfg(feature = "hooks")]
mod hooks;
mod journal;
mod rebuild;
mod shell;
mod spawn;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;

use crate::config::{ClusterConfig, Engine};
use crate::net::Credentials;
use crate::process::{StateDir, StateError};
use crate::protocol::meta::MetaSettings;
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::time::Span;
use crate::protocol::types::ClusterId;
use crate::protocol::view::View;
use crate::store::durable::log;
use crate::store::journal::{Journal, JournalError, release_reserve};

pub use journal::{Batch, Disk, Told};
pub use rebuild::{WAIT as REBUILD_WAIT, run as rebuild};

/// The view that clients are given: durable, replaced as a whole.
pub(super) type SharedView = Arc<ArcSwap<View>>;

/// How long a server that is not spawned may stay away before a spare takes its place.
const REPLACE_AFTER: Span = Span::from_millis(10_000);

/// Runs the metaserver until a signal stops it. Servers that it started live on.
///
/// # Errors
/// It can not start, or its durable state fails; in words that say what to do.
pub fn run(config: &ClusterConfig) -> Result<()> {
    let credentials = credentials(config)?;
    let (state, (journal, records)) = open_state(&config.meta().state)?;
    report_differences(config, &records)?;
    let settings = settings(config, new_cluster()?);
    let (clients, control) = parts(
        config,
        credentials,
        state.reset_seed()?,
        settings,
        records,
        journal::start(journal)?,
    );
    clients.start().context("can not serve clients")?;
    tracing::info!(process = std::process::id(), control = %config.meta().listen,
        clients = %config.meta().client_listen, "metaserver starts");
    control::run(control)
}

/// Test builds only: the same within the current `LocalSet`, with a disk of the caller's that
/// holds `records`, until `stop`. Whoever drops that `LocalSet` kills the metaserver.
///
/// # Errors
/// As for `run`.
#[cfg(feature = "hooks")]
pub async fn run_here(
    config: &ClusterConfig,
    new_cluster: ClusterId,
    records: Vec<MetaRecord>,
    disk: Disk,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let credentials = credentials(config)?;
    let settings = settings(config, new_cluster);
    let state = StateDir::lock(&config.meta().state)?;
    let reset_seed = state.reset_seed()?;
    let (clients, control) = parts(config, credentials, reset_seed, settings, records, disk);
    let (listening, _started) = std::sync::mpsc::channel();
    tokio::task::spawn_local(clients.serve(listening));
    control::serve(control, stop).await
}

/// Takes the state directory and opens its journal; on a full disk with the room that was kept.
fn open_state(path: &Path) -> Result<(StateDir, (Journal, Vec<MetaRecord>))> {
    let open = || -> Result<_> {
        let state = StateDir::lock(path)?;
        let journal = Journal::open(state.path())?;
        Ok((state, journal))
    };
    let opened = open();
    if opened.as_ref().is_err_and(is_full) && release_reserve(path)? {
        tracing::error!("the disk is full: starting with the room that was kept for that");
        return open();
    }
    opened
}

fn is_full(error: &anyhow::Error) -> bool {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(JournalError::Full { .. }), _) => true,
        (_, Some(StateError::Io { error, .. })) => log::is_full(error),
        _ => false,
    }
}

fn credentials(config: &ClusterConfig) -> Result<Arc<Credentials>> {
    let identity = config.meta_identity();
    let files = config.credential_files(&identity);
    Ok(Arc::new(Credentials::load(&config.ca_file(), &files.certificate, &files.key)?))
}

/// The two threads' parts, not running yet.
fn parts(
    config: &ClusterConfig,
    credentials: Arc<Credentials>,
    reset_seed: [u8; 32],
    settings: MetaSettings,
    records: Vec<MetaRecord>,
    disk: Disk,
) -> (clients::Clients, control::Control) {
    let view: SharedView = Arc::new(ArcSwap::from_pointee(View::default()));
    let waits = Arc::new(AtomicBool::new(false));
    let (requests, inbox) = tokio::sync::mpsc::channel(clients::REQUESTS_WAITING_MAX);
    let clients = clients::Clients {
        address: config.meta().client_listen,
        credentials: credentials.clone(),
        reset_seed,
        view: view.clone(),
        requests,
        own_space: clients::Gauge {
            directory: config.meta().state.clone(),
            thresholds: config.thresholds(),
            waits: waits.clone(),
        },
    };
    let config = config.clone();
    let requests = inbox;
    let control = control::Control {
        config,
        credentials,
        reset_seed,
        settings,
        records,
        disk,
        view,
        requests,
        waits,
    };
    (clients, control)
}

/// An id for a cluster that is yet to be born, drawn at random.
fn new_cluster() -> Result<ClusterId> {
    let mut new_cluster = ClusterId::default();
    std::io::Read::read_exact(
        &mut std::fs::File::open("/dev/urandom").context("can not draw the cluster's id")?,
        &mut new_cluster.0,
    )?;
    // Version 4, variant 1 of RFC 9562.
    new_cluster.0[6] = (new_cluster.0[6] & 0x0f) | 0x40;
    new_cluster.0[8] = (new_cluster.0[8] & 0x3f) | 0x80;
    Ok(new_cluster)
}

fn settings(config: &ClusterConfig, new_cluster: ClusterId) -> MetaSettings {
    let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
    MetaSettings {
        timing: config.timing(),
        servers: config.servers().iter().map(|it| (it.id, it.spawn)).collect(),
        key_sets: config.key_sets(),
        copies: small(config.replicas()),
        min_write_copies: small(config.min_write_copies()),
        durable: config.engine() == Engine::Durable,
        thresholds: config.thresholds(),
        replace_after: REPLACE_AFTER,
        new_cluster,
    }
}

/// The durable view is the truth; where the file says otherwise, a person is told.
///
/// # Errors
/// It has another number of key sets, with which no server could do its part.
fn report_differences(config: &ClusterConfig, records: &[MetaRecord]) -> Result<()> {
    let path = config.path().display();
    for record in records {
        if let MetaRecord::Cluster(row) = record {
            ensure!(
                row.sets == config.key_sets(),
                "{path} says key_sets = {}, but the cluster was made with {}, which stays: write \
                 key_sets = {} there",
                config.key_sets(),
                row.sets,
                row.sets
            );
            if usize::from(row.copies) != config.replicas() {
                tracing::warn!(
                    "{path} says replicas = {}, but the cluster was created with {}, which stays",
                    config.replicas(),
                    row.copies
                );
            }
        }
        if let MetaRecord::Server(row) = record {
            match config.server(row.entry.id) {
                None => tracing::warn!(
                    "{path} does not list server {}, which the cluster knows; it is refused when \
                     it registers again",
                    row.entry.id.0
                ),
                Some(server) if server.advertise != row.entry.workers => tracing::warn!(
                    "{path} gives server {} other addresses than it registered with; they count \
                     from its next registration",
                    row.entry.id.0
                ),
                Some(_) => {}
            }
        }
    }
    Ok(())
}
