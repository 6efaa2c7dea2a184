//! The records as readers see them: changes since the last checkpoint began, over those of a
//! checkpoint under way, over the store.
//!
//! ```text
//!   recent    changes since the last checkpoint began        in memory
//!   frozen    changes that a checkpoint under way writes     in memory, shared with its thread
//!   base      records as of the last checkpoint that ended   on the disk
//! ```

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, BaseError};
use super::overlay::{Changed, Overlay, Span};
use crate::protocol::types::{Changes, Entry, Key, KeySet, Op, Record, Revision, Value};
use crate::store::trail::Trail;
use crate::store::{ChunkRange, Page};

/// Records of the base that a walk reads at a time.
const STEP: usize = 256;

/// Deletes of one key set while a copy runs, by key.
pub type Tombstones = BTreeMap<Box<[u8]>, Revision>;

/// All layers of one worker.
pub struct Layers {
    pub recent: Overlay,
    pub frozen: Option<Arc<Overlay>>,
    pub base: Arc<dyn Base>,
    /// Deletes while a copy runs, by key set: chunks that are older must not undo them.
    tombstones: Vec<Tombstones>,
    /// Keys that the latest writes changed, by key set.
    trails: Vec<Trail>,
}

impl Layers {
    #[must_use]
    pub fn new(key_sets: u16, base: Arc<dyn Base>) -> Layers {
        let count = usize::from(key_sets);
        let tombstones = vec![Tombstones::new(); count];
        let trails = vec![Trail::default(); count];
        Layers { recent: Overlay::new(count), frozen: None, base, tombstones, trails }
    }

    /// Freezes the recent changes for a checkpoint.
    pub fn freeze(&mut self) -> Arc<Overlay> {
        let fresh = Overlay::new(self.tombstones.len());
        let frozen = Arc::new(std::mem::replace(&mut self.recent, fresh));
        self.frozen = Some(frozen.clone());
        frozen
    }

    /// # Errors
    /// The base can not be read.
    pub fn get(&self, set: KeySet, key: &[u8]) -> Result<Option<(Value, Revision)>, BaseError> {
        let known = |changed: &Changed| Some((changed.value.clone()?, changed.revision));
        for overlay in [Some(&self.recent), self.frozen.as_deref()].into_iter().flatten() {
            let changes = overlay.set(set);
            if let Some(changed) = changes.get(key) {
                return Ok(known(changed));
            }
            if changes.void {
                return Ok(None);
            }
        }
        self.base.get(set, key)
    }

    /// As `Engine::range`.
    ///
    /// # Errors
    /// The base can not be read.
    pub fn range(
        &self,
        set: KeySet,
        prefix: &[u8],
        after: Option<&[u8]>,
        items_max: u32,
        bytes_max: u32,
    ) -> Result<Page, BaseError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page::default();
        let mut bytes = 0_u64;
        let mut walk = self.walk(set, from);
        while let Some(record) = walk.next()? {
            if !record.key.starts_with(prefix) {
                break;
            }
            bytes += (record.key.len() + record.value.len()) as u64;
            let full = page.records.len() >= items_max as usize || bytes > u64::from(bytes_max);
            if full && !page.records.is_empty() {
                page.more = true;
                break;
            }
            page.records.push(record);
        }
        Ok(page)
    }

    /// As `Engine::changes`.
    ///
    /// # Errors
    /// The base can not be read.
    pub fn changes(
        &self,
        set: KeySet,
        span: (Op, Op),
        items_max: u32,
        bytes_max: u32,
    ) -> Result<Option<Changes>, BaseError> {
        let trail = &self.trails[usize::from(set.0)];
        trail.changes(span, (items_max, bytes_max), |key| self.get(set, key))
    }

    /// As `Engine::apply`.
    ///
    /// # Errors
    /// The base can not be read.
    pub fn apply(
        &mut self,
        set: KeySet,
        revision: Revision,
        entry: &Entry,
        keep_tombstone: bool,
    ) -> Result<(), BaseError> {
        self.trails[usize::from(set.0)].push(revision.op, &entry.key);
        if keep_tombstone && self.revision(set, &entry.key)?.is_some_and(|own| revision <= own) {
            return Ok(());
        }
        let tombstones = &mut self.tombstones[usize::from(set.0)];
        tombstones.remove(&entry.key[..]);
        let value = entry.change.value();
        if value.is_none() && keep_tombstone {
            tombstones.insert(Box::from(&entry.key[..]), revision);
        }
        self.recent.put(set, &entry.key, value.map(|value| &value[..]), revision);
        Ok(())
    }

    /// As `Engine::store_chunk`.
    ///
    /// # Errors
    /// The base can not be read.
    pub fn store_chunk(
        &mut self,
        set: KeySet,
        range: ChunkRange<'_>,
        read_at: Revision,
        records: &[Record],
    ) -> Result<(), BaseError> {
        self.trails[usize::from(set.0)].forget(read_at.op);
        for (key, revision) in self.outdated(set, range, read_at)? {
            self.tombstones[usize::from(set.0)].remove(&key[..]);
            self.recent.put(set, &key, None, revision);
        }
        for record in records.iter().filter(|record| range.contains(&record.key)) {
            // What is left of the range is newer than the chunk.
            if self.revision(set, &record.key)?.is_none() {
                self.recent.put(set, &record.key, Some(&record.value), record.revision);
            }
        }
        Ok(())
    }

    /// As `Engine::store_changes`.
    ///
    /// # Errors
    /// The base can not be read.
    pub fn store_changes(
        &mut self,
        set: KeySet,
        read_at: Revision,
        records: &[Record],
        deleted: &[Key],
    ) -> Result<(), BaseError> {
        self.trails[usize::from(set.0)].forget(read_at.op);
        let puts = records.iter().map(|it| (&it.key, Some(&it.value[..]), it.revision));
        let deletes = deleted.iter().map(|key| (key, None, read_at));
        for (key, value, revision) in puts.chain(deletes) {
            if self.revision(set, key)?.is_none_or(|own| own <= read_at) {
                self.tombstones[usize::from(set.0)].remove(&key[..]);
                self.recent.put(set, key, value, revision);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn tombstones(&self, set: KeySet) -> &Tombstones {
        &self.tombstones[usize::from(set.0)]
    }

    /// The deletes that a checkpoint kept.
    pub fn restore_tombstones(&mut self, set: KeySet, tombstones: Tombstones) {
        self.tombstones[usize::from(set.0)] = tombstones;
    }

    pub fn drop_tombstones(&mut self, set: KeySet) {
        self.tombstones[usize::from(set.0)].clear();
    }

    /// As `Engine::clear`.
    pub fn clear(&mut self, set: KeySet, at: Op) {
        self.drop_tombstones(set);
        self.recent.clear(set);
        self.rebase(set, at);
    }

    /// As `Engine::rebase`; also where a restart knows no earlier changes.
    pub fn rebase(&mut self, set: KeySet, at: Op) {
        self.trails[usize::from(set.0)].restart(at);
    }

    /// The revision of the key's record or tombstone.
    fn revision(&self, set: KeySet, key: &[u8]) -> Result<Option<Revision>, BaseError> {
        if let Some(&revision) = self.tombstones[usize::from(set.0)].get(key) {
            return Ok(Some(revision));
        }
        Ok(self.get(set, key)?.map(|(_, revision)| revision))
    }

    /// The keys of `range` whose record or tombstone is not newer than `read_at`.
    fn outdated(
        &self,
        set: KeySet,
        range: ChunkRange<'_>,
        read_at: Revision,
    ) -> Result<Vec<(Bytes, Revision)>, BaseError> {
        let mut outdated = Vec::new();
        if range.is_empty() {
            return Ok(outdated);
        }
        let from = range.after.map_or(Bound::Unbounded, Bound::Excluded);
        let through = range.through.map_or(Bound::Unbounded, Bound::Included);
        let mut walk = self.walk(set, from);
        while let Some(record) = walk.next()?.filter(|record| range.contains(&record.key)) {
            if record.revision <= read_at {
                outdated.push((record.key, record.revision));
            }
        }
        let tombstones = self.tombstones[usize::from(set.0)].range::<[u8], _>((from, through));
        let old = tombstones.filter(|&(_, &revision)| revision <= read_at);
        outdated.extend(old.map(|(key, &revision)| (Bytes::copy_from_slice(key), revision)));
        Ok(outdated)
    }

    /// The records from a bound on, in the order of their keys.
    fn walk<'a>(&'a self, set: KeySet, from: Bound<&[u8]>) -> Walk<'a> {
        let recent = self.recent.set(set);
        let frozen = self.frozen.as_deref().map(|overlay| overlay.set(set));
        let frozen = frozen.filter(|_| !recent.void);
        let void = recent.void || frozen.is_some_and(|it| it.void);
        let over = std::iter::once(recent).chain(frozen);
        Walk {
            overlays: over.map(|changes| changes.range(from).peekable()).collect(),
            base: (!void).then(|| BaseWalk {
                base: &*self.base,
                set,
                from: from.map(Bytes::copy_from_slice),
                found: Vec::new().into_iter().peekable(),
                done: false,
            }),
        }
    }
}

/// A walk over the records of all layers.
struct Walk<'a> {
    /// The newest first.
    overlays: Vec<Peekable<Span<'a>>>,
    base: Option<BaseWalk<'a>>,
}

/// A walk over the base, which is read step by step.
struct BaseWalk<'a> {
    base: &'a dyn Base,
    set: KeySet,
    from: Bound<Key>,
    found: Peekable<std::vec::IntoIter<Record>>,
    done: bool,
}

impl BaseWalk<'_> {
    fn peek(&mut self) -> Result<Option<&Record>, BaseError> {
        if self.found.peek().is_none() && !self.done {
            let from = self.from.as_ref().map(|key| &key[..]);
            let found = self.base.range(self.set, from, STEP)?;
            self.done = found.len() < STEP;
            if let Some(last) = found.last() {
                self.from = Bound::Excluded(last.key.clone());
            }
            self.found = found.into_iter().peekable();
        }
        Ok(self.found.peek())
    }
}

impl Walk<'_> {
    /// The next record. A key's newest layer hides it in the others.
    fn next(&mut self) -> Result<Option<Record>, BaseError> {
        loop {
            let mut least: Option<Bytes> = match &mut self.base {
                Some(base) => base.peek()?.map(|record| record.key.clone()),
                None => None,
            };
            for overlay in &mut self.overlays {
                if let Some((key, _)) = overlay.peek()
                    && least.as_ref().is_none_or(|least| key[..] < least[..])
                {
                    least = Some(Bytes::copy_from_slice(key));
                }
            }
            let Some(key) = least else { return Ok(None) };
            let mut newest: Option<Option<Record>> = None;
            for overlay in &mut self.overlays {
                if let Some((_, changed)) = overlay.next_if(|(it, _)| it[..] == key[..]) {
                    newest.get_or_insert_with(|| {
                        let value = changed.value.clone()?;
                        Some(Record { key: key.clone(), value, revision: changed.revision })
                    });
                }
            }
            let below = self.base.as_mut().and_then(|base| base.found.next_if(|it| it.key == key));
            match newest {
                Some(Some(record)) => return Ok(Some(record)),
                Some(None) => {}
                None => return Ok(below),
            }
        }
    }
}
