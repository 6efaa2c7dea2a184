//! The spawner's task: starts servers, adopts those that run, reports the kernel's word on ends.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::control::Driver;
use crate::config::ClusterConfig;
use crate::process::{Launch, Spawner};
use crate::protocol::effect::MetaInput;
use crate::protocol::types::ServerId;

/// A spawner for the servers with `spawn = true`.
pub fn spawner(config: &ClusterConfig) -> Result<Spawner> {
    let mut launches = BTreeMap::new();
    for server in config.servers().iter().filter(|it| it.spawn) {
        let launch = Launch::server(config.path(), server.id, server.state.clone())
            .context("can not find this program's own file to start servers with")?;
        launches.insert(server.id, launch);
    }
    Ok(Spawner::new(launches))
}

/// Hands in what runs already, before the machine's first tick.
///
/// # Errors
/// It can not be told whether a server runs: starting a second one would be worse than stopping.
pub fn adopt(
    driver: &Driver,
    spawner: &mut Spawner,
    config: &ClusterConfig,
    registered: &BTreeMap<ServerId, u32>,
) -> Result<()> {
    for server in config.servers().iter().filter(|it| it.spawn).map(|it| it.id) {
        match spawner.adopt(server)? {
            Some(process) => {
                tracing::info!(server = server.0, process, "adopted a running server");
                driver.input(MetaInput::ProcessStarted { server, process });
            }
            None => {
                if let Some(&process) = registered.get(&server) {
                    driver.input(MetaInput::ProcessExited { server, process });
                }
            }
        }
    }
    Ok(())
}

/// Starts servers as they are asked for, and reports ends, for ever.
pub async fn run(
    driver: Driver,
    mut spawner: Spawner,
    mut asked: mpsc::UnboundedReceiver<ServerId>,
) {
    loop {
        tokio::select! {
            biased;
            exited = spawner.exited() => {
                let (server, process) = (exited.server, exited.process);
                let status = exited.status.map(|status| status.to_string());
                tracing::warn!(server = server.0, process, status, "a server's process ended");
                driver.submit(MetaInput::ProcessExited { server, process });
            }
            Some(server) = asked.recv() => {
                match spawner.start(server) {
                    Ok(process) => {
                        tracing::info!(server = server.0, process, "started a server");
                        driver.submit(MetaInput::ProcessStarted { server, process });
                    }
                    Err(error) => {
                        tracing::error!("can not start server {}: {error}", server.0);
                        driver.submit(MetaInput::ProcessExited { server, process: 0 });
                    }
                }
            }
        }
    }
}
