//! All messages that are plain postcard: the control path, and what servers send each other.

use bytes::BytesMut;

use super::frame::{Frame, HEADER_BYTES_USUAL, WireError, decode, encode};
use super::hello::HelloRefusal;
use super::limits::{Kind, Limits};
use crate::protocol::message::{
    Hello, HelloAck, MetaAnswer, MetaRequest, PeerMessage, ToMeta, ToServer,
};
use crate::protocol::types::{Entry, KeySet, Record};

/// The longest numbers in postcard: of 32 bits, as lengths of keys and values are, of 64, of 128.
const LENGTH_BYTES_MAX: usize = 5;
const NUMBER_BYTES_MAX: usize = 10;
const SESSION_BYTES_MAX: usize = 19;

/// What a record takes beside its key and value.
const RECORD_BYTES_MAX: usize = 3 * LENGTH_BYTES_MAX + NUMBER_BYTES_MAX;

/// What an entry takes beside its key and value: its numbers, its origin, which has three numbers
/// and a loss epoch beside the session, its expiry and its result, and the tags between them.
const ENTRY_BYTES_MAX: usize = 8 * NUMBER_BYTES_MAX + SESSION_BYTES_MAX + 3 * LENGTH_BYTES_MAX + 8;

/// Writes the pair of functions for a kind whose frames answer nothing.
macro_rules! plain {
    ($kind:ident, $message:ty, $encode:ident, $decode:ident) => {
        /// Appends one frame.
        ///
        /// # Errors
        /// It is larger than the limits allow; the buffer is as it was.
        pub fn $encode(
            buffer: &mut BytesMut,
            limits: &Limits,
            message: &$message,
        ) -> Result<(), WireError> {
            encode(buffer, limits, (Kind::$kind, 0), (message, HEADER_BYTES_USUAL), &[])
        }

        /// The message in `frame`.
        ///
        /// # Errors
        /// The frame is not exactly one such message.
        pub fn $decode<'a>(frame: impl Into<Frame<'a>>) -> Result<$message, WireError> {
            decode(frame.into(), Kind::$kind)
        }
    };
}

/// Writes the pair of functions for a kind that pairs requests with answers by their id.
macro_rules! numbered {
    ($kind:ident, $message:ty, $encode:ident, $decode:ident) => {
        /// Appends one frame of request `id`.
        ///
        /// # Errors
        /// It is larger than the limits allow; the buffer is as it was.
        pub fn $encode(
            buffer: &mut BytesMut,
            limits: &Limits,
            id: u64,
            message: &$message,
        ) -> Result<(), WireError> {
            encode(buffer, limits, (Kind::$kind, id), (message, HEADER_BYTES_USUAL), &[])
        }

        /// The message in `frame`; its id is `frame.request`.
        ///
        /// # Errors
        /// The frame is not exactly one such message.
        pub fn $decode<'a>(frame: impl Into<Frame<'a>>) -> Result<$message, WireError> {
            decode(frame.into(), Kind::$kind)
        }
    };
}

plain!(Hello, Hello, encode_hello, decode_hello);
plain!(HelloAck, HelloAck, encode_hello_ack, decode_hello_ack);
plain!(HelloRefused, HelloRefusal, encode_hello_refused, decode_hello_refused);
plain!(Lane, KeySet, encode_lane, decode_lane);
plain!(ToMeta, ToMeta, encode_to_meta, decode_to_meta);
plain!(ToServer, ToServer, encode_to_server, decode_to_server);
numbered!(MetaRequest, MetaRequest, encode_meta_request, decode_meta_request);
numbered!(MetaAnswer, MetaAnswer, encode_meta_answer, decode_meta_answer);

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
    decode(frame.into(), Kind::Peer)
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
