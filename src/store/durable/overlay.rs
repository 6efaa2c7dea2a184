//! Changes above a checkpoint: what records became, and which were deleted.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;

use crate::protocol::types::{KeySet, Revision, Value};

/// What became of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    pub revision: Revision,
    /// None = deleted.
    pub value: Option<Value>,
}

/// The changes of one key set.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What lies below is void: the set was cleared.
    pub void: bool,
    keys: BTreeMap<Box<[u8]>, Changed>,
}

/// The changes of all key sets.
#[derive(Clone, Debug)]
pub struct Overlay {
    sets: Vec<Changes>,
}

/// A span of changes, in the order of their keys.
pub type Span<'a> = btree_map::Range<'a, Box<[u8]>, Changed>;

impl Changes {
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Changed> {
        self.keys.get(key)
    }

    pub fn range(&self, from: Bound<&[u8]>) -> Span<'_> {
        self.keys.range::<[u8], _>((from, Bound::Unbounded))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Changed)> {
        self.keys.iter().map(|(key, changed)| (&key[..], changed))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.void
    }
}

impl Overlay {
    /// No changes of the key sets `0..count`.
    #[must_use]
    pub fn new(count: usize) -> Overlay {
        Overlay { sets: vec![Changes::default(); count] }
    }

    #[must_use]
    pub fn set(&self, set: KeySet) -> &Changes {
        &self.sets[usize::from(set.0)]
    }

    pub fn sets(&self) -> impl Iterator<Item = (KeySet, &Changes)> {
        (0..).map(KeySet).zip(&self.sets)
    }

    /// Notes what became of a key. The value is copied: a slice of what came from the network
    /// would keep all of it.
    pub fn put(&mut self, set: KeySet, key: &[u8], value: Option<&[u8]>, revision: Revision) {
        let changes = &mut self.sets[usize::from(set.0)].keys;
        let changed = Changed { revision, value: value.map(Value::copy_from_slice) };
        if let Some(known) = changes.get_mut(key) {
            *known = changed;
        } else {
            changes.insert(Box::from(key), changed);
        }
    }

    /// Forgets the changes of `set`; what lies below is void.
    pub fn clear(&mut self, set: KeySet) {
        self.sets[usize::from(set.0)] = Changes { void: true, ..Changes::default() };
    }
}
