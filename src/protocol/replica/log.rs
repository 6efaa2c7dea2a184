//! The log of one replica: the committed point and the window of prepared writes above it.
//!
//! ```text
//!   1 .. committed | committed+1 .. prepared
//!    (in the store)      (the window)
//! ```

use std::collections::VecDeque;
use std::rc::Rc;

use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::types::{Entry, Epoch, Op};

/// Window and points of a log. Entries are contiguous and start at `committed + 1`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Log {
    committed: Op,
    /// The epoch in which the last committed entry was prepared.
    committed_epoch: Epoch,
    window: VecDeque<Rc<Entry>>,
    bytes: usize,
    /// Everything up to here is appended, as the engine confirmed.
    appended: Op,
}

/// Bytes that an entry counts for.
pub fn entry_bytes(entry: &Entry) -> usize {
    entry.key.len() + entry.change.value().map_or(0, |value| value.len())
}

impl Log {
    /// An empty log whose store holds everything up to `committed`.
    #[must_use]
    pub fn starting_at(committed: Op) -> Log {
        Log { committed, appended: committed, ..Log::default() }
    }

    /// The log that an engine gives back: all of it is appended.
    ///
    /// # Panics
    /// If there is a gap: engines give back none.
    #[must_use]
    pub fn inherited(committed: Op, committed_epoch: Epoch, window: Vec<Rc<Entry>>) -> Log {
        let mut log = Log { committed_epoch, ..Log::starting_at(committed) };
        for entry in window {
            log.push(entry);
        }
        log.appended = log.prepared();
        log
    }

    #[must_use]
    pub fn committed(&self) -> Op {
        self.committed
    }

    #[must_use]
    pub fn committed_epoch(&self) -> Epoch {
        self.committed_epoch
    }

    #[must_use]
    pub fn prepared(&self) -> Op {
        Op(self.committed.0 + self.window.len() as u64)
    }

    /// The epoch in which the last prepared entry was prepared.
    #[must_use]
    pub fn last_epoch(&self) -> Epoch {
        self.window.back().map_or(self.committed_epoch, |entry| entry.epoch)
    }

    #[must_use]
    pub fn appended(&self) -> Op {
        if planted(Mutant::AckBeforeSynced) { self.prepared() } else { self.appended }
    }

    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn window_ops(&self) -> usize {
        self.window.len()
    }

    /// The window, oldest first.
    pub fn window(&self) -> impl DoubleEndedIterator<Item = &Rc<Entry>> {
        self.window.iter()
    }

    /// The window's entries above `after`.
    pub fn window_after(&self, after: Op) -> impl Iterator<Item = &Rc<Entry>> {
        let skip = after.0.saturating_sub(self.committed.0) as usize;
        self.window.iter().skip(skip)
    }

    /// The engine confirmed that everything up to `through` is appended.
    pub fn confirm_appended(&mut self, through: Op) {
        self.appended = self.appended.max(through.min(self.prepared()));
    }

    /// Adds the next entry.
    ///
    /// # Panics
    /// If it is not the next one: the caller places entries.
    pub fn push(&mut self, entry: Rc<Entry>) {
        assert_eq!(entry.op, self.prepared().next(), "entries are contiguous");
        self.bytes += entry_bytes(&entry);
        self.window.push_back(entry);
    }

    /// Puts an entry in its place in the window, replacing what an older epoch had there, or adds
    /// it at the end. False if it would leave a gap. What is committed is never replaced.
    pub fn place(&mut self, entry: Rc<Entry>) -> bool {
        if entry.op <= self.committed {
            return true;
        }
        if entry.op > self.prepared().next() {
            return false;
        }
        if entry.op == self.prepared().next() {
            self.push(entry);
            return true;
        }
        let index = (entry.op.0 - self.committed.0 - 1) as usize;
        let old = &mut self.window[index];
        self.bytes = self.bytes + entry_bytes(&entry) - entry_bytes(old);
        self.appended = self.appended.min(Op(entry.op.0 - 1));
        *old = entry;
        true
    }

    /// Marks the whole window as prepared in `epoch`, as a new primary does.
    pub fn readopt(&mut self, epoch: Epoch) {
        for entry in &mut self.window {
            Rc::make_mut(entry).epoch = epoch;
        }
    }

    /// Drops entries above `through`, never what is committed. True if there were any.
    pub fn cut(&mut self, through: Op) -> bool {
        let keep = through.max(self.committed);
        let had = self.prepared();
        while self.prepared() > keep {
            let Some(entry) = self.window.pop_back() else { break };
            self.bytes -= entry_bytes(&entry);
        }
        self.appended = self.appended.min(keep);
        had > keep
    }

    /// Takes the next entry out of the window and counts it as committed.
    pub fn commit_next(&mut self) -> Option<Rc<Entry>> {
        let entry = self.window.pop_front()?;
        assert_eq!(entry.op, self.committed.next(), "the window starts above the committed point");
        self.bytes -= entry_bytes(&entry);
        self.committed = entry.op;
        self.committed_epoch = entry.epoch;
        Some(entry)
    }
}
