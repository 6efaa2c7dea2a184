//! Frames and the messages in them: no panic, no memory for claims, and what decodes survives.

use bytes::{Bytes, BytesMut};
use tandem::wire::*;

use crate::allocation::within;

/// A stream is cut into the same frames however it arrives.
pub fn stream(data: &[u8]) {
    // Where it is cut follows from the bytes themselves, so that an input tells all.
    let mut state = data
        .iter()
        .fold(0x9e37_79b9_u32, |state, &byte| (state ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut piece = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 27) as usize
    };
    // The receive buffer takes what arrived, a frame shares it.
    let whole = within(16 * data.len() + 4_096, || cut(data, || data.len().max(1)));
    assert_eq!(whole, cut(data, &mut piece), "frames depend on how the bytes were cut");
    for frame in &whole.0 {
        judge(frame);
    }
    let decoder = Decoder::new(Limits::default());
    // A datagram is exactly the first frame of a stream, or nothing.
    if let Ok(frame) = decoder.datagram(Bytes::copy_from_slice(data)) {
        assert_eq!(whole.0, [frame], "a datagram is not the frame that a stream has");
    }
}

/// All frames of a stream, and why it ended if not for want of bytes.
fn cut(data: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<FrameBuf>, Option<WireError>) {
    let decoder = Decoder::new(Limits::default());
    let (mut buffer, mut frames, mut rest) = (BytesMut::new(), Vec::new(), data);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// One frame: kind, request id, body.
pub fn message(data: &[u8]) {
    let Some((&number, rest)) = data.split_first() else { return };
    let Some((id, body)) = rest.split_first_chunk::<8>() else { return };
    let Ok(kind) = Kind::from_number(number) else { return };
    if body.len() > Limits::default().body_bytes_max(kind) {
        return;
    }
    let request = u64::from_le_bytes(*id);
    judge(&FrameBuf { kind, request, body: Bytes::copy_from_slice(body) });
}

/// Decodes a frame as what it says it is; what decodes is encoded and decoded again.
fn judge(frame: &FrameBuf) {
    // A short body may claim a long list: serde believes at most 1 MiB of it, in each of the
    // lists that are open at once. Entries may be larger in memory than on the wire.
    let bytes_max = 4 * (1 << 20) + 256 * frame.body.len();
    macro_rules! round_trip {
        ($encode:expr, $decode:ident) => {{
            let Ok(message) = within(bytes_max, || $decode(frame)) else { return };
            let mut buffer = BytesMut::new();
            let encoded = $encode(&mut buffer, &Limits::default(), &message);
            assert_eq!(encoded, Ok(()), "what was decoded can not be encoded: {message:?}");
            let bytes = buffer.clone();
            let again = Decoder::new(Limits::default()).next(&mut buffer);
            let again = again.expect("an encoded frame is a frame").expect("and a whole one");
            assert!(buffer.is_empty(), "an encoded frame goes on after its end");
            assert_eq!($decode(&again).as_ref(), Ok(&message));
            let mut twice = BytesMut::new();
            assert_eq!($encode(&mut twice, &Limits::default(), &message), Ok(()));
            assert_eq!(bytes, twice, "two encodings of one message differ");
            let _ = format!("{message:?}");
        }};
    }
    macro_rules! numbered {
        ($encode:ident) => {
            |buffer: &mut BytesMut, limits: &Limits, message: &_| {
                $encode(buffer, limits, frame.request, message)
            }
        };
    }
    match frame.kind {
        Kind::Hello => round_trip!(encode_hello, decode_hello),
        Kind::HelloAck => round_trip!(encode_hello_ack, decode_hello_ack),
        Kind::HelloRefused => round_trip!(encode_hello_refused, decode_hello_refused),
        Kind::Lane => round_trip!(encode_lane, decode_lane),
        Kind::Peer => round_trip!(encode_peer, decode_peer),
        Kind::ToMeta => round_trip!(encode_to_meta, decode_to_meta),
        Kind::ToServer => round_trip!(encode_to_server, decode_to_server),
        Kind::Request => round_trip!(numbered!(encode_request), decode_request),
        Kind::Answer => round_trip!(numbered!(encode_answer), decode_answer),
        Kind::MetaRequest => round_trip!(numbered!(encode_meta_request), decode_meta_request),
        Kind::MetaAnswer => round_trip!(numbered!(encode_meta_answer), decode_meta_answer),
    }
}
