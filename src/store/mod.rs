//! Stores: where committed records live, behind the one trait that drivers perform effects on.
//!
//! ```text
//!   WorkerEffect::{Read, ReadRange, ReadChanges, Append, Cut, Apply, StoreChunk, StoreChanges,
//!                  DropTombstones, Clear, Rebase}
//!     -> driver -> Engine -> driver ->
//!   WorkerInput::{ReadDone, RangeDone, ChangesDone, Appended, ChunkStored}
//! ```
//!
//! The trait and the memory engine are pure: the simulator runs on them too. The journal, the
//! metaserver's durable state, needs the disk and is no engine: it holds rows of the view.

use std::rc::Rc;

use crate::protocol::types::{Changes, Entry, Key, KeySet, Op, Record, Revision, Value};

#[cfg(feature = "net")]
pub mod durable;
#[cfg(feature = "net")]
pub mod journal;
pub mod kept;
pub mod memory;
pub mod trail;

pub use memory::MemoryEngine;

/// What an engine holds, without tombstones.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Stats {
    /// Number of records.
    pub keys: u64,
    /// Length of their keys and values, without what the engine needs around them.
    pub bytes: u64,
}

/// A page of a range read.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Page {
    /// In the order of their keys.
    pub records: Vec<Record>,
    /// The range goes on after the last of them.
    pub more: bool,
}

/// The part of a key set that a copy chunk replaces: `after < key <= through`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct ChunkRange<'a> {
    /// None = from the first key on.
    pub after: Option<&'a [u8]>,
    /// None = to the last key.
    pub through: Option<&'a [u8]>,
}

impl ChunkRange<'_> {
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.after.is_none_or(|after| after < key)
            && self.through.is_none_or(|through| key <= through)
    }

    /// No key can lie in this range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!((self.after, self.through), (Some(after), Some(through)) if after >= through)
    }
}

/// A store of records, ordered by key within each key set.
///
/// Every method is done when it returns, so that a driver may hand the completion back at once.
/// Naming a key set that the engine was not made for is a bug of the caller and panics.
pub trait Engine {
    /// The record of `key`.
    fn get(&self, set: KeySet, key: &[u8]) -> Option<(Value, Revision)>;

    /// The records with `after < key` that start with `prefix`, in order, until one more would
    /// pass `items_max` records or `bytes_max` bytes of keys and values; at least one, if there
    /// is any.
    fn range(
        &self,
        set: KeySet,
        prefix: &[u8],
        after: Option<&[u8]>,
        items_max: u32,
        bytes_max: u32,
    ) -> Page;

    /// What the keys that writes above `after` and up to `through` changed are now, until one more
    /// would pass `items_max` keys or `bytes_max` bytes; at least one, if there is any. None if
    /// the engine does not know of all of them any more.
    fn changes(
        &self,
        set: KeySet,
        span: (Op, Op),
        items_max: u32,
        bytes_max: u32,
    ) -> Option<Changes>;

    /// Does to the entry's key what a committed entry says.
    ///
    /// With `keep_tombstone`, which a learner asks for while a copy runs, a delete leaves a
    /// tombstone with its revision, and an entry that is not newer than the key's record or
    /// tombstone changes nothing. Without it the entry is simply carried out.
    fn apply(&mut self, set: KeySet, revision: Revision, entry: &Entry, keep_tombstone: bool);

    /// Makes `records` the content of `range`, except for keys whose record or tombstone is newer
    /// than `read_at`, the revision up to which the sender had applied when it read them. Records
    /// outside the range are ignored.
    fn store_chunk(
        &mut self,
        set: KeySet,
        range: ChunkRange<'_>,
        read_at: Revision,
        records: &[Record],
    );

    /// Makes `records` and no record the content of these keys and of `deleted`, except where a
    /// record or tombstone is newer than `read_at`.
    fn store_changes(
        &mut self,
        set: KeySet,
        read_at: Revision,
        records: &[Record],
        deleted: &[Key],
    );

    /// Forgets all tombstones of `set`: its copy is over.
    fn drop_tombstones(&mut self, set: KeySet);

    /// Forgets everything of `set`, its log included; the log starts after `at` now.
    fn clear(&mut self, set: KeySet, at: Op);

    /// Forgets the log of `set` and keeps its records; the log starts after `at` now.
    fn rebase(&mut self, set: KeySet, at: Op);

    /// Puts `entries`, in ascending order without gaps, into the log of `set`; what the log holds
    /// from the first one's op on is replaced.
    fn append(&mut self, set: KeySet, entries: &[Rc<Entry>]);

    /// Drops the entries above `through` from the log of `set`.
    fn cut(&mut self, set: KeySet, through: Op);

    /// What `set` holds.
    fn set_stats(&self, set: KeySet) -> Stats;

    /// What all key sets hold together.
    fn stats(&self) -> Stats;
}
