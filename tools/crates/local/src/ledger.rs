//! A ledger of what was promised, which knows what a read may return.
//!
//! Each key has one writer, which stores growing numbers, one after the other. So a read is right
//! exactly if it returns no less than what was acknowledged, or read by anyone, before it began,
//! and no more than what was attempted before it ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What reads of one key may return: from `floor` to `ceiling`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    pub floor: u64,
    pub ceiling: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Violation {
    /// A write that was acknowledged, or read before, is not there.
    Stale { key: String, found: u64, promised: u64 },
    /// A value that nobody attempted to write.
    Invented { key: String, found: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Stale { key, found, promised } => {
                write!(f, "stale or lost: '{key}' read as {found} after {promised}")
            }
            Violation::Invented { key, found } => {
                write!(f, "'{key}' read as {found}, which nobody wrote")
            }
        }
    }
}

impl std::error::Error for Violation {}

/// What was promised for every key.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: Mutex<BTreeMap<String, Bounds>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bounds>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a read of `key` that begins now is judged by.
    #[must_use]
    pub fn bounds(&self, key: &str) -> Bounds {
        self.lock().get(key).copied().unwrap_or_default()
    }

    /// The writer of `key` is about to store `number`.
    pub fn on_attempt(&self, key: &str, number: u64) {
        let mut keys = self.lock();
        let bounds = keys.entry(key.to_owned()).or_default();
        bounds.ceiling = bounds.ceiling.max(number);
    }

    /// The write of `number` was acknowledged.
    pub fn on_acknowledged(&self, key: &str, number: u64) {
        let mut keys = self.lock();
        let bounds = keys.entry(key.to_owned()).or_default();
        bounds.floor = bounds.floor.max(number);
    }

    /// Judges a read that began when the key's bounds were `before`.
    ///
    /// # Errors
    /// The read is stale, or its value was never written.
    pub fn on_read(&self, key: &str, before: Bounds, found: u64) -> Result<(), Violation> {
        let mut keys = self.lock();
        let bounds = keys.entry(key.to_owned()).or_default();
        if found < before.floor {
            let promised = before.floor;
            return Err(Violation::Stale { key: key.to_owned(), found, promised });
        }
        if found > bounds.ceiling {
            return Err(Violation::Invented { key: key.to_owned(), found: found.to_string() });
        }
        bounds.floor = bounds.floor.max(found);
        Ok(())
    }

    /// Some key, another one with each `turn`; none while there is none.
    #[must_use]
    pub fn pick(&self, turn: usize) -> Option<String> {
        let keys = self.lock();
        keys.keys().nth(turn % keys.len().max(1)).cloned()
    }

    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the ledger refuses a lost write, a stale read and a value out of nowhere.
    //! Method: histories made by hand.

    use super::*;

    /// A key of which 1 and 2 are acknowledged and 3 is on its way.
    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        for number in 1..=3 {
            ledger.on_attempt("k", number);
        }
        ledger.on_acknowledged("k", 1);
        ledger.on_acknowledged("k", 2);
        ledger
    }

    fn stale(found: u64, promised: u64) -> Result<(), Violation> {
        Err(Violation::Stale { key: "k".to_owned(), found, promised })
    }

    #[test]
    fn a_read_may_see_what_is_acknowledged_or_on_its_way() {
        let ledger = ledger();
        assert_eq!(ledger.on_read("k", ledger.bounds("k"), 2), Ok(()));
        assert_eq!(ledger.on_read("k", ledger.bounds("k"), 3), Ok(()));
    }

    #[test]
    fn an_acknowledged_write_must_not_be_lost() {
        let ledger = ledger();
        assert_eq!(ledger.on_read("k", ledger.bounds("k"), 1), stale(1, 2));
    }

    #[test]
    fn what_was_read_once_must_not_go_back() {
        let ledger = ledger();
        assert_eq!(ledger.on_read("k", ledger.bounds("k"), 3), Ok(()));
        assert_eq!(ledger.on_read("k", ledger.bounds("k"), 2), stale(2, 3));
    }

    #[test]
    fn a_read_that_began_earlier_may_return_less() {
        let ledger = ledger();
        let before = ledger.bounds("k");
        assert_eq!(ledger.on_read("k", before, 3), Ok(()));
        assert_eq!(ledger.on_read("k", before, 2), Ok(()));
    }

    #[test]
    fn a_value_must_have_been_written() {
        let ledger = ledger();
        let refused = ledger.on_read("k", ledger.bounds("k"), 4);
        assert!(matches!(refused, Err(Violation::Invented { .. })), "{refused:?}");
    }

    #[test]
    fn every_key_gets_its_turn() {
        let ledger = ledger();
        ledger.on_attempt("l", 1);
        let picked: Vec<Option<String>> = (0..3).map(|turn| ledger.pick(turn)).collect();
        assert_eq!(picked, ["k", "l", "k"].map(|key| Some(key.to_owned())));
        assert_eq!(Ledger::default().pick(7), None);
    }
}
