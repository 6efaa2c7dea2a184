//! What a durable engine keeps of a key set beside its records: its standing, its committed point,
//! the duplicate records as of there, and the log above it.
//!
//! The effects on the engine, carried out in their order, lead here: in the simulator's disks as
//! they are synced, and in the durable engine as the log is read after a restart.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::protocol::dedup::Dedup;
use crate::protocol::expiries::Expiries;
use crate::protocol::inheritance::{Inheritance, Standing};
use crate::protocol::message::DedupSnapshot;
use crate::protocol::types::{Entry, Epoch, Expiry, Key, KeySet, Op, Revision};

/// One key set.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    standing: Standing,
    committed: Op,
    committed_epoch: Epoch,
    dedup: Dedup,
    expiries: Expiries,
    /// Above the committed point.
    log: BTreeMap<Op, Rc<Entry>>,
}

impl Kept {
    /// What an engine gave back earlier.
    #[must_use]
    pub fn from_inheritance(inheritance: Inheritance) -> Kept {
        let expiries = Expiries::from_snapshot(&inheritance.expiries);
        Kept {
            expiries,
            standing: inheritance.standing,
            committed: inheritance.committed,
            committed_epoch: inheritance.committed_epoch,
            dedup: Dedup::from_snapshot(inheritance.dedup),
            log: inheritance.window.into_iter().map(|entry| (entry.op, entry)).collect(),
        }
    }

    /// Puts entries into the log, instead of what is there from the first one's op on.
    pub fn append(&mut self, entries: Vec<Rc<Entry>>) {
        if let Some(first) = entries.first() {
            self.log.split_off(&first.op);
        }
        self.log.extend(entries.into_iter().map(|entry| (entry.op, entry)));
    }

    /// Drops what the log has above `through`.
    pub fn cut(&mut self, through: Op) {
        self.log.split_off(&through.next());
    }

    /// The entry is committed, as one of `revision`.
    pub fn commit(&mut self, entry: &Entry, revision: Revision, dedup_records_max: usize) {
        self.dedup.record(entry, revision.loss_epoch, dedup_records_max);
        self.expiries.record(entry);
        self.committed = revision.op;
        self.committed_epoch = entry.epoch;
        self.log = self.log.split_off(&revision.op.next());
    }

    /// Log and duplicate records are replaced; the log starts after `at`.
    pub fn restart(&mut self, at: Op, dedup: DedupSnapshot) {
        let standing = std::mem::take(&mut self.standing);
        let dedup = Dedup::from_snapshot(dedup);
        *self = Kept { standing, committed: at, dedup, ..Kept::default() };
    }

    /// A part of what a copy run's primary knew of expiries.
    pub fn expire(&mut self, keys: &[(Key, Expiry)]) {
        self.expiries.extend(keys);
    }

    pub fn remember(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// The log's entry of that op, if it is above the committed point.
    #[must_use]
    pub fn entry(&self, op: Op) -> Option<&Rc<Entry>> {
        self.log.get(&op)
    }

    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    #[must_use]
    pub fn committed(&self) -> Op {
        self.committed
    }

    /// The log above the committed point.
    pub fn log(&self) -> impl DoubleEndedIterator<Item = &Rc<Entry>> {
        self.log.values()
    }

    /// What an heir begins with.
    #[must_use]
    pub fn inheritance(&self, set: KeySet) -> Inheritance {
        Inheritance {
            set,
            standing: self.standing.clone(),
            committed: self.committed,
            committed_epoch: self.committed_epoch,
            dedup: self.dedup.snapshot(),
            window: self.log.values().cloned().collect(),
            expiries: self.expiries.snapshot(),
        }
    }
}
