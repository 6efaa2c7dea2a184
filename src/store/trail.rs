//! Which keys the latest writes of a key set changed, so that a copy that was away for a while is
//! sent only what it missed.
//!
//! ```text
//!   ... forgotten | known_from + 1 .. newest
//!                     (a key each)
//! ```
//!
//! The keys are bytes in blocks, of which the newest grows and the oldest goes whole: a write costs
//! no allocation, and touches nothing but the end of one block. Values are not kept: whoever asks
//! for changes reads what the keys are now.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::protocol::types::{Changes, Op, Record, Revision, Value};

/// What the keys and their lengths of one key set may take, in bytes.
pub const TRAIL_BYTES_MAX: usize = 128 << 10;

/// What a key's length takes beside it.
const LENGTH_BYTES: usize = size_of::<u32>();

/// Blocks that a full trail consists of, as long as keys are smaller than one.
const BLOCKS: usize = 128;

/// The latest changes of one key set.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Trail {
    /// All changes above this op, and up to `newest`, are here.
    known_from: Op,
    newest: Op,
    blocks: VecDeque<Block>,
    /// Bytes in all blocks.
    bytes: usize,
    bytes_max: usize,
}

/// Keys of writes that follow each other.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
struct Block {
    /// The op of the last key.
    last: Op,
    count: u64,
    /// Each key behind its length.
    keys: Vec<u8>,
}

impl Block {
    /// The keys with their ops.
    fn keys(&self) -> impl Iterator<Item = (Op, &[u8])> {
        let mut rest = &self.keys[..];
        let ops = (self.last.0 + 1 - self.count..=self.last.0).map(Op);
        ops.map_while(move |op| {
            let (length, behind) = rest.split_first_chunk()?;
            let (key, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some((op, key))
        })
    }
}

impl Trail {
    /// An empty trail of a key set without writes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Trail {
        Trail { known_from: Op(0), newest: Op(0), blocks: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Another trail begins: nothing is known of changes up to `at`.
    pub fn restart(&mut self, at: Op) {
        *self = Trail { known_from: at, newest: at, ..Trail::new(self.bytes_max) };
    }

    /// The write of `op` changed `key`.
    pub fn push(&mut self, op: Op, key: &[u8]) {
        if op <= self.newest {
            return;
        }
        if op > self.newest.next() {
            self.restart(Op(op.0 - 1));
        }
        let length = u32::try_from(key.len()).expect("no frame holds a key of 4 GiB");
        let bytes = LENGTH_BYTES + key.len();
        let fits = |block: &Block| block.keys.len() + bytes <= self.bytes_max / BLOCKS;
        if !self.blocks.back().is_some_and(fits) {
            let block = self.next_block(bytes);
            self.blocks.push_back(block);
        }
        let block = self.blocks.back_mut().expect("there is one now");
        block.last = op;
        block.count += 1;
        block.keys.extend_from_slice(&length.to_le_bytes());
        block.keys.extend_from_slice(key);
        self.newest = op;
        self.bytes += bytes;
    }

    /// An empty block; what has no room beside `bytes` more is forgotten, and its memory is used
    /// again.
    fn next_block(&mut self, bytes: usize) -> Block {
        let mut free = Block::default();
        while self.bytes + bytes.max(self.bytes_max / BLOCKS) > self.bytes_max
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.bytes -= oldest.keys.len();
            self.known_from = self.known_from.max(oldest.last);
            free = oldest;
        }
        free.keys.clear();
        free.count = 0;
        free
    }

    /// Records came that changed up to `through` in a way that is not known.
    pub fn forget(&mut self, through: Op) {
        while self.blocks.front().is_some_and(|block| block.last <= through)
            && let Some(block) = self.blocks.pop_front()
        {
            self.bytes -= block.keys.len();
        }
        self.known_from = self.known_from.max(through);
        self.newest = self.newest.max(through);
    }

    /// The keys that writes above `after` and up to `through` changed, with their ops; none if not
    /// all are known.
    fn changed(&self, after: Op, through: Op) -> Option<impl Iterator<Item = (Op, &[u8])>> {
        if after < self.known_from || through > self.newest || after > through {
            return None;
        }
        let blocks = self.blocks.iter().skip_while(move |block| block.last <= after);
        let keys = blocks.flat_map(Block::keys).skip_while(move |&(op, _)| op <= after);
        Some(keys.take_while(move |&(op, _)| op <= through))
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
        let mut seen: BTreeSet<&[u8]> = BTreeSet::new();
        let mut bytes = 0_u64;
        for (op, key) in changed {
            if seen.contains(key) {
                continue;
            }
            let found = read(key)?;
            bytes += (key.len() + found.as_ref().map_or(0, |(value, _)| value.len())) as u64;
            let full = seen.len() >= items_max as usize || bytes > u64::from(bytes_max);
            if full && !seen.is_empty() {
                changes.through = Op(op.0 - 1);
                break;
            }
            let name = Bytes::copy_from_slice(key);
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

    /// Lookups of changes that were known, and that were not.
    fn look_up_all(bytes_max: usize, ops: u64, keys: u64) -> (u32, u32) {
        let mut trail = Trail::new(bytes_max);
        let mut written: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut known, mut unknown) = (0, 0);
        for op in 1..=ops {
            let key = format!("key {}", op * 7 % keys).into_bytes();
            trail.push(Op(op), &key);
            written.insert(op, key);
            assert!(trail.bytes <= bytes_max, "{} bytes of {bytes_max}", trail.bytes);
            for after in
                [1, 2, 3, 5, 17, 39, 400, 700].into_iter().filter_map(|it| op.checked_sub(it))
            {
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
        (known, unknown)
    }

    #[test]
    fn every_change_since_then_is_named() {
        // Blocks of one key, and blocks of four.
        for bytes_max in [200, 6_000] {
            let (known, unknown) = look_up_all(bytes_max, 1_000, 13);
            assert!(known > 1_000 && unknown > 100, "{known} known, {unknown} unknown");
        }
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
