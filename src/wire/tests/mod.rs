//! Goal: what is encoded is decoded again, however the bytes are cut; what is not a message is
//! refused with the error that names why, without a panic and without memory for its claims.
//! Method: the samples of every variant; a seeded generator for values, cuts and damage.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::protocol::message::{AckLevel, Answer, Hello, Operation, ReadLevel, Request};
use crate::protocol::types::{Position, Revision};
use samples::Message;

mod batches;
mod golden;
mod round_trips;
mod samples;

/// A small seeded generator (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn bytes(&mut self, length_max: usize) -> Bytes {
        let length = self.below(length_max + 1);
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

fn get(key: Bytes) -> Request {
    Request {
        operation: Operation::Get { key },
        origin: None,
        read_level: ReadLevel::default(),
        ack_level: AckLevel::default(),
        expiry_ms: None,
    }
}

fn put(key: Bytes, value: Bytes) -> Request {
    Request { operation: Operation::Put { key, value }, ..get(Bytes::new()) }
}

#[test]
fn samples_survive_any_cut_of_the_stream() {
    let messages: Vec<Message> = samples::all().into_iter().map(|(_, it)| it).collect();
    let mut stream = BytesMut::new();
    for (message, id) in messages.iter().zip(0..) {
        message.encode(&mut stream, id).expect("samples are within the limits");
    }
    let decoder = Decoder::new(Limits::default());
    for seed in 1..40 {
        let mut seeded = Seeded(seed);
        let mut rest = stream.clone().freeze();
        let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
        while !rest.is_empty() {
            let piece = rest.split_to((1 + seeded.below(90)).min(rest.len()));
            buffer.extend_from_slice(&piece);
            while let Some(frame) = decoder.next(&mut buffer).expect("good frames") {
                decoded.push(Message::decode(&frame).expect("a good message"));
            }
        }
        assert!(buffer.is_empty());
        assert_eq!(decoded, messages, "seed {seed}");
    }
}

#[test]
fn keys_and_values_of_any_bytes_survive_and_share_the_frame() {
    let mut seeded = Seeded(7);
    let (limits, mut buffer) = (Limits::default(), BytesMut::new());
    for id in 0..500 {
        let request = put(seeded.bytes(1_024), seeded.bytes(5_000));
        encode_request(&mut buffer, &limits, id, &request).expect("within the limits");
        let frame = Decoder::new(limits).next(&mut buffer).expect("good").expect("whole");
        let decoded = decode_request(&frame).expect("a request");
        assert_eq!((frame.request, &decoded), (id, &request));
        if let Operation::Put { key, value } = decoded.operation {
            let frame_range = frame.body.as_ptr_range();
            for part in [key, value].into_iter().filter(|part| !part.is_empty()) {
                assert!(frame_range.contains(&part.as_ptr()), "a part was copied");
            }
        }
    }
}

#[test]
fn a_frame_that_claims_too_much_is_refused_from_its_first_five_bytes() {
    let decoder = Decoder::new(Limits::default());
    for kind in Kind::ALL {
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(u32::MAX);
        buffer.put_u8(kind as u8);
        let capacity = buffer.capacity();
        let refused = decoder.next(&mut buffer).expect_err("4 GiB");
        let length = u32::MAX as usize;
        let length_max = 9 + Limits::default().body_bytes_max(kind);
        assert_eq!(refused, WireError::TooLong { kind, length, length_max });
        assert_eq!(buffer.capacity(), capacity, "memory was taken for a claim");
    }
}

#[test]
fn what_is_no_frame_is_refused_by_name() {
    let decoder = Decoder::new(Limits::default());
    let refuse = |bytes: &[u8]| decoder.next(&mut BytesMut::from(bytes)).expect_err("bad");
    assert_eq!(refuse(&[9, 0, 0, 0, 0]), WireError::UnknownKind { number: 0 });
    assert_eq!(refuse(&[9, 0, 0, 0, 12]), WireError::UnknownKind { number: 12 });
    assert_eq!(refuse(&[8, 0, 0, 0, 1]), WireError::TooShort { length: 8 });
    let mut buffer = BytesMut::new();
    encode_request(&mut buffer, &Limits::default(), 1, &get(Bytes::from_static(b"k")))
        .expect("within the limits");
    let good = buffer.freeze();
    let open = |bytes: Bytes| decoder.datagram(bytes);
    assert!(open(good.clone()).is_ok());
    let cut = good.slice(..good.len() - 1);
    assert_eq!(open(cut.clone()), Err(WireError::Truncated { received: cut.len() }));
    let longer = Bytes::from([good.as_ref(), b"x"].concat());
    assert_eq!(open(longer), Err(WireError::Trailing { kind: Kind::Request, extra: 1 }));
    let mut frame = open(good).expect("a frame");
    let unexpected = WireError::Unexpected { kind: Kind::Request, expected: Kind::Hello };
    assert_eq!(decode_hello(&frame), Err(unexpected));
    frame.body = [frame.body.as_ref(), b"xy"].concat().into();
    let trailing = WireError::Trailing { kind: Kind::Request, extra: 2 };
    assert_eq!(decode_request(&frame), Err(trailing));
}

#[test]
fn an_oversized_message_is_not_encoded() {
    let mut buffer = BytesMut::from(&b"before"[..]);
    let limits = Limits { key_bytes_max: 16, value_bytes_max: 16 };
    let value = Bytes::from(vec![0; 200_000]);
    let refused = encode_request(&mut buffer, &limits, 1, &put(value.clone(), value));
    assert!(matches!(refused, Err(WireError::TooLong { kind: Kind::Request, .. })));
    assert_eq!(buffer, &b"before"[..]);
}

#[test]
fn damaged_bytes_never_panic() {
    let mut stream = BytesMut::new();
    for (_, message) in samples::all() {
        message.encode(&mut stream, 3).expect("within the limits");
    }
    let (decoder, mut refused) = (Decoder::new(Limits::default()), 0);
    for seed in 1..3_000 {
        let mut seeded = Seeded(seed);
        let mut damaged = stream.clone();
        for _ in 0..=seeded.below(8) {
            let index = seeded.below(damaged.len());
            damaged[index] = seeded.below(256) as u8;
        }
        while let Ok(Some(frame)) = decoder.next(&mut damaged) {
            refused += usize::from(Message::decode(&frame).is_err());
        }
        let mut noise = BytesMut::from(seeded.bytes(300).as_ref());
        while let Ok(Some(frame)) = decoder.next(&mut noise) {
            refused += usize::from(Message::decode(&frame).is_err());
        }
        for kind in Kind::ALL {
            let frame = FrameBuf { kind, request: 0, body: seeded.bytes(120) };
            refused += usize::from(Message::decode(&frame).is_err());
        }
    }
    assert!(refused > 10_000, "the damage was not damaging: {refused}");
}

#[test]
fn an_empty_value_is_not_an_absent_one() {
    let (limits, mut buffer) = (Limits::default(), BytesMut::new());
    let (position, revision) = (Position::default(), Revision::default());
    let answer = Answer::Found { position, revision, value: Bytes::new() };
    encode_answer(&mut buffer, &limits, 1, &answer).expect("within the limits");
    let frame = Decoder::new(limits).next(&mut buffer).expect("good").expect("whole");
    assert_eq!(decode_answer(&frame), Ok(answer));
}

#[test]
fn a_peer_of_another_minor_version_speaks_the_newest_common_one() {
    let local = Local { cluster: Default::default(), member: None };
    let of = |version_min, version_max, features| Hello {
        version_min,
        version_max,
        features,
        ..client_hello(None)
    };
    let refused = HelloRefusal::Version { min: VERSION_MIN, max: VERSION_MAX };
    let older = local.admit(&of(0, VERSION_MIN - 1, 0)).expect_err("it speaks none of ours");
    assert!(older == refused && older.to_string().contains("update the older side"), "{older}");
    assert_eq!(local.admit(&of(VERSION_MAX + 1, VERSION_MAX + 3, 0)), Err(refused));
    // A newer peer that still speaks ours, with features that this one does not know: it is told
    // what both have.
    let newer = local.admit(&of(VERSION_MIN, VERSION_MAX + 3, u64::MAX)).expect("a common one");
    assert_eq!((newer.version, newer.features), (VERSION_MAX, 0));
}
