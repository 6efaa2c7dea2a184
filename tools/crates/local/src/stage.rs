//! A running cluster with its clients, and what drills and measurements of it wait for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tandem::client::{Client, ClientOptions, block_on};
use tandem::protocol::meta::durable::{Recovery, Step};
use tandem::protocol::meta::{ServerStatus, Status};
use tandem::protocol::types::{Epoch, KeySet, Member};

use crate::{CLIENT, Cluster, Load, Plan, Process, Role, status, wait};

/// Until a cluster is whole: it starts up, or copies what a failure cost.
pub const WHOLE: Duration = Duration::from_secs(60);

/// Until a load has some more writes acknowledged.
const PROGRESS: Duration = Duration::from_secs(30);

/// Until a killed process is gone.
const GONE: Duration = Duration::from_secs(10);

/// The built `tandem`, and where a cluster's files go.
#[derive(Clone, Debug)]
pub struct Place {
    pub binary: PathBuf,
    pub folder: PathBuf,
}

impl Place {
    /// Stops what runs from the folder.
    ///
    /// # Errors
    /// A process is left.
    pub fn clear(&self) -> Result<()> {
        match Cluster::open(&self.binary, &self.folder) {
            Ok(mut cluster) => cluster.stop(),
            // The run ended before there was a cluster.
            Err(_) => Ok(()),
        }
    }
}

/// A running cluster.
pub struct Stage {
    pub cluster: Cluster,
    /// Asks for the status.
    pub client: Client,
}

impl Stage {
    /// Starts a cluster and waits until it is whole.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(place: &Place, plan: &Plan) -> Result<Stage> {
        let Place { binary, folder } = place;
        let config = folder.join("cluster.toml");
        if config.exists() {
            let running = Cluster::open(binary, folder)?.processes()?;
            ensure!(running.is_empty(), "another run has a cluster there: {running:?}");
        }
        ensure!(
            !folder.exists() || config.exists(),
            "{} holds no cluster and is not cleared: remove it, or name another folder",
            folder.display()
        );
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        let mut cluster = Cluster::create(binary, folder, plan)?;
        cluster.start_all()?;
        let client = connect(&cluster)?;
        let stage = Stage { cluster, client };
        stage.until_whole()?;
        Ok(stage)
    }

    /// Another client of its own thread and connections.
    ///
    /// # Errors
    /// It can not start.
    pub fn connect(&self) -> Result<Client> {
        connect(&self.cluster)
    }

    /// Another client with so many connections to each worker, whose loop runs on this thread:
    /// call it within a `LocalSet`.
    ///
    /// # Errors
    /// It can not start, or these are too many.
    pub fn connect_local(&self, connections: u16) -> Result<Client> {
        let options = ClientOptions { connections, ..options(&self.cluster)? };
        let (client, body) = Client::connect_local(options)?;
        tokio::task::spawn_local(body);
        Ok(client)
    }

    /// A load of `clients`, each with a writer and a reader, that is under way.
    ///
    /// # Errors
    /// A client can not start, or no write is acknowledged.
    pub fn load(&self, clients: usize) -> Result<Load> {
        let mut load = Load::new();
        for number in 0..clients {
            load.join(&self.connect()?, &format!("client-{number}"), 1);
        }
        self.until_progress(&load, 20 * clients as u64)?;
        Ok(load)
    }

    pub fn status(&self) -> Result<Status, String> {
        block_on(status::ask(&self.client)).map_err(|error| format!("{error:#}"))
    }

    /// Waits until every key set is served with all its copies and no recovery is under way.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_whole(&self) -> Result<Status> {
        wait::until("all copies of all key sets", WHOLE, || {
            let status = self.status()?;
            let under_way = status.recoveries.iter().filter(|it| it.step != Step::Done).count();
            if status::is_whole(&status) && under_way == 0 {
                return Ok(status);
            }
            let lacking = status.sets.iter().filter(|it| !(it.open && it.redundant)).count();
            let servers = &status.servers;
            Err(format!("{lacking} key sets lack, {under_way} recoveries, servers {servers:?}"))
        })
    }

    /// Waits until the recovery of `failed` is over and the cluster whole.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_recovered(&self, failed: Member) -> Result<Recovery> {
        let recovery = wait::until("the end of the recovery", WHOLE, || {
            let status = self.status()?;
            let found = status.recoveries.iter().rev().find(|it| it.failed == failed);
            match found {
                Some(recovery) if recovery.step == Step::Done => Ok(recovery.clone()),
                Some(recovery) => Err(format!("{recovery:?}")),
                None => Err("it has not begun".to_owned()),
            }
        })?;
        self.until_whole()?;
        Ok(recovery)
    }

    /// Waits until `load` has at least `more` further writes acknowledged.
    ///
    /// # Errors
    /// Not in time, or a promise was broken.
    pub fn until_progress(&self, load: &Load, more: u64) -> Result<()> {
        let before = load.acknowledged();
        wait::until("acknowledged writes", PROGRESS, || {
            let count = load.acknowledged() - before;
            if count >= more || load.check().is_err() {
                return Ok(());
            }
            Err(format!("{count} of {more}; {:?}", load.first_failure()))
        })?;
        load.check()
    }

    /// Kills the very process that the status names.
    ///
    /// # Errors
    /// It can not be killed.
    pub fn kill(&self, server: &ServerStatus) -> Result<()> {
        let pid = i32::try_from(server.process).context("a process number")?;
        let process = Process { role: Role::Server(server.id), pid };
        let running = self.cluster.processes()?.contains(&process);
        ensure!(running, "the status names process {pid} for server {}: no such one", server.id.0);
        process.kill(self.cluster.config().path(), GONE)
    }
}

fn connect(cluster: &Cluster) -> Result<Client> {
    Ok(Client::connect(options(cluster)?)?)
}

fn options(cluster: &Cluster) -> Result<ClientOptions> {
    Ok(ClientOptions::from_config(cluster.config(), CLIENT)?)
}

/// The incarnation of a server.
pub fn member(server: &ServerStatus) -> Member {
    Member { server: server.id, incarnation: server.incarnation }
}

/// The epoch of every key set that has one.
pub fn epochs(status: &Status) -> BTreeMap<KeySet, Epoch> {
    let sets = status.sets.iter();
    sets.filter_map(|it| Some((it.set, it.configuration.as_ref()?.epoch))).collect()
}
