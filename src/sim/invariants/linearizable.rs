//! What clients saw can be put into one order that respects real time.
//!
//! The servers name the order themselves: every answer carries its position. So the check is a
//! replay and two sweeps (a witness check: accepting is sound without trusting the positions).
//! Each answer must be what the committed writes up to its position make it; and no operation may
//! stand before one that had ended before it began.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use super::Invariant;
use crate::protocol::message::{Answer, Expect, Operation, Rejection};
use crate::protocol::time::Time;
use crate::protocol::types::{
    Key, KeySet, LossEpoch, Op, Position, Record, Revision, Value, Written,
};
use crate::sim::truth::{Ending, Fact, OperationId, Truth, WriteId};

/// An operation whose end is known.
#[derive(Clone, Debug)]
struct Seen {
    set: KeySet,
    what: Operation,
    began: Time,
    ended: Time,
    write: Option<WriteId>,
    answer: Answer,
}

/// An operation in flight.
#[derive(Clone, Debug)]
struct Begun {
    set: KeySet,
    what: Operation,
    began: Time,
    /// The highest place of what had ended before, and the operation that stands there.
    after: Option<(Place, usize)>,
}

/// Place in the order: a write stands at its op, a read after it.
type Place = (LossEpoch, Op, bool);

impl Seen {
    /// The operation, in words for whoever looks for the fault.
    fn told(&self) -> String {
        let Seen { what, began, ended, answer, .. } = self;
        format!("{what:?} from {} to {} us: {answer:?}", began.0 / 1_000, ended.0 / 1_000)
    }

    fn place(&self) -> Option<Place> {
        let position = self.answer.position()?;
        let is_write = matches!(self.answer, Answer::Written { .. });
        Some((position.loss_epoch, position.op, !is_write))
    }
}

/// See the file's page.
#[derive(Clone, Debug, Default)]
pub struct Linearizable {
    begun: BTreeMap<OperationId, Begun>,
    seen: Vec<Seen>,
    /// The highest place of all that has ended, by key set, and the operation that stands there.
    highest: BTreeMap<KeySet, (Place, usize)>,
}

impl Invariant for Linearizable {
    const NAME: &'static str = "linearizable";

    fn judge(&mut self, at: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Invoked { operation, set, what } => {
                let after = self.highest.get(&set).copied();
                let what = what.clone();
                self.begun.insert(operation, Begun { set, what, began: at, after });
                Ok(())
            }
            Fact::Ended { operation, write, ending } => {
                let begun = self.begun.remove(&operation);
                let (Some(begun), Ending::Done(answer)) = (begun, ending) else { return Ok(()) };
                let Begun { set, what, began, after } = begun;
                let seen = Seen { set, what, began, ended: at, write, answer: answer.clone() };
                self.end(seen, after)
            }
            _ => Ok(()),
        }
    }
}

/// What the future can be judged by: an explorer that calls `finish` after every operation may
/// take two pasts that differ in nothing else for one.
impl Hash for Linearizable {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for (operation, begun) in &self.begun {
            (operation, begun.after.map(|(place, _)| place)).hash(hasher);
        }
        for (set, (place, _)) in &self.highest {
            (set, place).hash(hasher);
        }
    }
}

impl Linearizable {
    /// No operation stands before one that had ended before it began.
    fn end(&mut self, seen: Seen, after: Option<(Place, usize)>) -> Result<(), String> {
        let Some(place) = seen.place() else { return Ok(()) };
        if let Some((_, earlier)) = after.filter(|(earlier, _)| place < *earlier) {
            let earlier = self.seen.get(earlier).map(Seen::told).unwrap_or_default();
            return Err(format!("{} stands before {earlier}, which had ended", seen.told()));
        }
        let here = (place, self.seen.len());
        let highest = self.highest.entry(seen.set).or_insert(here);
        *highest = here.max(*highest);
        self.seen.push(seen);
        Ok(())
    }

    /// Operations with a known end.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Judges the whole history.
    ///
    /// # Errors
    /// The first operation that fits no order.
    pub fn finish(&self, truth: &Truth) -> Result<(), String> {
        let mut sets: BTreeMap<KeySet, Vec<&Seen>> = BTreeMap::new();
        for seen in &self.seen {
            sets.entry(seen.set).or_default().push(seen);
        }
        for (set, mut seen) in sets {
            replay(set, &mut seen, truth).map_err(|words| format!("{set}: {words}"))?;
        }
        Ok(())
    }
}

type State = BTreeMap<Key, (Value, Revision)>;

/// Every answer is what the committed writes up to its position make it.
fn replay(set: KeySet, seen: &mut [&Seen], truth: &Truth) -> Result<(), String> {
    seen.sort_by_key(|it| it.place());
    let empty = BTreeMap::new();
    let committed = truth.committed.get(&set).unwrap_or(&empty);
    let mut writes = committed.iter().peekable();
    let mut state = State::new();
    let mut loss = LossEpoch(0);
    for it in seen.iter() {
        let Some(position) = it.answer.position() else { continue };
        let is_write = matches!(it.answer, Answer::Written { .. });
        let before = |place: (LossEpoch, Op)| {
            let at = (position.loss_epoch, position.op);
            if is_write { place < at } else { place <= at }
        };
        while let Some((&(loss_epoch, op), write)) = writes.next_if(|(place, _)| before(**place)) {
            if loss_epoch > loss {
                // A set that was reopened after losing data starts empty.
                state.clear();
                loss = loss_epoch;
            }
            let revision = Revision { loss_epoch, op };
            match &write.value {
                Some(value) => state.insert(write.key.clone(), (value.clone(), revision)),
                None => state.remove(&write.key),
            };
        }
        if position.loss_epoch > loss {
            state.clear();
            loss = position.loss_epoch;
        }
        if is_write {
            fits_write(it, position, truth)?;
        }
        fits(&it.what, &it.answer, &state)
            .map_err(|words| format!("{words}: {}, but the state is {state:?}", it.told()))?;
    }
    Ok(())
}

/// An acknowledged write is the one committed at its position.
fn fits_write(seen: &Seen, position: Position, truth: &Truth) -> Result<(), String> {
    let there = truth.committed_at(seen.set, position.revision());
    if there.is_some_and(|there| there.write == seen.write && there.write.is_some()) {
        return Ok(());
    }
    Err(format!("{} is not the write at its position: {there:?}", seen.told()))
}

/// Whether `answer` is right for `what` in the state just before it.
fn fits(what: &Operation, answer: &Answer, state: &State) -> Result<(), &'static str> {
    let found = what.key().and_then(|key| state.get(key));
    let right = match (what, answer) {
        (Operation::Get { .. }, Answer::Found { value, revision, .. }) => {
            found == Some(&(value.clone(), *revision))
        }
        (Operation::Get { .. } | Operation::Delete { .. }, Answer::Absent { .. }) => {
            found.is_none()
        }
        (Operation::Put { .. } | Operation::PutFor { .. }, Answer::Written { written, .. }) => {
            *written == Written::Stored
        }
        (Operation::Delete { .. }, Answer::Written { written, .. }) => {
            found.is_some() && *written == Written::Deleted
        }
        (
            Operation::Cas { expect, .. } | Operation::CasFor { expect, .. },
            Answer::Written { .. },
        ) => expected(expect, found),
        (
            Operation::Cas { expect, .. } | Operation::CasFor { expect, .. },
            Answer::Mismatch { found: named, .. },
        ) => !expected(expect, found) && *named == found.map(|(_, revision)| *revision),
        (Operation::Incr { by, .. }, Answer::Written { written, .. }) => {
            let sum = number(found).and_then(|number| number.checked_add(*by));
            sum.map(Written::Counter) == Some(*written)
        }
        (Operation::Incr { by, .. }, Answer::Rejected { reason, .. }) => match reason {
            Rejection::ChangesForgotten => false,
            Rejection::NotANumber => number(found).is_none(),
            Rejection::Overflow => {
                number(found).is_some_and(|number| number.checked_add(*by).is_none())
            }
        },
        (Operation::Scan { prefix, after, .. }, Answer::Page { records, more, .. }) => {
            page(state, prefix, after.as_ref(), records, *more)
        }
        _ => false,
    };
    if right { Ok(()) } else { Err("a wrong answer") }
}

fn expected(expect: &Expect, found: Option<&(Value, Revision)>) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::Value(value) => found.is_some_and(|(known, _)| known == value),
        Expect::Revision(revision) => found.is_some_and(|(_, known)| known == revision),
    }
}

fn number(found: Option<&(Value, Revision)>) -> Option<i64> {
    match found {
        None => Some(0),
        Some((value, _)) => std::str::from_utf8(value).ok()?.parse().ok(),
    }
}

fn page(state: &State, prefix: &Key, after: Option<&Key>, records: &[Record], more: bool) -> bool {
    let inside = |key: &Key| key.starts_with(prefix) && after.is_none_or(|after| after < key);
    let mut there = state.iter().filter(|(key, _)| inside(key));
    let same = records.iter().all(|record| {
        there.next() == Some((&record.key, &(record.value.clone(), record.revision)))
    });
    same && more == there.next().is_some()
}

#[cfg(test)]
mod tests {
    //! Goal: histories that no order explains are rejected, good ones accepted.
    //! Method: hand-made histories of one key, with the committed writes beside them.

    use std::rc::Rc;

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::Entry;
    use crate::sim::Process;

    const SET: KeySet = KeySet(0);

    fn found(op: u64, value: &'static str) -> Answer {
        let value = Value::from_static(value.as_bytes());
        Answer::Found { position: position(1, op), revision: revision(op), value }
    }

    /// Commits `x` at op 1 and `y` at op 2 of key a; each operation begins and ends at the times
    /// given, and names the write that it is.
    fn judged(history: &[(u64, u64, Operation, Option<u64>, Answer)]) -> Result<(), String> {
        let mut truth = Truth::default();
        let entries: [Rc<Entry>; 2] = [entry(1, 1, "a", "x"), entry(1, 2, "a", "y")];
        for entry in &entries {
            let revision = revision(entry.op.0);
            let process = Process(1);
            truth.take(&Fact::Applied { process, set: SET, revision, entry, copying: false });
        }
        let mut events = Vec::new();
        for (index, (began, ended, what, number, answer)) in history.iter().enumerate() {
            let operation = OperationId(index as u64);
            let write = number.map(|number| {
                let origin = origin(1, number);
                (origin.session, origin.number)
            });
            events.push((*began, Fact::Invoked { operation, set: SET, what }));
            let ending = Ending::Done(answer);
            events.push((*ended, Fact::Ended { operation, write, ending }));
        }
        events.sort_by_key(|(at, _)| *at);
        let mut checker = Linearizable::default();
        for (at, fact) in &events {
            checker.judge(Time(*at), fact, &truth)?;
        }
        checker.finish(&truth)
    }

    #[test]
    fn good_histories_are_accepted() {
        let history = [
            (1, 4, put("a", "x"), Some(1), stored(1, 1)),
            (2, 9, put("a", "y"), Some(2), stored(1, 2)),
            (5, 6, get("a"), None, found(1, "x")),
            (10, 11, get("a"), None, found(2, "y")),
        ];
        assert_eq!(judged(&history), Ok(()));
    }

    #[test]
    fn a_stale_read_is_rejected() {
        let history = [
            (1, 2, put("a", "x"), Some(1), stored(1, 1)),
            (3, 4, put("a", "y"), Some(2), stored(1, 2)),
            (5, 6, get("a"), None, found(1, "x")),
        ];
        assert!(judged(&history).is_err());
    }

    #[test]
    fn reads_that_go_back_are_rejected() {
        let history =
            [(1, 2, get("a"), None, found(2, "y")), (3, 4, get("a"), None, found(1, "x"))];
        assert!(judged(&history).is_err());
    }

    #[test]
    fn a_value_from_nowhere_is_rejected() {
        assert!(judged(&[(1, 2, get("a"), None, found(1, "z"))]).is_err());
        assert!(judged(&[(1, 2, get("a"), None, absent(1, 2))]).is_err());
    }

    #[test]
    fn a_write_that_is_not_at_its_position_is_rejected() {
        assert!(judged(&[(1, 2, put("a", "x"), Some(1), stored(1, 2))]).is_err());
    }

    #[test]
    fn a_cas_that_should_have_failed_is_rejected() {
        let cas = |expect| Operation::Cas {
            key: Key::from_static(b"a"),
            expect,
            value: Some(Value::from_static(b"y")),
        };
        let value = |value: &'static str| Expect::Value(Value::from_static(value.as_bytes()));
        assert_eq!(judged(&[(1, 2, cas(value("x")), Some(2), stored(1, 2))]), Ok(()));
        assert!(judged(&[(1, 2, cas(Expect::Absent), Some(2), stored(1, 2))]).is_err());
        let mismatch = Answer::Mismatch { position: position(1, 1), found: Some(revision(1)) };
        assert_eq!(judged(&[(1, 2, cas(value("y")), None, mismatch.clone())]), Ok(()));
        assert!(judged(&[(1, 2, cas(value("x")), None, mismatch)]).is_err());
    }
}
