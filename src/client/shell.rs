//! The client's loop: session machines on one side, the transport on the other.
//!
//! ```text
//!   any thread --Command--> Mailbox --+                    +--> replies (oneshot, pipelines)
//!                                     +--> Shell::turn ----+
//!   network ----Event-----> Events ---+   (all that came)  +--> Transport
//! ```
//!
//! One turn takes what gathered since the last one, up to a limit, so that the requests of many
//! tasks leave in one write. An answer finds its session by the request's number, which holds
//! the session's slot and the attempt.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use super::answers::result_of;
use super::asks::Asks;
use super::debts::{Debt, Debts};
use super::finder::{Finder, VIEW_QUESTION};
use super::mailbox::{Command, Mailbox, ViewReply};
use super::options::ClientOptions;
use super::pipeline::Pipes;
use super::pool::{Asker, Pool, SessionSlot, Wish};
use super::transport::{Endpoint, Event, Events, Transport};
use crate::protocol::Machine;
use crate::protocol::message::{MetaAnswer, Operation, Request};
use crate::protocol::session::{
    AttemptId, CallId, Outcome, Session, SessionHost, SessionInput, SessionSettings,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::{LinkId, Member, WorkerId};
use crate::protocol::view::View;

/// Bits of a request's number that hold the attempt; the rest holds the session's slot.
const ATTEMPT_BITS: u32 = 40;

/// The most sessions that a client opens in its life.
pub(super) const SLOTS_MAX: u32 = 1 << (64 - ATTEMPT_BITS);

/// A session and the calls that it owes answers to.
struct Hosted {
    machine: Session,
    debts: Debts,
}

/// Operations begun in one turn, and the rest of the batch that passes this; then what they send
/// leaves, before the next are begun.
const TURN_OPERATIONS_MAX: usize = 256;

/// The state of the loop.
pub(super) struct Shell<T: Transport> {
    transport: T,
    cluster: String,
    pool: Pool,
    finder: Finder,
    asks: Asks,
    /// By slot; none once a session is closed.
    sessions: Vec<Option<Box<Hosted>>>,
    pipes: Pipes,
    /// Shared by the sessions while they know the same.
    view: Rc<View>,
    views: Vec<(Time, ViewReply)>,
    /// No session wants a tick before this time; it may be earlier than needed.
    sessions_due: Option<Time>,
    /// Spare memory of an input.
    found: Vec<SessionInput>,
}

/// Whoever still waits is told that the client is closed.
impl<T: Transport> Drop for Shell<T> {
    fn drop(&mut self) {
        for hosted in self.sessions.drain(..).flatten() {
            hosted.end(&mut self.pipes);
        }
        self.pipes.land();
    }
}

impl Hosted {
    /// The session is over, and with it what it has in flight.
    fn end(self, pipes: &mut Pipes) {
        for (call, debt) in self.debts.into_all() {
            // A reply that is dropped says the same.
            let Debt::Piped { pipe, tag } = debt else { continue };
            let Some(operation) = self.machine.operation(call) else { continue };
            pipes.end(pipe, tag, result_of(operation, None));
        }
    }
}

impl<T: Transport> Shell<T> {
    /// A loop for the cluster of `options`, whose endpoints hand out views, beginning at number
    /// `turn`.
    pub(super) fn new(transport: T, options: &ClientOptions, turn: usize) -> Shell<T> {
        Shell {
            transport,
            cluster: options.cluster.clone(),
            pool: Pool::new(options.connections),
            finder: Finder::new(options.endpoints.clone(), turn),
            asks: Asks::new(options.metaserver.clone()),
            sessions: Vec::new(),
            pipes: Pipes::default(),
            view: Rc::default(),
            views: Vec::new(),
            sessions_due: None,
            found: Vec::new(),
        }
    }

    /// Runs until it is told to stop, and tells `now` by its own clock.
    ///
    /// Time is read once for all that gathered: it serves to end what is overdue, and an answer
    /// that came is taken before that.
    pub(super) async fn run(mut self, mailbox: &Mailbox, events: &Events, now: fn() -> Time) {
        let (mut posted, mut reported) = (Vec::new(), Vec::new());
        let mut commands = VecDeque::new();
        loop {
            mailbox.take(&mut posted);
            commands.extend(posted.drain(..));
            events.take(&mut reported);
            let turn = now();
            for event in reported.drain(..) {
                self.note_failure(mailbox, &event);
                self.on_event(turn, event);
            }
            let mut operations = 0;
            while operations < TURN_OPERATIONS_MAX
                && let Some(command) = commands.pop_front()
            {
                if let Command::Stop { done } = command {
                    self.transport.shutdown().await;
                    // Nobody may be waiting any more.
                    let _ = done.map(|done| done.send(()));
                    return;
                }
                operations += command.operations();
                self.on_command(turn, command);
            }
            self.on_time(turn);
            self.pipes.land();
            if !commands.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
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
            Command::Open { slot, settings } => self.open(now, slot, settings),
            Command::Submit { slot, operation, by, reply } => {
                self.submit(now, slot, operation, by, Debt::One(reply));
            }
            Command::Begin { slot, batch, by } => {
                let (landing, operations) = batch.open();
                let pipe = self.pipes.join(landing, operations.len());
                for (tag, operation) in operations {
                    self.submit(now, slot, operation, by, Debt::Piped { pipe, tag });
                }
            }
            Command::Close { slot } => {
                if let Some(hosted) = self.sessions.get_mut(slot.0 as usize).and_then(Option::take)
                {
                    hosted.end(&mut self.pipes);
                }
                self.pool.forget(slot);
            }
            Command::Ask { request, by, reply } => self.asks.add(now, request, by, reply),
            Command::View { by, reply } if self.view.sets.is_empty() => {
                self.views.push((by, reply));
                self.finder.begin(now);
            }
            Command::View { reply, .. } => {
                let _ = reply.send(Ok(View::clone(&self.view)));
            }
            Command::Stop { .. } => {}
        }
    }

    fn open(&mut self, now: Time, slot: SessionSlot, settings: SessionSettings) {
        let mut machine = Session::new(settings);
        if !self.view.sets.is_empty() {
            // A machine without calls answers a view with nothing.
            machine.handle(now, SessionInput::ViewLearned(self.view.clone()), &mut Vec::new());
        }
        let index = slot.0 as usize;
        if self.sessions.len() <= index {
            self.sessions.resize_with(index + 1, || None);
        }
        self.sessions[index] = Some(Box::new(Hosted { machine, debts: Debts::default() }));
    }

    fn submit(&mut self, now: Time, slot: SessionSlot, operation: Operation, by: Time, debt: Debt) {
        let hosted = self.sessions.get_mut(slot.0 as usize).and_then(Option::as_mut);
        match (hosted, debt) {
            (Some(hosted), debt) => {
                let call = hosted.debts.owe(debt);
                self.feed(now, slot, SessionInput::Submit { call, operation, deadline: by });
            }
            // Nobody has a handle of a closed session; a reply that is dropped says so.
            (None, Debt::One(_)) => {}
            (None, Debt::Piped { pipe, tag }) => {
                self.pipes.end(pipe, tag, result_of(&operation, None));
            }
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
                MetaAnswer::View(view) if !view.sets.is_empty() => self.on_view(now, view),
                // Someone who knows no view yet; the next endpoint may.
                MetaAnswer::View(_)
                | MetaAnswer::Refused(_)
                | MetaAnswer::Status(_)
                | MetaAnswer::Revived { .. }
                | MetaAnswer::Fenced
                | MetaAnswer::Space(_)
                | MetaAnswer::Stopping(_)
                | MetaAnswer::OwnSpace(_) => {
                    self.finder.on_down(now, link, "the cluster is not created yet");
                }
            },
            Event::MetaAnswer { id, answer, .. } => self.asks.on_answer(id, answer),
        }
    }

    fn on_view(&mut self, now: Time, view: View) {
        self.finder.on_view();
        if *self.view == view {
            // Nothing new, which sessions that share it see at a glance.
        } else if self.view.sets.is_empty() || view.covers(&self.view) {
            self.view = Rc::new(view);
        } else {
            Rc::make_mut(&mut self.view).merge(&view.as_update());
        }
        for server in &self.view.servers {
            if let Some(&address) = server.workers.first() {
                self.finder.learn(Endpoint::server(&self.cluster, server.id, address));
            }
        }
        for (_, reply) in self.views.drain(..) {
            let _ = reply.send(Ok(View::clone(&self.view)));
        }
        // All that is known, of which the news is a part, so that all sessions can share it.
        for slot in self.slots() {
            self.feed(now, slot, SessionInput::ViewLearned(self.view.clone()));
        }
    }

    fn on_time(&mut self, now: Time) {
        if self.sessions_due.is_some_and(|due| due <= now) {
            self.sessions_due = None;
            for index in 0..self.sessions.len() {
                let Some(hosted) = &self.sessions[index] else { continue };
                let due = hosted.machine.deadline();
                if due.is_some_and(|due| due <= now) {
                    self.feed(now, SessionSlot(index as u32), SessionInput::Tick);
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
        if self.views.is_empty() {
            return;
        }
        let failure = self.finder.failure().unwrap_or("no endpoint answers").to_owned();
        for (_, reply) in self.views.extract_if(.., |(by, _)| *by <= now) {
            let _ = reply.send(Err(failure.clone()));
        }
    }

    fn slots(&self) -> Vec<SessionSlot> {
        let open = self.sessions.iter().enumerate().filter(|(_, hosted)| hosted.is_some());
        open.map(|(index, _)| SessionSlot(index as u32)).collect()
    }

    fn note_deadline(&mut self, due: Option<Time>) {
        self.sessions_due = match (self.sessions_due, due) {
            (Some(known), Some(due)) => Some(known.min(due)),
            (known, due) => known.or(due),
        };
    }

    /// Hands a session an input, and does what it wants. A dial may find its link already up,
    /// and is answered as soon as the input is done with.
    fn feed(&mut self, now: Time, slot: SessionSlot, input: SessionInput) {
        let hosted = self.sessions.get_mut(slot.0 as usize).and_then(Option::as_mut);
        let Some(hosted) = hosted else { return };
        let Hosted { machine, debts } = &mut **hosted;
        let mut host = Host {
            now,
            slot,
            cluster: &self.cluster,
            transport: &mut self.transport,
            pool: &mut self.pool,
            finder: &mut self.finder,
            pipes: &mut self.pipes,
            debts,
            found: &mut self.found,
        };
        machine.feed(now, input, &mut host);
        while let Some(input) = host.found.pop() {
            machine.feed(now, input, &mut host);
        }
        let due = machine.deadline();
        self.note_deadline(due);
    }
}

/// What a session's wishes are done with.
struct Host<'a, T> {
    now: Time,
    slot: SessionSlot,
    cluster: &'a str,
    transport: &'a mut T,
    pool: &'a mut Pool,
    finder: &'a mut Finder,
    pipes: &'a mut Pipes,
    debts: &'a mut Debts,
    /// Links that dials found already up.
    found: &'a mut Vec<SessionInput>,
}

impl<T: Transport> SessionHost for Host<'_, T> {
    fn connect(&mut self, peer: Member, worker: WorkerId, address: SocketAddr) {
        let to = Endpoint::server(self.cluster, peer.server, address);
        let asker = Asker { slot: self.slot, peer, worker };
        match self.pool.want(self.transport, &to, asker) {
            Wish::Dialling(_) => {}
            Wish::Up(link) => {
                let bases = self.pool.bases(link);
                self.found.push(SessionInput::LinkUp { peer, worker, link, bases });
            }
        }
    }

    fn send(&mut self, link: LinkId, attempt: AttemptId, request: &Request) {
        assert!(attempt.0 >> ATTEMPT_BITS == 0, "a session has fewer attempts");
        let id = u64::from(self.slot.0) << ATTEMPT_BITS | attempt.0;
        self.transport.send(link, id, request);
    }

    fn fetch_view(&mut self) {
        self.finder.begin(self.now);
    }

    fn complete(&mut self, call: CallId, operation: &Operation, outcome: Outcome) {
        match self.debts.settle(call) {
            // Whoever asked may have lost interest.
            Some(Debt::One(reply)) => drop(reply.send(outcome)),
            Some(Debt::Piped { pipe, tag }) => {
                self.pipes.end(pipe, tag, result_of(operation, Some(outcome)));
            }
            None => {}
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
