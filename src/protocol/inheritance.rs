//! What an engine keeps of a replica over a restart, and gives back to its heir.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::lease::Tie;
use super::message::DedupSnapshot;
use super::types::{Configuration, Entry, Epoch, Expiry, Key, KeySet, Op};

/// What a replica must know again after a restart, beside log and store.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// The newest configuration that it learned.
    pub configuration: Option<Configuration>,
    /// Everyone whom it may have acknowledged.
    pub ties: Vec<Tie>,
    /// What it holds is a copy if its log reaches this op; none = it is no copy.
    pub whole_from: Option<Op>,
}

/// One key set as a durable engine gives it back.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
pub struct Inheritance {
    pub set: KeySet,
    pub standing: Standing,
    /// Everything up to here is in the store; the epoch in which it was prepared.
    pub committed: Op,
    pub committed_epoch: Epoch,
    /// Duplicate records as of the committed point.
    pub dedup: DedupSnapshot,
    /// The log above the committed point, without gaps.
    pub window: Vec<Rc<Entry>>,
    /// Which keys expire as of the committed point. Not a part of this where it is encoded:
    /// it was not there from the start, and lies behind it.
    #[serde(skip)]
    pub expiries: Vec<(Key, Expiry)>,
}
