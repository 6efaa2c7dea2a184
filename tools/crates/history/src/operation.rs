//! One operation of a history: what was asked, when, and what became of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tandem::protocol::message;
use tandem::protocol::types::{Position, Revision, Written};

/// A key or a value; shared, because a history names each of them many times.
pub type Text = Arc<str>;

/// What a `cas` expects to find.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expect {
    Absent,
    Value(Text),
    Revision(Revision),
}

/// What was asked of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    Get,
    Put {
        value: Text,
    },
    Delete,
    /// Stores `value`, or deletes if none, where the key is as expected.
    Cas {
        expect: Expect,
        value: Option<Text>,
    },
    /// Adds to a decimal number; an absent key counts as 0.
    Incr {
        by: i64,
    },
}

impl What {
    /// The request to send for it.
    #[must_use]
    pub fn request(&self, key: &str) -> message::Operation {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let key = bytes(key);
        match self {
            What::Get => message::Operation::Get { key },
            What::Put { value } => message::Operation::Put { key, value: bytes(value) },
            What::Delete => message::Operation::Delete { key },
            What::Cas { expect, value } => {
                let expect = match expect {
                    Expect::Absent => message::Expect::Absent,
                    Expect::Value(value) => message::Expect::Value(bytes(value)),
                    Expect::Revision(revision) => message::Expect::Revision(*revision),
                };
                let value = value.as_ref().map(|value| bytes(value));
                message::Operation::Cas { key, expect, value }
            }
            What::Incr { by } => message::Operation::Incr { key, by: *by },
        }
    }
}

/// What an operation gave back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Of `get`: the value, none if the key is absent.
    Value(Option<Text>),
    /// Of `put`.
    Stored,
    /// Of `delete`: whether there was something to delete.
    Existed(bool),
    /// Of `cas`: whether the key was as expected.
    Swapped(bool),
    /// Of `incr`: the new number; none if the value is no number, or the sum too large.
    Number(Option<i64>),
}

/// The answer to an operation that was done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    pub reply: Reply,
    /// Of the value that was read or written; none where there is none.
    pub revision: Option<Revision>,
    /// Where in its key set's history the answer was computed; other stores may not know it.
    pub position: Option<Position>,
}

impl Answer {
    /// Whether the operation changed its key.
    #[must_use]
    pub fn has_effect(&self) -> bool {
        match self.reply {
            Reply::Stored | Reply::Existed(true) | Reply::Swapped(true) => true,
            Reply::Number(number) => number.is_some(),
            Reply::Value(_) | Reply::Existed(false) | Reply::Swapped(false) => false,
        }
    }
}

/// What became of an operation, as its client knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Ok(Answer),
    /// The server said that it was not done and never will be.
    Fail,
    /// It may have been done, or may still be.
    Unknown,
}

impl Outcome {
    /// What a server's answer to `what` comes to, if it was the only attempt.
    #[must_use]
    pub fn of(what: &What, answer: &message::Answer) -> Outcome {
        let done = |reply, revision, position| {
            Outcome::Ok(Answer { reply, revision, position: Some(position) })
        };
        match (what, answer) {
            (What::Get, message::Answer::Found { position, revision, value }) => {
                let value = Text::from(String::from_utf8_lossy(value));
                done(Reply::Value(Some(value)), Some(*revision), *position)
            }
            (What::Get, message::Answer::Absent { position }) => {
                done(Reply::Value(None), None, *position)
            }
            (What::Delete, message::Answer::Absent { position }) => {
                done(Reply::Existed(false), None, *position)
            }
            (What::Cas { .. }, message::Answer::Mismatch { position, found }) => {
                done(Reply::Swapped(false), *found, *position)
            }
            (What::Incr { .. }, message::Answer::Rejected { position, .. }) => {
                done(Reply::Number(None), None, *position)
            }
            (_, message::Answer::Written { position, written }) => {
                let reply = match (what, written) {
                    (What::Put { .. }, Written::Stored) => Reply::Stored,
                    (What::Delete, Written::Deleted) => Reply::Existed(true),
                    (What::Cas { .. }, Written::Stored | Written::Deleted) => Reply::Swapped(true),
                    (What::Incr { .. }, Written::Counter(number)) => Reply::Number(Some(*number)),
                    _ => return Outcome::Unknown,
                };
                done(reply, Some(position.revision()), *position)
            }
            (_, message::Answer::Refused(_)) => Outcome::Fail,
            _ => Outcome::Unknown,
        }
    }
}

/// What became of an operation, and when its client knew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    Ok {
        return_ns: u64,
        answer: Answer,
    },
    Fail {
        return_ns: u64,
    },
    /// Also of operations that were never completed, because the tester crashed.
    Unknown,
}

/// One operation of a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// Where it stands in its file, from 1; for messages.
    pub line: usize,
    /// The client, which has at most one operation in flight and is retired by an unknown one.
    pub process: u64,
    pub key: Text,
    pub what: What,
    pub invoke_ns: u64,
    pub ending: Ending,
}

impl Operation {
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.ending {
            Ending::Ok { answer, .. } => Some(answer),
            Ending::Fail { .. } | Ending::Unknown => None,
        }
    }

    #[must_use]
    pub fn return_ns(&self) -> Option<u64> {
        match self.ending {
            Ending::Ok { return_ns, .. } | Ending::Fail { return_ns } => Some(return_ns),
            Ending::Unknown => None,
        }
    }

    /// Whether it is a write that may have been done, or may still be.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.ending == Ending::Unknown && self.what != What::Get
    }
}

/// `line 7: process 3 put k1 = "a" (0.120 to 0.340 ms): ok`, times in milliseconds.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: process {} ", self.line, self.process)?;
        let key = &self.key;
        match &self.what {
            What::Get => write!(f, "get {key}")?,
            What::Put { value } => write!(f, "put {key} = {value:?}")?,
            What::Delete => write!(f, "delete {key}")?,
            What::Cas { expect, value } => {
                write!(f, "cas {key} from ")?;
                match expect {
                    Expect::Absent => f.write_str("absent")?,
                    Expect::Value(value) => write!(f, "{value:?}")?,
                    Expect::Revision(revision) => write!(f, "revision {}", Named(*revision))?,
                }
                match value {
                    Some(value) => write!(f, " to {value:?}")?,
                    None => f.write_str(" to absent")?,
                }
            }
            What::Incr { by } => write!(f, "incr {key} by {by}")?,
        }
        let ms = |ns: u64| ns as f64 / 1e6;
        write!(f, " ({:.6} to ", ms(self.invoke_ns))?;
        match self.return_ns() {
            Some(ns) => write!(f, "{:.6} ms)", ms(ns))?,
            None => f.write_str("? ms)")?,
        }
        match &self.ending {
            Ending::Ok { answer, .. } => write!(f, ": {answer}"),
            Ending::Fail { .. } => f.write_str(": surely not done"),
            Ending::Unknown => f.write_str(": outcome unknown"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Reply::Value(Some(value)) => write!(f, "found {value:?}")?,
            Reply::Value(None) => f.write_str("found nothing")?,
            Reply::Stored => f.write_str("stored")?,
            Reply::Existed(true) => f.write_str("deleted")?,
            Reply::Existed(false) => f.write_str("found nothing to delete")?,
            Reply::Swapped(true) => f.write_str("swapped")?,
            Reply::Swapped(false) => f.write_str("found something else")?,
            Reply::Number(Some(number)) => write!(f, "now {number}")?,
            Reply::Number(None) => f.write_str("refused to add")?,
        }
        if let Some(revision) = self.revision {
            write!(f, ", revision {}", Named(revision))?;
        }
        if let Some(position) = self.position {
            write!(f, ", at {position}")?;
        }
        Ok(())
    }
}

/// A revision as messages name it.
pub(crate) struct Named(pub Revision);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.loss_epoch.0, self.0.op.0)
    }
}
