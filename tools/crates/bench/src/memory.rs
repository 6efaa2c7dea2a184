//! What a key costs in memory beyond itself and its value, beside Redis.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tandem::config::KEY_SETS;
use tandem_local::Plan;

use crate::Ground;
use crate::load::KEY_BYTES;
use crate::scene::{Peers, Scene};
use crate::told::Told;

/// A system is left alone before its memory is read: buffers of the load are given back.
const REST: Duration = Duration::from_secs(2);

/// At the least so many keys a second are stored.
const FILL_PER_S_MIN: u64 = 5_000;

/// Measures the memory of a key over its own and its value's bytes, a copy, beside Redis.
///
/// All processes that hold copies are counted: Tandem's servers and Redis's master and replica.
/// The figure is what their resident memory grows by from empty to full, divided by the copies
/// of all keys, less the bytes of a key and its value.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    #[arg(long, default_value_t = KEY_SETS, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    /// So many keys with the usual values.
    #[must_use]
    pub fn of(keys: u64, value: usize, key_sets: u16) -> Options {
        Options { keys, value, key_sets }
    }

    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        Duration::from_secs(120) + Duration::from_secs(2 * self.keys / FILL_PER_S_MIN)
    }
}

/// Measures and tells the row.
///
/// # Errors
/// Redis is missing, something does not come up, or a write failed.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let plan = Plan { name: "bench".to_owned(), key_sets: options.key_sets, ..Plan::default() };
    let copies = u64::from(plan.replicas);
    let scene = Scene::start(ground, &plan, options.keys, options.value, Peers::Redis)?;
    let redis = scene.redis.as_ref().context("Redis was started")?;
    let servers = scene.server_processes()?;
    std::thread::sleep(REST);
    let empty = [resident(&servers)?, resident(&redis.processes)?];
    scene.fill()?;
    std::thread::sleep(REST);
    let full = [resident(&servers)?, resident(&redis.processes)?];
    let itself = (KEY_BYTES + options.value) as f64;
    // Redis's replica is the second copy there.
    let over = |system: usize, copies: u64| {
        full[system].saturating_sub(empty[system]) as f64 / (options.keys * copies) as f64 - itself
    };
    let (tandem, peer) = (over(0, copies), over(1, 2));
    let load = format!(
        "{} keys of {KEY_BYTES} bytes, values of {}, {copies} copies",
        options.keys, options.value
    );
    let version = redis.version.clone();
    let told = Told {
        op: "memory",
        load,
        unit: "bytes over key and value, a copy",
        tandem,
        peer: Some((format!("Redis {version} TLS"), peer)),
        limit: Some(0.0),
        share_of_limit: None,
        beside: vec![("resident_empty_bytes", json!(empty)), ("resident_full_bytes", json!(full))],
        words: format!(
            "  over key and value, a copy: Tandem {tandem:.1} bytes, Redis {version} {peer:.1} \
             bytes\n  resident memory of all copies: Tandem {} MiB, Redis {} MiB",
            full[0] >> 20,
            full[1] >> 20
        ),
    };
    scene.end(ground)?;
    told.tell(ground.output);
    Ok(())
}

/// Bytes of the processes that are in memory.
///
/// # Errors
/// One of them has ended.
pub fn resident(processes: &[u32]) -> Result<u64> {
    processes
        .iter()
        .map(|number| {
            let path = format!("/proc/{number}/status");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            rss(&text).with_context(|| format!("{path} has no VmRSS"))
        })
        .sum()
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    //! Goal: resident memory is read as the kernel tells it.
    //! Method: a piece of /proc/.../status, and this very process.

    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(rss("VmHWM:\t  900 kB\nVmRSS:\t  512 kB\n"), Some(512 << 10));
        assert_eq!(rss("VmHWM:\t  900 kB\n"), None);
        assert!(resident(&[std::process::id()]).expect("this process") > 1 << 20);
    }
}
