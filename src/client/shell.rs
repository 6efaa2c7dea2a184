//! The client's loop: session machines on one side, the transport on the other.
//!
//! ```text
//!   any thread --Command--> Mailbox --+                    +--> replies (oneshot)
//!                                     +--> Shell::turn ----+
//!   network ----Event-----> Events ---+   (all that came)  +--> Transport
//! ```
//!
//! One turn takes everything that gathered since the last one, so that the requests of many
//! tasks leave in one write. An answer finds its session by the request's number, which holds
//! the session's slot and the attempt.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::asks::{AskReply, Asks};
use super::finder::{Finder, VIEW_QUESTION};
use super::pool::{Asker, Pool, SessionSlot, Wish};
use super::transport::{Endpoint, Event, Events, Transport};
use crate::protocol::Machine;
use crate::protocol::message::{MetaAnswer, MetaRequest, Operation};
use crate::protocol::session::{
    AttemptId, CallId, Outcome, Session, SessionEffect, SessionInput, SessionSettings,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::Member;
use crate::protocol::view::View;

/// Bits of a request's number that hold the attempt; the rest holds the session's slot.
const ATTEMPT_BITS: u32 = 40;

/// The most sessions that a client opens in its life.
pub(super) const SLOTS_MAX: u32 = 1 << (64 - ATTEMPT_BITS);

/// What handles ask of the loop.
pub(super) enum Command {
    Open {
        slot: SessionSlot,
        settings: SessionSettings,
    },
    Submit {
        slot: SessionSlot,
        operation: Operation,
        by: Time,
        reply: oneshot::Sender<Outcome>,
    },
    Close {
        slot: SessionSlot,
    },
    Ask {
        request: MetaRequest,
        by: Time,
        reply: AskReply,
    },
    /// The newest view that the client knows, as soon as it knows any.
    View {
        by: Time,
        reply: ViewReply,
    },
    Stop {
        done: Option<oneshot::Sender<()>>,
    },
}

/// A view, or why none was found.
pub(super) type ViewReply = oneshot::Sender<Result<View, String>>;

/// Commands on their way into the loop.
pub(super) struct Mailbox {
    /// None once the loop has ended: what comes then is dropped, and its replies with it.
    commands: Mutex<Option<Vec<Command>>>,
    notify: Notify,
    /// Why the last dial failed.
    failure: Mutex<Option<String>>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            commands: Mutex::new(Some(Vec::new())),
            notify: Notify::new(),
            failure: Mutex::default(),
        }
    }
}

/// Closes a mailbox when its loop ends, however it ends.
pub(super) struct Reader(pub(super) std::sync::Arc<Mailbox>);

impl Drop for Reader {
    fn drop(&mut self) {
        let commands = &self.0.commands;
        let unread = commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Dropped without the lock, because a command may own the last handle of something.
        drop(unread);
    }
}

impl Mailbox {
    pub(super) fn post(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *commands {
            Some(commands) => {
                if commands.is_empty() {
                    self.notify.notify_one();
                }
                commands.push(command);
            }
            None => drop(command),
        }
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Takes all commands, oldest first, into an empty `into`.
    fn take(&self, into: &mut Vec<Command>) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(commands) = &mut *commands {
            std::mem::swap(commands, into);
        }
    }
}

/// A session and the calls that it owes answers to.
struct Hosted {
    machine: Session,
    replies: HashMap<CallId, oneshot::Sender<Outcome>>,
    call_last: u64,
}

/// The state of the loop.
pub(super) struct Shell<T> {
    transport: T,
    cluster: String,
    pool: Pool,
    finder: Finder,
    asks: Asks,
    sessions: BTreeMap<SessionSlot, Hosted>,
    view: View,
    views: Vec<(Time, ViewReply)>,
    /// No session wants a tick before this time; it may be earlier than needed.
    sessions_due: Option<Time>,
    /// Spare memory of a turn.
    effects: Vec<SessionEffect>,
}

impl<T: Transport> Shell<T> {
    /// A loop for the cluster called `cluster`; `endpoints` hand out views, beginning at number
    /// `turn`.
    pub(super) fn new(
        transport: T,
        cluster: String,
        metaserver: Endpoint,
        endpoints: Vec<Endpoint>,
        turn: usize,
    ) -> Shell<T> {
        Shell {
            transport,
            cluster,
            pool: Pool::default(),
            finder: Finder::new(endpoints, turn),
            asks: Asks::new(metaserver),
            sessions: BTreeMap::new(),
            view: View::default(),
            views: Vec::new(),
            sessions_due: None,
            effects: Vec::new(),
        }
    }

    /// Runs until it is told to stop, and tells `now` by its own clock.
    pub(super) async fn run(mut self, mailbox: &Mailbox, events: &Events, now: fn() -> Time) {
        let (mut commands, mut reported) = (Vec::new(), Vec::new());
        loop {
            mailbox.take(&mut commands);
            events.take(&mut reported);
            for event in reported.drain(..) {
                self.note_failure(mailbox, &event);
                self.on_event(now(), event);
            }
            for command in commands.drain(..) {
                if let Command::Stop { done } = command {
                    self.transport.shutdown().await;
                    // Nobody may be waiting any more.
                    let _ = done.map(|done| done.send(()));
                    return;
                }
                self.on_command(now(), command);
            }
            self.on_time(now());
            tokio::select! {
                biased;
                () = mailbox.notify.notified() => {}
                () = events.wait() => {}
                () = rest(self.deadline(), now()) => {}
            }
        }
    }

    /// Keeps for people why a dial failed; a refused certificate is told nowhere else.
    fn note_failure(&self, mailbox: &Mailbox, event: &Event) {
        if let Event::Down { link, reason } = event
            && !self.pool.is_up(*link)
        {
            mailbox.set_failure(Some(reason.clone()));
        }
    }

    fn deadline(&self) -> Option<Time> {
        let views = self.views.iter().map(|&(by, _)| by);
        let others = [self.sessions_due, self.finder.deadline(), self.asks.deadline()];
        views.chain(others.into_iter().flatten()).min()
    }

    fn on_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Open { slot, settings } => {
                let mut machine = Session::new(settings);
                if !self.view.sets.is_empty() {
                    // A machine without calls answers a view with nothing.
                    machine.handle(
                        now,
                        SessionInput::ViewLearned(std::sync::Arc::new(self.view.clone())),
                        &mut Vec::new(),
                    );
                }
                let hosted = Hosted { machine, replies: HashMap::new(), call_last: 0 };
                self.sessions.insert(slot, hosted);
            }
            Command::Submit { slot, operation, by, reply } => {
                let Some(session) = self.sessions.get_mut(&slot) else { return };
                session.call_last += 1;
                let call = CallId(session.call_last);
                session.replies.insert(call, reply);
                let input = SessionInput::Submit { call, operation, deadline: by };
                self.feed(now, slot, input);
            }
            Command::Close { slot } => {
                self.sessions.remove(&slot);
                self.pool.forget(slot);
            }
            Command::Ask { request, by, reply } => self.asks.add(now, request, by, reply),
            Command::View { by, reply } if self.view.sets.is_empty() => {
                self.views.push((by, reply));
                self.finder.begin(now);
            }
            Command::View { reply, .. } => {
                let _ = reply.send(Ok(self.view.clone()));
            }
            Command::Stop { .. } => {}
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        match event {
            Event::Up { link, peer, bases } => {
                for Asker { slot, peer, worker } in self.pool.up(link, peer, bases.clone()) {
                    let bases = bases.clone();
                    self.feed(now, slot, SessionInput::LinkUp { peer, worker, link, bases });
                }
                self.finder.on_up(link, &mut self.transport);
                self.asks.on_up(link, &mut self.transport);
            }
            Event::Down { link, reason } => {
                let (was_up, askers) = self.pool.down(link);
                for Asker { slot, peer, worker } in askers {
                    let input = if was_up {
                        SessionInput::LinkDown { link }
                    } else {
                        SessionInput::ConnectFailed { peer, worker }
                    };
                    self.feed(now, slot, input);
                }
                self.finder.on_down(now, link, &reason);
                self.asks.on_down(now, link, &reason);
            }
            Event::Answer { link, id, answer } => {
                let slot = SessionSlot((id >> ATTEMPT_BITS) as u32);
                let attempt = AttemptId(id & ((1 << ATTEMPT_BITS) - 1));
                self.feed(now, slot, SessionInput::Answer { link, attempt, answer });
            }
            Event::MetaAnswer { link, id: VIEW_QUESTION, answer } => match answer {
                MetaAnswer::View(view) if !view.sets.is_empty() => self.on_view(now, &view),
                // Someone who knows no view yet; the next endpoint may.
                MetaAnswer::View(_)
                | MetaAnswer::Refused(_)
                | MetaAnswer::Status(_)
                | MetaAnswer::Revived { .. }
                | MetaAnswer::Fenced => {
                    self.finder.on_down(now, link, "the cluster is not created yet");
                }
            },
            Event::MetaAnswer { id, answer, .. } => self.asks.on_answer(id, answer),
        }
    }

    fn on_view(&mut self, now: Time, view: &View) {
        self.finder.on_view();
        if self.view.sets.is_empty() {
            self.view = view.clone();
        } else {
            self.view.merge(&view.as_update());
        }
        for server in &self.view.servers {
            if let Some(&address) = server.workers.first() {
                self.finder.learn(Endpoint::server(&self.cluster, server.id, address));
            }
        }
        for (_, reply) in self.views.drain(..) {
            let _ = reply.send(Ok(self.view.clone()));
        }
        let slots: Vec<SessionSlot> = self.sessions.keys().copied().collect();
        for slot in slots {
            self.feed(now, slot, SessionInput::ViewLearned(std::sync::Arc::new(view.clone())));
        }
    }

    fn on_time(&mut self, now: Time) {
        if self.sessions_due.is_some_and(|due| due <= now) {
            self.sessions_due = None;
            let slots: Vec<SessionSlot> = self.sessions.keys().copied().collect();
            for slot in slots {
                let due = self.sessions[&slot].machine.deadline();
                if due.is_some_and(|due| due <= now) {
                    self.feed(now, slot, SessionInput::Tick);
                } else {
                    self.note_deadline(due);
                }
            }
        }
        if !self.views.is_empty() {
            self.finder.begin(now);
        }
        self.finder.step(now, &mut self.pool, &mut self.transport);
        self.asks.step(now, &mut self.pool, &mut self.transport);
        let failure = self.finder.failure().unwrap_or("no endpoint answers").to_owned();
        for (_, reply) in self.views.extract_if(.., |(by, _)| *by <= now) {
            let _ = reply.send(Err(failure.clone()));
        }
    }

    fn note_deadline(&mut self, due: Option<Time>) {
        self.sessions_due = self.sessions_due.into_iter().chain(due).min();
    }

    /// Hands a session an input and performs what it wants. A dial may find its link already
    /// up, and is answered as soon as the effects before it are performed.
    fn feed(&mut self, now: Time, slot: SessionSlot, input: SessionInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(session) = self.sessions.get_mut(&slot) else { return };
            let mut effects = std::mem::take(&mut self.effects);
            session.machine.handle(now, input, &mut effects);
            for effect in effects.drain(..) {
                inputs.extend(self.perform(now, slot, effect));
            }
            self.effects = effects;
        }
        let due = self.sessions.get(&slot).and_then(|session| session.machine.deadline());
        self.note_deadline(due);
    }

    fn perform(
        &mut self,
        now: Time,
        slot: SessionSlot,
        effect: SessionEffect,
    ) -> Option<SessionInput> {
        match effect {
            SessionEffect::Connect { peer, worker, address } => {
                let asker = Asker { slot, peer, worker };
                let endpoint = Endpoint::server(&self.cluster, peer.server, address);
                self.connect(asker, peer, &endpoint)
            }
            SessionEffect::Send { link, attempt, request } => {
                assert!(attempt.0 >> ATTEMPT_BITS == 0, "a session has fewer attempts");
                let id = u64::from(slot.0) << ATTEMPT_BITS | attempt.0;
                self.transport.send(link, id, &request);
                None
            }
            SessionEffect::FetchView => {
                self.finder.begin(now);
                None
            }
            SessionEffect::Complete { call, outcome } => {
                let session = self.sessions.get_mut(&slot)?;
                if let Some(reply) = session.replies.remove(&call) {
                    // Whoever asked may have lost interest.
                    let _ = reply.send(outcome);
                }
                None
            }
        }
    }

    fn connect(&mut self, asker: Asker, peer: Member, to: &Endpoint) -> Option<SessionInput> {
        match self.pool.want(&mut self.transport, to, Some(peer)) {
            Wish::Dialling(link) => {
                self.pool.share(link, asker);
                None
            }
            Wish::Up(link) => {
                self.pool.share(link, asker);
                let bases = self.pool.bases(link);
                let worker = asker.worker;
                Some(SessionInput::LinkUp { peer, worker, link, bases })
            }
        }
    }
}

/// Waits until `deadline`, for ever if there is none.
async fn rest(deadline: Option<Time>, now: Time) {
    match deadline {
        Some(deadline) => {
            let span: Span = deadline.since(now);
            tokio::time::sleep(span.into()).await;
        }
        None => std::future::pending().await,
    }
}
