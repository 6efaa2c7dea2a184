//! What a client is told when an operation is not done: surely not, or perhaps.

use std::fmt;

use crate::protocol::message::{Refusal, Rejection};
use crate::protocol::session::{NotDone, Unknown, Waiting};
use crate::protocol::types::Position;

/// Why an operation has no result. The two halves are never blurred: after `NotDone` nothing was
/// changed nor will be, after `Unknown` it may have been, or may still be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// Surely not done.
    NotDone { what: String, why: NotDone },
    /// It may or may not have been done.
    Unknown { what: String, why: Unknown },
    /// Done, and it changes nothing: the stored value does not allow it.
    Rejected { what: String, position: Position, why: Rejection },
    /// The client was closed; `sent` operations may or may not have been done.
    Closed { what: String, sent: bool },
}

/// The result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether it is sure that nothing was changed nor will be.
    #[must_use]
    pub fn is_surely_not_done(&self) -> bool {
        match self {
            Error::NotDone { .. } | Error::Rejected { .. } => true,
            Error::Unknown { .. } => false,
            Error::Closed { sent, .. } => !sent,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotDone { what, why } => {
                write!(f, "{what} was not done: ")?;
                not_done(f, why)
            }
            Error::Unknown { what, why } => {
                write!(f, "{what} may or may not have been done: ")?;
                unknown(f, why)?;
                f.write_str("; read the key to find out")
            }
            Error::Rejected { what, why, .. } => {
                write!(f, "{what} changed nothing: ")?;
                f.write_str(match why {
                    Rejection::NotANumber => "the value is not a 64-bit decimal number",
                    Rejection::Overflow => "the sum does not fit into 64 bits",
                    Rejection::ChangesForgotten => {
                        "not all changes since then are known any more: read the whole key set"
                    }
                })
            }
            Error::Closed { what, sent: true } => {
                write!(f, "{what} may or may not have been done: the client was closed")
            }
            Error::Closed { what, sent: false } => {
                write!(f, "{what} was not done: the client was closed")
            }
        }
    }
}

fn not_done(f: &mut fmt::Formatter<'_>, why: &NotDone) -> fmt::Result {
    match why {
        NotDone::Refused(refusal) => refused(f, refusal),
        NotDone::Deadline { waiting, refusal } => {
            write!(f, "its time is up, {}", waiting_for(*waiting))?;
            if let Some(refusal) = refusal {
                f.write_str("; last refusal: ")?;
                refused(f, refusal)?;
            }
            Ok(())
        }
        NotDone::TooMany { outstanding_max } => write!(
            f,
            "the session has {outstanding_max} operations in flight; wait for some of them"
        ),
        NotDone::Misfit => f.write_str("the server's answer does not fit the question"),
    }
}

fn unknown(f: &mut fmt::Formatter<'_>, why: &Unknown) -> fmt::Result {
    match why {
        Unknown::Deadline { waiting } => {
            write!(
                f,
                "its time is up, {}, and an attempt was never answered",
                waiting_for(*waiting)
            )
        }
        Unknown::Forgotten => {
            f.write_str("an attempt was never answered, and the servers keep no record of it")
        }
        Unknown::Refused(refusal) => {
            f.write_str("an attempt was never answered, and a later one was refused: ")?;
            refused(f, refusal)
        }
        Unknown::Earlier(_) => f.write_str(
            "a later attempt changed nothing, but an earlier one was never answered and may \
             still come",
        ),
        Unknown::Misfit => f.write_str("the server's answer does not fit the question"),
    }
}

fn waiting_for(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Primary => {
            "no primary of its key set is known (`tandem --role client status` shows why)"
        }
        Waiting::Link => "the primary of its key set can not be reached",
        Waiting::Answer => "the primary of its key set does not answer",
        Waiting::Turn => "the servers refused it for the time being",
    }
}

fn refused(f: &mut fmt::Formatter<'_>, refusal: &Refusal) -> fmt::Result {
    match refusal {
        Refusal::NotPrimary { .. } => f.write_str("the server is not the key set's primary"),
        Refusal::Busy => f.write_str("the server is busy"),
        Refusal::BaseNeeded { .. } => f.write_str("the session is too old for the key set"),
        Refusal::KeyTooLarge { bytes_max } => {
            write!(f, "the key is too large, the cluster takes up to {bytes_max} bytes")
        }
        Refusal::ValueTooLarge { bytes_max } => {
            write!(f, "the value is too large, the cluster takes up to {bytes_max} bytes")
        }
        Refusal::EmptyKey => f.write_str("the key is empty; a key has at least one byte"),
        Refusal::TooManyExpire { bytes_max } => write!(
            f,
            "the keys of its key set that expire take {bytes_max} bytes already; use more key sets"
        ),
        Refusal::BelowWriteFloor { copies, floor } => write!(
            f,
            "the key set has {copies} of the {floor} copies without which it takes no writes"
        ),
        Refusal::Lost => f.write_str(
            "all copies of its key set are gone; an administrator can reopen it empty with \
             `admin revive`",
        ),
        Refusal::Unborn => {
            f.write_str("the cluster has not created its key sets yet; it waits for its servers")
        }
        Refusal::UnknownSet => f.write_str("there is no such key set"),
        Refusal::Unsupported => f.write_str("the server does not offer this yet"),
        Refusal::Malformed => f.write_str("the server says that the request has no meaning"),
        Refusal::Full { server } => write!(
            f,
            "server {} is full: until keys are deleted or it is given more room, nothing \
             that grows is stored (`tandem --role client status` shows how full each server is)",
            server.0
        ),
    }
}

/// An operation and its key in words for a person.
pub(super) fn describe(verb: &str, key: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 64;
    let shown = &key[..key.len().min(SHOWN_BYTES_MAX)];
    let dots = if shown.len() < key.len() { "..." } else { "" };
    format!("{verb} \"{}{dots}\"", shown.escape_ascii())
}
