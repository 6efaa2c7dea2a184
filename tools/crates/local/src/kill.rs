//! One server killed under load, and what clients notice of it.
//!
//! At the moment of the kill a probe writer waits on key sets that lost their primary; the time
//! to its acknowledgement is what clients notice of the failure.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tandem::client::{Client, block_on};
use tandem::clock;
use tandem::protocol::meta::durable::Recovery;
use tandem::protocol::meta::{ServerStatus, Status};
use tandem::protocol::placement;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::KeySet;

use crate::stage::member;
use crate::{Load, Stage};

/// Writes of the load between two kills.
const PROGRESS: u64 = 20;

/// Lost key sets on which probes wait; with more, these are spread over them.
const PROBES_MAX: usize = 16;

/// How long a probe may wait.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one kill came to.
#[derive(Clone, Debug)]
pub struct Kill {
    pub victim: ServerStatus,
    /// From the kill to each acknowledged write, one a probed key set.
    pub waits: Vec<Span>,
    pub recovery: Recovery,
    /// From the kill until nothing is missing.
    pub whole: Span,
}

impl Kill {
    /// To the first acknowledged write.
    #[must_use]
    pub fn first(&self) -> Span {
        self.waits.iter().min().copied().unwrap_or_default()
    }

    /// To an acknowledged write on every probed key set.
    #[must_use]
    pub fn last(&self) -> Span {
        self.waits.iter().max().copied().unwrap_or_default()
    }
}

/// Kills a server of a whole cluster, another one each `round`, and waits until the cluster is
/// whole again. `spawn` says whether the metaserver starts servers; otherwise this does, once
/// the probes are through: a new process that registers would be a proof of death by itself.
///
/// # Errors
/// A promise was broken, or the cluster does not recover.
pub fn kill(stage: &mut Stage, load: &Load, round: u16, spawn: bool) -> Result<Kill> {
    let status = stage.until_whole()?;
    stage.until_progress(load, PROGRESS)?;
    let victim = status.servers[usize::from(round) % status.servers.len()].clone();
    let keys = keys(&status, &victim, round)?;
    let begun = clock::now();
    stage.kill(&victim)?;
    let waits = probe(&stage.client, load, &keys, begun)
        .with_context(|| format!("round {round}, server {}", victim.id.0))?;
    if !spawn {
        stage.cluster.start_server(victim.id)?;
    }
    let recovery = stage.until_recovered(member(&victim))?;
    let whole = clock::now().since(begun);
    load.check()?;
    Ok(Kill { victim, waits, recovery, whole })
}

/// Keys of this round, each in another key set that `victim` is primary of.
fn keys(status: &Status, victim: &ServerStatus, round: u16) -> Result<Vec<String>> {
    let count = u16::try_from(status.sets.len()).context("a cluster has at most 4096 key sets")?;
    let lost: Vec<KeySet> = status
        .sets
        .iter()
        .filter(|it| it.configuration.as_ref().is_some_and(|it| it.primary == member(victim)))
        .map(|it| it.set)
        .collect();
    let step = lost.len().div_ceil(PROBES_MAX).max(1);
    let keys: Option<Vec<String>> = lost
        .iter()
        .step_by(step)
        .map(|set| {
            (0..u32::MAX)
                .map(|number| format!("probe-{round}-{number}"))
                .find(|key| placement::key_set(key.as_bytes(), count) == *set)
        })
        .collect();
    let keys = keys.context("no key falls into a key set")?;
    anyhow::ensure!(!keys.is_empty(), "server {} is primary of nothing", victim.id.0);
    Ok(keys)
}

/// Writes each of `keys`, all at once, and gives the time from `begun` to each acknowledgement.
fn probe(client: &Client, load: &Load, keys: &[String], begun: Time) -> Result<Vec<Span>> {
    std::thread::scope(|scope| {
        let probes: Vec<_> = keys
            .iter()
            .map(|key| {
                let session = client.session().with_timeout(PROBE_TIMEOUT);
                scope.spawn(move || -> Result<Span> {
                    load.ledger().on_attempt(key, 1);
                    block_on(session.put(key.clone(), "1"))?;
                    let wait = clock::now().since(begun);
                    load.ledger().on_acknowledged(key, 1);
                    Ok(wait)
                })
            })
            .collect();
        probes.into_iter().map(|it| it.join().map_err(|_| anyhow!("a probe panicked"))?).collect()
    })
}
