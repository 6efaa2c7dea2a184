//! Tests of the memory engine.
//!
//! Goal: the engine does what the effects of the contract say, above all while a copy races
//! live writes. Method: random operations, drawn from printed seeds, run against a model that
//! is a plain list searched from end to end; and a random race of chunks and live writes to a
//! learner, which must end up equal to its primary whatever the interleaving.

use std::collections::BTreeSet;

use super::*;
use crate::protocol::types::Change;
use crate::protocol::types::{Epoch, Key, Written};

const SET: KeySet = KeySet(1);

/// A generator of test cases (xorshift64*), so that a seed names its case for ever.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }

    /// One of 14 keys, some of which are prefixes of others or hold bytes 0 and 255.
    fn key(&mut self) -> Key {
        let letters: [u8; 2] = [0, 255];
        let length = self.below(3) + 1;
        (0..length).map(|_| letters[self.below(2) as usize]).collect::<Vec<u8>>().into()
    }

    fn value(&mut self) -> Value {
        vec![self.below(256) as u8; self.below(5) as usize].into()
    }

    fn change(&mut self) -> Change {
        if self.below(3) == 0 { Change::Delete } else { Change::Put(self.value()) }
    }

    fn bound(&mut self) -> Option<Key> {
        (self.below(4) > 0).then(|| self.key())
    }
}

fn length(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn revision(op: u64) -> Revision {
    Revision { loss_epoch: LossEpoch(0), op: Op(op) }
}

fn entry(op: u64, key: Key, change: Change) -> Entry {
    let written = Written::Stored;
    Entry { epoch: Epoch(1), born: Epoch(1), op: Op(op), origin: None, key, change, written }
}

fn everything(engine: &MemoryEngine) -> Vec<Record> {
    let page = engine.range(SET, b"", None, u32::MAX, u32::MAX);
    assert!(!page.more);
    page.records
}

/// The same store as a list of `(key, value or tombstone, revision)` in no order.
#[derive(Default)]
struct Model(Vec<(Key, Option<Value>, Revision)>);

impl Model {
    fn set(&mut self, key: &Key, value: Option<Value>, revision: Revision) {
        self.0.retain(|row| row.0 != key);
        self.0.push((key.clone(), value, revision));
    }

    fn apply(&mut self, revision: Revision, entry: &Entry, keep_tombstone: bool) {
        let newest = self.0.iter().find(|row| row.0 == entry.key).map(|row| row.2);
        if keep_tombstone && newest >= Some(revision) {
            return;
        }
        match &entry.change {
            Change::Put(value) | Change::Expiring(value, _) => {
                self.set(&entry.key, Some(value.clone()), revision);
            }
            Change::Delete if keep_tombstone => self.set(&entry.key, None, revision),
            Change::Delete => self.0.retain(|row| row.0 != entry.key),
        }
    }

    fn store_chunk(&mut self, range: ChunkRange<'_>, read_at: Revision, records: &[Record]) {
        self.0.retain(|row| !range.contains(&row.0) || row.2 > read_at);
        for record in records {
            let newer = self.0.iter().any(|row| row.0 == record.key);
            if range.contains(&record.key) && !newer {
                self.set(&record.key, Some(record.value.clone()), record.revision);
            }
        }
    }

    fn records(&self) -> Vec<Record> {
        let live = self.0.iter().filter_map(|(key, value, revision)| {
            let (key, value) = (key.clone(), value.clone()?);
            Some(Record { key, value, revision: *revision })
        });
        let mut records: Vec<Record> = live.collect();
        records.sort_by(|a, b| a.key.cmp(&b.key));
        records
    }

    /// A range read by its definition: the longest fitting start of all matching records.
    fn range(&self, prefix: &[u8], after: Option<&[u8]>, items: usize, bytes: u64) -> Page {
        let mut matching = self.records();
        matching.retain(|record| record.key.starts_with(prefix));
        matching.retain(|record| after.is_none_or(|after| after < &record.key[..]));
        let fits = |count: usize| {
            let sum: u64 =
                matching[..count].iter().map(|record| length(&record.key, &record.value)).sum();
            count <= items && sum <= bytes
        };
        let count = (1..=matching.len()).take_while(|&count| fits(count)).count();
        let count = count.max(1).min(matching.len());
        let more = count < matching.len();
        matching.truncate(count);
        Page { records: matching, more }
    }
}

fn compare(engine: &MemoryEngine, model: &Model, dice: &mut Dice, case: &str) {
    assert_eq!(everything(engine), model.records(), "{case}");
    let key = dice.key();
    let expected = model.records().into_iter().find(|record| record.key == key);
    let expected = expected.map(|record| (record.value, record.revision));
    assert_eq!(engine.get(SET, &key), expected, "{case}: get {key:?}");

    let prefix = if dice.below(2) == 0 { Key::new() } else { dice.key() };
    let after = dice.bound();
    let (items, bytes) = (dice.below(6) as u32, dice.below(24) as u32);
    let page = engine.range(SET, &prefix, after.as_deref(), items, bytes);
    let expected = model.range(&prefix, after.as_deref(), items as usize, u64::from(bytes));
    assert_eq!(page, expected, "{case}: range {prefix:?} after {after:?}, {items}, {bytes}");

    let bytes = model.records().iter().map(|record| length(&record.key, &record.value)).sum();
    let stats = Stats { keys: model.records().len() as u64, bytes };
    assert_eq!(engine.set_stats(SET), stats, "{case}");
    assert_eq!(engine.stats(), stats, "{case}: the other key sets are empty");
    let tombstones = model.0.iter().filter(|row| row.1.is_none()).count();
    assert_eq!(engine.contents(SET).tombstones.len(), tombstones, "{case}");
}

#[test]
fn random_operations_equal_the_model() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut engine = MemoryEngine::new(3);
        let mut model = Model::default();
        for step in 0..150 {
            let at = revision(dice.below(40) + 1);
            match dice.below(20) {
                0 => {
                    engine.clear(SET, Op(0));
                    model.0.clear();
                }
                1 => {
                    engine.drop_tombstones(SET);
                    model.0.retain(|row| row.1.is_some());
                }
                2..6 => {
                    let (after, through) = (dice.bound(), dice.bound());
                    let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                    let keys: BTreeSet<Key> = (0..dice.below(6)).map(|_| dice.key()).collect();
                    let records: Vec<Record> = keys
                        .into_iter()
                        .map(|key| Record { key, value: dice.value(), revision: at })
                        .collect();
                    engine.store_chunk(SET, range, at, &records);
                    model.store_chunk(range, at, &records);
                }
                _ => {
                    let entry = entry(at.op.0, dice.key(), dice.change());
                    let keep_tombstone = dice.below(2) == 0;
                    engine.apply(SET, at, &entry, keep_tombstone);
                    model.apply(at, &entry, keep_tombstone);
                }
            }
            compare(&engine, &model, &mut dice, &format!("seed {seed}, step {step}"));
        }
    }
}

/// A chunk as the primary read it, on its way to the learner.
struct Chunk {
    after: Option<Key>,
    through: Option<Key>,
    read_at: Revision,
    records: Vec<Record>,
}

/// Copies a primary's set, chunk by chunk, to a learner that begins with `stale` content,
/// while the primary goes on writing; returns both in the end.
fn race(seed: u64) -> (MemoryEngine, MemoryEngine) {
    let mut dice = Dice::new(seed);
    let mut primary = MemoryEngine::new(2);
    let mut learner = MemoryEngine::new(2);
    let mut log: Vec<Entry> = Vec::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    let before_run = dice.below(30);
    let (mut fed, mut stored) = (usize::MAX, 0);
    let mut cursor: Option<Option<Key>> = Some(None);
    while cursor.is_some() || stored < chunks.len() || fed < log.len() {
        let op = log.len() as u64 + 1;
        if fed == usize::MAX && op > before_run {
            // The learner once had the set, up to some op; the run starts with the window.
            for old in log.iter().take(dice.below(op) as usize) {
                learner.apply(SET, revision(old.op.0), old, false);
            }
            fed = log.len().saturating_sub(dice.below(4) as usize);
        }
        let running = fed != usize::MAX;
        match dice.below(4) {
            0 if running && cursor.is_some() => {
                let after = cursor.take().flatten();
                let items = dice.below(3) as u32 + 1;
                let page = primary.range(SET, b"", after.as_deref(), items, u32::MAX);
                let last = page.records.last().map(|record| record.key.clone());
                let through = last.filter(|_| page.more);
                cursor = through.clone().map(Some);
                let read_at = revision(op - 1);
                chunks.push(Chunk { after, through, read_at, records: page.records });
            }
            1 if stored < chunks.len() => {
                let Chunk { after, through, read_at, records } = &chunks[stored];
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                learner.store_chunk(SET, range, *read_at, records);
                stored += 1;
            }
            2 if running && fed < log.len() => {
                let entry = &log[fed];
                learner.apply(SET, revision(entry.op.0), entry, true);
                fed += 1;
            }
            _ if log.len() < 80 => {
                let entry = entry(op, dice.key(), dice.change());
                primary.apply(SET, revision(op), &entry, false);
                log.push(entry);
            }
            _ => {}
        }
    }
    learner.drop_tombstones(SET);
    (primary, learner)
}

#[test]
fn a_copy_that_races_writes_ends_up_equal() {
    for seed in 0..3000 {
        let (primary, learner) = race(seed);
        assert_eq!(everything(&primary), everything(&learner), "seed {seed}");
        assert_eq!(primary, learner, "seed {seed}");
    }
}

#[test]
fn a_late_chunk_neither_overwrites_nor_resurrects() {
    let mut engine = MemoryEngine::new(2);
    let put = |op, key, value| entry(op, Key::from_static(key), Change::Put(value));
    let new = Value::from_static(b"new");
    engine.apply(SET, revision(7), &put(7, b"written", new.clone()), true);
    let delete = entry(8, Key::from_static(b"deleted"), Change::Delete);
    engine.apply(SET, revision(8), &delete, true);
    let old = |key: &'static [u8]| Record {
        key: Key::from_static(key),
        value: Value::from_static(b"old"),
        revision: revision(3),
    };
    let chunk = [old(b"deleted"), old(b"untouched"), old(b"written")];
    let all = ChunkRange { after: None, through: None };
    engine.store_chunk(SET, all, revision(6), &chunk);
    assert_eq!(engine.get(SET, b"written"), Some((new, revision(7))));
    assert_eq!(engine.get(SET, b"deleted"), None);
    let untouched = Some((Value::from_static(b"old"), revision(3)));
    assert_eq!(engine.get(SET, b"untouched"), untouched);

    engine.drop_tombstones(SET);
    engine.store_chunk(SET, all, revision(6), &chunk);
    assert!(engine.get(SET, b"deleted").is_some(), "the tombstone was what held it back");
}

#[test]
fn values_are_copied_out_and_large_ones_are_shared_with_readers() {
    let mut engine = MemoryEngine::new(2);
    let batch = Value::from(vec![7_u8; 1 << 16]);
    let lengths = [0, 10, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, COPIED_BYTES_MAX, 3, 3];
    for (length, op) in lengths.into_iter().zip(1..) {
        let value = batch.slice(100..100 + length);
        let key = Key::from_static(b"k");
        engine.apply(SET, revision(op), &entry(op, key, Change::Put(value)), false);
        assert!(batch.is_unique(), "the stored value keeps the batch alive");
        let (first, at) = engine.get(SET, b"k").expect("just stored");
        let (second, _) = engine.get(SET, b"k").expect("just stored");
        assert_eq!((at, &first), (revision(op), &second));
        assert_eq!(first.len(), length);
        let shared = first.as_ptr() == second.as_ptr();
        assert_eq!(shared, length > COPIED_BYTES_MAX || length == 0, "of {length} bytes");
        assert_eq!(engine.set_stats(SET), Stats { keys: 1, bytes: 1 + length as u64 });
    }
}

#[test]
fn a_key_of_any_length_is_stored() {
    // A peer's frame may hold a longer key than the cluster's limit lets clients write: that is
    // no reason to die. Found by reading, when a key's length was kept in 16 bits.
    let mut engine = MemoryEngine::new(2);
    let key = Key::from(vec![7_u8; 1 << 17]);
    let put = Change::Put(Value::from_static(b"v"));
    engine.apply(SET, revision(1), &entry(1, key.clone(), put), false);
    assert_eq!(engine.get(SET, &key), Some((Value::from_static(b"v"), revision(1))));
}

#[test]
fn looking_over_changes_nothing_whatever_is_asked_for() {
    let mut engine = MemoryEngine::new(2);
    let (here, gone, large) = (b"here", b"gone", b"large");
    for (op, key, bytes) in [(1, &here[..], 3), (2, gone, 0), (3, large, COPIED_BYTES_MAX + 1)] {
        let put = Change::Put(Value::from(vec![1; bytes]));
        engine.apply(SET, revision(op), &entry(op, Key::from_static(key), put), false);
    }
    let delete = entry(4, Key::from_static(gone), Change::Delete);
    engine.apply(SET, revision(4), &delete, true);
    let before = engine.clone();
    // The last two: a key set without records, and one that this engine was not made for.
    let other: [(KeySet, &[u8]); 2] = [(KeySet(0), here), (KeySet(9), here)];
    let keys = [&here[..], gone, large, b"never"].map(|key| (SET, key));
    engine.look_over(&[&keys[..], &other].concat());
    engine.look_over(&[]);
    assert_eq!(engine, before);
}

#[test]
fn a_record_takes_little_beside_its_bytes() {
    // At ten million keys, every byte more is ten million bytes a copy.
    assert_eq!(size_of::<Stored>(), 32);
}
