//! The engine in memory: an ordered map of records for each key set.
//!
//! Invariants: a key has a record or a tombstone or neither, never both; `stats` is the sum over
//! the records. Tombstones live in a map of their own, so that reads never step over them and
//! dropping them costs nothing for the records.
//!
//! Keys and values are copied out of the buffers that they came in: a small value that kept its
//! datagram or its batch alive would cost many times its length. A value is shared with its
//! readers by counting; the count is allocated by its first read, no later read allocates.
//!
//! A memory engine dies with its incarnation, so that nobody could ever read a log back: it has
//! none, and the window that the machine holds is all there is.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{ChunkRange, Engine, Page, Stats};
use crate::protocol::types::{Change, Entry, KeySet, Op, Record, Revision, Value};

/// Records of key sets `0..count`, in memory.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct MemoryEngine {
    sets: Vec<Contents>,
}

/// One key set.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
struct Contents {
    records: BTreeMap<Box<[u8]>, Stored>,
    tombstones: BTreeMap<Box<[u8]>, Revision>,
    stats: Stats,
}

#[derive(Clone, Debug, Eq, PartialEq, Hash)]
struct Stored {
    revision: Revision,
    value: Value,
}

impl MemoryEngine {
    /// An empty engine for the key sets `0..count`.
    #[must_use]
    pub fn new(count: u16) -> MemoryEngine {
        MemoryEngine { sets: vec![Contents::default(); usize::from(count)] }
    }

    fn contents(&self, set: KeySet) -> &Contents {
        &self.sets[usize::from(set.0)]
    }

    fn contents_mut(&mut self, set: KeySet) -> &mut Contents {
        &mut self.sets[usize::from(set.0)]
    }
}

impl Engine for MemoryEngine {
    fn get(&self, set: KeySet, key: &[u8]) -> Option<(Value, Revision)> {
        let stored = self.contents(set).records.get(key)?;
        Some((stored.value.clone(), stored.revision))
    }

    fn range(
        &self,
        set: KeySet,
        prefix: &[u8],
        after: Option<&[u8]>,
        items_max: u32,
        bytes_max: u32,
    ) -> Page {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page::default();
        let mut bytes = 0_u64;
        let found = self.contents(set).records.range::<[u8], _>((from, Bound::Unbounded));
        for (key, stored) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            bytes += length(key, &stored.value);
            let full = page.records.len() >= items_max as usize || bytes > u64::from(bytes_max);
            if full && !page.records.is_empty() {
                page.more = true;
                break;
            }
            page.records.push(Record {
                key: Bytes::copy_from_slice(key),
                value: stored.value.clone(),
                revision: stored.revision,
            });
        }
        page
    }

    fn apply(&mut self, set: KeySet, revision: Revision, entry: &Entry, keep_tombstone: bool) {
        let contents = self.contents_mut(set);
        if keep_tombstone && contents.revision(&entry.key).is_some_and(|own| revision <= own) {
            return;
        }
        match &entry.change {
            Change::Put(value) => contents.put(&entry.key, value, revision),
            Change::Delete => {
                contents.delete(&entry.key);
                if keep_tombstone {
                    contents.tombstones.insert(Box::from(&entry.key[..]), revision);
                }
            }
        }
    }

    fn store_chunk(
        &mut self,
        set: KeySet,
        range: ChunkRange<'_>,
        read_at: Revision,
        records: &[Record],
    ) {
        let contents = self.contents_mut(set);
        for key in contents.outdated(range, read_at) {
            contents.delete(&key);
        }
        for record in records.iter().filter(|record| range.contains(&record.key)) {
            // What is left of the range is newer than the chunk.
            if contents.revision(&record.key).is_none() {
                contents.put(&record.key, &record.value, record.revision);
            }
        }
    }

    fn drop_tombstones(&mut self, set: KeySet) {
        self.contents_mut(set).tombstones.clear();
    }

    fn clear(&mut self, set: KeySet) {
        *self.contents_mut(set) = Contents::default();
    }

    fn append(&mut self, _set: KeySet, _entries: &[Entry]) {}

    fn cut(&mut self, _set: KeySet, _through: Op) {}

    fn set_stats(&self, set: KeySet) -> Stats {
        self.contents(set).stats
    }

    fn stats(&self) -> Stats {
        self.sets.iter().fold(Stats::default(), |sum, contents| Stats {
            keys: sum.keys + contents.stats.keys,
            bytes: sum.bytes + contents.stats.bytes,
        })
    }
}

impl Contents {
    /// The revision of the key's record or tombstone.
    fn revision(&self, key: &[u8]) -> Option<Revision> {
        let record = self.records.get(key).map(|stored| stored.revision);
        record.or_else(|| self.tombstones.get(key).copied())
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) {
        self.tombstones.remove(key);
        self.stats.bytes += length(key, value);
        let stored = Stored { revision, value: Bytes::copy_from_slice(value) };
        if let Some(present) = self.records.get_mut(key) {
            self.stats.bytes -= length(key, &present.value);
            *present = stored;
        } else {
            self.stats.keys += 1;
            self.records.insert(Box::from(key), stored);
        }
    }

    /// Forgets the key's record or tombstone.
    fn delete(&mut self, key: &[u8]) {
        self.tombstones.remove(key);
        if let Some(stored) = self.records.remove(key) {
            self.stats.keys -= 1;
            self.stats.bytes -= length(key, &stored.value);
        }
    }

    /// The keys of `range` whose record or tombstone is not newer than `read_at`.
    fn outdated(&self, range: ChunkRange<'_>, read_at: Revision) -> Vec<Box<[u8]>> {
        if range.is_empty() {
            return Vec::new();
        }
        let bounds = (
            range.after.map_or(Bound::Unbounded, Bound::Excluded),
            range.through.map_or(Bound::Unbounded, Bound::Included),
        );
        let records = self.records.range::<[u8], _>(bounds);
        let records = records.map(|(key, stored)| (key, stored.revision));
        let tombstones = self.tombstones.range::<[u8], _>(bounds);
        let tombstones = tombstones.map(|(key, &revision)| (key, revision));
        records
            .chain(tombstones)
            .filter(|&(_, revision)| revision <= read_at)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

fn length(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

#[cfg(test)]
mod tests;
