//! The kinds of frames, and how long a frame of each kind may be: the one table of limits.
//!
//! A frame's length is compared with its kind's limit as soon as its first five bytes are there,
//! before anything is allocated for it.

use std::fmt;

use super::WireError;

/// What a frame carries. Append-only: the number travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    HelloAck = 2,
    HelloRefused = 3,
    /// Names the key set of a stream; its first frame, from the side that dialled.
    Lane = 4,
    Peer = 5,
    ToMeta = 6,
    ToServer = 7,
    Request = 8,
    Answer = 9,
    MetaRequest = 10,
    MetaAnswer = 11,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Hello,
        Kind::HelloAck,
        Kind::HelloRefused,
        Kind::Lane,
        Kind::Peer,
        Kind::ToMeta,
        Kind::ToServer,
        Kind::Request,
        Kind::Answer,
        Kind::MetaRequest,
        Kind::MetaAnswer,
    ];

    /// The kind that travels as `number`.
    ///
    /// # Errors
    /// There is no such kind.
    pub fn from_number(number: u8) -> Result<Kind, WireError> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|index| Kind::ALL.get(index).copied())
            .ok_or(WireError::UnknownKind { number })
    }

    /// The kind as messages to people name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hello => "Hello",
            Kind::HelloAck => "HelloAck",
            Kind::HelloRefused => "HelloRefused",
            Kind::Lane => "Lane",
            Kind::Peer => "Peer",
            Kind::ToMeta => "ToMeta",
            Kind::ToServer => "ToServer",
            Kind::Request => "Request",
            Kind::Answer => "Answer",
            Kind::MetaRequest => "MetaRequest",
            Kind::MetaAnswer => "MetaAnswer",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Room beside keys and values in a request or an answer; also the overshoot up to which a
/// request that is too large gets a typed refusal instead of a closed connection.
const HEADER_SLACK_BYTES: usize = 64 * KIB;

/// Room beside one largest record in a message between servers, and in a page of a scan.
const BATCH_SLACK_BYTES: usize = MIB;

/// A datagram's frame must fit a packet of the smallest path that QUIC knows.
pub const DATAGRAM_BYTES_MAX: usize = 1_100;

/// The cluster's limits on keys and values; the limits on frames follow from them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Limits {
    pub key_bytes_max: u32,
    pub value_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { key_bytes_max: 1_024, value_bytes_max: 1_048_576 }
    }
}

impl Limits {
    /// The longest frame body of this kind: what follows length, kind and request id.
    #[must_use]
    pub fn body_bytes_max(&self, kind: Kind) -> usize {
        let key = self.key_bytes_max as usize;
        let value = self.value_bytes_max as usize;
        match kind {
            Kind::Hello | Kind::HelloRefused => KIB,
            Kind::HelloAck => 2 * MIB,
            Kind::Lane => 16,
            Kind::Peer => key + value + BATCH_SLACK_BYTES,
            Kind::ToMeta => 4 * MIB,
            Kind::ToServer | Kind::MetaAnswer => 16 * MIB,
            // A `cas` carries two values.
            Kind::Request => key + 2 * value + HEADER_SLACK_BYTES,
            Kind::Answer => key + value + BATCH_SLACK_BYTES,
            Kind::MetaRequest => 256 * KIB,
        }
    }

    /// How many bytes of entries, records or chunks a sender may put into one message between
    /// servers, on top of one entry or record that always fits.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        BATCH_SLACK_BYTES / 2
    }
}
