//! What is queued on a lane: pieces that are filled one after the other, and never moved.
//!
//! A lane that writes little holds a small piece, and one that writes much large ones, up to a
//! limit: a queue that grows takes memory as fast as it grows, not twice that, and in pieces of
//! sizes that are used again and again.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

/// The sizes of pieces. A message that is larger than its piece has one of its own size.
const PIECE_BYTES_MIN: usize = 1 << 10;
const PIECE_BYTES_MAX: usize = 64 << 10;

/// With less room than this, and less than an eighth of a piece, another one begins.
const ROOM_BYTES_MIN: usize = 512;

/// The queue of one lane.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Those that are full.
    pieces: Vec<Bytes>,
    filling: BytesMut,
    /// The size that it began with.
    piece_bytes: usize,
    /// What was taken last time, and was queued since.
    taken: usize,
    queued: usize,
    writer: Option<Waker>,
}

impl Outgoing {
    /// Queues what `encode` appends, and wakes the writer; answers its length.
    ///
    /// # Errors
    /// Of `encode`, which then has appended nothing.
    pub(super) fn append<E>(
        &mut self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<usize, E> {
        let room = self.filling.capacity() - self.filling.len();
        if room < ROOM_BYTES_MIN.max(self.piece_bytes / 8) {
            self.begin_piece();
        }
        let before = self.filling.len();
        encode(&mut self.filling)?;
        let length = self.filling.len() - before;
        self.queued += length;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Ok(length)
    }

    /// A new piece, as large as what seems to come.
    fn begin_piece(&mut self) {
        self.end_piece();
        let expected = self.taken.max(self.queued).next_power_of_two();
        self.piece_bytes = expected.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        self.filling = BytesMut::with_capacity(self.piece_bytes);
    }

    fn end_piece(&mut self) {
        if !self.filling.is_empty() {
            self.pieces.push(self.filling.split().freeze());
        }
    }

    /// Takes all that is queued into an empty `into`; the task is woken when there is something.
    pub(super) fn poll_take(&mut self, cx: &Context<'_>, into: &mut Vec<Bytes>) -> Poll<()> {
        self.end_piece();
        if self.pieces.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut self.pieces, into);
        self.taken = std::mem::take(&mut self.queued);
        Poll::Ready(())
    }

    /// Drops what is queued; the writer stays.
    pub(super) fn clear(&mut self) {
        *self = Outgoing { writer: self.writer.take(), ..Outgoing::default() };
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what is queued comes out whole and in order, in pieces that follow the load.
    //! Method: messages of many sizes, one of which fails half-way, taken now and then.

    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;

    fn take(outgoing: &mut Outgoing) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let taken = outgoing.poll_take(&Context::from_waker(Waker::noop()), &mut pieces);
        assert_eq!(taken.is_ready(), !pieces.is_empty());
        pieces
    }

    fn append(outgoing: &mut Outgoing, message: &[u8]) {
        let encode = |buffer: &mut BytesMut| {
            buffer.extend_from_slice(message);
            Ok::<_, Infallible>(())
        };
        assert_eq!(outgoing.append(encode), Ok(message.len()));
    }

    #[test]
    fn what_is_queued_comes_out_in_order() {
        let mut outgoing = Outgoing::default();
        let (mut queued, mut taken) = (Vec::new(), Vec::new());
        for number in 0..3_000_usize {
            let message = vec![number as u8; number * 7_919 % 700 + number % 300 / 299 * 200_000];
            append(&mut outgoing, &message);
            queued.extend_from_slice(&message);
            if number % 40 == 0 {
                taken.extend(take(&mut outgoing).concat());
            }
        }
        taken.extend(take(&mut outgoing).concat());
        assert!(taken == queued, "{} bytes of {}", taken.len(), queued.len());
        assert!(take(&mut outgoing).is_empty());
    }

    #[test]
    fn a_message_that_fails_leaves_nothing() {
        let mut outgoing = Outgoing::default();
        append(&mut outgoing, b"before");
        assert_eq!(outgoing.append(|_| Err("it is too long")), Err("it is too long"));
        append(&mut outgoing, b"after");
        assert_eq!(take(&mut outgoing).concat(), b"beforeafter");
    }

    #[test]
    fn a_quiet_lane_holds_little_and_a_busy_one_has_few_pieces() {
        let mut outgoing = Outgoing::default();
        append(&mut outgoing, &[7; 100]);
        assert_eq!(outgoing.filling.capacity(), PIECE_BYTES_MIN);
        for _ in 0..20_000 {
            append(&mut outgoing, &[7; 100]);
        }
        let pieces = take(&mut outgoing);
        assert!(pieces.len() < 60 && pieces.iter().all(|it| it.len() <= PIECE_BYTES_MAX));
        outgoing.clear();
        append(&mut outgoing, &[7; 100]);
        assert_eq!(outgoing.filling.capacity(), PIECE_BYTES_MIN);
    }
}
