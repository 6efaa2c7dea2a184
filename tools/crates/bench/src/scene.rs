//! The systems of a run, up and filled, and one measurement of one of them.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tandem::client::Session;
use tandem::clock;
use tandem_local::{Plan, Role, Stage};

use crate::Ground;
use crate::load::{self, Choice, Found, Pace, Source, Work};
use crate::systems::disk;
use crate::systems::echo::Echo;
use crate::systems::etcd::Etcd;
use crate::systems::redis::Redis;
use crate::systems::session;

/// Operations in flight while a system is filled.
const FILL_SESSIONS: usize = 8;
const FILL_OUTSTANDING: usize = 64;

/// Of one operation: a system that is overloaded shows in its waits, not as a failure.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Reads of each session of Tandem before a run: each server surely leads the key set of one.
const FIRST_READS: u64 = 32;

/// Sessions that are connected at a time: a server refuses handshakes beyond a few dozen.
const REACH_AT_ONCE: usize = 16;

/// A load in the notation "N x P".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// Client sessions in one process.
    pub sessions: usize,
    /// Operations that each keeps in flight.
    pub outstanding: usize,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.sessions, self.outstanding)
    }
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let wrong = || format!("'{text}' is no load such as 50x16 (sessions x in flight each)");
        let (sessions, outstanding) = text.split_once('x').ok_or_else(wrong)?;
        let number = |it: &str| it.parse().ok().filter(|it| (1..=10_000).contains(it));
        match (number(sessions), number(outstanding)) {
            (Some(sessions), Some(outstanding)) => Ok(Shape { sessions, outstanding }),
            _ => Err(wrong()),
        }
    }
}

/// What is driven.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum System {
    /// Tandem, all sessions of one client sharing a connection to each server.
    Tandem,
    /// Tandem, each session of one client with a connection to each server of its own.
    TandemOwn,
    Redis,
    Etcd,
    /// The bare echo at as many connections as the shared sessions have.
    Echo,
    /// The bare echo at as many connections as there are sessions.
    EchoOwn,
}

/// What is up beside Tandem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peers {
    None,
    Redis,
    /// Redis and the bare echo, and etcd where this machine has it and it is wanted.
    All {
        etcd: bool,
        /// They sync what they acknowledge.
        durable: bool,
    },
}

/// Everything that is up.
pub struct Scene {
    pub stage: Stage,
    pub redis: Option<Redis>,
    pub etcd: Option<Etcd>,
    pub echo: Option<Echo>,
    pub keys: u64,
    pub value_bytes: usize,
    servers: usize,
}

impl Scene {
    /// Starts a Tandem cluster and its `peers`.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(
        ground: &Ground,
        plan: &Plan,
        keys: u64,
        value_bytes: usize,
        peers: Peers,
    ) -> Result<Scene> {
        if peers != Peers::None {
            // Before anything is started: what is missing is said at once.
            Redis::version()?;
        }
        let stage = Stage::start(&ground.place, plan)?;
        let config = stage.cluster.config().clone();
        let (children, folder) = (&ground.children, &ground.place.folder);
        let redis = match peers {
            Peers::None => None,
            Peers::Redis | Peers::All { .. } => {
                let durable = matches!(peers, Peers::All { durable: true, .. });
                Some(Redis::start(children, &folder.join("redis"), durable)?)
            }
        };
        let echo = match peers {
            Peers::None | Peers::Redis => None,
            Peers::All { .. } => Some(Echo::start(children, &config)?),
        };
        let version = match peers {
            Peers::All { etcd: true, .. } => Etcd::version()?,
            Peers::None | Peers::Redis | Peers::All { etcd: false, .. } => None,
        };
        let etcd = version.map(|it| Etcd::start(children, &folder.join("etcd"), it)).transpose()?;
        let servers = usize::from(plan.servers) * usize::from(plan.workers);
        Ok(Scene { stage, redis, etcd, echo, keys, value_bytes, servers })
    }

    /// Ends everything that is up.
    ///
    /// # Errors
    /// A process is left.
    pub fn end(mut self, ground: &Ground) -> Result<()> {
        self.stage.cluster.stop()?;
        ground.children.end()
    }

    /// The numbers of the servers' processes.
    ///
    /// # Errors
    /// The kernel's list of processes can not be read.
    pub fn server_processes(&self) -> Result<Vec<u32>> {
        let all = self.stage.cluster.processes()?.into_iter();
        let servers = all.filter(|it| matches!(it.role, Role::Server(_)));
        Ok(servers.filter_map(|it| u32::try_from(it.pid).ok()).collect())
    }

    /// How often servers were taken for dead since the start, in a run in which none died.
    ///
    /// # Errors
    /// The cluster does not become whole.
    pub fn false_failovers(&self) -> Result<usize> {
        Ok(self.stage.until_whole()?.recoveries.len())
    }

    /// Stores every key in every system, so that each read finds a value.
    ///
    /// # Errors
    /// A write failed.
    pub fn fill(&self) -> Result<()> {
        let value = self.value();
        load::on_this_thread(async {
            let client = self.stage.connect()?;
            let sessions = (0..FILL_SESSIONS).map(|_| client.session());
            let pipelines = sessions.map(|it| session::pipeline(it, self.value_bytes)).collect();
            load::fill(pipelines, self.keys, &value, FILL_OUTSTANDING).await?;
            client.close().await;
            if let Some(redis) = &self.redis {
                let pipelines = redis.connect(FILL_SESSIONS, self.value_bytes).await?;
                load::fill(pipelines, self.keys, &value, FILL_OUTSTANDING).await?;
            }
            if let Some(etcd) = &self.etcd {
                let pipelines = etcd.connect(FILL_SESSIONS, self.value_bytes).await?;
                load::fill(pipelines, self.keys, &value, FILL_OUTSTANDING).await?;
            }
            Ok(())
        })
    }

    /// What every key holds: bytes that no compression would shorten.
    #[must_use]
    pub fn value(&self) -> Bytes {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let bytes = (0..self.value_bytes).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        bytes.collect()
    }

    /// Connects sessions of Tandem to every server, as the peers' sessions are before a run.
    async fn reach(&self, sessions: &[Session]) -> Result<()> {
        let reads = Source::new(Work::Get, Choice::Uniform, self.keys, Bytes::new());
        for some in sessions.chunks(REACH_AT_ONCE) {
            let pipelines = some.iter().cloned();
            let pipelines = pipelines.map(|it| session::pipeline(it, self.value_bytes)).collect();
            let source = |number| reads.of_session(number, some.len(), 0);
            load::each_does(pipelines, source, FIRST_READS, 1).await?;
        }
        Ok(())
    }

    /// Drives `system` once.
    ///
    /// # Errors
    /// An operation failed.
    pub fn measure(
        &self,
        system: System,
        shape: Shape,
        (work, choice): (Work, Choice),
        pace: Pace,
        seed: u64,
    ) -> Result<Found> {
        let in_flight = pace.rate.map_or(pace.outstanding, |_| load::IN_FLIGHT_MAX);
        let all = Source::new(work, choice, self.keys, self.value()).with_in_flight(in_flight);
        let bytes = self.value_bytes;
        let source = |sessions| {
            let all = all.clone();
            move |number| all.of_session(number, sessions, seed)
        };
        let of = source(shape.sessions);
        let (before, begun) = (disk::syncs(), clock::now());
        let found = load::on_this_thread(async {
            match system {
                System::Tandem | System::TandemOwn => {
                    let connections = if system == System::Tandem { 1 } else { shape.sessions };
                    let connections = u16::try_from(connections).unwrap_or(u16::MAX);
                    let client = self.stage.connect_local(connections)?;
                    let sessions = (0..shape.sessions).map(|_| client.session());
                    let sessions: Vec<Session> =
                        sessions.map(|it| it.with_timeout(TIMEOUT)).collect();
                    self.reach(&sessions).await?;
                    let sessions = sessions.into_iter();
                    let pipelines = sessions.map(|it| session::pipeline(it, bytes)).collect();
                    let found = load::drive(pipelines, of, pace).await;
                    client.close().await;
                    found
                }
                System::Redis => {
                    let redis = self.redis.as_ref().context("Redis was not started")?;
                    load::drive(redis.connect(shape.sessions, bytes).await?, of, pace).await
                }
                System::Etcd => {
                    let etcd = self.etcd.as_ref().context("etcd was not started")?;
                    load::drive(etcd.connect(shape.sessions, bytes).await?, of, pace).await
                }
                System::Echo | System::EchoOwn => {
                    let echo = self.echo.as_ref().context("the echo was not started")?;
                    let total = shape.sessions * shape.outstanding;
                    let count = match system {
                        System::Echo => self.servers.min(total),
                        _ => shape.sessions,
                    };
                    let pipelines = echo.connect(count, bytes).await?;
                    let pace = Pace { outstanding: total.div_ceil(count), ..pace };
                    load::drive(pipelines, source(count), pace).await
                }
            }
        });
        let seconds = clock::now().since(begun).0 as f64 / 1e9;
        let syncs = disk::syncs().saturating_sub(before) as f64 / seconds;
        found.map(|found| found.with_syncs(syncs))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: loads are written and read as "N x P".
    //! Method: good and bad examples.

    use super::*;

    #[test]
    fn loads_are_read_as_written() {
        let shape: Shape = "50x16".parse().expect("a load");
        assert_eq!(
            (shape, shape.to_string()),
            (Shape { sessions: 50, outstanding: 16 }, "50x16".into())
        );
        for text in ["", "50", "0x1", "1x0", "x", "1xx2", "-1x2"] {
            text.parse::<Shape>().expect_err("no load");
        }
    }
}
