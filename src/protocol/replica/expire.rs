//! Values that expire: their primary writes a delete once its wall clock is past their time.
//!
//! A delete of this kind is a write without an origin, with a place in the key set's history like
//! any other: readers see the value until it is committed, and no copy decides for itself.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Context, Replica, Role};
use crate::protocol::message::Refusal;
use crate::protocol::types::{Change, Entry, Expiry, Key, Value, Written};

/// Deletes of one key set at a time: clients' writes have their turn between them.
const AT_ONCE_MAX: usize = 512;

impl Replica {
    /// Whether one more key may expire.
    pub(super) fn judge_lifetime(&self, ctx: &Context<'_>, key: &[u8]) -> Result<(), Refusal> {
        let bytes_max = ctx.limits.expiries_bytes_max;
        if ctx.wall.is_none() {
            return Err(Refusal::Busy);
        }
        if self.expiries.bytes() >= bytes_max as usize && self.expiries.of(key).is_none() {
            return Err(Refusal::TooManyExpire { bytes_max });
        }
        Ok(())
    }

    /// A change that stores `value`, for `lifetime_ms` from now on if that is given.
    pub(super) fn stored(
        &self,
        ctx: &Context<'_>,
        value: Value,
        lifetime_ms: Option<u64>,
    ) -> Change {
        match (lifetime_ms, ctx.wall) {
            (Some(lifetime), Some(wall)) => {
                Change::Expiring(value, Expiry(wall.0.saturating_add(lifetime)))
            }
            (None, _) | (_, None) => Change::Put(value),
        }
    }

    /// When the key's newest value expires, committed or not.
    pub(super) fn expiry_of(&self, key: &[u8]) -> Option<Expiry> {
        match self.log.window().rev().find(|entry| entry.key == key) {
            Some(entry) => entry.change.expiry(),
            None => self.expiries.of(key),
        }
    }

    /// Writes the deletes whose time has come. What is being written already keeps its place: the
    /// table knows the outcome when that commits.
    pub(super) fn expire_keys(&mut self, ctx: &mut Context<'_>) {
        let Some(wall) = ctx.wall.filter(|_| !self.expiries.is_empty()) else { return };
        let copies = self.configuration.as_ref().map_or(0, |it| it.copies());
        let Role::Primary(primary) = &self.role else { return };
        if copies < usize::from(ctx.limits.min_write_copies) || !self.may_write(ctx) {
            return;
        }
        let written: BTreeSet<&Key> = self.log.window().map(|entry| &entry.key).collect();
        let due = self.expiries.due(wall);
        let due = due.filter(|key| !written.contains(key) && !primary.requests.is_held(key));
        let due: Vec<Key> = due.take(AT_ONCE_MAX).cloned().collect();
        let epoch = self.epoch();
        for key in due {
            if !self.may_write(ctx) {
                break;
            }
            let op = self.log.prepared().next();
            let (change, written) = (Change::Delete, Written::Deleted);
            let entry = Entry { epoch, born: epoch, op, origin: None, key, change, written };
            self.log.push(Rc::new(entry));
            self.mark_dirty(ctx);
        }
    }
}

/// Expiries in messages of so many bytes of keys, or one key each where that is longer.
pub(super) fn parts(all: Vec<(Key, Expiry)>, bytes_max: usize) -> Vec<Vec<(Key, Expiry)>> {
    let mut parts: Vec<Vec<(Key, Expiry)>> = Vec::new();
    let mut bytes = bytes_max;
    for (key, expiry) in all {
        bytes += key.len();
        match parts.last_mut().filter(|_| bytes <= bytes_max) {
            Some(part) => part.push((key, expiry)),
            None => {
                bytes = key.len();
                parts.push(vec![(key, expiry)]);
            }
        }
    }
    parts
}
