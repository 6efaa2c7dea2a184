//! Clients: each has one write, and tries it at any server at any time, as often as it may.
//!
//! An attempt reaches its server at once, and an answer its client: a request or an answer on its
//! way only makes operations overlap more, and so forbids less. A lost request is one that is not
//! sent, a lost answer one that is ignored: the client tries again all the same.

use bytes::Bytes;
use tandem::protocol::effect::Ticket;
use tandem::protocol::message::{AckLevel, Operation, ReadLevel, Request};
use tandem::protocol::types::{LinkId, Origin, RequestNumber, Revision, SessionId};

use super::judge::KEY;
use crate::plan::{What, Write};

/// Links of clients are numbered apart from those of servers.
const CLIENT_LINKS: u64 = 1 << 20;

/// The link of whoever reads.
pub const READER: Ticket = Ticket { link: LinkId(CLIENT_LINKS - 1), request: 0 };

/// How far a client's write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Fate {
    Wished,
    Begun,
    Ended,
}

/// A client.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Client {
    pub fate: Fate,
    /// Attempts that it may still make, and attempts without an answer.
    pub left: u8,
    pub open: u8,
    /// Some attempt may have been admitted.
    pub unsure: bool,
}

impl Client {
    #[must_use]
    pub fn new(write: Write) -> Client {
        Client { fate: Fate::Wished, left: write.attempts, open: 0, unsure: false }
    }
}

/// What the client with this number writes.
#[must_use]
pub fn operation(client: usize, what: What) -> Operation {
    let value: &'static [u8] = &b"abcdefgh"[client..=client];
    match what {
        What::Put => Operation::Put { key: KEY, value: Bytes::from_static(value) },
        What::Delete => Operation::Delete { key: KEY },
    }
}

fn session(client: usize) -> SessionId {
    SessionId(client as u128 + 1)
}

/// The name by which replicas recognise the write.
#[must_use]
pub fn write_id(client: usize) -> (SessionId, RequestNumber) {
    (session(client), RequestNumber(1))
}

/// A client's write as a request.
#[must_use]
pub fn write(client: usize, what: What) -> Request {
    let (session, number) = write_id(client);
    let origin = Origin { session, number, answered_below: number, base: Revision::default() };
    request(operation(client, what), Some(origin))
}

/// A read as a request.
#[must_use]
pub fn read() -> Request {
    request(Operation::Get { key: KEY }, None)
}

fn request(operation: Operation, origin: Option<Origin>) -> Request {
    let (read_level, ack_level) = (ReadLevel::default(), AckLevel::default());
    Request { operation, origin, read_level, ack_level, expiry_ms: None }
}

/// The ticket of an attempt.
#[must_use]
pub fn ticket(client: usize, attempt: u8) -> Ticket {
    Ticket { link: LinkId(CLIENT_LINKS + client as u64), request: u64::from(attempt) }
}

/// Whose ticket it is; none for a reader's.
#[must_use]
pub fn client_of(ticket: Ticket) -> Option<usize> {
    usize::try_from(ticket.link.0.checked_sub(CLIENT_LINKS)?).ok()
}
