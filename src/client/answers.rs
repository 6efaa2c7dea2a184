//! What operations give back: every answer carries the position at which it was computed, every
//! value the revision of the write that made it.

use super::error::{Error, Result, describe};
use crate::protocol::message::{Answer, Operation};
use crate::protocol::session::{NotDone, Outcome, Unknown};
use crate::protocol::types::{Position, Revision, Value, Written};

/// A stored value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// A slice of what came from the network: a small value that is kept keeps up to 64 KiB with
    /// it, unless it is copied (`Value::copy_from_slice`).
    pub value: Value,
    pub revision: Revision,
}

/// The answer to `get`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Read {
    pub position: Position,
    /// None if the key is absent.
    pub item: Option<Item>,
}

/// The answer to `put`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Write {
    pub position: Position,
}

impl Write {
    /// The revision that the value has now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.position.revision()
    }
}

/// The answer to `delete`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deleted {
    pub position: Position,
    /// Whether there was something to delete.
    pub existed: bool,
}

/// The answer to `cas`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CasAnswer {
    /// The key was as expected, and is as wished now.
    Swapped { position: Position },
    /// It was not, and nothing changed; the revision that was found, none if the key is absent.
    Mismatch { position: Position, found: Option<Revision> },
}

/// The answer to `incr`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    pub position: Position,
    pub value: i64,
}

/// How an operation ended, for whom the answer itself will do. An outcome of `None` is the
/// client's own end.
pub(super) fn result_of(operation: &Operation, outcome: Option<Outcome>) -> Result<Answer> {
    match outcome {
        Some(Outcome::Done(answer)) if !matches!(answer, Answer::Rejected { .. }) => Ok(answer),
        other => Subject::of(operation).answer(other),
    }
}

/// The name of what is about a whole key set.
static EVERY_KEY: bytes::Bytes = bytes::Bytes::new();

/// An operation in words, for errors: what it does, and on which name.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) verb: &'static str,
    pub(super) name: bytes::Bytes,
    pub(super) is_write: bool,
}

impl Subject {
    pub(super) fn of(operation: &Operation) -> Subject {
        let (verb, name) = match operation {
            Operation::Get { key } => ("get", key),
            Operation::Put { key, .. } | Operation::PutFor { key, .. } => ("put", key),
            Operation::Delete { key } => ("delete", key),
            Operation::Cas { key, .. } | Operation::CasFor { key, .. } => ("cas", key),
            Operation::Incr { key, .. } => ("incr", key),
            Operation::Scan { prefix, .. } => ("scan", prefix),
            Operation::Changes { .. } => ("read changes of", &EVERY_KEY),
        };
        Subject { verb, name: name.clone(), is_write: operation.is_write() }
    }

    pub(super) fn what(&self) -> String {
        describe(self.verb, &self.name)
    }

    /// The answer of an operation that was done. An answer of `None` is the client's own end.
    pub(super) fn answer(&self, outcome: Option<Outcome>) -> Result<Answer> {
        let what = || self.what();
        match outcome {
            Some(Outcome::Done(Answer::Rejected { position, reason })) => {
                Err(Error::Rejected { what: what(), position, why: reason })
            }
            Some(Outcome::Done(answer)) => Ok(answer),
            Some(Outcome::NotDone(why)) => Err(Error::NotDone { what: what(), why }),
            Some(Outcome::Unknown(why)) => Err(Error::Unknown { what: what(), why }),
            None => Err(Error::Closed { what: what(), sent: self.is_write }),
        }
    }

    /// The session lets only fitting answers through; this is what is left to say if it did not.
    fn misfit<T>(&self) -> Result<T> {
        let what = self.what();
        if self.is_write {
            Err(Error::Unknown { what, why: Unknown::Misfit })
        } else {
            Err(Error::NotDone { what, why: NotDone::Misfit })
        }
    }

    pub(super) fn read(&self, outcome: Option<Outcome>) -> Result<Read> {
        match self.answer(outcome)? {
            Answer::Found { position, revision, value } => {
                Ok(Read { position, item: Some(Item { value, revision }) })
            }
            Answer::Absent { position } => Ok(Read { position, item: None }),
            _ => self.misfit(),
        }
    }

    pub(super) fn write(&self, outcome: Option<Outcome>) -> Result<Write> {
        match self.answer(outcome)? {
            Answer::Written { position, .. } => Ok(Write { position }),
            _ => self.misfit(),
        }
    }

    pub(super) fn deleted(&self, outcome: Option<Outcome>) -> Result<Deleted> {
        match self.answer(outcome)? {
            Answer::Written { position, .. } => Ok(Deleted { position, existed: true }),
            Answer::Absent { position } => Ok(Deleted { position, existed: false }),
            _ => self.misfit(),
        }
    }

    pub(super) fn cas(&self, outcome: Option<Outcome>) -> Result<CasAnswer> {
        match self.answer(outcome)? {
            Answer::Written { position, .. } => Ok(CasAnswer::Swapped { position }),
            Answer::Mismatch { position, found } => Ok(CasAnswer::Mismatch { position, found }),
            _ => self.misfit(),
        }
    }

    pub(super) fn count(&self, outcome: Option<Outcome>) -> Result<Count> {
        match self.answer(outcome)? {
            Answer::Written { position, written: Written::Counter(value) } => {
                Ok(Count { position, value })
            }
            _ => self.misfit(),
        }
    }
}
