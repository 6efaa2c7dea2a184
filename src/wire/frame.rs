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
pub(super) const HEADER_BYTES_USUAL: usize = 256;

/// Bytes before a frame's body.
pub const HEAD_BYTES: usize = LENGTH_BYTES + FIXED_BYTES;

/// A whole frame whose body is not decoded yet, in the memory that it came in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub kind: Kind,
    /// Pairs an answer with its request; 0 where nothing is answered.
    pub request: u64,
    pub body: &'a [u8],
    /// What `body` is a part of.
    memory: &'a Bytes,
}

impl Frame<'_> {
    /// A part of the body that shares its memory.
    pub(super) fn share(&self, part: &[u8]) -> Bytes {
        self.memory.slice_ref(part)
    }
}

/// A frame by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FrameBuf {
    pub kind: Kind,
    pub request: u64,
    pub body: Bytes,
}

impl<'a> From<&'a FrameBuf> for Frame<'a> {
    fn from(frame: &'a FrameBuf) -> Frame<'a> {
        let FrameBuf { kind, request, body } = frame;
        Frame { kind: *kind, request: *request, body, memory: body }
    }
}

impl From<Frame<'_>> for FrameBuf {
    fn from(frame: Frame<'_>) -> FrameBuf {
        let Frame { kind, request, body, .. } = frame;
        FrameBuf { kind, request, body: frame.share(body) }
    }
}

/// Whole frames, cut off a stream together: one count of shared memory for all of them.
#[derive(Clone, Debug, Default)]
pub struct Frames(Bytes);

impl Frames {
    /// The frames, as they came.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        let memory = &self.0;
        let mut rest = &memory[..];
        std::iter::from_fn(move || {
            let (length, _) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let length = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
            let (frame, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let (kind, request) = head(frame).ok()?;
            Some(Frame { kind, request, body: &frame[HEAD_BYTES..], memory })
        })
    }
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
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<FrameBuf>, WireError> {
        let frames = self.batch(buffer, 1)?;
        Ok(frames.iter().next().map(FrameBuf::from))
    }

    /// Takes whole frames off the front of `buffer`, up to `count_max`, as many as there are.
    ///
    /// # Errors
    /// As for `next`, once the frames before it were taken.
    pub fn batch(&self, buffer: &mut BytesMut, count_max: usize) -> Result<Frames, WireError> {
        let mut whole = 0;
        for _ in 0..count_max {
            match self.frame_bytes(&buffer[whole..]) {
                Ok(Some(length)) if buffer.len() - whole >= length => whole += length,
                Ok(_) => break,
                Err(error) if whole == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if whole == 0 {
            return Ok(Frames::default());
        }
        Ok(Frames(buffer.split_to(whole).freeze()))
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
    pub fn datagram(&self, bytes: Bytes) -> Result<FrameBuf, WireError> {
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
fn open(mut frame: Bytes) -> Result<FrameBuf, WireError> {
    let (kind, request) = head(&frame)?;
    frame.advance(HEAD_BYTES);
    Ok(FrameBuf { kind, request, body: frame })
}

/// Kind and request id of a frame that is known to be whole.
fn head(mut frame: &[u8]) -> Result<(Kind, u64), WireError> {
    frame.advance(LENGTH_BYTES);
    let kind = Kind::from_number(frame.get_u8())?;
    Ok((kind, frame.get_u64_le()))
}

/// Appends a frame to `buffer`: `header` in postcard, then `tail` as it is. `expected` is how many
/// bytes the header takes at most, as a rule; with more it costs more time.
///
/// # Errors
/// The frame would be longer than its kind may be; `buffer` is as it was.
pub(super) fn encode<T: Serialize>(
    buffer: &mut BytesMut,
    limits: &Limits,
    (kind, request): (Kind, u64),
    (header, expected): (&T, usize),
    tail: &[u8],
) -> Result<(), WireError> {
    let start = buffer.len();
    buffer.reserve(HEAD_BYTES + expected + tail.len());
    buffer.put_u32_le(0);
    buffer.put_u8(kind as u8);
    buffer.put_u64_le(request);
    let written = append(buffer, header, expected);
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

/// Appends `header` in postcard: into a place of the expected size, or field by field where that is
/// too small.
fn append<T: Serialize>(
    buffer: &mut BytesMut,
    header: &T,
    expected: usize,
) -> postcard::Result<()> {
    let start = buffer.len();
    buffer.resize(start + expected, 0);
    let filler = Filler { place: &mut buffer[start..], at: 0 };
    match postcard::serialize_with_flavor(header, filler) {
        Ok(length) => {
            buffer.truncate(start + length);
            Ok(())
        }
        Err(_) => {
            buffer.truncate(start);
            postcard::serialize_with_flavor(header, Appender { buffer })
        }
    }
}

/// Decodes a body that is one postcard message and nothing else.
///
/// # Errors
/// It is of another kind, does not decode, or goes on after the message.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    frame: Frame<'a>,
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
    frame: Frame<'a>,
    expected: Kind,
) -> Result<(T, &'a [u8]), WireError> {
    let kind = frame.kind;
    if kind != expected {
        return Err(WireError::Unexpected { kind, expected });
    }
    postcard::take_from_bytes(frame.body).map_err(|_| WireError::Malformed { kind })
}

/// Checks that nothing follows the header of a message that has no value.
pub(super) fn no_tail(kind: Kind, tail: &[u8]) -> Result<(), WireError> {
    if tail.is_empty() { Ok(()) } else { Err(WireError::Trailing { kind, extra: tail.len() }) }
}

/// Lets postcard write into a place of a known size.
struct Filler<'a> {
    place: &'a mut [u8],
    at: usize,
}

impl postcard::ser_flavors::Flavor for Filler<'_> {
    type Output = usize;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        let end = self.at + data.len();
        let place = self.place.get_mut(self.at..end);
        fill(place.ok_or(postcard::Error::SerializeBufferFull)?, data);
        self.at = end;
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.at)
    }
}

/// Copies into a place of the same length. Most pieces are numbers of a few bytes, for which a call
/// to copy memory takes longer than the copy.
fn fill(place: &mut [u8], data: &[u8]) {
    fn short<const N: usize>(place: &mut [u8], data: &[u8]) {
        if let (Some(place), Some(data)) = (place.first_chunk_mut::<N>(), data.first_chunk::<N>()) {
            *place = *data;
        }
    }
    match data.len() {
        1 => short::<1>(place, data),
        2 => short::<2>(place, data),
        3 => short::<3>(place, data),
        4 => short::<4>(place, data),
        5 => short::<5>(place, data),
        _ => place.copy_from_slice(data),
    }
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
