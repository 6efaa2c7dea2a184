//! What the store's tables say, read without the library's lock.
//!
//! `lsm-tree` keeps the list of its tables behind a lock that it holds while it syncs a new list:
//! half a dozen syncs for every checkpoint and every merge, in which its own `get` waits. A worker
//! that waits sends no heartbeats, so that on a slow disk each checkpoint would be a failure. A
//! view is the list as it was when the view was made; tables do not change, and their files stay as
//! long as a view has them.
//!
//! The calls are those that the library keeps for itself, public and not documented: the version of
//! it is pinned for that reason.

use std::ops::Bound;

use fjall::{AbstractTree as _, AnyTree, Keyspace, SeqNo, Slice};
use lsm_tree::table::filter::standard_bloom::Builder as BloomFilter;
use lsm_tree::{Result, Tree};

type Point = dyn Fn(&[u8]) -> Result<Option<Slice>> + Send + Sync;
type Rows = dyn Iterator<Item = Result<(Slice, Slice)>>;
type Span = dyn Fn((Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Box<Rows> + Send + Sync;

/// The rows of a keyspace to which nothing is added but by ingestion.
pub struct View {
    /// The library does not name the type of what both look at.
    point: Box<Point>,
    span: Box<Span>,
    count: u64,
}

impl View {
    /// What is visible now. This waits for the library's lock. None = the keyspace is of a kind
    /// that was not asked for.
    pub fn of(rows: &Keyspace) -> Option<View> {
        let AnyTree::Standard(tree) = &rows.tree else { return None };
        let tables = tree.current_version();
        let point = move |key: &[u8]| {
            let hash = BloomFilter::get_hash(key);
            let runs = tables.iter_levels().flat_map(|level| level.iter());
            for table in runs.filter_map(|run| run.get_for_key(key)) {
                if let Some(row) = table.get(key, SeqNo::MAX, hash)? {
                    return Ok((!row.is_tombstone()).then_some(row.value));
                }
            }
            Ok(None)
        };
        let latest = tree.get_version_history_lock().latest_version();
        let span = move |bounds| {
            let rows = Tree::create_internal_range(latest.clone(), &bounds, SeqNo::MAX, None);
            Box::new(rows.map(|row| row.map(|it| (it.key.user_key, it.value)))) as Box<Rows>
        };
        let count = rows.approximate_len() as u64;
        Some(View { point: Box::new(point), span: Box::new(span), count })
    }

    /// # Errors
    /// The table can not be read, or is not what was written.
    pub fn get(&self, key: &[u8]) -> Result<Option<Slice>> {
        (self.point)(key)
    }

    /// The rows between two bounds, in the order of their keys.
    pub fn range(&self, bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Box<Rows> {
        (self.span)(bounds)
    }

    /// How many rows there are, about.
    pub fn count(&self) -> u64 {
        self.count
    }
}
