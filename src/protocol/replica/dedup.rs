//! Duplicate records of one key set: what each session's writes were answered.
//!
//! Every replica builds the same table, because it changes only when an op commits. A record goes
//! when its session says that it has the answer, or when the table is full: then the horizon
//! rises to its op, and a retry that started from before the horizon is never executed.

use std::collections::BTreeMap;

use crate::protocol::message::{DedupRecord, DedupSnapshot};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::types::{
    Entry, LossEpoch, Op, Origin, Position, RequestNumber, SessionId, Written,
};

/// One session's records in this key set.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
struct Session {
    answered_below: RequestNumber,
    records: BTreeMap<RequestNumber, (Position, Written)>,
}

/// The table.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Dedup {
    horizon: Op,
    sessions: BTreeMap<SessionId, Session>,
    by_op: BTreeMap<Op, (SessionId, RequestNumber)>,
}

/// What the table knows of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// Never executed, for sure.
    New,
    /// Executed, with this answer.
    Done(Position, Written),
    /// Its record may be gone: it may have been executed.
    Forgotten,
    /// The session named no base, and the table has forgotten something since its start.
    NoBase,
}

impl Dedup {
    /// Judges a write that is not in the window.
    #[must_use]
    pub fn look_up(&self, origin: &Origin, loss_epoch: LossEpoch) -> Known {
        if planted(Mutant::RetryTwice) {
            return Known::New;
        }
        if let Some(session) = self.sessions.get(&origin.session) {
            if let Some(&(position, written)) = session.records.get(&origin.number) {
                return Known::Done(position, written);
            }
            if origin.number < session.answered_below {
                return Known::Forgotten;
            }
        }
        if origin.base.loss_epoch == loss_epoch && origin.base.op >= self.horizon {
            Known::New
        } else if origin.base.op == Op(0) {
            Known::NoBase
        } else {
            Known::Forgotten
        }
    }

    /// Records a committed entry.
    pub fn record(&mut self, entry: &Entry, loss_epoch: LossEpoch, records_max: usize) {
        let Some(origin) = entry.origin else { return };
        let session = self.sessions.entry(origin.session).or_default();
        session.answered_below = session.answered_below.max(origin.answered_below);
        let position = Position { loss_epoch, epoch: entry.born, op: entry.op };
        session.records.insert(origin.number, (position, entry.written));
        self.by_op.insert(entry.op, (origin.session, origin.number));
        let kept_from = session.answered_below.min(origin.number);
        while let Some(first) = session.records.first_entry().filter(|it| *it.key() < kept_from) {
            let (position, _) = first.remove();
            self.by_op.remove(&position.op);
        }
        while self.by_op.len() > records_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((op, (session_id, number))) = self.by_op.pop_first() else { return };
        if !planted(Mutant::HorizonForgotten) {
            self.horizon = self.horizon.max(op);
        }
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.records.remove(&number);
            if session.records.is_empty() {
                self.sessions.remove(&session_id);
            }
        }
    }

    /// The whole table, for a learner.
    #[must_use]
    pub fn snapshot(&self) -> DedupSnapshot {
        let records = self
            .sessions
            .iter()
            .flat_map(|(&session, it)| {
                it.records.iter().map(move |(&number, &(position, written))| DedupRecord {
                    session,
                    number,
                    answered_below: it.answered_below,
                    position,
                    written,
                })
            })
            .collect();
        DedupSnapshot { horizon: self.horizon, records }
    }

    /// The table that a snapshot describes.
    #[must_use]
    pub fn from_snapshot(snapshot: DedupSnapshot) -> Dedup {
        let mut dedup = Dedup { horizon: snapshot.horizon, ..Dedup::default() };
        for record in snapshot.records {
            let session = dedup.sessions.entry(record.session).or_default();
            session.answered_below = session.answered_below.max(record.answered_below);
            session.records.insert(record.number, (record.position, record.written));
            dedup.by_op.insert(record.position.op, (record.session, record.number));
        }
        dedup
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_op.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_op.is_empty()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no write is executed twice, however late a duplicate arrives.
    //! Method: records and look-ups by hand, around the answered mark and the horizon.

    use bytes::Bytes;

    use super::*;
    use crate::protocol::types::{Change, Epoch, Revision};

    fn origin(session: u128, number: u64, answered_below: u64, base: u64) -> Origin {
        Origin {
            session: SessionId(session),
            number: RequestNumber(number),
            answered_below: RequestNumber(answered_below),
            base: Revision { loss_epoch: LossEpoch(0), op: Op(base) },
        }
    }

    fn entry(op: u64, origin: Origin) -> Entry {
        Entry {
            epoch: Epoch(1),
            born: Epoch(1),
            op: Op(op),
            origin: Some(origin),
            key: Bytes::from_static(b"k"),
            change: Change::Delete,
            written: Written::Stored,
        }
    }

    #[test]
    fn a_retry_is_answered_from_its_record() {
        let mut dedup = Dedup::default();
        assert_eq!(dedup.look_up(&origin(1, 1, 1, 0), LossEpoch(0)), Known::New);
        dedup.record(&entry(1, origin(1, 1, 1, 0)), LossEpoch(0), 10);
        assert!(matches!(dedup.look_up(&origin(1, 1, 1, 0), LossEpoch(0)), Known::Done(..)));
        assert_eq!(dedup.look_up(&origin(2, 1, 1, 0), LossEpoch(0)), Known::New);
    }

    #[test]
    fn a_duplicate_of_an_answered_write_is_forgotten_not_new() {
        let mut dedup = Dedup::default();
        dedup.record(&entry(1, origin(1, 1, 1, 0)), LossEpoch(0), 10);
        dedup.record(&entry(2, origin(1, 2, 2, 0)), LossEpoch(0), 10);
        assert_eq!(dedup.len(), 1);
        assert_eq!(dedup.look_up(&origin(1, 1, 1, 0), LossEpoch(0)), Known::Forgotten);
    }

    #[test]
    fn a_full_table_raises_the_horizon() {
        let mut dedup = Dedup::default();
        for op in 1..=5 {
            dedup.record(&entry(op, origin(u128::from(op), 1, 1, 0)), LossEpoch(0), 3);
        }
        assert_eq!(dedup.len(), 3);
        assert_eq!(dedup.look_up(&origin(1, 1, 1, 1), LossEpoch(0)), Known::Forgotten);
        assert_eq!(dedup.look_up(&origin(9, 1, 1, 0), LossEpoch(0)), Known::NoBase);
        assert_eq!(dedup.look_up(&origin(9, 1, 1, 2), LossEpoch(0)), Known::New);
        assert_eq!(dedup.look_up(&origin(9, 1, 1, 4), LossEpoch(1)), Known::Forgotten);
    }

    #[test]
    fn a_snapshot_gives_the_same_table() {
        let mut dedup = Dedup::default();
        for op in 1..=5 {
            dedup.record(&entry(op, origin(u128::from(op % 2), op, 2, 0)), LossEpoch(0), 3);
        }
        assert_eq!(Dedup::from_snapshot(dedup.snapshot()), dedup);
    }
}
