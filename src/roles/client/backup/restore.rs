//! `admin restore`: writes what a backup holds into a cluster, whatever its key sets and servers.
//!
//! The backup is read whole and checked first, so that a damaged one changes nothing. A key is
//! written once, as the last piece that names it has it; one that was deleted while the backup ran
//! is not in it, and where the cluster has it, it stays.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use indicatif::ProgressBar;
use serde_json::json;

use super::super::{Context, Failure, Format, report};
use super::file::{Reader, Stored};
use super::manifest::{Manifest, SetFile};
use super::verify::check;
use super::{THREADS, bar};
use crate::client::{Answer, Error, Operation, Result as ClientResult, Session, block_on};
use crate::protocol::types::{Key, KeySet, Record};
use crate::roles::Exit;

const BAR: &str = "{bar:40} {bytes}/{total_bytes} restored, {bytes_per_sec}, {eta} left";
/// Writes in flight for each key set, and their bytes.
const OUTSTANDING_MAX: usize = 64;
const BYTES_MAX: usize = 4 << 20;
/// What may or may not have been done is done again so often: it is harmless here.
const ATTEMPTS_MAX: u32 = 10;

pub(in super::super) fn run(context: &Context, folder: &Path, over: bool) -> Result<Exit, Failure> {
    let manifest = Manifest::load(folder)?;
    let content = check(folder, &manifest)?;
    let session = context.client.session().with_timeout(context.timeout);
    if !over {
        demand_empty(&session)?;
    }
    let progress = bar(BAR, manifest.bytes());
    let next = AtomicUsize::new(0);
    let written = AtomicU64::new(0);
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let session = context.client.session().with_timeout(context.timeout);
                while let Some(file) = manifest.sets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut failed = failure.lock().unwrap_or_else(|poison| poison.into_inner());
                    if failed.is_some() {
                        return;
                    }
                    drop(failed);
                    let outcome = restore_set(&session, folder, file, &written, &progress);
                    failed = failure.lock().unwrap_or_else(|poison| poison.into_inner());
                    if let Err(error) = outcome {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    progress.finish_and_clear();
    let failure = failure.into_inner().unwrap_or_else(|poison| poison.into_inner());
    if let Some(Failure { exit, words }) = failure {
        let words = format!("{words}; the rest was not restored; again with --over is harmless");
        return Err(Failure { exit, words });
    }
    let writes = written.into_inner();
    match context.format {
        Format::Json => {
            let (keys, bytes) = (content.keys, content.bytes);
            report::print(&json!({ "keys": keys, "bytes": bytes, "writes": writes }))?;
        }
        Format::People => println!("{} keys restored, by {writes} writes", content.keys),
    }
    Ok(Exit::Done)
}

/// Nothing may be lost by mistake.
fn demand_empty(session: &Session) -> Result<(), Failure> {
    let count = block_on(session.key_sets())?;
    let firsts = (0..count).map(|set| Operation::Scan {
        set: KeySet(set),
        prefix: Key::new(),
        after: None,
        items_max: 1,
        bytes_max: 1,
    });
    for first in block_on(session.batch(firsts.collect())) {
        if matches!(first?, Answer::Page { records, .. } if !records.is_empty()) {
            let words = "the cluster holds keys: restore into an empty one, or say --over, which \
                         replaces the keys that the backup has and leaves all others";
            return Err(Failure { exit: Exit::Refused, words: words.to_owned() });
        }
    }
    Ok(())
}

type Flight = Pin<Box<dyn Future<Output = ClientResult<Answer>> + Send>>;

/// Writes on their way, each as often as it takes.
struct Flying<'a> {
    session: &'a Session,
    flights: VecDeque<(Operation, Flight)>,
    bytes: usize,
    landed: u64,
}

impl Flying<'_> {
    fn send(&mut self, operation: Operation) -> Result<(), Failure> {
        let bytes = size(&operation);
        while self.flights.len() >= OUTSTANDING_MAX || self.bytes + bytes > BYTES_MAX {
            if self.flights.is_empty() {
                break;
            }
            self.land()?;
        }
        self.bytes += bytes;
        let flight = Box::pin(self.session.begin(operation.clone()));
        self.flights.push_back((operation, flight));
        Ok(())
    }

    /// Waits for the oldest one.
    fn land(&mut self) -> Result<(), Failure> {
        let Some((operation, flight)) = self.flights.pop_front() else { return Ok(()) };
        self.bytes -= size(&operation);
        let mut outcome = block_on(flight);
        for _ in 1..ATTEMPTS_MAX {
            if !matches!(outcome, Err(Error::Unknown { .. })) {
                break;
            }
            outcome = block_on(self.session.begin(operation.clone()));
        }
        outcome?;
        self.landed += 1;
        Ok(())
    }

    fn land_all(&mut self) -> Result<(), Failure> {
        while !self.flights.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    fn put_all(
        &mut self,
        records: Vec<Record>,
        counts: impl Fn(&Record) -> bool,
    ) -> Result<(), Failure> {
        for record in records.into_iter().filter(|record| counts(record)) {
            let Record { key, value, .. } = record;
            self.send(Operation::Put { key, value })?;
        }
        Ok(())
    }
}

fn size(operation: &Operation) -> usize {
    match operation {
        Operation::Put { value, .. } => value.len(),
        _ => 0,
    }
}

/// Where each key of a file has its last word, by the number of the piece; what was deleted is no
/// key of it.
fn note(last: &mut BTreeMap<Key, u32>, piece: &Stored, number: u32) {
    let (records, deleted) = match piece {
        Stored::Records(records) => (records, &[][..]),
        Stored::Changes { records, deleted } => (records, &deleted[..]),
        Stored::End { .. } => return,
    };
    last.extend(records.iter().map(|record| (record.key.clone(), number)));
    for key in deleted {
        last.remove(key);
    }
}

fn last_words(path: &Path, set: KeySet) -> Result<BTreeMap<Key, u32>, Failure> {
    let mut reader = Reader::open(path, set)?;
    let mut last = BTreeMap::new();
    for number in 0.. {
        let (piece, _) = reader.next()?;
        if let Stored::End { .. } = piece {
            break;
        }
        note(&mut last, &piece, number);
    }
    Ok(last)
}

fn restore_set(
    session: &Session,
    folder: &Path,
    file: &SetFile,
    written: &AtomicU64,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let path = file.path(folder);
    let last = last_words(&path, KeySet(file.set))?;
    let mut reader = Reader::open(&path, KeySet(file.set))?;
    let mut flying = Flying { session, flights: VecDeque::new(), bytes: 0, landed: 0 };
    for number in 0.. {
        let (piece, bytes) = reader.next()?;
        let records = match piece {
            Stored::Records(records) | Stored::Changes { records, .. } => records,
            Stored::End { .. } => break,
        };
        flying.put_all(records, |record| last.get(&record.key) == Some(&number))?;
        progress.inc(bytes);
    }
    flying.land_all()?;
    written.fetch_add(flying.landed, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: of every key only the last word counts, and a delete is no word about the cluster.
    //! Method: pieces by hand.

    use super::*;
    use crate::protocol::types::Revision;

    fn records(keys: &[&'static str]) -> Vec<Record> {
        let record = |key: &&'static str| Record {
            key: Key::from_static(key.as_bytes()),
            value: Key::new(),
            revision: Revision::default(),
        };
        keys.iter().map(record).collect()
    }

    #[test]
    fn the_last_word_counts() {
        let deleted = vec![Key::from("b"), Key::from("elsewhere")];
        let pieces = [
            Stored::Records(records(&["a", "b", "c"])),
            Stored::Changes { records: records(&["c"]), deleted },
            Stored::Records(records(&["d"])),
            Stored::End { revision: Revision::default() },
        ];
        let mut last = BTreeMap::new();
        (0..).zip(&pieces).for_each(|(number, piece)| note(&mut last, piece, number));
        let expected = [("a", 0), ("c", 1), ("d", 2)];
        assert_eq!(last, expected.map(|(key, piece)| (Key::from(key), piece)).into());
    }
}
