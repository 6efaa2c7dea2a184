//! The engine in memory: for each key set a table of records and their order.
//!
//! ```text
//!   table: hash of the key -> slot     order: slots by key     slots: what is stored, or free
//! ```
//!
//! A point read costs the table, the slot and the record's bytes; only a new key or a deleted one
//! touches the order. A record is one piece of memory, key and value together, and is copied out
//! for its reader: nothing keeps the datagram or batch alive that it came in, and there is no
//! count to keep beside it. A large value is shared with its readers instead.
//!
//! Invariants: a key has a record or a tombstone or neither, never both; table and order name the
//! same slots; `stats` is the sum over the records. Tombstones live in a map of their own, so that
//! reads never step over them and dropping them costs nothing for the records.
//!
//! A memory engine dies with its incarnation, so that nobody could ever read a log back: it has
//! none, and the window that the machine holds is all there is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::hint::black_box;
use std::ops::Bound;
use std::rc::Rc;

use bytes::Bytes;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use self::order::{Keyed, Order};
use super::trail::{TRAIL_BYTES_MAX, Trail};
use super::{ChunkRange, Engine, Page, Stats};
use crate::protocol::types::{Changes, Entry, Key, KeySet, LossEpoch, Op, Record, Revision, Value};

mod order;

/// Values beyond this many bytes are shared with their readers, not copied for each.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// Records of key sets `0..count`, in memory.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct MemoryEngine {
    sets: Vec<Contents>,
}

/// One key set.
#[derive(Clone, Default)]
struct Contents {
    table: HashTable<u32>,
    order: Order,
    slots: Slots,
    tombstones: BTreeMap<Box<[u8]>, Revision>,
    trail: Trail,
    stats: Stats,
}

/// What is stored, by slot.
#[derive(Clone, Default)]
struct Slots {
    slots: Vec<Stored>,
    free: Vec<u32>,
}

/// A record; a free slot holds an empty one.
#[derive(Clone)]
struct Stored {
    op: Op,
    /// With the op the revision, in two parts so that the key's length lies beside it.
    loss_epoch: LossEpoch,
    key_bytes: u32,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// The key and then the value.
    Joined(Box<[u8]>),
    Apart(Box<(Box<[u8]>, Value)>),
}

impl Stored {
    fn new(key: &[u8], value: &[u8], revision: Revision) -> Stored {
        let key_bytes = u32::try_from(key.len()).expect("no frame holds a key of 4 GiB");
        let body = if value.len() <= COPIED_BYTES_MAX {
            Body::Joined([key, value].concat().into())
        } else {
            Body::Apart(Box::new((Box::from(key), Bytes::copy_from_slice(value))))
        };
        let Revision { loss_epoch, op } = revision;
        Stored { op, loss_epoch, key_bytes, body }
    }

    /// Another value of the same key; one of the same length takes the old one's place.
    fn replace(&mut self, key: &[u8], value: &[u8], revision: Revision) {
        match &mut self.body {
            Body::Joined(bytes) if bytes.len() == key.len() + value.len() => {
                bytes[key.len()..].copy_from_slice(value);
                (self.loss_epoch, self.op) = (revision.loss_epoch, revision.op);
            }
            Body::Joined(_) | Body::Apart(_) => *self = Stored::new(key, value, revision),
        }
    }

    fn revision(&self) -> Revision {
        Revision { loss_epoch: self.loss_epoch, op: self.op }
    }

    fn key(&self) -> &[u8] {
        match &self.body {
            Body::Joined(bytes) => &bytes[..self.key_bytes as usize],
            Body::Apart(parts) => &parts.0,
        }
    }

    fn value_bytes(&self) -> &[u8] {
        match &self.body {
            Body::Joined(bytes) => &bytes[self.key_bytes as usize..],
            Body::Apart(parts) => &parts.1,
        }
    }

    /// The value for a reader.
    fn value(&self) -> Value {
        match &self.body {
            Body::Joined(_) => Bytes::copy_from_slice(self.value_bytes()),
            Body::Apart(parts) => parts.1.clone(),
        }
    }

    /// Something of each line of the processor's cache that its bytes are in.
    fn glance(&self) -> u8 {
        let bytes = match &self.body {
            Body::Joined(bytes) => bytes,
            Body::Apart(parts) => &parts.0,
        };
        let lines = bytes.iter().step_by(64).chain(bytes.last());
        lines.fold(0, |sum, byte| sum ^ byte)
    }

    /// Length of key and value.
    fn length(&self) -> u64 {
        match &self.body {
            Body::Joined(bytes) => bytes.len() as u64,
            Body::Apart(parts) => (parts.0.len() + parts.1.len()) as u64,
        }
    }
}

impl Slots {
    fn get(&self, slot: u32) -> &Stored {
        &self.slots[slot as usize]
    }

    fn put(&mut self, stored: Stored) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = stored;
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("a key set has below 2^32 keys");
        self.slots.push(stored);
        slot
    }

    fn take(&mut self, slot: u32) -> Stored {
        self.free.push(slot);
        let body = Body::Joined(Box::default());
        let Revision { loss_epoch, op } = Revision::default();
        let empty = Stored { op, loss_epoch, key_bytes: 0, body };
        std::mem::replace(&mut self.slots[slot as usize], empty)
    }
}

impl Keyed for Slots {
    fn key(&self, slot: u32) -> &[u8] {
        self.get(slot).key()
    }
}

/// The place of a key in a table. The lower bits of the hash say which key set it belongs to, so
/// that they are all alike there: the upper ones come first.
fn hash(key: &[u8]) -> u64 {
    xxh3_64(key).rotate_left(32)
}

impl MemoryEngine {
    /// An empty engine for the key sets `0..count`.
    #[must_use]
    pub fn new(count: u16) -> MemoryEngine {
        MemoryEngine::with_trail(count, TRAIL_BYTES_MAX)
    }

    /// As `new`, with another limit for what is known of the latest changes of a key set.
    #[must_use]
    pub fn with_trail(count: u16, bytes_max: usize) -> MemoryEngine {
        let empty = Contents { trail: Trail::new(bytes_max), ..Contents::default() };
        MemoryEngine { sets: vec![empty; usize::from(count)] }
    }

    /// What it knows of the latest changes of each key set, which equality and hash are not over:
    /// it says how a copy goes, not what it holds.
    pub fn trails(&self) -> impl Iterator<Item = &Trail> {
        self.sets.iter().map(|contents| &contents.trail)
    }

    /// Touches what reads and writes of these keys are going to touch, so that the processor
    /// fetches all of it from memory side by side.
    pub fn look_over(&self, keys: &[(KeySet, &[u8])]) {
        // The first of the right hash is nearly always the one.
        let place = |&(set, key): &(KeySet, &[u8])| {
            let contents = self.sets.get(usize::from(set.0))?;
            let slot = contents.table.find(hash(key), |_| true)?;
            Some((&contents.slots, *slot))
        };
        let places: Vec<(&Slots, u32)> = keys.iter().filter_map(place).collect();
        let stored = |&(slots, slot): &(&Slots, u32)| (*slots).get(slot).op.0;
        black_box(places.iter().map(stored).fold(0, u64::wrapping_add));
        let body = |&(slots, slot): &(&Slots, u32)| (*slots).get(slot).glance();
        black_box(places.iter().map(body).fold(0, u8::wrapping_add));
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
        let stored = self.contents(set).find(key)?;
        Some((stored.value(), stored.revision()))
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
        let found = self.contents(set).from(from);
        for stored in found.take_while(|stored| stored.key().starts_with(prefix)) {
            bytes += stored.length();
            let full = page.records.len() >= items_max as usize || bytes > u64::from(bytes_max);
            if full && !page.records.is_empty() {
                page.more = true;
                break;
            }
            page.records.push(Record {
                key: Bytes::copy_from_slice(stored.key()),
                value: stored.value(),
                revision: stored.revision(),
            });
        }
        page
    }

    fn changes(
        &self,
        set: KeySet,
        span: (Op, Op),
        items_max: u32,
        bytes_max: u32,
    ) -> Option<Changes> {
        let read = |key: &[u8]| Ok::<_, Infallible>(self.get(set, key));
        let Ok(changes) = self.contents(set).trail.changes(span, (items_max, bytes_max), read);
        changes
    }

    fn apply(&mut self, set: KeySet, revision: Revision, entry: &Entry, keep_tombstone: bool) {
        let contents = self.contents_mut(set);
        contents.trail.push(revision.op, &entry.key);
        if keep_tombstone && contents.revision(&entry.key).is_some_and(|own| revision <= own) {
            return;
        }
        match entry.change.value() {
            Some(value) => contents.put(&entry.key, value, revision),
            None => {
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
        contents.trail.forget(read_at.op);
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

    fn store_changes(
        &mut self,
        set: KeySet,
        read_at: Revision,
        records: &[Record],
        deleted: &[Key],
    ) {
        let contents = self.contents_mut(set);
        contents.trail.forget(read_at.op);
        for record in records {
            if contents.is_outdated(&record.key, read_at) {
                contents.put(&record.key, &record.value, record.revision);
            }
        }
        for key in deleted {
            if contents.is_outdated(key, read_at) {
                contents.delete(key);
            }
        }
    }

    fn drop_tombstones(&mut self, set: KeySet) {
        self.contents_mut(set).tombstones.clear();
    }

    fn clear(&mut self, set: KeySet, at: Op) {
        let contents = self.contents_mut(set);
        contents.trail.restart(at);
        let trail = std::mem::take(&mut contents.trail);
        *contents = Contents { trail, ..Contents::default() };
    }

    fn rebase(&mut self, set: KeySet, at: Op) {
        self.contents_mut(set).trail.restart(at);
    }

    fn append(&mut self, _set: KeySet, _entries: &[Rc<Entry>]) {}

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
    fn find(&self, key: &[u8]) -> Option<&Stored> {
        let is_it = |&slot: &u32| self.slots.get(slot).key() == key;
        self.table.find(hash(key), is_it).map(|&slot| self.slots.get(slot))
    }

    /// The records from a bound on, in the order of their keys.
    fn from(&self, bound: Bound<&[u8]>) -> impl Iterator<Item = &Stored> {
        self.order.from(bound, &self.slots).map(|slot| self.slots.get(slot))
    }

    /// The revision of the key's record or tombstone.
    fn revision(&self, key: &[u8]) -> Option<Revision> {
        let record = self.find(key).map(|stored| stored.revision());
        record.or_else(|| self.tombstones.get(key).copied())
    }

    fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) {
        if !self.tombstones.is_empty() {
            self.tombstones.remove(key);
        }
        self.stats.bytes += (key.len() + value.len()) as u64;
        let slots = &mut self.slots;
        if let Some(&slot) = self.table.find(hash(key), |&slot| slots.get(slot).key() == key) {
            let present = &mut slots.slots[slot as usize];
            self.stats.bytes -= present.length();
            return present.replace(key, value, revision);
        }
        self.stats.keys += 1;
        let slot = slots.put(Stored::new(key, value, revision));
        self.table.insert_unique(hash(key), slot, |&slot| hash(slots.get(slot).key()));
        self.order.insert(slot, slots);
    }

    /// Forgets the key's record or tombstone.
    fn delete(&mut self, key: &[u8]) {
        self.tombstones.remove(key);
        let slots = &self.slots;
        let found = self.table.find_entry(hash(key), |&slot| slots.get(slot).key() == key);
        if let Ok(found) = found {
            let (slot, _) = found.remove();
            self.order.remove(slot, &self.slots);
            let stored = self.slots.take(slot);
            self.stats.keys -= 1;
            self.stats.bytes -= stored.length();
        }
    }

    /// Whether the key's record or tombstone, if there is any, is not newer than `read_at`.
    fn is_outdated(&self, key: &[u8], read_at: Revision) -> bool {
        self.revision(key).is_none_or(|own| own <= read_at)
    }

    /// The keys of `range` whose record or tombstone is not newer than `read_at`.
    fn outdated(&self, range: ChunkRange<'_>, read_at: Revision) -> Vec<Box<[u8]>> {
        if range.is_empty() {
            return Vec::new();
        }
        let from = range.after.map_or(Bound::Unbounded, Bound::Excluded);
        let through = range.through.map_or(Bound::Unbounded, Bound::Included);
        let records = self.from(from).map(|stored| (stored.key(), stored.revision()));
        let records = records.take_while(|&(key, _)| range.contains(key));
        let tombstones = self.tombstones.range::<[u8], _>((from, through));
        let tombstones = tombstones.map(|(key, &revision)| (&key[..], revision));
        records
            .chain(tombstones)
            .filter(|&(_, revision)| revision <= read_at)
            .map(|(key, _)| Box::from(key))
            .collect()
    }

    /// What is stored, in order: what equality and hash are over, whatever the slots.
    fn stored(&self) -> impl Iterator<Item = (&[u8], &[u8], Revision)> {
        let all = self.from(Bound::Unbounded);
        all.map(|stored| (stored.key(), stored.value_bytes(), stored.revision()))
    }
}

impl PartialEq for Contents {
    fn eq(&self, other: &Contents) -> bool {
        self.stats == other.stats
            && self.tombstones == other.tombstones
            && self.stored().eq(other.stored())
    }
}

impl Eq for Contents {}

impl Hash for Contents {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stats.hash(state);
        self.tombstones.hash(state);
        self.stored().for_each(|record| record.hash(state));
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stored()).entries(&self.tombstones).finish()
    }
}

#[cfg(test)]
mod tests;
