//! Power cuts: every process of the cluster killed at once, and all of them started again.
//!
//! ```text
//!   start -> (moment) -> kill -9 of all -> start -> (moment) -> kill -9 of all -> start -> ...
//! ```
//!
//! The moment of each cut is drawn from the seed: from the opening of the logs, before anything is
//! served, to a cluster that is whole again. Servers are durable, and everything that happens in a
//! run happens to the same state directories.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tandem::clock;
use tandem::protocol::time::Time;
use tandem::sim::rng::Rng;
use tandem_local::wait;

use super::budget::is_whole;
use super::kind::Kind;
use crate::cluster::Stage;
use crate::load::Load;
use crate::nodes::Node;
use crate::observer::Observer;
use crate::timeline::{Record, Timeline};

/// Bytes of a log between two checkpoints: so few that most rounds see some.
pub const CHECKPOINT_LOG: &str = "checkpoint_log = \"32KiB\"";

/// How long a round may take until its moment comes.
const MOMENT: Duration = Duration::from_secs(60);

/// Acknowledged writes, at most, between the return of the last key set and the cut.
const WRITES_MAX: u64 = 400;

/// A log file's header, which says where the file before it ended.
const LOG_HEADER_BYTES: u64 = 40;

/// When the power goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Moment {
    /// Every server has opened its log, and most likely serves nothing yet.
    Starting,
    /// One write was acknowledged.
    FirstWrite,
    /// Every key set has had a write acknowledged, and some more were.
    Serving,
    /// The same, and a server has finished a checkpoint.
    Checkpointed,
    /// Nothing is missing.
    Whole,
}

impl Moment {
    /// Each with its share.
    const ALL: [(Moment, u64); 5] = [
        (Moment::Starting, 1),
        (Moment::FirstWrite, 1),
        (Moment::Serving, 3),
        (Moment::Checkpointed, 3),
        (Moment::Whole, 1),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Moment::Starting => "while it starts",
            Moment::FirstWrite => "at the first write",
            Moment::Serving => "once it serves",
            Moment::Checkpointed => "after a checkpoint",
            Moment::Whole => "once it is whole",
        }
    }
}

/// What a run of power cuts saw.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Cuts by the moment at which they struck.
    pub moments: BTreeMap<Moment, u64>,
    /// Checkpoints that were seen to end, of all servers.
    pub checkpoints: u64,
}

/// Cuts the power again and again.
pub struct Power<'a> {
    pub stage: Stage,
    pub observer: Observer,
    pub timeline: Timeline,
    /// When time counts from, for the words.
    pub origin: Time,
    pub stop: Arc<AtomicBool>,
    pub load: &'a Load,
    /// The disks lose, at every cut, what they had synced last: the run must fail.
    pub disks_lie: bool,
}

/// What was so when everything was started last.
struct Since {
    /// Acknowledged writes by key set.
    writes: Vec<u64>,
    logs: Vec<Files>,
}

/// The oldest and the newest file of a server's log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Files {
    oldest: u64,
    newest: u64,
}

impl Power<'_> {
    /// Cuts the power `rounds` times, and waits until every key set is served again.
    ///
    /// # Errors
    /// The cluster does not come back, or a process had ended before its time.
    pub fn run(&self, rounds: u16, seed: u64) -> Result<Cuts> {
        let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len}")?;
        let bar = ProgressBar::new(u64::from(rounds)).with_style(style).with_message("power");
        let mut rng = Rng::new(seed);
        let mut cuts = Cuts::default();
        let mut since = self.since();
        for round in 1..=rounds {
            let shares = Moment::ALL.map(|(_, share)| share);
            let (moment, _) = Moment::ALL[rng.weighted(&shares)];
            let more = rng.below(WRITES_MAX);
            self.until(moment, more, &since, &mut cuts)
                .with_context(|| format!("after power cut {}", round - 1))?;
            *cuts.moments.entry(moment).or_default() += 1;
            since = self.cut(round, moment)?;
            bar.inc(1);
            let at = clock::now().since(self.origin).as_millis() as f64 / 1_000.0;
            bar.suspend(|| println!("  {at:7.1} s  power {round}, {}", moment.name()));
        }
        self.until(Moment::Serving, 0, &since, &mut cuts).context("after the last power cut")?;
        bar.finish_and_clear();
        Ok(cuts)
    }

    /// Kills everybody, and starts everybody again.
    fn cut(&self, round: u16, moment: Moment) -> Result<Since> {
        let servers = self.stage.config.servers().iter().map(|it| Node::server(it.id));
        let record = self.timeline.begin(Record {
            kind: Kind::Power,
            label: format!("{round}, {}", moment.name()),
            begin: clock::now(),
            end: None,
            edges: Vec::new(),
            nodes: [Node::Meta].into_iter().chain(servers).collect(),
            storm: false,
        });
        self.stage.kill_all()?;
        if self.disks_lie {
            for folder in self.log_folders() {
                forget_newest(&folder)?;
            }
        }
        let since = self.since();
        self.timeline.end(record, clock::now());
        self.stage.start_all()?;
        Ok(since)
    }

    fn since(&self) -> Since {
        Since { writes: self.load.acknowledged(), logs: self.logs() }
    }

    /// Waits for `moment`, with `more` writes after the return of the last key set.
    fn until(&self, moment: Moment, more: u64, since: &Since, cuts: &mut Cuts) -> Result<()> {
        let mut known = since.logs.clone();
        let mut finished = 0;
        wait::until(moment.name(), MOMENT, || {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let logs = self.logs();
            // The log is cut off at the checkpoint before the one that has just ended.
            let ended = logs.iter().zip(&known).filter(|(now, known)| now.oldest > known.oldest);
            finished += ended.count() as u64;
            known.clone_from(&logs);
            let writes = self.load.acknowledged();
            let gains = writes.iter().zip(&since.writes).map(|(now, then)| now - then);
            let gains: Vec<u64> = gains.collect();
            let served = !gains.contains(&0);
            let reached = match moment {
                Moment::Starting => {
                    logs.iter().zip(&since.logs).all(|(now, then)| now.newest > then.newest)
                }
                Moment::FirstWrite => gains.iter().any(|&gain| gain > 0),
                Moment::Serving => served && gains.iter().sum::<u64>() >= more,
                Moment::Checkpointed => served && finished > 0,
                Moment::Whole => served && is_whole(&self.observer.status()?).is_ok(),
            };
            let seen = || format!("{gains:?} writes a key set, {finished} checkpoints, {logs:?}");
            if reached { Ok(()) } else { Err(seen()) }
        })?;
        cuts.checkpoints += finished;
        if self.stop.load(Ordering::Relaxed) { bail!("stopped") } else { Ok(()) }
    }

    fn log_folders(&self) -> impl Iterator<Item = PathBuf> {
        let servers = self.stage.config.servers().iter();
        servers.map(|it| it.state.join("worker-0").join("log"))
    }

    fn logs(&self) -> Vec<Files> {
        self.log_folders().map(|folder| files(&folder)).collect()
    }
}

/// The log in `folder`; none of a server that never ran.
fn files(folder: &Path) -> Files {
    let numbers = numbers(folder);
    let (oldest, newest) = (numbers.iter().min(), numbers.iter().max());
    Files { oldest: oldest.copied().unwrap_or(0), newest: newest.copied().unwrap_or(0) }
}

fn numbers(folder: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
    names.filter_map(|it| u64::from_str_radix(it.strip_suffix(".log")?, 16).ok()).collect()
}

/// What the newest file of a log holds is gone, as if it had never reached the disk.
fn forget_newest(folder: &Path) -> Result<()> {
    let Some(newest) = numbers(folder).into_iter().max() else { return Ok(()) };
    let path = folder.join(format!("{newest:016x}.log"));
    let lose = || {
        let mut file = OpenOptions::new().write(true).open(&path)?;
        let bytes = file.metadata()?.len().saturating_sub(LOG_HEADER_BYTES);
        file.seek(SeekFrom::Start(LOG_HEADER_BYTES))?;
        file.write_all(&vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)])
    };
    lose().with_context(|| format!("emptying {}", path.display()))
}

#[cfg(test)]
mod tests {
    //! Goal: the files of a log are told by their names, and what the newest holds can be lost.
    //! Method: a folder with files made by hand.

    use super::*;

    #[test]
    fn a_log_is_read_and_its_end_lost() {
        let name = format!("tandem-chaos-{}-logs", std::process::id());
        let folder = std::env::temp_dir().join(name);
        assert_eq!(files(&folder), Files::default());
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        for number in ["0a", "0b", "10"] {
            let path = folder.join(format!("00000000000000{number}.log"));
            std::fs::write(path, [7; 100]).expect("the folder is ours");
        }
        std::fs::write(folder.join("next.log.new"), [7; 9]).expect("the folder is ours");
        assert_eq!(files(&folder), Files { oldest: 10, newest: 16 });
        forget_newest(&folder).expect("the folder is ours");
        let read = |number: &str| {
            std::fs::read(folder.join(format!("00000000000000{number}.log"))).expect("it is there")
        };
        assert_eq!(read("0b"), [7; 100]);
        assert_eq!(read("10"), [&[7; 40][..], &[0; 60]].concat());
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
