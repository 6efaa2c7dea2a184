//! What a server that was away for a while is sent, and how long its return takes.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tandem::client::{Operation, block_on};
use tandem::clock;
use tandem::config::KEY_SETS;
use tandem::protocol::meta::{ServerStatus, Status};
use tandem::protocol::placement;
use tandem::protocol::time::{Span, Time};
use tandem_local::stage::member;
use tandem_local::{Plan, Stage, wait};

use crate::Ground;
use crate::load::{KEY_BYTES, key};
use crate::scene::{Peers, Scene};
use crate::told::Told;

/// Of a return: the log of a large server takes a while.
const RETURN: Duration = Duration::from_secs(300);

/// Writes that are sent in one go while the server is away.
const AT_ONCE: u64 = 100;

/// At the least so many keys a second are stored.
const FILL_PER_S_MIN: u64 = 5_000;

/// Measures what a server that was away is sent, of what it missed, and its restart.
///
/// A durable cluster is filled; a server is killed (kill -9), misses writes for a while, and is
/// started again. Told are the time from its start to its registration, by which its log was
/// read, the time until no key set misses a copy, and the keys and bytes that were copied to it,
/// beside those that were written to its key sets while it was away.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    #[arg(long, default_value_t = KEY_SETS, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
    /// How long the server is away.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    away: Duration,
    /// Writes a second meanwhile.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    writes: u64,
}

impl Options {
    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        let fill = Duration::from_secs(self.keys / FILL_PER_S_MIN);
        Duration::from_secs(120) + fill + self.away + 2 * RETURN
    }
}

/// Keys, and bytes of keys and values.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    keys: u64,
    bytes: u64,
}

/// Measures and tells the row.
///
/// # Errors
/// Something does not come up, or a write failed.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let plan = Plan {
        name: "bench".to_owned(),
        key_sets: options.key_sets,
        durable: true,
        spawn: false,
        ..Plan::default()
    };
    let mut scene = Scene::start(ground, &plan, options.keys, options.value, Peers::None)?;
    scene.fill()?;
    let status = scene.stage.until_whole()?;
    let away = status.servers[0].clone();
    scene.stage.kill(&away)?;
    let missed = write(&scene, options, (&status, &away))?;
    let begun = clock::now();
    scene.stage.cluster.start_server(away.id)?;
    let (registered, whole) = until_back(&scene.stage, &away)?;
    let copied = copied(&scene.stage, &away)?;
    scene.end(ground)?;
    told(options, missed, copied, [registered.since(begun), whole.since(begun)])
        .tell(ground.output);
    Ok(())
}

/// Writes for as long as the server is away; what of it was for key sets that it held.
fn write(
    scene: &Scene,
    options: &Options,
    (status, away): (&Status, &ServerStatus),
) -> Result<Amount> {
    let client = scene.stage.connect()?;
    let session = client.session();
    let held: Vec<bool> = status
        .sets
        .iter()
        .map(|it| it.configuration.as_ref().is_some_and(|it| it.contains(member(away))))
        .collect();
    let value = scene.value();
    let mut missed = Amount::default();
    let every = Span::from(Duration::from_secs(1)).scaled(AT_ONCE, options.writes);
    let (mut number, mut due) = (0, clock::now());
    let until = clock::now() + Span::from(options.away);
    while clock::now() < until {
        // Far apart, so that few are written twice.
        let numbers = (0..AT_ONCE).map(|it| (number + it) * 7_919 % options.keys);
        let keys: Vec<_> = numbers.map(key).collect();
        for key in &keys {
            let set = placement::key_set(key, options.key_sets);
            if held[usize::from(set.0)] {
                missed.keys += 1;
                missed.bytes += (KEY_BYTES + options.value) as u64;
            }
        }
        let writes = keys.into_iter().map(|key| Operation::Put { key, value: value.clone() });
        for answer in block_on(session.batch(writes.collect())) {
            answer?;
        }
        number += AT_ONCE;
        due += every;
        std::thread::sleep(Duration::from(due.since(clock::now())));
    }
    block_on(client.close());
    Ok(missed)
}

/// When the server is registered again, and when no key set misses a copy.
fn until_back(stage: &Stage, away: &ServerStatus) -> Result<(Time, Time)> {
    wait::until("the server's registration", RETURN, || {
        let status = stage.status()?;
        let known = status.servers.iter().find(|it| it.id == away.id);
        let there = known.is_some_and(|it| member(it) != member(away));
        if there { Ok(()) } else { Err(format!("{known:?}")) }
    })?;
    let registered = clock::now();
    wait::until("all copies of all key sets", RETURN, || {
        let lacking = stage.status()?.sets.iter().filter(|it| !it.redundant).count();
        if lacking == 0 { Ok(()) } else { Err(format!("{lacking} key sets lack")) }
    })?;
    Ok((registered, clock::now()))
}

/// What the primaries say that they copied to the server after it was away.
fn copied(stage: &Stage, away: &ServerStatus) -> Result<Amount> {
    let logs = stage.cluster.directory().join("logs");
    let mut amount = Amount::default();
    for log in std::fs::read_dir(&logs).context("the servers' logs")?.flatten() {
        let text = std::fs::read_to_string(log.path()).context("a server's log")?;
        let to = format!("learner=s{}.", away.id.0);
        for line in text.lines().filter(|it| it.contains("copy ends") && it.contains(&to)) {
            amount.keys += number(line, "keys=").unwrap_or(0);
            amount.bytes += number(line, "bytes=").unwrap_or(0);
        }
    }
    Ok(amount)
}

fn number(line: &str, name: &str) -> Option<u64> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))?.parse().ok()
}

fn told(options: &Options, missed: Amount, copied: Amount, [restart, whole]: [Span; 2]) -> Told {
    let [restart, whole] = [restart, whole].map(|it| Duration::from(it).as_secs_f64());
    let times = copied.bytes as f64 / (missed.bytes as f64).max(1.0);
    let held = options.keys * (KEY_BYTES + options.value) as u64;
    Told {
        op: "rejoin",
        load: format!(
            "{} keys, {} MB a copy of all, away for {}",
            options.keys,
            held / 1_000_000,
            humantime::format_duration(options.away)
        ),
        unit: "bytes sent over bytes missed",
        tandem: times,
        peer: None,
        limit: Some(1.0),
        share_of_limit: None,
        beside: vec![
            ("missed_keys", json!(missed.keys)),
            ("missed_bytes", json!(missed.bytes)),
            ("sent_keys", json!(copied.keys)),
            ("sent_bytes", json!(copied.bytes)),
            ("restart_s", json!(restart)),
            ("whole_s", json!(whole)),
        ],
        words: format!(
            "  missed {} keys, {} KB; sent {} keys, {} KB: {times:.2} times\n  registered \
             {restart:.2} s after its start, all copies whole after {whole:.2} s",
            missed.keys,
            missed.bytes / 1_000,
            copied.keys,
            copied.bytes / 1_000
        ),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: figures are found in a line of a log.
    //! Method: a line as servers write it.

    use super::*;

    #[test]
    fn figures_are_found() {
        let line = "INFO copy ends set=k0 learner=s1.4 complete=true keys=30 bytes=6353 since=356";
        assert_eq!((number(line, "keys="), number(line, "bytes=")), (Some(30), Some(6_353)));
        assert_eq!(number(line, "lines="), None);
    }
}
