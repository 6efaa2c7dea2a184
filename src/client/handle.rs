//! The handles that programs hold: `Client` and `Session`.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::answers::{CasAnswer, Count, Deleted, Read, Subject, Write};
use super::asks::AskError;
use super::error::Result;
use super::mailbox::{Command, Mailbox};
use super::pipeline::{Batch, Pipeline};
use super::pool::SessionSlot;
use super::scan::{Scan, ScanOptions};
use super::shell::SLOTS_MAX;
use super::snapshot::Snapshot;
use crate::clock;
use crate::protocol::message::{Answer, Expect, MetaAnswer, MetaRequest, Operation};
use crate::protocol::session::{NotDone, Outcome, SessionSettings};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{Key, KeySet, SessionId, Value};
use crate::protocol::view::View;

/// A connection to a cluster. Clones share it; it closes when the last handle is dropped.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What all handles of a client share.
pub(super) struct Shared {
    pub(super) mailbox: Arc<Mailbox>,
    /// Drawn at random: the upper part of all session ids, so that no two clients share one.
    pub(super) origin: u128,
    pub(super) sessions: AtomicU32,
    pub(super) timeout: Span,
    pub(super) outstanding_max: usize,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.post(Command::Stop { done: None });
    }
}

impl Client {
    /// A new session.
    ///
    /// # Panics
    /// After 16 million sessions of one client.
    #[must_use]
    pub fn session(&self) -> Session {
        let slot = self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        assert!(slot < SLOTS_MAX, "a client opens at most {SLOTS_MAX} sessions in its life");
        let id = SessionId(self.shared.origin | u128::from(slot));
        let mut settings = SessionSettings::new(id, (id.0 ^ (id.0 >> 64)) as u64);
        settings.outstanding_max = self.shared.outstanding_max;
        let slot = SessionSlot(slot);
        self.shared.mailbox.post(Command::Open { slot, settings });
        let open = Arc::new(Open { client: self.clone(), slot });
        Session { open, timeout: self.shared.timeout }
    }

    /// The newest view that the client knows; asks for one if it knows none.
    ///
    /// # Errors
    /// Nobody handed out a view in time; why the last one did not.
    pub async fn view(&self, timeout: Duration) -> std::result::Result<View, String> {
        let (reply, answer) = oneshot::channel();
        self.shared.mailbox.post(Command::View { by: by(timeout.into()), reply });
        answer.await.unwrap_or_else(|_| Err("the client was closed".to_owned()))
    }

    /// Asks the metaserver.
    ///
    /// # Errors
    /// It did not answer in time. A refusal is an answer.
    pub async fn ask(
        &self,
        request: MetaRequest,
        timeout: Duration,
    ) -> std::result::Result<MetaAnswer, AskError> {
        let (reply, answer) = oneshot::channel();
        self.shared.mailbox.post(Command::Ask { request, by: by(timeout.into()), reply });
        let closed = || Err(AskError::Unknown { reason: "the client was closed".to_owned() });
        answer.await.unwrap_or_else(|_| closed())
    }

    /// Why the last dial failed, if any did: what an operation that found no way waited for.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.shared.mailbox.failure()
    }

    /// Closes the client and its connections; operations in flight end as `Error::Closed`.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        self.shared.mailbox.post(Command::Stop { done: Some(done) });
        // An error says the same: the loop has ended.
        let _ = closed.await;
    }
}

/// The deadline of something that may last for `timeout`.
fn by(timeout: Span) -> Time {
    clock::now() + timeout
}

/// A lifetime as it is sent: at least a millisecond, for zero means nothing.
fn milliseconds(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A session that the client's loop knows, until the last handle is dropped.
struct Open {
    client: Client,
    slot: SessionSlot,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.client.shared.mailbox.post(Command::Close { slot: self.slot });
    }
}

/// A session: what the cluster knows a writer by. Clones are the same session; operations may
/// run side by side, and one that depends on another awaits it.
#[derive(Clone)]
pub struct Session {
    open: Arc<Open>,
    timeout: Span,
}

impl Session {
    /// The same session, whose operations end within `timeout`.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Session {
        Session { open: self.open.clone(), timeout: timeout.into() }
    }

    /// Submits at once; the future waits for the outcome, none if the client was closed.
    fn submit(&self, operation: Operation) -> impl Future<Output = Option<Outcome>> + use<> {
        let (reply, outcome) = oneshot::channel();
        let by = by(self.timeout);
        let slot = self.open.slot;
        self.open.client.shared.mailbox.post(Command::Submit { slot, operation, by, reply });
        async { outcome.await.ok() }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Surely not done, as reads change nothing.
    pub async fn get(&self, key: impl Into<Key>) -> Result<Read> {
        let operation = Operation::Get { key: key.into() };
        let subject = Subject::of(&operation);
        subject.read(self.submit(operation).await)
    }

    /// Stores a value.
    ///
    /// # Errors
    /// See `Error`.
    pub async fn put(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<Write> {
        let operation = Operation::Put { key: key.into(), value: value.into() };
        let subject = Subject::of(&operation);
        subject.write(self.submit(operation).await)
    }

    /// Stores a value that is deleted again after `lifetime`, by the clock of the key's primary.
    /// Readers may see it for some tenths of a second more.
    ///
    /// # Errors
    /// See `Error`.
    pub async fn put_for(
        &self,
        key: impl Into<Key>,
        value: impl Into<Value>,
        lifetime: Duration,
    ) -> Result<Write> {
        let (key, value, lifetime_ms) = (key.into(), value.into(), milliseconds(lifetime));
        let operation = Operation::PutFor { key, value, lifetime_ms };
        let subject = Subject::of(&operation);
        subject.write(self.submit(operation).await)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See `Error`.
    pub async fn delete(&self, key: impl Into<Key>) -> Result<Deleted> {
        let operation = Operation::Delete { key: key.into() };
        let subject = Subject::of(&operation);
        subject.deleted(self.submit(operation).await)
    }

    /// Stores `value`, or deletes if none, where the key is as expected.
    ///
    /// # Errors
    /// See `Error`; finding something else is no error.
    pub async fn cas(
        &self,
        key: impl Into<Key>,
        expect: Expect,
        value: Option<Value>,
    ) -> Result<CasAnswer> {
        let operation = Operation::Cas { key: key.into(), expect, value };
        let subject = Subject::of(&operation);
        subject.cas(self.submit(operation).await)
    }

    /// As `cas` with a value, which is deleted again after `lifetime`: a lock that a client who
    /// died does not keep.
    ///
    /// # Errors
    /// See `Error`; finding something else is no error.
    pub async fn cas_for(
        &self,
        key: impl Into<Key>,
        expect: Expect,
        value: impl Into<Value>,
        lifetime: Duration,
    ) -> Result<CasAnswer> {
        let (key, value, lifetime_ms) = (key.into(), value.into(), milliseconds(lifetime));
        let operation = Operation::CasFor { key, expect, value, lifetime_ms };
        let subject = Subject::of(&operation);
        subject.cas(self.submit(operation).await)
    }

    /// Adds to a decimal number; an absent key counts as 0, and a key that expires keeps its time.
    ///
    /// # Errors
    /// See `Error`.
    pub async fn incr(&self, key: impl Into<Key>, by: i64) -> Result<Count> {
        let operation = Operation::Incr { key: key.into(), by };
        let subject = Subject::of(&operation);
        subject.count(self.submit(operation).await)
    }

    /// Does many operations side by side, in no order and not as one: an outcome for each, in
    /// the order given. Beyond the session's limit of operations in flight the rest waits.
    pub async fn batch(&self, operations: Vec<Operation>) -> Vec<Result<Answer>> {
        let window = (self.open.client.shared.outstanding_max / 2).max(1);
        let mut results: Vec<Option<Result<Answer>>> = operations.iter().map(|_| None).collect();
        let mut rest = (0..).zip(operations);
        let mut pipeline = self.pipeline();
        let mut ended = Vec::new();
        loop {
            for (number, operation) in rest.by_ref().take(window - pipeline.in_flight()) {
                pipeline.submit(operation, number);
            }
            if pipeline.in_flight() == 0 {
                break;
            }
            pipeline.next_batch(&mut ended).await;
            for (number, result) in ended.drain(..) {
                results[number as usize] = Some(result);
            }
        }
        results.into_iter().map(|result| result.expect("every operation ends")).collect()
    }

    /// The cheapest way to keep many operations in flight from one task.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.clone())
    }

    /// Submits a pipeline's operations.
    pub(super) fn begin_all(&self, batch: Batch) {
        let (slot, by) = (self.open.slot, by(self.timeout));
        self.open.client.shared.mailbox.post(Command::Begin { slot, batch, by });
    }

    /// Submits one operation at once, before the future is first polled: so a program keeps
    /// many in flight without tasks of its own.
    ///
    /// The future's error is as for all operations, see `Error`.
    pub fn begin(&self, operation: Operation) -> impl Future<Output = Result<Answer>> + use<> {
        let subject = Subject::of(&operation);
        let outcome = self.submit(operation);
        async move { subject.answer(outcome.await) }
    }

    /// Reads all keys that start with `prefix`, in order over all key sets. Each page of a key
    /// set is linearizable; there is no snapshot over pages or key sets.
    #[must_use]
    pub fn scan(&self, prefix: impl Into<Bytes>, options: ScanOptions) -> Scan {
        Scan::new(self.clone(), prefix.into(), options)
    }

    /// Reads one key set as it is at one position, whoever writes to it meanwhile.
    #[must_use]
    pub fn snapshot(&self, set: KeySet) -> Snapshot {
        Snapshot::new(self.clone(), set)
    }

    /// How many key sets the cluster has.
    ///
    /// # Errors
    /// The metaserver and the servers are silent.
    pub async fn key_sets(&self) -> Result<u16> {
        let what = "scan".to_owned();
        let view = self.open.client.view(self.timeout.into()).await.map_err(|_| {
            let waiting = crate::protocol::session::Waiting::Primary;
            let why = NotDone::Deadline { waiting, refusal: None };
            super::Error::NotDone { what, why }
        })?;
        Ok(u16::try_from(view.sets.len()).unwrap_or(u16::MAX))
    }
}

/// Waits for `future` on this thread, without any runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    /// Wakes a thread that parked.
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
