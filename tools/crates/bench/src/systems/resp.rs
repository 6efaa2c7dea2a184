//! Redis's protocol, as far as the load needs it: commands out, replies in.
//!
//! Source: the RESP2 specification. A command is an array of bulk strings; a reply begins with a
//! byte that says what it is.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// A longer line or bulk string is no reply to what is asked here.
const LINE_BYTES_MAX: usize = 64 << 10;
const BULK_BYTES_MAX: usize = 16 << 20;

/// One reply. Of a bulk string only the length matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk { bytes: usize },
    Nil,
}

/// Bytes that are no reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotAReply(String);

impl fmt::Display for NotAReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what came is no reply of Redis: {}", self.0)
    }
}

impl std::error::Error for NotAReply {}

/// Appends a command.
pub fn command(to: &mut BytesMut, parts: &[&[u8]]) {
    number(to, b'*', parts.len());
    for part in parts {
        number(to, b'$', part.len());
        to.put_slice(part);
        to.put_slice(b"\r\n");
    }
}

fn number(to: &mut BytesMut, kind: u8, value: usize) {
    let mut digits = [0; 20];
    let (mut rest, mut place) = (value, digits.len());
    loop {
        place -= 1;
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.put_u8(kind);
    to.put_slice(&digits[place..]);
    to.put_slice(b"\r\n");
}

/// The first reply in `bytes` and its length; none while it is not whole.
///
/// # Errors
/// The bytes are no reply.
pub fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NotAReply> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some(end) = rest.iter().position(|&it| it == b'\r') else {
        if rest.len() > LINE_BYTES_MAX {
            return Err(NotAReply("a line without an end".to_owned()));
        }
        return Ok(None);
    };
    match rest.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(NotAReply("a line that ends in CR alone".to_owned())),
    }
    let (line, length) = (&rest[..end], end + 3);
    let reply = match kind {
        b'+' => Reply::Simple(words(line)),
        b'-' => Reply::Error(words(line)),
        b':' => Reply::Integer(integer(line)?),
        b'$' => return bulk(integer(line)?, bytes, length),
        other => return Err(NotAReply(format!("it begins with byte {other}"))),
    };
    Ok(Some((reply, length)))
}

fn bulk(length: i64, bytes: &[u8], header: usize) -> Result<Option<(Reply, usize)>, NotAReply> {
    if length == -1 {
        return Ok(Some((Reply::Nil, header)));
    }
    let length = usize::try_from(length).ok().filter(|&it| it <= BULK_BYTES_MAX);
    let length = length.ok_or_else(|| NotAReply("a bulk string of absurd length".to_owned()))?;
    let all = header + length + 2;
    if bytes.len() < all {
        return Ok(None);
    }
    if &bytes[all - 2..all] != b"\r\n" {
        return Err(NotAReply("a bulk string without its end".to_owned()));
    }
    Ok(Some((Reply::Bulk { bytes: length }, all)))
}

fn words(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn integer(line: &[u8]) -> Result<i64, NotAReply> {
    let text = std::str::from_utf8(line).ok().and_then(|it| it.parse().ok());
    text.ok_or_else(|| NotAReply(format!("{:?} is no number", words(line))))
}

#[cfg(test)]
mod tests {
    //! Goal: replies are read whole, in pieces and refused when they are none; commands are as
    //! the specification shows them.
    //! Method: examples of each kind, cut at every byte.

    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut bytes = BytesMut::new();
        command(&mut bytes, &[b"SET", b"key", b"0123456789"]);
        assert_eq!(&bytes[..], b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$10\r\n0123456789\r\n");
    }

    #[test]
    fn replies_are_read_once_they_are_whole() {
        let all: &[(&[u8], Reply)] = &[
            (b"+OK\r\n", Reply::Simple("OK".to_owned())),
            (b"-ERR no\r\n", Reply::Error("ERR no".to_owned())),
            (b":-12\r\n", Reply::Integer(-12)),
            (b"$4\r\n\r\n\r\n\r\n", Reply::Bulk { bytes: 4 }),
            (b"$0\r\n\r\n", Reply::Bulk { bytes: 0 }),
            (b"$-1\r\n", Reply::Nil),
        ];
        for (bytes, reply) in all {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{reply:?} cut at {end}");
            }
            let mut more = bytes.to_vec();
            more.extend_from_slice(b"+NEXT");
            assert_eq!(parse(&more), Ok(Some((reply.clone(), bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [&b"*1\r\n"[..], b":x\r\n", b"$99999999999\r\n", b"+a\rb", b"$1\r\nabc"] {
            parse(bytes).expect_err("it is no reply");
        }
        parse(&[b'+'; LINE_BYTES_MAX + 2]).expect_err("it never ends");
    }
}
