//! The wire: messages to bytes and back, without IO.
//!
//! Every message travels in a frame of its own (`frame`), whose length is limited by its kind
//! (`limits`). Nothing that arrives can panic or allocate beyond its kind's limit, and a frame
//! must decode completely: what is left over is an error, so that versions can not drift apart
//! in silence. The major version is in the ALPN, the minor one in `Hello` (`hello`).
//!
//! ```text
//!   message --encode_*--> BytesMut ~~~~> BytesMut --Decoder::batch--> Frame --decode_*--> message
//! ```

mod frame;
mod hello;
mod limits;
mod message;
mod peer;
mod raw;
mod request;
#[cfg(test)]
mod tests;

pub use frame::{Decoder, Frame, FrameBuf, Frames, HEAD_BYTES, WireError};
pub use hello::{HelloRefusal, Local, VERSION_MAX, VERSION_MIN, check_party, client_hello};
pub use limits::{DATAGRAM_BYTES_MAX, Kind, Limits};
pub use message::{
    decode_hello, decode_hello_ack, decode_hello_refused, decode_lane, decode_meta_answer,
    decode_meta_request, decode_to_meta, decode_to_server, encode_hello, encode_hello_ack,
    encode_hello_refused, encode_lane, encode_meta_answer, encode_meta_request, encode_to_meta,
    encode_to_server,
};
pub use peer::{decode_peer, encode_peer};
pub use request::{decode_answer, decode_request, encode_answer, encode_request};
