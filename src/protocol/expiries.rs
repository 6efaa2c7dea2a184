//! Which keys of one key set expire, and when.
//!
//! Every replica builds the same table, because it changes only when an op commits. An expiry does
//! nothing by itself: a primary whose wall clock is past it writes a delete, which is replicated
//! like any other, so that all copies lose the value at one place in their history.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Entry, Expiry, Key};

/// The table.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Expiries {
    by_key: BTreeMap<Key, Expiry>,
    by_time: BTreeSet<(Expiry, Key)>,
    bytes: usize,
}

/// What an expiry counts for beside its key, in bytes.
const EXPIRY_BYTES: usize = 16;

impl Expiries {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Length of its keys, and what their expiries count for.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the key expires, if ever.
    #[must_use]
    pub fn of(&self, key: &[u8]) -> Option<Expiry> {
        self.by_key.get(key).copied()
    }

    /// An entry committed.
    pub fn record(&mut self, entry: &Entry) {
        self.set(&entry.key, entry.change.expiry());
    }

    fn set(&mut self, key: &Key, expiry: Option<Expiry>) {
        if self.by_key.is_empty() && expiry.is_none() {
            return;
        }
        if let Some(old) = self.by_key.remove(key) {
            self.by_time.remove(&(old, key.clone()));
            self.bytes -= key.len() + EXPIRY_BYTES;
        }
        if let Some(expiry) = expiry {
            // The entry's key may be a slice of a large batch, which would be kept by it.
            let key = Key::copy_from_slice(key);
            self.by_time.insert((expiry, key.clone()));
            self.bytes += key.len() + EXPIRY_BYTES;
            self.by_key.insert(key, expiry);
        }
    }

    /// The keys whose time has come, the longest overdue first.
    pub fn due(&self, now: Expiry) -> impl Iterator<Item = &Key> {
        self.by_time.iter().take_while(move |(expiry, _)| *expiry <= now).map(|(_, key)| key)
    }

    /// The whole table, in the order of the keys.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Key, Expiry)> {
        self.by_key.iter().map(|(key, &expiry)| (key.clone(), expiry)).collect()
    }

    /// The table that a snapshot describes.
    #[must_use]
    pub fn from_snapshot(snapshot: &[(Key, Expiry)]) -> Expiries {
        let mut expiries = Expiries::default();
        expiries.extend(snapshot);
        expiries
    }

    /// Takes in a part of another copy's table.
    pub fn extend(&mut self, part: &[(Key, Expiry)]) {
        part.iter().for_each(|(key, expiry)| self.set(key, Some(*expiry)));
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the table knows the newest expiry of every key, and who is due, in order.
    //! Method: writes by hand, in both orders.

    use super::super::types::{Change, Epoch, Op, Value, Written};
    use super::*;

    fn entry(key: &'static str, change: Change) -> Entry {
        let (epoch, op) = (Epoch(1), Op(1));
        let key = Key::from_static(key.as_bytes());
        let written = Written::Stored;
        Entry { epoch, born: epoch, op, origin: None, key, change, written }
    }

    fn until(key: &'static str, expiry: u64) -> Entry {
        entry(key, Change::Expiring(Value::new(), Expiry(expiry)))
    }

    #[test]
    fn the_newest_write_counts() {
        let mut expiries = Expiries::default();
        expiries.record(&entry("a", Change::Put(Value::new())));
        assert!(expiries.is_empty());
        for write in [until("a", 30), until("b", 20), until("c", 10), until("a", 5)] {
            expiries.record(&write);
        }
        expiries.record(&entry("b", Change::Put(Value::new())));
        assert_eq!((expiries.bytes(), expiries.of(b"a")), (34, Some(Expiry(5))));
        let due = |now| expiries.due(Expiry(now)).map(|key| key.to_vec()).collect::<Vec<_>>();
        assert_eq!(due(4), Vec::<Vec<u8>>::new());
        assert_eq!(due(10), [b"a".to_vec(), b"c".to_vec()]);
        let mut copy = Expiries::from_snapshot(&expiries.snapshot());
        assert_eq!(copy, expiries);
        copy.record(&entry("a", Change::Delete));
        copy.record(&entry("c", Change::Delete));
        assert_eq!(copy, Expiries::default());
        assert_eq!(copy.bytes(), 0);
    }
}
