//! Many operations in flight from one task, at the least cost.
//!
//! ```text
//!   submit, submit, ... --> gathered --one Command::Begin--> the client's loop
//!   poll_done <-- all that ended <--one lock and one wake a turn-- Pipes::land
//! ```
//!
//! An operation that is awaited by itself costs a channel of its own and a wake-up. A pipeline
//! hands over and takes back as many operations at a time as have gathered.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::answers::result_of;
use super::error::Result;
use super::handle::Session;
use crate::protocol::message::{Answer, Operation};

/// An operation's name in its pipeline, and how it ended.
pub type Ended = (u64, Result<Answer>);

/// Keeps many operations of a session in flight from one task.
///
/// Operations are named by tags of the caller's choice, and end in any order. What was submitted
/// leaves with the next `next_batch` or `poll_done`, and its timeout counts from then. Outcomes
/// are as for `Session::begin`; what exceeds the session's limit of operations in flight ends as
/// `NotDone::TooMany`.
///
/// A pipeline that is dropped forgets what has not left; what has left may still be done.
///
/// ```no_run
/// # use tandem::client::{Operation, Session};
/// # async fn example(session: Session) -> Result<(), tandem::client::Error> {
/// let mut pipeline = session.pipeline();
/// for number in 0..100 {
///     let key = format!("user/{number}").into();
///     pipeline.submit(Operation::Incr { key, by: 1 }, number);
/// }
/// let mut ended = Vec::new();
/// while pipeline.in_flight() > 0 {
///     pipeline.next_batch(&mut ended).await;
///     for (number, result) in ended.drain(..) {
///         println!("user {number}: {:?}", result?);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Pipeline {
    session: Session,
    landing: Arc<Landing>,
    gathered: Vec<(u64, Operation)>,
    in_flight: usize,
}

impl Pipeline {
    pub(super) fn new(session: Session) -> Pipeline {
        Pipeline { session, landing: Arc::default(), gathered: Vec::new(), in_flight: 0 }
    }

    /// Adds an operation, which leaves with the next `next_batch` or `poll_done`.
    pub fn submit(&mut self, operation: Operation, tag: u64) {
        self.gathered.push((tag, operation));
        self.in_flight += 1;
    }

    /// Operations submitted whose end was not taken yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Sends what was submitted, waits until something has ended, and adds it to `into`; at once
    /// and without adding anything if nothing is in flight. Dropping the future loses nothing.
    pub async fn next_batch(&mut self, into: &mut Vec<Ended>) {
        std::future::poll_fn(|context| self.poll_done(context, into)).await;
    }

    /// The same as a poll.
    pub fn poll_done(&mut self, context: &mut Context<'_>, into: &mut Vec<Ended>) -> Poll<()> {
        self.flush();
        if self.in_flight == 0 {
            return Poll::Ready(());
        }
        let mut landed = self.landing.lock();
        if landed.ended.is_empty() {
            match &mut landed.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => landed.waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        self.in_flight -= landed.ended.len();
        if into.is_empty() {
            std::mem::swap(into, &mut landed.ended);
        } else {
            into.append(&mut landed.ended);
        }
        Poll::Ready(())
    }

    fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let spare = Vec::with_capacity(self.gathered.len());
        let operations = std::mem::replace(&mut self.gathered, spare);
        self.session.begin_all(Batch { landing: self.landing.clone(), operations });
    }
}

/// Where the ends of a pipeline's operations gather until it takes them.
#[derive(Debug, Default)]
pub(super) struct Landing {
    landed: Mutex<Landed>,
    /// Where the loop may keep it; of no meaning to others.
    place: AtomicUsize,
}

#[derive(Debug, Default)]
struct Landed {
    ended: Vec<Ended>,
    waker: Option<Waker>,
}

impl Landing {
    fn lock(&self) -> MutexGuard<'_, Landed> {
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what ended, which is then empty, and wakes the pipeline.
    fn land(&self, ended: &mut Vec<Ended>) {
        let mut landed = self.lock();
        if landed.ended.is_empty() {
            std::mem::swap(&mut landed.ended, ended);
        } else {
            landed.ended.append(ended);
        }
        let waker = landed.waker.take();
        drop(landed);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Operations on their way to the loop. They end as closed if they never get there.
pub(super) struct Batch {
    landing: Arc<Landing>,
    operations: Vec<(u64, Operation)>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(super) fn open(mut self) -> (Arc<Landing>, Vec<(u64, Operation)>) {
        (self.landing.clone(), std::mem::take(&mut self.operations))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.operations.is_empty() {
            let unread = self.operations.drain(..);
            let mut ended = unread.map(|(tag, it)| (tag, result_of(&it, None))).collect();
            self.landing.land(&mut ended);
        }
    }
}

/// Where the loop keeps a pipeline that has operations in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct PipePlace(usize);

/// The pipelines that have operations in flight, on the loop's side.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    pipes: Vec<Option<Pipe>>,
    free: Vec<usize>,
    /// Those with something to land.
    touched: Vec<usize>,
}

#[derive(Debug)]
struct Pipe {
    landing: Arc<Landing>,
    in_flight: usize,
    ended: Vec<Ended>,
}

impl Pipes {
    /// Expects `count` operations of a pipeline.
    pub(super) fn join(&mut self, landing: Arc<Landing>, count: usize) -> PipePlace {
        let place = landing.place.load(Ordering::Relaxed);
        let is_known = match self.pipes.get(place) {
            Some(Some(pipe)) => Arc::ptr_eq(&pipe.landing, &landing),
            Some(None) | None => false,
        };
        let place = if is_known {
            place
        } else {
            self.free.pop().unwrap_or_else(|| {
                self.pipes.push(None);
                self.pipes.len() - 1
            })
        };
        landing.place.store(place, Ordering::Relaxed);
        let fresh = || Pipe { landing, in_flight: 0, ended: Vec::new() };
        self.pipes[place].get_or_insert_with(fresh).in_flight += count;
        PipePlace(place)
    }

    /// An operation ended; its pipeline learns it when this turn lands.
    pub(super) fn end(&mut self, place: PipePlace, tag: u64, result: Result<Answer>) {
        let pipe = self.pipes[place.0].as_mut().expect("a pipe stays while it has operations");
        if pipe.ended.is_empty() {
            self.touched.push(place.0);
        }
        pipe.in_flight -= 1;
        pipe.ended.push((tag, result));
    }

    /// Hands all that ended to the pipelines.
    pub(super) fn land(&mut self) {
        for place in self.touched.drain(..) {
            let Some(pipe) = &mut self.pipes[place] else { continue };
            pipe.landing.land(&mut pipe.ended);
            if pipe.in_flight == 0 {
                self.pipes[place] = None;
                self.free.push(place);
            }
        }
    }
}
