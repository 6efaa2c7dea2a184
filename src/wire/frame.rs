//! Frames: how messages are cut out of a stream of bytes.
//!
//! ```text
//!   u32 LE length | u8 kind | u64 LE request id | postcard header | raw value tail
//!                 |<------------------- length ------------------------------->|
//! ```
//!
//! The decoder holds no state: what is left of a frame stays in the caller's buffer, so that it
//! does not matter how the network cut the bytes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::limits::{Kind, Limits};

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

/// Bytes of kind and request id, counted by the length field.
const FIXED_BYTES: usize = 9;

/// Most headers are no longer than this.
const HEADER_BYTES_USUAL: usize = 256;

/// Bytes before a frame's body.
pub const HEAD_BYTES: usize = LENGTH_BYTES + FIXED_BYTES;

/// A whole frame whose body is not decoded yet. The body shares the receive buffer's memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    pub kind: Kind,
    /// Pairs an answer with its request; 0 where nothing is answered.
    pub request: u64,
    pub body: Bytes,
}

/// Why bytes are no message. Each names the kind as far as it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WireError {
    UnknownKind {
        number: u8,
    },
    /// The length does not even cover kind and request id.
    TooShort {
        length: usize,
    },
    /// Longer than this kind may be.
    TooLong {
        kind: Kind,
        length: usize,
        length_max: usize,
    },
    /// The body is not what this kind carries.
    Malformed {
        kind: Kind,
    },
    /// The body goes on after the message.
    Trailing {
        kind: Kind,
        extra: usize,
    },
    /// The stream or datagram ended within a frame.
    Truncated {
        received: usize,
    },
    /// A frame of this kind has no place here.
    Unexpected {
        kind: Kind,
        expected: Kind,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::UnknownKind { number } => write!(
                f,
                "a frame of unknown kind {number}; the other side may run a newer version"
            ),
            WireError::TooShort { length } => {
                write!(f, "a frame that claims {length} bytes; it has at least {FIXED_BYTES}")
            }
            WireError::TooLong { kind, length, length_max } => write!(
                f,
                "a {kind} frame of {length} bytes; the limit is {length_max}, check that both \
                 sides have the same limits on keys and values"
            ),
            WireError::Malformed { kind } => write!(f, "a {kind} frame that does not decode"),
            WireError::Trailing { kind, extra } => {
                write!(f, "a {kind} frame with {extra} bytes after its message")
            }
            WireError::Truncated { received } => {
                write!(f, "a frame that ends early, after {received} bytes")
            }
            WireError::Unexpected { kind, expected } => {
                write!(f, "a {kind} frame where {expected} was expected")
            }
        }
    }
}

impl std::error::Error for WireError {}

/// Cuts frames out of a buffer that bytes are appended to.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    limits: Limits,
}

impl Decoder {
    #[must_use]
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits }
    }

    /// Takes the next whole frame off the front of `buffer`; none if there is none yet.
    ///
    /// # Errors
    /// The bytes are no frame, or one longer than its kind may be: known from the first five
    /// bytes. The connection is of no more use then.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        let Some(length) = self.frame_bytes(buffer)? else { return Ok(None) };
        if buffer.len() < length {
            return Ok(None);
        }
        let frame = buffer.split_to(length).freeze();
        Ok(Some(open(frame)?))
    }

    /// The kind of the frame at the front of `bytes`, once its length passed; none if that is
    /// not there yet.
    ///
    /// # Errors
    /// As for `next`.
    pub fn kind(&self, bytes: &[u8]) -> Result<Option<Kind>, WireError> {
        match (self.frame_bytes(bytes)?, bytes.get(LENGTH_BYTES)) {
            (Some(_), Some(&number)) => Ok(Some(Kind::from_number(number)?)),
            (None, _) | (_, None) => Ok(None),
        }
    }

    /// Length of the frame at the front of `bytes` with its length field, checked against its
    /// kind's limit; none if the first five bytes are not there yet.
    fn frame_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let Some(&number) = rest.first() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length < FIXED_BYTES {
            return Err(WireError::TooShort { length });
        }
        let kind = Kind::from_number(number)?;
        let length_max = FIXED_BYTES + self.limits.body_bytes_max(kind);
        if length > length_max {
            return Err(WireError::TooLong { kind, length, length_max });
        }
        Ok(Some(LENGTH_BYTES + length))
    }

    /// The one frame that a datagram is.
    ///
    /// # Errors
    /// The datagram is anything but exactly one frame.
    pub fn datagram(&self, bytes: Bytes) -> Result<Frame, WireError> {
        match self.frame_bytes(&bytes)? {
            Some(length) if length == bytes.len() => open(bytes),
            Some(length) if length < bytes.len() => {
                let extra = bytes.len() - length;
                Err(WireError::Trailing { kind: open(bytes)?.kind, extra })
            }
            Some(_) | None => Err(WireError::Truncated { received: bytes.len() }),
        }
    }
}

/// Splits a frame that is known to be whole into its parts.
fn open(mut frame: Bytes) -> Result<Frame, WireError> {
    frame.advance(LENGTH_BYTES);
    let kind = Kind::from_number(frame.get_u8())?;
    let request = frame.get_u64_le();
    Ok(Frame { kind, request, body: frame })
}

/// Appends a frame to `buffer`: `header` in postcard, then `tail` as it is.
///
/// # Errors
/// The frame would be longer than its kind may be; `buffer` is as it was.
pub(super) fn encode<T: Serialize>(
    buffer: &mut BytesMut,
    limits: &Limits,
    kind: Kind,
    request: u64,
    header: &T,
    tail: &[u8],
) -> Result<(), WireError> {
    let start = buffer.len();
    buffer.reserve(HEAD_BYTES + tail.len());
    buffer.put_u32_le(0);
    buffer.put_u8(kind as u8);
    buffer.put_u64_le(request);
    let written = append(buffer, header);
    let length = buffer.len() - start - LENGTH_BYTES + tail.len();
    let length_max = FIXED_BYTES + limits.body_bytes_max(kind);
    let refusal = match (written, u32::try_from(length)) {
        (Ok(()), Ok(field)) if length <= length_max => {
            buffer.extend_from_slice(tail);
            buffer[start..start + LENGTH_BYTES].copy_from_slice(&field.to_le_bytes());
            return Ok(());
        }
        (Err(_), _) => WireError::Malformed { kind },
        (Ok(()), _) => WireError::TooLong { kind, length, length_max },
    };
    buffer.truncate(start);
    Err(refusal)
}

/// Appends `header` in postcard. Nearly all fit a small array, and enter the buffer in one piece
/// instead of field by field.
fn append<T: Serialize>(buffer: &mut BytesMut, header: &T) -> postcard::Result<()> {
    let mut array = [0; HEADER_BYTES_USUAL];
    match postcard::to_slice(header, &mut array) {
        Ok(written) => {
            buffer.extend_from_slice(written);
            Ok(())
        }
        Err(_) => postcard::serialize_with_flavor(header, Appender { buffer }),
    }
}

/// Decodes a body that is one postcard message and nothing else.
///
/// # Errors
/// It is of another kind, does not decode, or goes on after the message.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    frame: &'a Frame,
    expected: Kind,
) -> Result<T, WireError> {
    let (message, tail) = decode_header(frame, expected)?;
    no_tail(frame.kind, tail)?;
    Ok(message)
}

/// Decodes the postcard header of a body, and gives the tail after it.
///
/// # Errors
/// The frame is of another kind, or its header does not decode.
pub(super) fn decode_header<'a, T: Deserialize<'a>>(
    frame: &'a Frame,
    expected: Kind,
) -> Result<(T, &'a [u8]), WireError> {
    let kind = frame.kind;
    if kind != expected {
        return Err(WireError::Unexpected { kind, expected });
    }
    postcard::take_from_bytes(&frame.body).map_err(|_| WireError::Malformed { kind })
}

/// Checks that nothing follows the header of a message that has no value.
pub(super) fn no_tail(kind: Kind, tail: &[u8]) -> Result<(), WireError> {
    if tail.is_empty() { Ok(()) } else { Err(WireError::Trailing { kind, extra: tail.len() }) }
}

/// Lets postcard write straight into an outgoing buffer.
struct Appender<'a> {
    buffer: &'a mut BytesMut,
}

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.buffer.put_u8(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
