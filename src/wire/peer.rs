//! What servers send each other. Writes are read without a copy of their keys and values.

use std::rc::Rc;

use bytes::BytesMut;
use serde::Deserialize;

use super::frame::{Frame, HEADER_BYTES_USUAL, WireError, decode, encode, no_tail};
use super::limits::{Kind, Limits};
use super::raw::Raw;
use crate::protocol::message::PeerMessage;
use crate::protocol::types::{Change, Entry, Epoch, Expiry, Op, Origin, Record, Written};

/// The number of `PeerMessage::Prepare` among its variants.
const PREPARE: u8 = 1;

/// The fewest bytes that an entry takes.
const ENTRY_BYTES_MIN: usize = 7;

/// The longest numbers in postcard: of 32 bits, as lengths of keys and values are, of 64, of 128.
const LENGTH_BYTES_MAX: usize = 5;
const NUMBER_BYTES_MAX: usize = 10;
const SESSION_BYTES_MAX: usize = 19;

/// What a record takes beside its key and value.
const RECORD_BYTES_MAX: usize = 3 * LENGTH_BYTES_MAX + NUMBER_BYTES_MAX;

/// What an entry takes beside its key and value: its numbers, its origin, which has three numbers
/// and a loss epoch beside the session, its expiry and its result, and the tags between them.
const ENTRY_BYTES_MAX: usize = 8 * NUMBER_BYTES_MAX + SESSION_BYTES_MAX + 3 * LENGTH_BYTES_MAX + 8;

/// Appends one frame.
///
/// # Errors
/// It is larger than the limits allow; the buffer is as it was.
pub fn encode_peer(
    buffer: &mut BytesMut,
    limits: &Limits,
    message: &PeerMessage,
) -> Result<(), WireError> {
    let header = (message, HEADER_BYTES_USUAL + peer_bytes(message));
    encode(buffer, limits, (Kind::Peer, 0), header, &[])
}

/// The message in `frame`.
///
/// # Errors
/// The frame is not exactly one such message.
pub fn decode_peer<'a>(frame: impl Into<Frame<'a>>) -> Result<PeerMessage, WireError> {
    let frame = frame.into();
    if (frame.kind, frame.body.first()) == (Kind::Peer, Some(&PREPARE)) {
        return decode_prepare(frame);
    }
    decode(frame, Kind::Peer)
}

/// A `Prepare`, whose keys and values share the frame's memory: they are there until their writes
/// commit.
fn decode_prepare(frame: Frame<'_>) -> Result<PeerMessage, WireError> {
    let mut rest = &frame.body[1..];
    let (set, epoch) = next(&mut rest)?;
    let count: usize = next(&mut rest)?;
    // A claim takes no memory: each entry is longer than a byte.
    let mut entries = Vec::with_capacity(count.min(rest.len() / ENTRY_BYTES_MIN));
    for _ in 0..count {
        let header: EntryHeader<'_> = next(&mut rest)?;
        entries.push(Rc::new(header.entry(frame)));
    }
    let (commit, ask) = next(&mut rest)?;
    no_tail(Kind::Peer, rest)?;
    Ok(PeerMessage::Prepare { set, epoch, entries, commit, ask })
}

/// Takes a part of a message off the front of `rest`.
fn next<'a, T: Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<T, WireError> {
    let malformed = WireError::Malformed { kind: Kind::Peer };
    let (part, behind) = postcard::take_from_bytes(rest).map_err(|_| malformed)?;
    *rest = behind;
    Ok(part)
}

/// An entry whose key and value lie in the frame.
#[derive(Deserialize)]
struct EntryHeader<'a> {
    epoch: Epoch,
    born: Epoch,
    op: Op,
    origin: Option<Origin>,
    #[serde(borrow)]
    key: Raw<'a>,
    #[serde(borrow)]
    change: ChangeHeader<'a>,
    written: Written,
}

#[derive(Deserialize)]
enum ChangeHeader<'a> {
    Put(#[serde(borrow)] Raw<'a>),
    Delete,
    Expiring(#[serde(borrow)] Raw<'a>, Expiry),
}

impl EntryHeader<'_> {
    fn entry(self, frame: Frame<'_>) -> Entry {
        let EntryHeader { epoch, born, op, origin, key, change, written } = self;
        let change = match change {
            ChangeHeader::Put(value) => Change::Put(value.share(frame)),
            ChangeHeader::Delete => Change::Delete,
            ChangeHeader::Expiring(value, expiry) => Change::Expiring(value.share(frame), expiry),
        };
        Entry { epoch, born, op, origin, key: key.share(frame), change, written }
    }
}

/// What the lists of a message take, about; more than enough as a rule.
fn peer_bytes(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Prepare { entries, .. } => entries.iter().map(|it| entry_bytes(it)).sum(),
        PeerMessage::CopyChunk { records, .. } => records.iter().map(record_bytes).sum(),
        PeerMessage::CopyChanges { records, deleted, .. } => {
            let deleted = deleted.iter().map(|key| key.len() + LENGTH_BYTES_MAX);
            records.iter().map(record_bytes).chain(deleted).sum()
        }
        PeerMessage::NewEpoch { .. }
        | PeerMessage::Ack { .. }
        | PeerMessage::Fenced { .. }
        | PeerMessage::Resigned { .. }
        | PeerMessage::RunStart { .. }
        | PeerMessage::ChunkStored { .. }
        | PeerMessage::RunLost { .. }
        | PeerMessage::Beacon { .. }
        | PeerMessage::Grant { .. }
        | PeerMessage::RunBase { .. }
        | PeerMessage::RunExpiries { .. }
        | PeerMessage::Space { .. } => 0,
    }
}

pub(super) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES_MAX + entry.key.len() + entry.change.value().map_or(0, |value| value.len())
}

pub(super) fn record_bytes(record: &Record) -> usize {
    RECORD_BYTES_MAX + record.key.len() + record.value.len()
}
