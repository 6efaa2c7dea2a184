//! The tasks of a connection: a reader and a writer for each lane, and the loop over them.
//!
//! The first of them that ends, ends the connection. All reads and writes on streams are in
//! tasks of their own and never dropped half-way, because a lost piece would shift all frames.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::task::JoinSet;

use super::connection::{FrameHandler, Lane, LaneStream, Shared};
use super::reason::CloseReason;
use crate::wire::{self, Decoder, Frame, FrameBuf, Kind, WireError};

/// Frames handed over in one turn; then other connections and timers have theirs.
const TURN_FRAMES_MAX: usize = 256;

/// Pieces taken from a stream in one turn: at most 64 KiB, where packets are as large as they may
/// be.
const TURN_PIECES_MAX: usize = 10;

/// How a lane's task ended.
enum Ended {
    /// The lane has its stream.
    Opened(Lane, LaneStream),
    /// The connection is to end.
    Failed(CloseReason),
}

/// Runs all tasks of a connection until it ends.
pub(super) async fn run<H: FrameHandler + 'static>(
    shared: Rc<Shared>,
    control: LaneStream,
    handler: H,
) -> CloseReason {
    let handler = Rc::new(RefCell::new(handler));
    let mut tasks = JoinSet::new();
    start(&mut tasks, &shared, &handler, Lane::Control, control);
    let reason = loop {
        tokio::select! {
            biased;
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ended::Opened(lane, stream)) => {
                    start(&mut tasks, &shared, &handler, lane, stream);
                }
                Ok(Ended::Failed(reason)) => break reason,
                Err(failure) => break CloseReason::Transport(failure.to_string()),
            },
            datagram = shared.quinn.read_datagram() => {
                let taken = match datagram {
                    Ok(bytes) => on_datagram(&shared, &handler, bytes),
                    Err(error) => Err(shared.reason_of(error)),
                };
                if let Err(reason) = taken {
                    break reason;
                }
            }
            stream = shared.quinn.accept_bi(), if !shared.dialled => match stream {
                Ok((send, recv)) => {
                    tasks.spawn_local(name(shared.clone(), send, recv));
                }
                Err(error) => break shared.reason_of(error),
            },
            lane = poll_fn(|cx| shared.poll_unopened(cx)), if shared.dialled => {
                tasks.spawn_local(open(shared.clone(), lane));
            }
        }
    };
    shared.close(reason)
}

/// Starts the reader and the writer of a lane.
fn start<H: FrameHandler + 'static>(
    tasks: &mut JoinSet<Ended>,
    shared: &Rc<Shared>,
    handler: &Rc<RefCell<H>>,
    lane: Lane,
    stream: LaneStream,
) {
    tasks.spawn_local(write(shared.clone(), lane, stream.send));
    let (shared, handler) = (shared.clone(), handler.clone());
    tasks.spawn_local(async move {
        match read(&shared, &handler, lane, stream.recv, stream.received).await {
            Ok(never) => match never {},
            Err(reason) => Ended::Failed(reason),
        }
    });
}

/// Opens a lane's stream, and says which lane it is.
async fn open(shared: Rc<Shared>, lane: Lane) -> Ended {
    let Lane::Set(set) = lane else {
        return Ended::Failed(CloseReason::Misbehaved("the control lane is opened once"));
    };
    let mut name = BytesMut::new();
    let opened = match shared.quinn.open_bi().await {
        Ok((mut send, recv)) => match wire::encode_lane(&mut name, &shared.limits, &set) {
            Ok(()) => send.write_chunk(name.freeze()).await.map(|()| (send, recv)),
            Err(error) => return Ended::Failed(CloseReason::Wire(error)),
        },
        Err(error) => return Ended::Failed(shared.reason_of(error)),
    };
    match opened {
        Ok((send, recv)) => {
            Ended::Opened(lane, LaneStream { send, recv, received: BytesMut::new() })
        }
        Err(error) => Ended::Failed(write_reason(&shared, error)),
    }
}

/// Learns which lane a stream is that the other side opened.
async fn name(shared: Rc<Shared>, send: SendStream, mut recv: RecvStream) -> Ended {
    let mut received = BytesMut::new();
    let decoder = Decoder::new(shared.limits);
    let named = read_first(&mut recv, &mut received, &decoder, &[Kind::Lane]).await;
    let reason = match named {
        Ok(frame) => match wire::decode_lane(&frame) {
            Ok(set) if shared.claim(set) => {
                let stream = LaneStream { send, recv, received };
                return Ended::Opened(Lane::Set(set), stream);
            }
            Ok(_) => CloseReason::Misbehaved("a second stream for the same key set"),
            Err(error) => CloseReason::Wire(error),
        },
        Err(FirstError::Read(error)) => read_reason(&shared, error),
        Err(FirstError::Wire(error)) => CloseReason::Wire(error),
    };
    Ended::Failed(reason)
}

/// Writes what is queued on a lane, all of it at once, as often as there is something.
async fn write(shared: Rc<Shared>, lane: Lane, mut send: SendStream) -> Ended {
    let mut pieces = Vec::new();
    loop {
        poll_fn(|cx| shared.poll_queued(lane, cx, &mut pieces)).await;
        let bytes = pieces.iter().map(Bytes::len).sum();
        if let Err(error) = send.write_all_chunks(&mut pieces).await {
            return Ended::Failed(write_reason(&shared, error));
        }
        pieces.clear();
        shared.on_taken(bytes);
    }
}

/// Reads a lane's frames, a turn's worth at a time.
async fn read<H: FrameHandler>(
    shared: &Rc<Shared>,
    handler: &RefCell<H>,
    lane: Lane,
    mut recv: RecvStream,
    mut received: BytesMut,
) -> Result<std::convert::Infallible, CloseReason> {
    let decoder = Decoder::new(shared.limits);
    let mut pieces: [Bytes; TURN_PIECES_MAX] = std::array::from_fn(|_| Bytes::new());
    loop {
        while take_turn(&decoder, handler, lane, &mut received)? {
            tokio::task::yield_now().await;
        }
        let count = match recv.read_chunks(&mut pieces).await {
            Ok(Some(count)) => count,
            Ok(None) if received.is_empty() => return Err(CloseReason::StreamEnded),
            Ok(None) => {
                let received = received.len();
                return Err(CloseReason::Wire(WireError::Truncated { received }));
            }
            Err(error) => return Err(read_reason(shared, error)),
        };
        received.reserve(pieces[..count].iter().map(Bytes::len).sum());
        for piece in &mut pieces[..count] {
            received.extend_from_slice(&std::mem::take(piece));
        }
    }
}

/// Hands over the whole frames in `received`; whether some may be left for another turn.
fn take_turn<H: FrameHandler>(
    decoder: &Decoder,
    handler: &RefCell<H>,
    lane: Lane,
    received: &mut BytesMut,
) -> Result<bool, CloseReason> {
    let mut handler = handler.borrow_mut();
    let mut left = TURN_FRAMES_MAX;
    while left > 0 {
        let frames = decoder.batch(received, left).map_err(CloseReason::Wire)?;
        let before = left;
        for frame in frames.iter() {
            handler.on_frame(lane, frame)?;
            left -= 1;
        }
        if left == before {
            break;
        }
    }
    if left < TURN_FRAMES_MAX {
        handler.on_batch_end();
    }
    Ok(left == 0)
}

fn on_datagram<H: FrameHandler>(
    shared: &Shared,
    handler: &RefCell<H>,
    bytes: Bytes,
) -> Result<(), CloseReason> {
    let frame = Decoder::new(shared.limits).datagram(bytes).map_err(CloseReason::Wire)?;
    let mut handler = handler.borrow_mut();
    handler.on_datagram(Frame::from(&frame))?;
    handler.on_batch_end();
    Ok(())
}

/// Why a stream's first frame did not come.
pub(super) enum FirstError {
    Read(ReadError),
    Wire(WireError),
}

/// Reads the first frame of a stream, which is of one of `kinds`: a longer limit of another kind
/// is of no use to the other side. What comes after it stays in `received`.
pub(super) async fn read_first(
    recv: &mut RecvStream,
    received: &mut BytesMut,
    decoder: &Decoder,
    kinds: &[Kind],
) -> Result<FrameBuf, FirstError> {
    loop {
        if let Some(kind) = decoder.kind(received).map_err(FirstError::Wire)?
            && !kinds.contains(&kind)
        {
            let expected = kinds.first().copied().unwrap_or(kind);
            return Err(FirstError::Wire(WireError::Unexpected { kind, expected }));
        }
        if let Some(frame) = decoder.next(received).map_err(FirstError::Wire)? {
            return Ok(frame);
        }
        match recv.read_chunk(usize::MAX, true).await.map_err(FirstError::Read)? {
            Some(piece) => received.extend_from_slice(&piece.bytes),
            None => {
                let received = received.len();
                return Err(FirstError::Wire(WireError::Truncated { received }));
            }
        }
    }
}

fn read_reason(shared: &Shared, error: ReadError) -> CloseReason {
    match error {
        ReadError::ConnectionLost(error) => shared.reason_of(error),
        ReadError::Reset(_) => CloseReason::StreamEnded,
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            CloseReason::Transport(error.to_string())
        }
    }
}

fn write_reason(shared: &Shared, error: WriteError) -> CloseReason {
    match error {
        WriteError::ConnectionLost(error) => shared.reason_of(error),
        WriteError::Stopped(_) => CloseReason::StreamEnded,
        WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            CloseReason::Transport(error.to_string())
        }
    }
}
