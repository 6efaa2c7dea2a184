//! The messages of the control path: plain postcard.

use bytes::BytesMut;

use super::frame::{Frame, HEADER_BYTES_USUAL, WireError, decode, encode};
use super::hello::HelloRefusal;
use super::limits::{Kind, Limits};
use crate::protocol::message::{Hello, HelloAck, MetaAnswer, MetaRequest, ToMeta, ToServer};
use crate::protocol::types::KeySet;

/// Writes the pair of functions for a kind whose frames answer nothing.
macro_rules! plain {
    ($kind:ident, $message:ty, $encode:ident, $decode:ident) => {
        /// Appends one frame.
        ///
        /// # Errors
        /// It is larger than the limits allow; the buffer is as it was.
        pub fn $encode(
            buffer: &mut BytesMut,
            limits: &Limits,
            message: &$message,
        ) -> Result<(), WireError> {
            encode(buffer, limits, (Kind::$kind, 0), (message, HEADER_BYTES_USUAL), &[])
        }

        /// The message in `frame`.
        ///
        /// # Errors
        /// The frame is not exactly one such message.
        pub fn $decode<'a>(frame: impl Into<Frame<'a>>) -> Result<$message, WireError> {
            decode(frame.into(), Kind::$kind)
        }
    };
}

/// Writes the pair of functions for a kind that pairs requests with answers by their id.
macro_rules! numbered {
    ($kind:ident, $message:ty, $encode:ident, $decode:ident) => {
        /// Appends one frame of request `id`.
        ///
        /// # Errors
        /// It is larger than the limits allow; the buffer is as it was.
        pub fn $encode(
            buffer: &mut BytesMut,
            limits: &Limits,
            id: u64,
            message: &$message,
        ) -> Result<(), WireError> {
            encode(buffer, limits, (Kind::$kind, id), (message, HEADER_BYTES_USUAL), &[])
        }

        /// The message in `frame`; its id is `frame.request`.
        ///
        /// # Errors
        /// The frame is not exactly one such message.
        pub fn $decode<'a>(frame: impl Into<Frame<'a>>) -> Result<$message, WireError> {
            decode(frame.into(), Kind::$kind)
        }
    };
}

plain!(Hello, Hello, encode_hello, decode_hello);
plain!(HelloAck, HelloAck, encode_hello_ack, decode_hello_ack);
plain!(HelloRefused, HelloRefusal, encode_hello_refused, decode_hello_refused);
plain!(Lane, KeySet, encode_lane, decode_lane);
plain!(ToMeta, ToMeta, encode_to_meta, decode_to_meta);
plain!(ToServer, ToServer, encode_to_server, decode_to_server);
numbered!(MetaRequest, MetaRequest, encode_meta_request, decode_meta_request);
numbered!(MetaAnswer, MetaAnswer, encode_meta_answer, decode_meta_answer);
