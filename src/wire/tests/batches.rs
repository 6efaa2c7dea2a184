//! Goal: frames are cut off a stream together as they are one by one, up to the first bad one; and
//! the room that is made for a message holds the longest of its kind.
//! Method: streams with a bad frame, a part of one, and more than are wanted; entries and records
//! whose numbers are all as long as they get.

use bytes::{BufMut, Bytes, BytesMut};

use super::get;
use crate::protocol::types::{
    Change, Entry, Epoch, Expiry, LossEpoch, Op, Origin, Record, RequestNumber, Revision,
    SessionId, Written,
};
use crate::wire::peer::{entry_bytes, record_bytes};
use crate::wire::{Decoder, FrameBuf, Limits, WireError, encode_request};

fn stream(count: u64) -> BytesMut {
    let mut stream = BytesMut::new();
    for id in 0..count {
        let request = get(Bytes::from(format!("key {id}")));
        encode_request(&mut stream, &Limits::default(), id, &request).expect("within limits");
    }
    stream
}

fn ids(buffer: &mut BytesMut, count_max: usize) -> Result<Vec<u64>, WireError> {
    let frames = Decoder::new(Limits::default()).batch(buffer, count_max)?;
    Ok(frames.iter().map(|frame| frame.request).collect())
}

#[test]
fn a_batch_ends_at_its_limit_and_at_what_is_not_whole() {
    let mut buffer = stream(5);
    let whole = stream(6);
    buffer.extend_from_slice(&whole[buffer.len()..whole.len() - 1]);
    assert_eq!(ids(&mut buffer, 3), Ok(vec![0, 1, 2]));
    assert_eq!(ids(&mut buffer, 3), Ok(vec![3, 4]));
    assert_eq!(ids(&mut buffer, 3), Ok(vec![]));
    buffer.extend_from_slice(&whole[whole.len() - 1..]);
    assert_eq!(ids(&mut buffer, 3), Ok(vec![5]));
    assert!(buffer.is_empty());
}

#[test]
fn what_is_before_a_bad_frame_is_taken_before_it_is_told() {
    let mut buffer = stream(2);
    buffer.put_u32_le(9);
    buffer.put_u8(0);
    assert_eq!(ids(&mut buffer, 9), Ok(vec![0, 1]));
    assert_eq!(ids(&mut buffer, 9), Err(WireError::UnknownKind { number: 0 }));
}

#[test]
fn frames_of_a_batch_are_those_that_come_one_by_one() {
    let decoder = Decoder::new(Limits::default());
    let (mut together, mut single) = (stream(9), stream(9));
    let frames = decoder.batch(&mut together, 100).expect("good frames");
    let mut one_by_one = Vec::new();
    while let Some(frame) = decoder.next(&mut single).expect("good frames") {
        one_by_one.push(frame);
    }
    assert_eq!(frames.iter().map(FrameBuf::from).collect::<Vec<_>>(), one_by_one);
    assert_eq!(one_by_one.len(), 9);
}

#[test]
fn the_room_for_a_message_holds_the_longest() {
    let base = Revision { loss_epoch: LossEpoch(u32::MAX), op: Op(u64::MAX) };
    let entry = Entry {
        epoch: Epoch(u64::MAX),
        born: Epoch(u64::MAX),
        op: Op(u64::MAX),
        origin: Some(Origin {
            session: SessionId(u128::MAX),
            number: RequestNumber(u64::MAX),
            answered_below: RequestNumber(u64::MAX),
            base,
        }),
        key: Bytes::from(vec![b'k'; 1_024]),
        change: Change::Expiring(Bytes::from(vec![b'v'; 1 << 20]), Expiry(u64::MAX)),
        written: Written::Counter(i64::MIN),
    };
    let length = postcard::to_stdvec(&entry).expect("it encodes").len();
    let room = entry_bytes(&entry);
    assert!((length..length + 40).contains(&room), "room for {room}, it takes {length}");
    let (key, value) = (entry.key.clone(), Bytes::from(vec![b'v'; 1 << 20]));
    let record = Record { key, value, revision: base };
    let length = postcard::to_stdvec(&record).expect("it encodes").len();
    let room = record_bytes(&record);
    assert!((length..length + 40).contains(&room), "room for {room}, it takes {length}");
}
