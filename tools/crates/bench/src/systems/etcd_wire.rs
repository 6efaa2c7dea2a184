//! etcd's messages, as far as the load needs them: gRPC's frames around protocol buffers.
//!
//! Sources: the protocol buffers' encoding, gRPC over HTTP/2 (length-prefixed messages), and
//! etcd's `rpc.proto` and `kv.proto` for the numbers of fields.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// The service's methods.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const PUT: &str = "/etcdserverpb.KV/Put";

/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Fields of `RangeRequest` and `PutRequest`.
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// Of `RangeResponse`, and of each `KeyValue` in it.
const KVS: u64 = 2;
const KV_VALUE: u64 = 5;

/// Bytes that are no message of etcd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAMessage(&'static str);

impl fmt::Display for NotAMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what came is no message of etcd: {}", self.0)
    }
}

impl std::error::Error for NotAMessage {}

/// A linearizable read of one key: `RangeRequest` as etcd has it unless told otherwise.
#[must_use]
pub fn range(key: &[u8]) -> Bytes {
    message(&[(KEY, key)])
}

/// A write of one key.
#[must_use]
pub fn put(key: &[u8], value: &[u8]) -> Bytes {
    message(&[(KEY, key), (VALUE, value)])
}

fn message(fields: &[(u64, &[u8])]) -> Bytes {
    let content: usize = fields.iter().map(|(_, content)| content.len() + 12).sum();
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + content);
    body.put_bytes(0, PREFIX_BYTES);
    for (number, content) in fields {
        // The encoding's type 2: bytes of a length.
        varint(&mut body, number << 3 | 2);
        varint(&mut body, content.len() as u64);
        body.put_slice(content);
    }
    let length = (body.len() - PREFIX_BYTES) as u32;
    body[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    body.freeze()
}

fn varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// The length of the value that the answer to `range` holds; none if there is no such key.
///
/// # Errors
/// The bytes are no such answer.
pub fn value_bytes(answer: &[u8]) -> Result<Option<usize>, NotAMessage> {
    let (prefix, rest) =
        answer.split_at_checked(PREFIX_BYTES).ok_or(NotAMessage("it is too short"))?;
    let length = prefix[1..].iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    if prefix[0] != 0 || rest.len() != length {
        return Err(NotAMessage("it is compressed, or not alone"));
    }
    let Some(found) = content_of(rest, KVS)? else { return Ok(None) };
    // A value without bytes is not written at all.
    Ok(Some(content_of(found, KV_VALUE)?.map_or(0, <[u8]>::len)))
}

/// The bytes of the first field of this number.
fn content_of(mut message: &[u8], wanted: u64) -> Result<Option<&[u8]>, NotAMessage> {
    const CUT: NotAMessage = NotAMessage("a field is cut off");
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                take_varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).map_err(|_| CUT)?,
            5 => 4,
            _ => return Err(NotAMessage("a field of unknown type")),
        };
        let (content, rest) = message.split_at_checked(length).ok_or(CUT)?;
        if tag >> 3 == wanted && tag & 7 == 2 {
            return Ok(Some(content));
        }
        message = rest;
    }
    Ok(None)
}

fn take_varint(from: &mut &[u8]) -> Result<u64, NotAMessage> {
    let mut value = 0;
    for place in 0..10 {
        let (&byte, rest) = from.split_first().ok_or(NotAMessage("a number is cut off"))?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(NotAMessage("a number without an end"))
}

#[cfg(test)]
mod tests {
    //! Goal: requests are encoded as the sources say, and of an answer the value's length is read.
    //! Method: examples by hand, also cut at every byte.

    use super::*;

    /// `RangeResponse { header { revision: 300 }, kvs [{ key: "k", version: 1, value }], count }`.
    fn answer(value: &[u8]) -> Vec<u8> {
        let mut kv = b"\x0a\x01k\x20\x01".to_vec();
        if !value.is_empty() {
            kv.extend_from_slice(&[0x2a, value.len() as u8]);
            kv.extend_from_slice(value);
        }
        let mut content = b"\x0a\x03\x18\xac\x02".to_vec();
        content.extend_from_slice(&[0x12, kv.len() as u8]);
        content.extend_from_slice(&kv);
        content.extend_from_slice(b"\x20\x01");
        framed(&content)
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        let mut all = vec![0, 0, 0, 0, content.len() as u8];
        all.extend_from_slice(content);
        all
    }

    #[test]
    fn requests_are_framed_messages() {
        assert_eq!(&range(b"key")[..], b"\0\0\0\0\x05\x0a\x03key");
        assert_eq!(&put(b"k", b"ab")[..], b"\0\0\0\0\x07\x0a\x01k\x12\x02ab");
        let long = put(b"k", &[7; 300]);
        assert_eq!(&long[..11], b"\0\0\0\x01\x32\x0a\x01k\x12\xac\x02");
    }

    #[test]
    fn an_answer_tells_the_length_of_its_value() {
        assert_eq!(value_bytes(&answer(b"value")), Ok(Some(5)));
        assert_eq!(value_bytes(&answer(b"")), Ok(Some(0)));
        assert_eq!(value_bytes(&framed(b"\x0a\x03\x18\xac\x02")), Ok(None));
        let whole = answer(b"value");
        for end in 0..whole.len() {
            value_bytes(&whole[..end]).expect_err("it is cut off");
        }
        value_bytes(&framed(b"\x12\x7fshort")).expect_err("a field is cut off");
        value_bytes(&framed(&[0x80; 12])).expect_err("a number never ends");
    }
}
