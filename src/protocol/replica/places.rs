//! Which op a write in the window has, by who asked for it: how a retry is told from a new write
//! before its first attempt has committed.

use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::protocol::types::{Entry, Op, RequestNumber, SessionId};

/// The writes in the window that somebody asked for.
#[derive(Clone, Debug, Default)]
pub struct Places {
    table: HashTable<Placed>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
struct Placed {
    session: SessionId,
    number: RequestNumber,
    op: Op,
}

fn hash(session: SessionId, number: RequestNumber) -> u64 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&session.0.to_le_bytes());
    bytes[16..].copy_from_slice(&number.0.to_le_bytes());
    xxh3_64(&bytes)
}

impl Places {
    /// An entry entered the window.
    pub fn insert(&mut self, entry: &Entry) {
        let Some(origin) = entry.origin else { return };
        let placed = Placed { session: origin.session, number: origin.number, op: entry.op };
        let key = hash(placed.session, placed.number);
        self.table.insert_unique(key, placed, |it| hash(it.session, it.number));
    }

    /// An entry left it.
    pub fn remove(&mut self, entry: &Entry) {
        let Some(origin) = entry.origin else { return };
        let key = hash(origin.session, origin.number);
        if let Ok(placed) = self.table.find_entry(key, |it| it.op == entry.op) {
            placed.remove();
        }
    }

    /// The op of a write that is in the window.
    pub fn find(&self, session: SessionId, number: RequestNumber) -> Option<Op> {
        let is_it = |it: &Placed| (it.session, it.number) == (session, number);
        self.table.find(hash(session, number), is_it).map(|it| it.op)
    }

    fn sorted(&self) -> Vec<Placed> {
        let mut placed: Vec<Placed> = self.table.iter().copied().collect();
        placed.sort_unstable();
        placed
    }
}

/// Equality and hash are over what is there, wherever it lies.
impl PartialEq for Places {
    fn eq(&self, other: &Places) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Places {}

impl Hash for Places {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sorted().hash(state);
    }
}
