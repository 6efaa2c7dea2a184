//! The load loop that drives every system alike: so many sessions, so many operations each.
//!
//! ```text
//!   Source (which operation next) --> Pipeline::submit --> the system
//!   Found  (waits, counts)        <-- Pipeline::poll   <--
//! ```
//!
//! In a **closed** loop a session begins an operation when one ends. In an **open** loop
//! operations begin by the clock, and a wait counts from the time at which the operation was
//! *due*: a system that stalls makes all that was due meanwhile wait, and this is seen. (A closed
//! loop would politely not ask: "coordinated omission".)

mod arrivals;
mod closed;
mod found;
mod open;
mod source;
mod zipfian;

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tandem::clock;
use tandem::protocol::time::{Span, Time};
use tokio::task::LocalSet;

pub use found::Found;
pub use open::IN_FLIGHT_MAX;
pub use source::{Choice, KEY_BYTES, Mix, Source, Work, key};

/// What an answer may take beyond the run before the run counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// One operation.
#[derive(Clone, Debug)]
pub enum Request {
    Get { key: Bytes },
    Put { key: Bytes, value: Bytes },
}

/// What the loop remembers of an operation in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// When it began, or was due.
    pub begun: Time,
    pub kind: Kind,
    /// The key to write once this read is answered.
    pub then_write: Option<u64>,
}

/// What is told apart in the figures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Kind {
    Read,
    Write,
    ReadModifyWrite,
}

/// A session of a system, with operations in flight.
pub trait Pipeline {
    /// Begins an operation; it may leave only with the next `poll`.
    fn submit(&mut self, request: Request, ticket: Ticket);

    /// Sends what was submitted, and adds to `done` whose answers came; ready once there is one.
    /// With nothing in flight it is pending.
    ///
    /// # Errors
    /// An operation failed, or its answer is wrong.
    fn poll(&mut self, context: &mut Context<'_>, done: &mut Vec<Ticket>) -> Poll<Result<()>>;
}

/// How long, and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Operations that each session keeps in flight; in an open loop, the most in a row that a
    /// session is given before the next one has its turn.
    pub outstanding: usize,
    /// Operations a second over all sessions, by the clock; none for a closed loop.
    pub rate: Option<f64>,
    pub warm_up: Duration,
    pub length: Duration,
}

/// The time of a run: what ends between `from` and `to` counts.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Time,
    to: Time,
}

impl Window {
    fn begin(pace: &Pace) -> Window {
        let from = clock::now() + Span::from(pace.warm_up);
        Window { from, to: from + Span::from(pace.length) }
    }
}

/// Drives all pipelines of a run, each with a source of its own.
///
/// # Errors
/// An operation failed, or the system stopped answering.
pub async fn drive<P: Pipeline + 'static>(
    pipelines: Vec<P>,
    source: impl Fn(usize) -> Source,
    pace: Pace,
) -> Result<Found> {
    let window = Window::begin(&pace);
    let found = found::shared();
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(rate) = pace.rate {
        let (pacer, inboxes) = arrivals::pacer(rate, pace.outstanding, pipelines.len(), window.to)?;
        for (number, (pipeline, inbox)) in pipelines.into_iter().zip(inboxes).enumerate() {
            let session = open::Session {
                pipeline,
                source: source(number),
                inbox,
                found: found.clone(),
                window,
            };
            tasks.spawn_local(session.run());
        }
        tasks.spawn_local(pacer.run());
    } else {
        for (number, pipeline) in pipelines.into_iter().enumerate() {
            let session = closed::Session {
                pipeline,
                source: source(number),
                outstanding: pace.outstanding,
                found: found.clone(),
                window,
            };
            tasks.spawn_local(session.run());
        }
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a session panicked")??;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(pace.warm_up + pace.length + STUCK_AFTER, all).await {
        Ok(ended) => ended?,
        Err(_) => bail!("operations were not answered for {STUCK_AFTER:?}"),
    }
    drop(tasks);
    let found = Rc::into_inner(found).context("a session outlived its run")?.into_inner();
    Ok(found)
}

/// Stores the keys 0 to `keys - 1`, each once or, at the seams of sessions, twice.
///
/// # Errors
/// A write failed, or the system stopped answering.
pub async fn fill<P: Pipeline + 'static>(
    pipelines: Vec<P>,
    keys: u64,
    value: &Bytes,
    outstanding: usize,
) -> Result<()> {
    let sessions = pipelines.len();
    let all = Source::new(Work::Put, Choice::Sequential, keys, value.clone());
    let each = keys.div_ceil(sessions as u64);
    each_does(pipelines, |number| all.of_session(number, sessions, 0), each, outstanding).await
}

/// Lets each pipeline do `each` operations of its source, `outstanding` at a time.
///
/// # Errors
/// An operation failed.
pub async fn each_does<P: Pipeline + 'static>(
    pipelines: Vec<P>,
    source: impl Fn(usize) -> Source,
    each: u64,
    outstanding: usize,
) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, pipeline) in pipelines.into_iter().enumerate() {
        tasks.spawn_local(closed::some(pipeline, source(number), each, outstanding));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a session panicked")??;
    }
    Ok(())
}

/// Runs `work` on a runtime of its own on this thread.
///
/// # Errors
/// The work's own, or that there is no runtime.
pub fn on_this_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    LocalSet::new().block_on(&runtime, work)
}
