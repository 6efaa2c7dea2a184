//! Which keys the latest writes of a key set changed, so that a copy that was away for a while is
//! sent only what it missed.
//!
//! ```text
//!   ... forgotten | known_from + 1 .. newest
//!                     (a key each)
//! ```
//!
//! The keys are a queue of bytes: a write costs no allocation. Values are not kept: whoever asks
//! for changes reads what the keys are now.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::protocol::types::{Changes, Op, Record, Revision, Value};

/// What the keys and their places in a queue of one key set may take, in bytes.
pub const TRAIL_BYTES_MAX: usize = 128 << 10;

/// What a place in the queue takes beside its key.
const PLACE_BYTES: usize = size_of::<u32>();

/// The latest changes of one key set.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Trail {
    /// All changes above this op are here.
    known_from: Op,
    /// Lengths of the keys; the first is that of the op after `known_from`.
    lengths: VecDeque<u32>,
    keys: VecDeque<u8>,
    bytes_max: usize,
}

impl Trail {
    /// An empty trail of a key set without writes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Trail {
        let (lengths, keys) = (VecDeque::new(), VecDeque::new());
        Trail { known_from: Op(0), lengths, keys, bytes_max }
    }

    /// Another trail begins: nothing is known of changes up to `at`.
    pub fn restart(&mut self, at: Op) {
        *self = Trail { known_from: at, ..Trail::new(self.bytes_max) };
    }

    fn newest(&self) -> Op {
        Op(self.known_from.0 + self.lengths.len() as u64)
    }

    /// The write of `op` changed `key`.
    pub fn push(&mut self, op: Op, key: &[u8]) {
        if op <= self.newest() {
            return;
        }
        if op > self.newest().next() {
            self.restart(Op(op.0 - 1));
        }
        let length = u32::try_from(key.len()).expect("no frame holds a key of 4 GiB");
        self.lengths.push_back(length);
        self.keys.extend(key);
        while self.keys.len() + self.lengths.len() * PLACE_BYTES > self.bytes_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(length) = self.lengths.pop_front() {
            self.keys.drain(..length as usize);
            self.known_from = self.known_from.next();
        }
    }

    /// Records came that changed up to `through` in a way that is not known.
    pub fn forget(&mut self, through: Op) {
        while self.known_from < through && !self.lengths.is_empty() {
            self.forget_oldest();
        }
        self.known_from = self.known_from.max(through);
    }

    /// The keys that writes above `after` and up to `through` changed, with their ops; none if not
    /// all are known.
    fn changed(&self, after: Op, through: Op) -> Option<impl Iterator<Item = (Op, Vec<u8>)>> {
        if after < self.known_from || through > self.newest() || after > through {
            return None;
        }
        let mut start = 0;
        let places = (self.known_from.0 + 1..).map(Op).zip(&self.lengths);
        let keys = places.map(move |(op, &length)| {
            let span = start..start + length as usize;
            start = span.end;
            (op, span)
        });
        let asked = keys.filter(move |(op, _)| (after..through).contains(&Op(op.0 - 1)));
        Some(asked.map(|(op, span)| (op, self.keys.range(span).copied().collect())))
    }

    /// What the keys that writes above `after` and up to `through` changed are now, as `read` finds
    /// them, until one more would pass `items_max` keys or `bytes_max` bytes of keys and values; at
    /// least one, if there is any. None if not all changes are known.
    ///
    /// # Errors
    /// Of `read`.
    pub fn changes<E>(
        &self,
        (after, through): (Op, Op),
        (items_max, bytes_max): (u32, u32),
        mut read: impl FnMut(&[u8]) -> Result<Option<(Value, Revision)>, E>,
    ) -> Result<Option<Changes>, E> {
        let Some(changed) = self.changed(after, through) else { return Ok(None) };
        let mut changes = Changes { through, ..Changes::default() };
        let mut seen = BTreeSet::new();
        let mut bytes = 0_u64;
        for (op, key) in changed {
            if seen.contains(&key) {
                continue;
            }
            let found = read(&key)?;
            bytes += (key.len() + found.as_ref().map_or(0, |(value, _)| value.len())) as u64;
            let full = seen.len() >= items_max as usize || bytes > u64::from(bytes_max);
            if full && !seen.is_empty() {
                changes.through = Op(op.0 - 1);
                break;
            }
            let name = Bytes::from(key.clone());
            match found {
                Some((value, revision)) => {
                    changes.records.push(Record { key: name, value, revision });
                }
                None => changes.deleted.push(name),
            }
            seen.insert(key);
        }
        Ok(Some(changes))
    }
}

impl Default for Trail {
    fn default() -> Trail {
        Trail::new(TRAIL_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a trail names every key that changed since a known op, or says that it can not.
    //! Method: random writes and lookups against a list of all writes.

    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    fn ask(trail: &Trail, after: u64, through: u64, items: u32) -> Option<Changes> {
        let none = |_: &[u8]| Ok::<_, Infallible>(None);
        trail.changes((Op(after), Op(through)), (items, u32::MAX), none).unwrap_or_default()
    }

    #[test]
    fn every_change_since_then_is_named() {
        let mut trail = Trail::new(200);
        let mut written: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut known, mut unknown) = (0, 0);
        for op in 1..=500_u64 {
            let key = format!("key {}", op * 7 % 13).into_bytes();
            trail.push(Op(op), &key);
            written.insert(op, key);
            for after in (0..op).rev().take(40) {
                let Some(mut changes) = ask(&trail, after, op, 3) else {
                    unknown += 1;
                    continue;
                };
                known += 1;
                let mut named: BTreeSet<Vec<u8>> = BTreeSet::new();
                loop {
                    named.extend(changes.deleted.iter().map(|key| key.to_vec()));
                    if changes.through == Op(op) {
                        break;
                    }
                    changes = ask(&trail, changes.through.0, op, 3).expect("it was known");
                }
                let all: BTreeSet<Vec<u8>> =
                    written.range(after + 1..=op).map(|(_, key)| key.clone()).collect();
                assert_eq!(named, all, "above {after} through {op}");
            }
        }
        assert!(known > 1000 && unknown > 1000, "{known} known, {unknown} unknown");
    }

    #[test]
    fn what_is_not_known_is_not_answered() {
        let mut trail = Trail::default();
        trail.push(Op(1), b"a");
        trail.push(Op(2), b"b");
        assert!(ask(&trail, 0, 3, 9).is_none(), "a write that did not happen yet");
        trail.forget(Op(1));
        assert!(ask(&trail, 0, 2, 9).is_none());
        assert_eq!(ask(&trail, 1, 2, 9).map(|it| it.deleted), Some(vec![Bytes::from("b")]));
        trail.push(Op(9), b"z");
        assert!(ask(&trail, 1, 9, 9).is_none(), "a gap");
        trail.restart(Op(12));
        assert!(ask(&trail, 8, 9, 9).is_none());
        assert_eq!(ask(&trail, 12, 12, 9).map(|it| it.deleted.len()), Some(0));
    }
}
