//! Goal: the bytes of no message ever change, and no variant is left out.
//! Method: one sample of each variant against `golden.txt`, a line `name hex` each. After a
//! variant was *added*, `TANDEM_GOLDEN=write cargo test -p tandem --lib wire` writes the file
//! anew; a difference in an existing line breaks running clusters. That no variant is missing
//! is asked of the decoder: the number after the last sampled variant must be unknown to it.

use std::collections::BTreeSet;
use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use super::samples::{self, Message};
use crate::wire::{FrameBuf, HEAD_BYTES, Kind, WireError};

const GOLDEN: &str = include_str!("golden.txt");

/// The request id of every sample that has one.
const ID: u64 = 0x0102_0304_0506_0708;

fn sampled() -> Vec<(&'static str, Bytes)> {
    let encoded = |(name, message): (_, Message)| {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer, ID).expect("samples are within the limits");
        (name, buffer.freeze())
    };
    samples::all().into_iter().map(encoded).collect()
}

#[test]
fn no_message_changes_its_bytes() {
    let mut text = String::new();
    for (name, bytes) in sampled() {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("strings take all that is written");
            hex
        });
        writeln!(text, "{name} {hex}").expect("strings take all that is written");
    }
    if std::env::var_os("TANDEM_GOLDEN").is_some_and(|value| value == "write") {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/tests/golden.txt");
        std::fs::write(file, &text).expect("the source tree can be written");
        return;
    }
    for (ours, golden) in text.lines().zip(GOLDEN.lines()) {
        assert_eq!(ours, golden, "the wire format changed");
    }
    assert_eq!(text.lines().count(), GOLDEN.lines().count(), "samples and golden.txt differ");
}

#[test]
fn every_variant_of_every_message_has_a_sample() {
    // These kinds carry an enum; the first byte of a body is the variant's number. A request
    // begins with its operation.
    let kinds = [
        Kind::HelloRefused,
        Kind::Peer,
        Kind::ToMeta,
        Kind::ToServer,
        Kind::Request,
        Kind::Answer,
        Kind::MetaRequest,
        Kind::MetaAnswer,
    ];
    for kind in kinds {
        let numbers: BTreeSet<u8> = sampled()
            .iter()
            .filter(|(_, frame)| frame[4] == kind as u8)
            .map(|(_, frame)| frame[HEAD_BYTES])
            .collect();
        let count = u8::try_from(numbers.len()).expect("few variants");
        assert!(numbers.iter().copied().eq(0..count), "{kind}: {numbers:?} has a gap");
        // Zeros are a message of every variant, with some of them left over.
        for number in 0..=count {
            let body = [vec![number], vec![0; 200]].concat();
            let decoded = Message::decode(&FrameBuf { kind, request: 0, body: body.into() });
            let known = !matches!(decoded, Err(WireError::Malformed { .. }));
            assert_eq!(known, number < count, "{kind} {number}: {decoded:?}");
        }
    }
}
