//! What a durable server's disk holds: log, store, duplicate records and standings of each set.
//!
//! ```text
//!   effects on the engine, in order -> on their way -> synced -> what an heir is given
//!                                          |
//!                                        crash: a prefix of them is kept, the rest is lost
//! ```
//!
//! The simulator's servers work on an engine in memory; this is its shadow on a disk, which knows
//! only what was synced. It stands for any durable engine that keeps its effects in order.

use std::collections::VecDeque;

use super::TRAIL_BYTES_MAX;
use super::rng::Rng;
use super::truth::fingerprint;
use crate::protocol::effect::WorkerEffect;
use crate::protocol::inheritance::Inheritance;
use crate::protocol::limits::Limits;
use crate::protocol::types::{Incarnation, KeySet, Op};
use crate::store::kept::Kept;
use crate::store::{ChunkRange, Engine, MemoryEngine};

/// A server's disk.
#[derive(Clone, Debug)]
pub struct Estate {
    /// Whose log it is; none before the first registration.
    pub incarnation: Option<Incarnation>,
    sets: Vec<Kept>,
    store: MemoryEngine,
    dedup_records_max: usize,
    on_their_way: VecDeque<WorkerEffect>,
    /// Effects written so far, and how many of them are synced.
    written: u64,
    synced: u64,
}

impl Estate {
    #[must_use]
    pub fn new(key_sets: u16, limits: &Limits) -> Estate {
        Estate {
            incarnation: None,
            sets: vec![Kept::default(); usize::from(key_sets)],
            store: MemoryEngine::with_trail(key_sets, TRAIL_BYTES_MAX),
            dedup_records_max: limits.dedup_records_max,
            on_their_way: VecDeque::new(),
            written: 0,
            synced: 0,
        }
    }

    /// Takes in an effect on the engine; answers its number.
    pub fn write(&mut self, effect: &WorkerEffect) -> u64 {
        self.on_their_way.push_back(effect.clone());
        self.written += 1;
        self.written
    }

    /// Everything up to that number is durable.
    pub fn sync(&mut self, through: u64) {
        while self.synced < through {
            let Some(effect) = self.on_their_way.pop_front() else { break };
            self.synced += 1;
            self.keep(effect);
        }
    }

    pub fn sync_all(&mut self) {
        self.sync(self.written);
    }

    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The process is gone: of what was on its way a prefix may have reached the disk.
    pub fn crash(&mut self, rng: &mut Rng) {
        let lucky = rng.below(self.on_their_way.len() as u64 + 1);
        self.sync(self.synced + lucky);
        self.on_their_way.clear();
        self.written = self.synced;
    }

    fn kept(&mut self, set: KeySet) -> &mut Kept {
        &mut self.sets[usize::from(set.0)]
    }

    fn keep(&mut self, effect: WorkerEffect) {
        match effect {
            WorkerEffect::Append { set, entries } => self.kept(set).append(entries),
            WorkerEffect::Cut { set, through } => self.kept(set).cut(through),
            WorkerEffect::Apply { set, revision, entry, keep_tombstone } => {
                self.store.apply(set, revision, &entry, keep_tombstone);
                let records_max = self.dedup_records_max;
                self.kept(set).commit(&entry, revision, records_max);
            }
            WorkerEffect::StoreChunk { set, after, through, read_at, records, .. } => {
                let range = ChunkRange { after: after.as_deref(), through: through.as_deref() };
                self.store.store_chunk(set, range, read_at, &records);
            }
            WorkerEffect::DropTombstones { set } => self.store.drop_tombstones(set),
            WorkerEffect::Clear { set, at, dedup } => {
                self.store.clear(set, at);
                self.kept(set).restart(at, dedup);
            }
            WorkerEffect::Expire { set, keys } => self.kept(set).expire(&keys),
            WorkerEffect::Rebase { set, at, dedup } => {
                self.store.rebase(set, at);
                self.kept(set).restart(at, dedup);
            }
            WorkerEffect::StoreChanges { set, read_at, records, deleted, .. } => {
                self.store.store_changes(set, read_at, &records, &deleted);
            }
            WorkerEffect::Remember { set, standing, .. } => self.kept(set).remember(standing),
            other => unreachable!("{other:?} leaves nothing on a disk"),
        }
    }

    /// What an heir begins with.
    #[must_use]
    pub fn inheritance(&self) -> Vec<Inheritance> {
        (0..).map(KeySet).zip(&self.sets).map(|(set, kept)| kept.inheritance(set)).collect()
    }

    /// The store that an heir begins with. No chunk of an earlier life comes any more, and the log
    /// leads to the same state without tombstones.
    #[must_use]
    pub fn store(&self) -> MemoryEngine {
        let mut store = self.store.clone();
        for set in 0..self.sets.len() as u16 {
            store.drop_tombstones(KeySet(set));
        }
        store
    }

    /// The sets of which it holds a copy: the committed point, the op from which on its copy is
    /// whole, and the log above the committed point.
    pub fn copies(&self) -> impl Iterator<Item = (KeySet, Op, Op, Vec<(Op, u64)>)> + '_ {
        let sets = (0..).map(KeySet).zip(&self.sets);
        sets.filter_map(|(set, kept)| {
            let committed = kept.committed();
            let prepared = kept.log().next_back().map_or(committed, |entry| entry.op);
            let whole_from = kept.standing().whole_from.filter(|&from| from <= prepared)?;
            let log = kept.log().map(|entry| (entry.op, fingerprint(entry)));
            Some((set, committed, whole_from, log.collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an heir is given what was synced, in order, and nothing that was lost.
    //! Method: effects by hand, some of them synced, then a crash.

    use super::super::invariants::tests::{entry, revision};
    use super::*;

    const SET: KeySet = KeySet(0);

    fn append(op: u64) -> WorkerEffect {
        WorkerEffect::Append { set: SET, entries: vec![entry(1, op, "a", "x")] }
    }

    #[test]
    fn what_was_synced_is_inherited() {
        let mut estate = Estate::new(1, &Limits::default());
        estate.write(&append(1));
        let second = estate.write(&append(2));
        estate.sync(second);
        let applied = WorkerEffect::Apply {
            set: SET,
            revision: revision(1),
            entry: entry(1, 1, "a", "x"),
            keep_tombstone: false,
        };
        let third = estate.write(&applied);
        let before = estate.inheritance();
        assert_eq!((before[0].committed, before[0].window.len()), (Op(0), 2));
        estate.sync(third);
        estate.crash(&mut Rng::new(1));
        let after = estate.inheritance();
        assert_eq!((after[0].committed, after[0].window.len()), (Op(1), 1));
        assert_eq!(estate.store().stats().keys, 1);
    }

    #[test]
    fn a_crash_keeps_a_prefix() {
        let mut kept = Vec::new();
        for seed in 0..50 {
            let mut estate = Estate::new(1, &Limits::default());
            for op in 1..=3 {
                estate.write(&append(op));
            }
            estate.crash(&mut Rng::new(seed));
            let window = estate.inheritance().remove(0).window;
            assert!(window.iter().map(|it| it.op.0).eq(1..=window.len() as u64));
            kept.push(window.len());
        }
        assert!(kept.contains(&0) && kept.contains(&3));
    }
}
