//! The store behind the log: `fjall`, one keyspace a worker.
//!
//! ```text
//!   key set (u16, big-endian), key                loss epoch, op, value
//!   ffff 00                                       format, log's file, identity
//!   ffff 01, key set                              what was kept of a key set
//! ```
//!
//! A checkpoint is one ingestion: sorted tables that are written beside what is there and become
//! visible together, without `fjall`'s own journal. Rows of all kinds share a keyspace because an
//! ingestion is whole within one only. Every block has a checksum, which is looked at whenever the
//! block is read.
//!
//! Deletes are rows too until tables are merged down to the lowest level, which the library does as
//! its levels grow, and not where keys are only deleted. `reclaim` merges all of them, beside what
//! is there: it takes as much room as the store has, for as long as it lasts.
//!
//! What an ingestion wrote before the disk was full stays until the store is opened again, and a
//! merge that found no room leaves it shut for writes. So a checkpoint for which there is no room
//! opens the store anew: what was there before it is what a restart would find.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, SeqNo};
use serde::{Deserialize, Serialize};

use super::base::{Base, BaseError, Meta};
use super::failure::{io, outside, storage};
use super::files;
use super::overlay::Overlay;
use super::rows::{decode, ingest, page, row_key};
use super::view::View;
use crate::protocol::types::{Incarnation, KeySet, Record, Revision, Value};

/// Version of the rows' encoding; another one is refused.
const FORMAT: u8 = 1;

const HEAD_KEY: [u8; 3] = [0xff, 0xff, 0];
const KEPT_PREFIX: [u8; 3] = [0xff, 0xff, 1];

/// Threads that merge tables.
const THREADS: usize = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    log_from: u64,
    identity: Option<Incarnation>,
}

/// A store on the disk.
pub struct Store {
    path: PathBuf,
    cache_bytes: u64,
    /// What reads look at: never locked for long but while the store is opened anew. None = it
    /// could not be, for there was no room. It goes before the tables whose files it keeps.
    view: RwLock<Option<View>>,
    /// Held while the view is replaced, so that no older one comes after a newer.
    viewing: Mutex<()>,
    /// Where checkpoints go, and the merges that follow them; none as above.
    tables: RwLock<Option<Tables>>,
    merges: Merges,
}

/// Merges follow one another and do not pile up.
#[derive(Default)]
struct Merges {
    /// Held while tables are merged.
    running: Mutex<()>,
    /// Somebody waits to merge them: who comes meanwhile need not.
    awaited: AtomicBool,
}

impl Merges {
    /// Waits for the merge under way; none where somebody waits already.
    fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        if self.awaited.swap(true, Ordering::AcqRel) {
            return None;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.awaited.store(false, Ordering::Release);
        Some(running)
    }
}

/// The library's store.
struct Tables {
    database: Database,
    rows: Keyspace,
}

impl Store {
    /// Opens the store in the folder `path`, made if it is missing; `cache_bytes` of blocks are
    /// kept in memory.
    ///
    /// # Errors
    /// It is not what was written, or can not be read.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Store, BaseError> {
        let (tables, view) = Tables::open(path, cache_bytes)?;
        let (tables, view) = (RwLock::new(Some(tables)), RwLock::new(Some(view)));
        Ok(Store {
            path: path.to_path_buf(),
            cache_bytes,
            view,
            viewing: Mutex::new(()),
            tables,
            merges: Merges::default(),
        })
    }

    /// Bytes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.with(|tables| Ok(tables.rows.disk_space())).unwrap_or_default()
    }

    fn with<R>(&self, act: impl FnOnce(&Tables) -> Result<R, BaseError>) -> Result<R, BaseError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        match &*tables {
            Some(tables) => act(tables),
            None => Err(closed()),
        }
    }

    /// Reads, and waits for no sync of the library's.
    fn read<R>(&self, act: impl FnOnce(&View) -> Result<R, BaseError>) -> Result<R, BaseError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.as_ref().map_or_else(|| Err(closed()), act)
    }

    /// Reads see from here on what is in the tables now, and what is in none goes.
    fn refresh(&self) -> Result<(), BaseError> {
        let _viewing = self.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = self.with(Tables::view)?;
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let outdated = view.replace(fresh);
        drop(view);
        drop(outdated);
        self.with(Tables::forget_earlier)
    }

    /// Closes the store and opens it again; reads wait. A view of before would remove files, by
    /// names that the new tables may have again.
    fn reopen(&self) -> Result<(), BaseError> {
        let _viewing = self.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        drop(view.take());
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        drop(tables.take());
        let (opened, seen) = Tables::open(&self.path, self.cache_bytes)?;
        (*tables, *view) = (Some(opened), Some(seen));
        Ok(())
    }
}

impl Base for Store {
    fn get(&self, set: KeySet, key: &[u8]) -> Result<Option<(Value, Revision)>, BaseError> {
        self.read(|view| {
            let found = view.get(&row_key(set, key)).map_err(storage)?;
            found.map(|stored| decode(set, &stored)).transpose()
        })
    }

    fn range(
        &self,
        set: KeySet,
        from: Bound<&[u8]>,
        items_max: usize,
    ) -> Result<Vec<Record>, BaseError> {
        self.read(|view| page(view, set, from, items_max))
    }

    fn meta(&self) -> Result<Meta, BaseError> {
        self.with(Tables::meta)
    }

    fn checkpoint(&self, changes: &Overlay, meta: &Meta) -> Result<(), BaseError> {
        let is_open = self.tables.read().unwrap_or_else(PoisonError::into_inner).is_some();
        let sound = if is_open { self.with(Tables::persist).map(|()| true) } else { Ok(false) };
        match sound {
            Ok(true) => {}
            Err(error @ BaseError::Damaged(_)) => return Err(error),
            Ok(false) | Err(_) => {
                // A merge failed in the background: a restart would do no more than this.
                self.reopen()?;
                self.with(Tables::persist)?;
            }
        }
        let void = changes.sets().filter(|(_, changes)| changes.void).map(|(set, _)| set);
        let written = self.with(|tables| {
            void.into_iter().try_for_each(|set| tables.drop_tables(set))?;
            tables.checkpoint(changes, meta)
        });
        match written {
            Ok(()) => self.refresh(),
            Err(error @ BaseError::Full(_)) => {
                self.reopen()?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&self) -> u64 {
        self.read(|view| Ok(view.count())).unwrap_or_default()
    }

    fn reclaim(&self) -> Result<(), BaseError> {
        let Some(_running) = self.merges.begin() else { return Ok(()) };
        let free = files::usage(&self.path).map(|it| it.capacity.saturating_sub(it.used));
        let free = free.map_err(io)?;
        if free < self.bytes() {
            return Ok(());
        }
        match self.with(|tables| tables.rows.major_compact().map_err(outside)) {
            // Somebody else took the room; what was there before still is.
            Err(BaseError::Full(_)) => self.reopen(),
            merged => merged.and_then(|()| self.refresh()),
        }
    }
}

impl Tables {
    /// Opens them, and looks at them.
    fn open(path: &Path, cache_bytes: u64) -> Result<(Tables, View), BaseError> {
        let builder = Database::builder(path).cache_size(cache_bytes).worker_threads(THREADS);
        let database = builder.open().map_err(|error| match outside(error) {
            BaseError::Foreign(_) if !has_mark(path) => {
                BaseError::Damaged("its version file does not begin as one".to_owned())
            }
            error => error,
        })?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default).map_err(outside)?;
        let tables = Tables { database, rows };
        let view = tables.view()?;
        Ok((tables, view))
    }

    fn view(&self) -> Result<View, BaseError> {
        let other = || BaseError::Damaged("its rows are kept in another way".to_owned());
        View::of(&self.rows).ok_or_else(other)
    }

    /// An ingestion does not look whether an earlier write or merge failed; this does.
    fn persist(&self) -> Result<(), BaseError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| self.cause(error))
    }

    /// Lets go of the lists of tables before the latest, and of the files that only they name.
    /// The library keeps them for its snapshots, of which there are none here, and looks for what
    /// it could let go of only as it writes.
    fn forget_earlier(&self) -> Result<(), BaseError> {
        let mut lists = self.rows.tree.get_version_history_lock();
        lists.maintenance(self.rows.path(), SeqNo::MAX).map_err(storage)
    }

    fn meta(&self) -> Result<Meta, BaseError> {
        let Some(stored) = self.rows.get(HEAD_KEY).map_err(outside)? else {
            return Ok(Meta::default());
        };
        let (format, encoded) = stored.split_first().unwrap_or((&0, &[]));
        if *format != FORMAT {
            return Err(BaseError::Foreign(format.to_string()));
        }
        let Head { log_from, identity } = postcard::from_bytes(encoded)
            .map_err(|error| BaseError::Damaged(format!("its head does not decode: {error}")))?;
        let mut sets = Vec::new();
        for row in self.rows.prefix(KEPT_PREFIX) {
            let (key, kept) = row.into_inner().map_err(outside)?;
            let set = match key[KEPT_PREFIX.len()..] {
                [high, low] => KeySet(u16::from_be_bytes([high, low])),
                _ => return Err(BaseError::Damaged("a row of no key set".to_owned())),
            };
            sets.push((set, kept.to_vec()));
        }
        Ok(Meta { log_from, identity, sets })
    }

    fn checkpoint(&self, changes: &Overlay, meta: &Meta) -> Result<(), BaseError> {
        let mut rows = self.rows.start_ingestion().map_err(outside)?;
        let mut write = |key: Vec<u8>, value: Option<&[u8]>| {
            let written = match value {
                Some(value) => rows.write(key, value),
                None => rows.write_tombstone(key),
            };
            written.map_err(outside)
        };
        let before = self.view()?;
        for (set, changes) in changes.sets().filter(|(_, changes)| !changes.is_empty()) {
            ingest(&before, &mut write, set, changes)?;
        }
        let head = Head { log_from: meta.log_from, identity: meta.identity };
        let encoded = postcard::to_extend(&head, vec![FORMAT]);
        let encoded = encoded.expect("a head always encodes, into memory");
        rows.write(HEAD_KEY, encoded).map_err(outside)?;
        for (set, kept) in &meta.sets {
            let key = [&KEPT_PREFIX[..], &set.0.to_be_bytes()].concat();
            rows.write(key, kept.as_slice()).map_err(outside)?;
        }
        rows.finish().map_err(outside)
    }

    /// Drops the tables that have rows of a void key set only. That may bring back what others have
    /// of it, which nobody sees: it is void until the ingestion that comes next has deleted it.
    fn drop_tables(&self, set: KeySet) -> Result<(), BaseError> {
        let (first, end) = (row_key(set, b""), row_key(KeySet(set.0 + 1), b""));
        self.rows.tree.drop_range(first..end).map_err(|error| outside(error.into()))
    }

    /// A merge that fails keeps its reason to itself. If that was damage, reading everything meets
    /// it again; without this, a server would end and start again for ever.
    fn cause(&self, error: fjall::Error) -> BaseError {
        let met = match error {
            fjall::Error::Poisoned => self.rows.iter().find_map(|row| row.into_inner().err()),
            _ => None,
        };
        outside(met.unwrap_or(error))
    }
}

/// Whether the file that names the version of the store begins as in every version.
fn has_mark(path: &Path) -> bool {
    std::fs::read(path.join("version")).is_ok_and(|it| it.starts_with(b"FJL"))
}

fn closed() -> BaseError {
    BaseError::Full("it can not be opened again".to_owned())
}

#[cfg(test)]
mod tests {
    //! Goal: a sync of the library's holds up no read, for a worker that waits sends no heartbeats;
    //! what a checkpoint wrote is seen from then on.
    //! Method: the lock that the library has while it syncs is held here, and another thread reads;
    //! checkpoints are written and read while others merge.

    use std::sync::mpsc;
    use std::time::Duration;

    use fjall::AbstractTree as _;

    use super::*;
    use crate::protocol::types::{LossEpoch, Op};

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn reads_do_not_wait_for_a_sync() {
        let folder = std::env::temp_dir().join(format!("tandem-view-{}", std::process::id()));
        let store = Store::open(&folder, 1 << 20).expect("a folder of its own");
        let revision = Revision { loss_epoch: LossEpoch(0), op: Op(1) };
        let mut changes = Overlay::new(1);
        changes.put(KeySet(0), b"deleted", Some(b"1"), revision);
        changes.put(KeySet(0), b"key", Some(b"2"), revision);
        store.checkpoint(&changes, &Meta::default()).expect("a checkpoint");
        let mut changes = Overlay::new(1);
        changes.put(KeySet(0), b"deleted", None, revision);
        store.checkpoint(&changes, &Meta::default()).expect("a checkpoint");
        let (tell, told) = mpsc::channel();
        let tables = store.tables.read().expect("nobody panicked");
        let tree = &tables.as_ref().expect("it is open").rows.tree;
        let known = std::thread::scope(|scope| {
            let syncing = tree.get_version_history_lock();
            scope.spawn(|| {
                let keys = [&b"key"[..], b"deleted", b"missing"];
                let found = keys.map(|key| store.get(KeySet(0), key).expect("a read"));
                let page = store.range(KeySet(0), Bound::Unbounded, 9).expect("a page");
                tell.send((found, page, store.count())).expect("somebody waits");
            });
            let known = told.recv_timeout(PATIENCE);
            drop(syncing);
            known
        });
        let (found, page, count) = known.expect("reads that wait for nobody");
        let record = |found: &Option<(Value, Revision)>| found.as_ref().map(|it| it.0.to_vec());
        assert_eq!(found.each_ref().map(record), [Some(b"2".to_vec()), None, None]);
        let keys: Vec<_> = page.iter().map(|record| &record.key[..]).collect();
        assert_eq!(keys, [b"key"]);
        assert!(count >= 2, "{count}");
        drop(tables);
        drop(store);
        std::fs::remove_dir_all(&folder).expect("made above");
    }

    #[test]
    fn a_checkpoint_is_seen_once_it_is_written_whoever_merges() {
        let folder = std::env::temp_dir().join(format!("tandem-seen-{}", std::process::id()));
        let store = Store::open(&folder, 1 << 20).expect("a folder of its own");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        store.reclaim().expect("there is room");
                        store.refresh().expect("it is open");
                    }
                });
            }
            for number in 1..=100_u64 {
                let mut changes = Overlay::new(1);
                let revision = Revision { loss_epoch: LossEpoch(0), op: Op(number) };
                changes.put(KeySet(0), b"key", Some(&number.to_be_bytes()), revision);
                let written = store.checkpoint(&changes, &Meta::default());
                let read = store.get(KeySet(0), b"key");
                let seen = read.map(|it| it.map(|(_, revision)| revision));
                if written.is_err() || !matches!(seen, Ok(Some(it)) if it == revision) {
                    over.store(true, Ordering::Relaxed);
                    panic!("{written:?}, and then {seen:?} instead of {revision:?}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        drop(store);
        std::fs::remove_dir_all(&folder).expect("made above");
    }
}
