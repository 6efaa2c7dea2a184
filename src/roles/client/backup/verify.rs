//! `admin verify-backup`: reads all of a backup, and tells what it holds. It needs no cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::super::{Failure, Format, report};
use super::file::{Reader, Stored};
use super::manifest::{Manifest, SetFile};
use super::{bar, damaged};
use crate::protocol::placement::key_set;
use crate::protocol::types::{Key, KeySet, Record};
use crate::roles::Exit;

const BAR: &str = "{bar:40} {bytes}/{total_bytes} read, {bytes_per_sec}, {eta} left";

/// What a backup holds: the same in every backup of the same keys and values, whatever the key
/// sets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Content {
    pub(super) keys: u64,
    /// Length of keys and values.
    pub(super) bytes: u64,
    /// The sum of the records' hashes.
    pub(super) digest: u128,
}

pub(in super::super) fn run(folder: &Path, format: Format) -> Result<Exit, Failure> {
    let manifest = Manifest::load(folder)?;
    let content = check(folder, &manifest)?;
    let digest = format!("{:032x}", content.digest);
    match format {
        Format::Json => {
            let sets = manifest.sets.iter().map(|it| report::revision(it.revision()));
            let sets: Vec<String> = sets.collect();
            report::print(&json!({
                "cluster": manifest.cluster,
                "key_sets": manifest.key_sets,
                "keys": content.keys,
                "bytes": content.bytes,
                "digest": digest,
                "revisions": sets,
            }))?;
        }
        Format::People => println!(
            "whole: {} keys in {} key sets, {} bytes of keys and values, digest {digest}",
            content.keys, manifest.key_sets, content.bytes
        ),
    }
    Ok(Exit::Done)
}

/// Reads everything.
pub(super) fn check(folder: &Path, manifest: &Manifest) -> Result<Content, Failure> {
    let progress = bar(BAR, manifest.bytes());
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Ok(Content::default()));
    let threads = thread::available_parallelism().map_or(1, |it| it.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = manifest.sets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = check_set(folder, manifest.key_sets, file);
                    progress.inc(file.bytes);
                    let mut sum = sum.lock().unwrap_or_else(|poison| poison.into_inner());
                    match (&mut *sum, checked) {
                        (Err(_), _) => return,
                        (Ok(sum), Ok(content)) => {
                            sum.keys += content.keys;
                            sum.bytes += content.bytes;
                            sum.digest = sum.digest.wrapping_add(content.digest);
                        }
                        (failed, Err(failure)) => *failed = Err(failure),
                    }
                }
            });
        }
    });
    progress.finish_and_clear();
    sum.into_inner().unwrap_or_else(|poison| poison.into_inner())
}

/// One key set: every piece is what was written, and every key belongs to it.
fn check_set(folder: &Path, key_sets: u16, file: &SetFile) -> Result<Content, Failure> {
    let (path, set) = (file.path(folder), KeySet(file.set));
    let wrong = |why: &str| damaged(format!("the backup is damaged: {} {why}", path.display()));
    let mut reader = Reader::open(&path, set)?;
    let mut keys: BTreeMap<Key, (u64, u128)> = BTreeMap::new();
    let put = |keys: &mut BTreeMap<Key, (u64, u128)>, records: Vec<Record>| {
        for record in records {
            if key_set(&record.key, key_sets) != set {
                return Err(wrong("holds a key of another key set"));
            }
            let bytes = (record.key.len() + record.value.len()) as u64;
            let hash = hash(&record);
            keys.insert(record.key, (bytes, hash));
        }
        Ok(())
    };
    loop {
        match reader.next()?.0 {
            Stored::Records(records) => put(&mut keys, records)?,
            Stored::Changes { records, deleted } => {
                put(&mut keys, records)?;
                for key in deleted {
                    keys.remove(&key);
                }
            }
            Stored::End { revision } => {
                if revision != file.revision() {
                    return Err(wrong("is of another revision than the manifest says"));
                }
                reader.end()?;
                let empty = Content { keys: keys.len() as u64, ..Content::default() };
                return Ok(keys.values().fold(empty, |sum, &(bytes, hash)| Content {
                    bytes: sum.bytes + bytes,
                    digest: sum.digest.wrapping_add(hash),
                    ..sum
                }));
            }
        }
    }
}

fn hash(record: &Record) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&(record.key.len() as u64).to_le_bytes());
    hasher.update(&record.key);
    hasher.update(&record.value);
    hasher.digest128()
}
