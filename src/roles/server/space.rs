//! How full this server is: measured every so often, and told to its workers when it changed.
//!
//! A durable engine has the file system of its state directory and, where `cluster.toml` gives it
//! a capacity, that; an engine in memory has its capacity alone. What is fullest counts. Writes
//! are not measured one by one: between two looks there is the reserve above the last threshold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{MissedTickBehavior, interval};

use super::plan::Plan;
use super::worker::Driver;
use crate::config::Engine;
use crate::protocol::effect::WorkerInput;
use crate::protocol::space::{Level, Resource, Space, Thresholds};
use crate::protocol::types::WorkerId;
use crate::store::durable::files::{self, Usage};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(200);

/// A file of all workers' logs together takes at most this share of the capacity.
const LOG_SHARE: u64 = 32;

/// A file of the log has at least so many bytes.
const LOG_FILE_BYTES_MIN: u64 = 1 << 20;

/// What is measured, and what all workers of this process hold in memory together.
pub struct Gauge {
    engine: Engine,
    thresholds: Thresholds,
    disk_capacity: Option<u64>,
    memory_capacity: Option<u64>,
    state: Box<Path>,
    /// By worker.
    memory: Vec<AtomicU64>,
}

impl Gauge {
    pub fn new(plan: &crate::config::ClusterConfig, server: &crate::config::ServerConfig) -> Gauge {
        Gauge {
            engine: plan.engine(),
            thresholds: plan.thresholds(),
            disk_capacity: server.disk_capacity,
            memory_capacity: server.memory_capacity,
            state: server.state.as_path().into(),
            memory: server.workers.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Bytes of a file of a worker's log: less than usual where the disk is small, for six of
    /// them and more are there at a time.
    pub fn log_file_bytes(&self, usual: u64) -> u64 {
        let all = files::usage(&self.state).map_or(u64::MAX, |it| it.capacity);
        let capacity = all.min(self.disk_capacity.unwrap_or(u64::MAX));
        let share = capacity / LOG_SHARE / self.memory.len().max(1) as u64;
        share.clamp(LOG_FILE_BYTES_MIN.min(usual), usual)
    }

    /// Whether there is anything to measure.
    fn measures(&self) -> bool {
        match self.engine {
            Engine::Durable => true,
            Engine::Memory => self.memory_capacity.is_some(),
        }
    }

    /// A worker's engine holds so much in memory.
    fn hold(&self, worker: WorkerId, bytes: u64) {
        self.memory[usize::from(worker.0)].store(bytes, Ordering::Relaxed);
    }

    /// How full the server is, where it was at `before`.
    fn measure(&self, before: Level) -> Result<Space> {
        let space = |of, Usage { used, capacity }: Usage| {
            let level = self.thresholds.level(used, capacity, before);
            Space { level, of, used, capacity }
        };
        let spaces = match self.engine {
            Engine::Memory => {
                let used = self.memory.iter().map(|it| it.load(Ordering::Relaxed)).sum();
                let capacity = self.memory_capacity.unwrap_or(u64::MAX);
                [Some(space(Resource::Memory, Usage { used, capacity })), None]
            }
            Engine::Durable => {
                let shown = || format!("can not measure {}", self.state.display());
                let all = files::usage(&self.state).with_context(shown)?;
                let own = match self.disk_capacity {
                    Some(capacity) => {
                        let used = files::held(&self.state).with_context(shown)?;
                        Some(Usage { used, capacity })
                    }
                    None => None,
                };
                [Some(space(Resource::Disk, all)), own.map(|own| space(Resource::Disk, own))]
            }
        };
        let fullest = spaces.into_iter().flatten().max_by_key(|it| (it.level, it.per_mille()));
        Ok(fullest.unwrap_or_default())
    }
}

/// Measures for one worker as long as it runs.
pub async fn watch(driver: Driver, plan: Arc<Plan>, worker: WorkerId) {
    if !plan.gauge.measures() {
        return;
    }
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Option<Space> = None;
    loop {
        looks.tick().await;
        plan.gauge.hold(worker, driver.with(|_, shell| shell.memory_bytes()));
        let before = known.map_or(Level::Ok, |it| it.level);
        // A disk that does not answer must not hold up what is served from memory.
        let measuring = plan.clone();
        let measured = tokio::task::spawn_blocking(move || measuring.gauge.measure(before)).await;
        let space = match measured {
            Ok(Ok(space)) => space,
            Ok(Err(error)) => {
                tracing::warn!("{error:#}");
                continue;
            }
            Err(_) => continue,
        };
        let is_tight = space.level >= Level::High;
        if is_tight || before >= Level::High {
            driver.with(|machine, shell| shell.set_tight(machine, is_tight));
        }
        // Shown in whole percents, so that smaller changes are no news.
        let shown = |it: &Space| (it.level, it.of, it.capacity, it.per_mille() / 10);
        if known.as_ref().map(shown) == Some(shown(&space)) {
            continue;
        }
        if worker == WorkerId(0) {
            tell(before, &space);
        }
        known = Some(space);
        driver.submit(WorkerInput::Space { space });
    }
}

/// Tells a person of a level that changed.
fn tell(before: Level, space: &Space) {
    let (percent, of, capacity) = (space.per_mille() / 10, space.of, space.capacity);
    match space.level {
        level if level == before => {}
        Level::Ok => tracing::info!(percent, ?of, capacity, "there is room again"),
        Level::Soft => tracing::warn!(percent, ?of, capacity, "filling up"),
        Level::High => tracing::warn!(percent, ?of, capacity, "nearly full: no new copies"),
        Level::Hard => tracing::error!(
            percent,
            ?of,
            capacity,
            "full: writes that grow are refused until keys are deleted or there is more room"
        ),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is fullest counts, and an engine in memory is measured by what all workers hold.
    //! Method: gauges with small capacities, over an empty folder.

    use super::*;

    fn gauge(engine: Engine, capacity: Option<u64>) -> Gauge {
        Gauge {
            engine,
            thresholds: Thresholds { soft: 99, high: 100, hard: 100 },
            disk_capacity: capacity.filter(|_| engine == Engine::Durable),
            memory_capacity: capacity.filter(|_| engine == Engine::Memory),
            state: Path::new(env!("CARGO_MANIFEST_DIR")).join("src/roles/server").into(),
            memory: (0..2).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    #[test]
    fn memory_is_what_all_workers_hold() {
        assert!(!gauge(Engine::Memory, None).measures());
        let gauge = gauge(Engine::Memory, Some(1_000));
        gauge.hold(WorkerId(0), 500);
        let space = gauge.measure(Level::Ok).expect("memory can be measured");
        assert_eq!((space.level, space.used), (Level::Ok, 500));
        gauge.hold(WorkerId(1), 500);
        let space = gauge.measure(Level::Ok).expect("memory can be measured");
        assert_eq!((space.level, space.of, space.used), (Level::Hard, Resource::Memory, 1_000));
    }

    #[test]
    fn a_capacity_counts_beside_the_file_system() {
        let all = gauge(Engine::Durable, None).measure(Level::Ok).expect("a folder");
        assert_eq!(all.of, Resource::Disk);
        assert!(all.used > 0 && all.used <= all.capacity, "{all:?}");
        let own = gauge(Engine::Durable, Some(1)).measure(Level::Ok).expect("a folder");
        assert_eq!((own.level, own.capacity), (Level::Hard, 1), "its files are more than a byte");
        assert!(own.used < all.used, "{own:?} beside {all:?}");
    }
}
