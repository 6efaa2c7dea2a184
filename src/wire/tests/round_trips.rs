//! Goal: whatever decodes as a message is encoded and decoded again as the same, for every kind.
//! Method: the samples of every variant, damaged at random by a seeded generator: what still
//! decodes is another message of that kind, with numbers, lists and texts that no sample has.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::Seeded;
use super::samples::{self, Message};
use crate::protocol::message::PeerMessage;
use crate::wire::{Decoder, FrameBuf, Kind, Limits, decode_peer};

/// How many messages of each kind have to survive, so that no kind is left out.
const EACH_MIN: usize = 50;

/// Writes are decoded in a way of their own, which shares the frame's memory.
#[test]
fn writes_decode_as_the_library_decodes_them() {
    let decoder = Decoder::new(Limits::default());
    let (mut good, mut bad) = (0, 0);
    for (_, message) in samples::all() {
        if !matches!(message, Message::Peer(PeerMessage::Prepare { .. })) {
            continue;
        }
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer, 0).expect("samples are within the limits");
        let sample = decoder.next(&mut buffer).expect("a good frame").expect("a whole one");
        for seed in 1..=20_000 {
            let mut seeded = Seeded(seed);
            let body = damaged(&mut seeded, &sample.body);
            let decoded = decode_peer(&FrameBuf { body: body.clone(), ..sample.clone() }).ok();
            let expected = postcard::take_from_bytes::<PeerMessage>(&body).ok();
            let expected = expected.filter(|(_, tail)| tail.is_empty()).map(|(it, _)| it);
            assert_eq!(decoded, expected, "seed {seed}: {body:?}");
            *(if decoded.is_some() { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
}

#[test]
fn whatever_decodes_survives() {
    let decoder = Decoder::new(Limits::default());
    let samples: Vec<FrameBuf> = samples::all()
        .into_iter()
        .map(|(_, message)| {
            let mut buffer = BytesMut::new();
            message.encode(&mut buffer, 9).expect("samples are within the limits");
            decoder.next(&mut buffer).expect("a good frame").expect("a whole one")
        })
        .collect();
    let mut survivors: BTreeMap<Kind, usize> = BTreeMap::new();
    for seed in 1..=400 {
        let mut seeded = Seeded(seed);
        for sample in &samples {
            let frame = FrameBuf { body: damaged(&mut seeded, &sample.body), ..sample.clone() };
            let Ok(message) = Message::decode(&frame) else { continue };
            let mut buffer = BytesMut::new();
            message.encode(&mut buffer, frame.request).expect("it came within the limits");
            let bytes = buffer.clone();
            let again = decoder.next(&mut buffer).expect("a good frame").expect("a whole one");
            assert!(buffer.is_empty(), "seed {seed}: more than one frame for {message:?}");
            assert_eq!(Message::decode(&again).as_ref(), Ok(&message), "seed {seed}");
            let mut twice = BytesMut::new();
            message.encode(&mut twice, frame.request).expect("as before");
            assert_eq!(twice, bytes, "seed {seed}: two encodings of {message:?}");
            *survivors.entry(frame.kind).or_default() += 1;
        }
    }
    for kind in Kind::ALL {
        let count = survivors.get(&kind).copied().unwrap_or_default();
        assert!(count >= EACH_MIN, "only {count} damaged messages of kind {kind} decode");
    }
}

/// A body with a few bytes replaced, added or taken away.
fn damaged(seeded: &mut Seeded, body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    for _ in 0..=seeded.below(3) {
        let at = seeded.below(bytes.len() + 1);
        let byte = seeded.below(256) as u8;
        match seeded.below(4) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            _ => {
                if let Some(there) = bytes.get_mut(at) {
                    *there = byte;
                }
            }
        }
    }
    bytes.into()
}
