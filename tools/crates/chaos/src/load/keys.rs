//! The keys in use: a few at a time in every key set, so that clients meet, and each only for a
//! while, so that the history of one key stays short enough for an exhaustive search.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tandem::protocol::placement;
use tandem::protocol::types::KeySet;
use tandem::sim::rng::Rng;
use tandem_history::Text;

/// Keys in use at a time in a key set.
pub const SLOTS: usize = 3;

/// What is done with the keys of a slot: every checker has keys that it judges best.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// Only put, each value once, and read.
    Plain,
    /// Put, deleted, compared and swapped.
    Mixed,
    /// Added to.
    Counter,
}

impl Use {
    pub fn of(slot: usize) -> Use {
        match slot {
            0 => Use::Plain,
            1 => Use::Mixed,
            _ => Use::Counter,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Use::Plain => "plain",
            Use::Mixed => "mixed",
            Use::Counter => "counter",
        }
    }
}

/// Operations after which a key makes place for a new one; less or more by a tenth, so that not
/// all change at once.
const USES: u64 = 300;

/// The keys of a run.
pub struct Keys {
    key_sets: u16,
    slots: Vec<Mutex<Slot>>,
    used: Mutex<Vec<Text>>,
}

struct Slot {
    key: Text,
    generation: u64,
    uses_left: u64,
    rng: Rng,
}

impl Keys {
    pub fn new(key_sets: u16, seed: u64) -> Keys {
        let count = usize::from(key_sets) * SLOTS;
        let slots = (0..count as u64).map(|number| {
            Mutex::new(Slot {
                key: Text::from(""),
                generation: 0,
                uses_left: 0,
                rng: Rng::new(seed ^ number.wrapping_mul(0x9e37_79b9)),
            })
        });
        Keys { key_sets, slots: slots.collect(), used: Mutex::default() }
    }

    /// The key in use at `slot` of `set`, for one operation.
    pub fn take(&self, set: KeySet, slot: usize) -> Text {
        let place = usize::from(set.0) * SLOTS + slot;
        let mut it = lock(&self.slots[place]);
        if it.uses_left == 0 {
            it.generation += 1;
            it.uses_left = it.rng.between(USES - USES / 10, USES + USES / 10);
            it.key = self.name(set, slot, it.generation);
            lock(&self.used).push(it.key.clone());
        }
        it.uses_left -= 1;
        it.key.clone()
    }

    /// The key in use at `slot` of `set`, to look at beside the others; none before its first.
    pub fn peek(&self, set: KeySet, slot: usize) -> Option<Text> {
        let key = lock(&self.slots[usize::from(set.0) * SLOTS + slot]).key.clone();
        (!key.is_empty()).then_some(key)
    }

    /// Every key that was ever in use.
    pub fn used(&self) -> Vec<Text> {
        lock(&self.used).clone()
    }

    /// A name that falls into `set`.
    fn name(&self, set: KeySet, slot: usize, generation: u64) -> Text {
        let name = Use::of(slot).name();
        let name = (0..u64::MAX)
            .map(|salt| format!("{name}-{}-{generation}-{salt}", set.0))
            .find(|name| placement::key_set(name.as_bytes(), self.key_sets) == set)
            .expect("some name falls into every key set");
        Text::from(name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    //! Goal: keys fall into their key set, are shared, and are replaced after a while.
    //! Method: take one slot's key many times.

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_are_shared_and_replaced() {
        let keys = Keys::new(8, 7);
        let mut counts: BTreeMap<Text, u64> = BTreeMap::new();
        assert_eq!(keys.peek(KeySet(5), 0), None);
        for _ in 0..1_000 {
            let key = keys.take(KeySet(5), 0);
            assert_eq!(placement::key_set(key.as_bytes(), 8), KeySet(5));
            assert_eq!(keys.peek(KeySet(5), 0), Some(key.clone()));
            *counts.entry(key).or_default() += 1;
        }
        assert_eq!(counts.len(), keys.used().len());
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|&it| it <= 330));
    }
}
