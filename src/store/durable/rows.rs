//! The rows of a store: how records are kept in them, and how a checkpoint's changes become rows.

use std::ops::Bound;

use bytes::Bytes;

use super::base::BaseError;
use super::failure::storage;
use super::overlay::{Changed, Changes};
use super::view::View;
use crate::protocol::types::{KeySet, LossEpoch, Op, Record, Revision, Value};

/// Before a record's value: loss epoch, op.
const REVISION_BYTES: usize = 16;

/// Keys of the store that are looked at in one go while a void key set is emptied.
const STEP: usize = 1_024;

/// Writes the changes of one key set over what was there before, in the order of their keys.
pub fn ingest(
    before: &View,
    write: &mut impl FnMut(Vec<u8>, Option<&[u8]>) -> Result<(), BaseError>,
    set: KeySet,
    changes: &Changes,
) -> Result<(), BaseError> {
    let mut encoded = Vec::new();
    let mut outdated = Outdated::new(before, set, changes.void);
    for (key, Changed { revision, value }) in changes.iter() {
        while let Some(old) = outdated.next_below(key)? {
            write(row_key(set, &old), None)?;
        }
        match value {
            Some(value) => {
                encode(&mut encoded, value, *revision);
                write(row_key(set, key), Some(&encoded))?;
            }
            None => write(row_key(set, key), None)?,
        }
    }
    while let Some(old) = outdated.next()? {
        write(row_key(set, &old), None)?;
    }
    Ok(())
}

/// The keys of a key set that was cleared, ascending.
struct Outdated<'a> {
    view: &'a View,
    set: KeySet,
    found: std::iter::Peekable<std::vec::IntoIter<Record>>,
    from: Option<Bound<Bytes>>,
}

impl Outdated<'_> {
    fn new(view: &View, set: KeySet, void: bool) -> Outdated<'_> {
        let found = Vec::new().into_iter().peekable();
        Outdated { view, set, found, from: void.then_some(Bound::Unbounded) }
    }

    fn peek(&mut self) -> Result<Option<&Record>, BaseError> {
        if self.found.peek().is_none()
            && let Some(from) = self.from.take()
        {
            let from = from.as_ref().map(|key| &key[..]);
            let found = page(self.view, self.set, from, STEP)?;
            self.from = found.last().map(|last| Bound::Excluded(last.key.clone()));
            self.found = found.into_iter().peekable();
        }
        Ok(self.found.peek())
    }

    fn next(&mut self) -> Result<Option<Bytes>, BaseError> {
        self.peek()?;
        Ok(self.found.next().map(|record| record.key))
    }

    /// The next one below `key`; `key` itself is passed over.
    fn next_below(&mut self, key: &[u8]) -> Result<Option<Bytes>, BaseError> {
        let Some(next) = self.peek()? else { return Ok(None) };
        match next.key[..].cmp(key) {
            std::cmp::Ordering::Less => self.next(),
            std::cmp::Ordering::Equal => {
                self.next()?;
                Ok(None)
            }
            std::cmp::Ordering::Greater => Ok(None),
        }
    }
}

/// The first `items_max` records of a key set from a bound on.
pub fn page(
    view: &View,
    set: KeySet,
    from: Bound<&[u8]>,
    items_max: usize,
) -> Result<Vec<Record>, BaseError> {
    let from = match from {
        Bound::Unbounded => Bound::Included(row_key(set, b"")),
        bound => bound.map(|key| row_key(set, key)),
    };
    let until = Bound::Excluded(row_key(KeySet(set.0 + 1), b""));
    let mut page = Vec::new();
    for row in view.range((from, until)).take(items_max) {
        let (key, stored) = row.map_err(storage)?;
        let (value, revision) = decode(set, &stored)?;
        page.push(Record { key: Bytes::copy_from_slice(&key[2..]), value, revision });
    }
    Ok(page)
}

pub fn row_key(set: KeySet, key: &[u8]) -> Vec<u8> {
    [&set.0.to_be_bytes()[..], key].concat()
}

fn encode(into: &mut Vec<u8>, value: &[u8], revision: Revision) {
    into.clear();
    into.extend_from_slice(&u64::from(revision.loss_epoch.0).to_le_bytes());
    into.extend_from_slice(&revision.op.0.to_le_bytes());
    into.extend_from_slice(value);
}

pub fn decode(set: KeySet, stored: &[u8]) -> Result<(Value, Revision), BaseError> {
    let damaged = || BaseError::Damaged(format!("a record of key set {set} has no revision"));
    let (head, value) = stored.split_at_checked(REVISION_BYTES).ok_or_else(damaged)?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let loss_epoch = LossEpoch(word(0).try_into().map_err(|_| damaged())?);
    Ok((Value::copy_from_slice(value), Revision { loss_epoch, op: Op(word(8)) }))
}
