//! Duplicate records of one key set: what each session's writes were answered.
//!
//! Every replica builds the same table, because it changes only when an op commits. A record goes
//! when its session says that it has the answer, or when the table is full: then the horizon
//! rises to its op, and a retry that started from before the horizon is never executed.
//!
//! A session that is at work has one record here as a rule, and its entry holds that one itself:
//! a write costs one look into the table and no allocation.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use xxhash_rust::xxh3::xxh3_64;

use crate::protocol::message::{DedupRecord, DedupSnapshot};
use crate::protocol::mutants::{Mutant, planted};
use crate::protocol::types::{
    Entry, LossEpoch, Op, Origin, Position, RequestNumber, SessionId, Written,
};

/// What one write was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
struct Record {
    number: RequestNumber,
    position: Position,
    written: Written,
}

/// One session's records in this key set: at least one.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
struct Session {
    id: SessionId,
    answered_below: RequestNumber,
    /// The one with the lowest number.
    first: Record,
    /// The others, by number.
    rest: VecDeque<Record>,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Dedup {
    horizon: Op,
    sessions: HashTable<Session>,
    records: usize,
    /// The oldest records of all, oldest first, some of them gone already: who goes next when the
    /// table is full. Made anew when it is empty.
    oldest: VecDeque<Oldest>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
struct Oldest {
    op: Op,
    session: SessionId,
    number: RequestNumber,
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

impl Session {
    fn records(&self) -> impl Iterator<Item = &Record> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn record(&self, number: RequestNumber) -> Option<&Record> {
        if self.first.number == number {
            return Some(&self.first);
        }
        let index = self.rest.binary_search_by_key(&number, |it| it.number).ok()?;
        self.rest.get(index)
    }

    /// Adds a record, or replaces the one of that number, and drops those below `kept_from`; by how
    /// many records there are more now.
    fn record_above(&mut self, kept_from: RequestNumber, record: Record) -> isize {
        let mut more = 0;
        // Dropped first: as a rule the new record takes the place of the only one.
        while self.first.number < kept_from {
            let Some(next) = self.rest.pop_front() else {
                self.first = record;
                return more;
            };
            self.first = next;
            more -= 1;
        }
        more + isize::from(self.insert(record))
    }

    /// Adds a record, or replaces the one of that number; whether it was added.
    fn insert(&mut self, record: Record) -> bool {
        if record.number == self.first.number {
            self.first = record;
            return false;
        }
        if record.number < self.first.number {
            self.rest.push_front(std::mem::replace(&mut self.first, record));
            return true;
        }
        match self.rest.binary_search_by_key(&record.number, |it| it.number) {
            Ok(index) => {
                self.rest[index] = record;
                false
            }
            Err(index) => {
                self.rest.insert(index, record);
                true
            }
        }
    }
}

fn hash(session: SessionId) -> u64 {
    xxh3_64(&session.0.to_le_bytes())
}

impl Dedup {
    fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.find(hash(id), |it| it.id == id)
    }

    /// Judges a write that is not in the window.
    #[must_use]
    pub fn look_up(&self, origin: &Origin, loss_epoch: LossEpoch) -> Known {
        if planted(Mutant::RetryTwice) {
            return Known::New;
        }
        if let Some(session) = self.session(origin.session) {
            if let Some(record) = session.record(origin.number) {
                return Known::Done(record.position, record.written);
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
        let position = Position { loss_epoch, epoch: entry.born, op: entry.op };
        let record = Record { number: origin.number, position, written: entry.written };
        self.insert(origin.session, (origin.answered_below, origin.number), record);
        while self.records > records_max {
            self.forget_oldest();
        }
    }

    /// Adds a record of a session that has its answers below a number; those may go, if they are
    /// below `kept_from` too.
    fn insert(
        &mut self,
        id: SessionId,
        (answered_below, kept_from): (RequestNumber, RequestNumber),
        record: Record,
    ) {
        if self.oldest.back().is_some_and(|it| record.position.op <= it.op) {
            // It belongs among them.
            self.oldest.clear();
        }
        match self.sessions.entry(hash(id), |it| it.id == id, |it| hash(it.id)) {
            Place::Occupied(place) => {
                let session = place.into_mut();
                session.answered_below = session.answered_below.max(answered_below);
                let kept_from = session.answered_below.min(kept_from);
                let more = session.record_above(kept_from, record);
                self.records = self.records.saturating_add_signed(more);
            }
            Place::Vacant(place) => {
                self.records += 1;
                place.insert(Session { id, answered_below, first: record, rest: VecDeque::new() });
            }
        }
    }

    fn forget_oldest(&mut self) {
        while self.records > 0 {
            match self.oldest.pop_front() {
                None => self.find_oldest(),
                Some(oldest) => {
                    if self.forget(oldest) {
                        if !planted(Mutant::HorizonForgotten) {
                            self.horizon = self.horizon.max(oldest.op);
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Lists the older quarter of all records, so that the whole is seldom looked through.
    fn find_oldest(&mut self) {
        let all = self.sessions.iter().flat_map(|it| {
            let session = it.id;
            it.records().map(move |&Record { number, position, .. }| Oldest {
                op: position.op,
                session,
                number,
            })
        });
        let mut all: Vec<Oldest> = all.collect();
        all.sort_unstable();
        all.truncate(self.records.div_ceil(4));
        self.oldest = all.into();
    }

    /// Drops one record, if it is still there.
    fn forget(&mut self, Oldest { op, session, number }: Oldest) -> bool {
        let found = self.sessions.find_entry(hash(session), |it| it.id == session);
        let Ok(mut place) = found else { return false };
        let session = place.get_mut();
        if session.record(number).is_none_or(|it| it.position.op != op) {
            return false;
        }
        self.records -= 1;
        if session.first.number != number {
            session.rest.retain(|it| it.number != number);
        } else if let Some(next) = session.rest.pop_front() {
            session.first = next;
        } else {
            place.remove();
        }
        true
    }

    /// The sessions by their ids.
    fn sorted(&self) -> Vec<&Session> {
        let mut sessions: Vec<&Session> = self.sessions.iter().collect();
        sessions.sort_unstable_by_key(|it| it.id);
        sessions
    }

    /// The whole table, for a learner.
    #[must_use]
    pub fn snapshot(&self) -> DedupSnapshot {
        let records = self
            .sorted()
            .into_iter()
            .flat_map(|it| {
                it.records().map(move |&Record { number, position, written }| DedupRecord {
                    session: it.id,
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
        for DedupRecord { session, number, answered_below, position, written } in snapshot.records {
            let record = Record { number, position, written };
            dedup.insert(session, (answered_below, RequestNumber::default()), record);
        }
        dedup
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }
}

/// Equality and hash are over what is recorded, whatever its places.
impl PartialEq for Dedup {
    fn eq(&self, other: &Dedup) -> bool {
        self.horizon == other.horizon
            && self.sessions.len() == other.sessions.len()
            && self.sessions.iter().all(|it| other.session(it.id) == Some(it))
    }
}

impl Eq for Dedup {}

impl Hash for Dedup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.horizon.hash(state);
        self.sorted().hash(state);
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
    fn the_oldest_go_first_whatever_their_sessions_and_numbers() {
        // Beside it, a list of what is there, looked through for its lowest op at each step.
        let (mut dedup, mut listed) = (Dedup::default(), Vec::new());
        let mut random = 1_u64;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % limit
        };
        for op in 1..=2_000 {
            // Numbers of a session come out of order, but never twice.
            let (session, number) = (u128::from(below(40)), op ^ below(8));
            if listed.iter().any(|&(_, of, nth)| (of, nth) == (session, number)) {
                continue;
            }
            dedup.record(&entry(op, origin(session, number, 1, 0)), LossEpoch(0), 64);
            listed.push((op, session, number));
            if listed.len() > 64 {
                listed.remove(0);
            }
            assert_eq!(dedup.len(), listed.len());
            if below(10) == 0 {
                dedup = Dedup::from_snapshot(dedup.snapshot());
            }
        }
        let mut left: Vec<_> = dedup
            .snapshot()
            .records
            .iter()
            .map(|it| (it.position.op.0, it.session.0, it.number.0))
            .collect();
        left.sort_unstable();
        assert_eq!(left, listed);
    }

    #[test]
    fn late_writes_keep_their_records_in_a_snapshot() {
        // Both are below what the session has answers of, for its second came first.
        let mut dedup = Dedup::default();
        for (op, number, answered_below) in [(1, 3, 1), (2, 5, 9), (3, 4, 9)] {
            dedup.record(&entry(op, origin(1, number, answered_below, 0)), LossEpoch(0), 10);
        }
        assert_eq!(dedup.len(), 2);
        assert_eq!(Dedup::from_snapshot(dedup.snapshot()), dedup);
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
