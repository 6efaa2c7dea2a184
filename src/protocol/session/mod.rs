//! A client's session: routes operations to primaries, retries them, and never blurs the three
//! outcomes.
//!
//! ```text
//!   Submit --> [no view] --> [no link] --> Sent --> Complete(Done | NotDone | Unknown)
//!                  ^             ^          | refused, link down, primary replaced
//!                  +-------------+----------+ (backing off where nothing new is known)
//! ```
//!
//! Every call is in exactly one phase and has exactly one timer. What tells the outcomes apart is
//! the list of attempts whose fate is open: an attempt leaves it only by its own answer. While it
//! is not empty, a write can not be called "not done".
//!
//! A write keeps its number and its base over all its attempts, so that a primary recognises it.
//! An answer that says "nothing was written" (a mismatch, say) leaves no duplicate record, so an
//! older attempt that may still lie in some queue could write after it. It counts as the answer
//! only if no such attempt exists, or if before the answered attempt was sent their servers were
//! proven dead or told that they are deposed; otherwise the outcome is unknown.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::Machine;
use super::message::{Answer, Operation, Refusal};
use super::time::{Span, Time};
use super::types::{KeySet, LinkId, Member, RequestNumber, Revision, SessionId, WorkerId};
use super::view::View;
use call::Call;
use calls::Calls;
use roads::Roads;
use route::Fetch;
use timers::Timers;
use unanswered::Unanswered;
use window::Window;

pub use host::{SessionEffect, SessionHost};

mod answer;
mod call;
mod calls;
mod host;
mod roads;
mod route;
#[cfg(test)]
mod tests;
mod timers;
mod unanswered;
mod window;

/// One submitted operation, as its submitter names it; never reused in a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct CallId(pub u64);

/// One attempt to have an operation done; grows within a session and is never reused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct AttemptId(pub u64);

/// What a session is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct SessionSettings {
    /// Drawn at random by the caller, unique in the cluster's life.
    pub session: SessionId,
    /// Spreads the retries of many sessions.
    pub seed: u64,
    /// Operations in flight; more are refused as `NotDone::TooMany`.
    pub outstanding_max: usize,
    /// An attempt, a dial or a search for a primary that lasts longer makes the session ask for
    /// a newer view.
    pub patience: Span,
    /// The first and the longest delay between retries.
    pub backoff_min: Span,
    pub backoff_max: Span,
}

impl SessionSettings {
    /// The usual limits.
    #[must_use]
    pub fn new(session: SessionId, seed: u64) -> SessionSettings {
        SessionSettings {
            session,
            seed,
            outstanding_max: 4_096,
            patience: Span::from_millis(100),
            backoff_min: Span::from_millis(10),
            backoff_max: Span::from_millis(200),
        }
    }
}

/// What happens to a session.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum SessionInput {
    /// Its `deadline` came.
    Tick,
    /// Do `operation`; it completes by `deadline`.
    Submit { call: CallId, operation: Operation, deadline: Time },
    /// The dial that `Connect` asked for succeeded. `bases` are those of the `HelloAck`.
    LinkUp { peer: Member, worker: WorkerId, link: LinkId, bases: Vec<(KeySet, Revision)> },
    /// The dial that `Connect` asked for failed.
    ConnectFailed { peer: Member, worker: WorkerId },
    /// That link is gone; no answer comes from it any more.
    LinkDown { link: LinkId },
    /// The answer to the attempt `Send` named.
    Answer { link: LinkId, attempt: AttemptId, answer: Answer },
    /// A view, asked for or not.
    ViewLearned(Rc<View>),
}

/// How an operation ended.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Outcome {
    /// It was executed; never a refusal, nor `Forgotten`.
    Done(Answer),
    /// Surely not done: it was never sent, or every attempt was refused before admission.
    NotDone(NotDone),
    /// It may or may not have been done, or may still be.
    Unknown(Unknown),
}

/// Why an operation was surely not done.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum NotDone {
    /// The server's word, final.
    Refused(Refusal),
    /// Its deadline passed; what it was waiting for, and its last refusal.
    Deadline { waiting: Waiting, refusal: Option<Refusal> },
    /// This session has too many operations in flight.
    TooMany { outstanding_max: usize },
    /// A read got an answer that does not fit its question: the server misbehaves.
    Misfit,
}

/// What an operation was waiting for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Waiting {
    /// A view that names a primary for its key set.
    Primary,
    /// A connection to the primary.
    Link,
    /// The primary's answer.
    Answer,
    /// Its next attempt, after a refusal.
    Turn,
}

/// Why it is not known whether a write was done.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Unknown {
    /// Its deadline passed with an attempt unanswered; what it was waiting for at the end.
    Deadline { waiting: Waiting },
    /// The servers keep no record any more by which to recognise it.
    Forgotten,
    /// A later attempt was refused for good, an earlier one was never answered.
    Refused(Refusal),
    /// A later attempt wrote nothing (here is its answer), an earlier one was never answered.
    Earlier(Answer),
    /// The answer does not fit the question: the server misbehaves.
    Misfit,
}

/// A client session; see the module's page.
#[derive(Clone, Debug)]
pub struct Session {
    settings: SessionSettings,
    /// State of the generator that spreads retries.
    jitter: u64,
    roads: Roads,
    /// The newest revision seen of each key set, by number; of none behind the last it is known.
    bases: Vec<Revision>,
    calls: Calls,
    /// One entry a call: when it wants to be looked at.
    timers: Timers,
    /// The attempts on live links that are not answered yet, and the slots of their calls.
    attempts: Window,
    attempt_last: AttemptId,
    number_last: RequestNumber,
    /// Writes that were sent and are not finally answered. A completed write stays while an
    /// attempt of it is unanswered on a live link.
    unanswered: Unanswered,
    /// Unanswered attempts of completed writes.
    strays: BTreeMap<AttemptId, (LinkId, RequestNumber)>,
    fetch: Fetch,
}

impl Session {
    /// A session that knows nothing yet.
    ///
    /// # Panics
    /// If the settings allow no operation at all.
    #[must_use]
    pub fn new(settings: SessionSettings) -> Session {
        assert!(settings.outstanding_max > 0, "a session allows at least one operation");
        assert!(settings.patience > Span::ZERO, "patience without length would never rest");
        Session {
            settings,
            jitter: settings.seed,
            roads: Roads::default(),
            bases: Vec::new(),
            calls: Calls::default(),
            timers: Timers::default(),
            attempts: Window::default(),
            attempt_last: AttemptId(0),
            number_last: RequestNumber(0),
            unanswered: Unanswered::default(),
            strays: BTreeMap::new(),
            fetch: Fetch::default(),
        }
    }

    /// The newest view that this session has merged.
    #[must_use]
    pub fn view(&self) -> &View {
        self.roads.view()
    }

    /// Operations submitted and not completed.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.calls.len()
    }

    /// What operation `call` is waiting for; none if it is not in flight.
    #[must_use]
    pub fn waiting(&self, call: CallId) -> Option<Waiting> {
        self.calls.get(call).map(|it| it.phase.waiting())
    }

    /// The operation of a call in flight.
    #[must_use]
    pub fn operation(&self, call: CallId) -> Option<&Operation> {
        self.calls.get(call).map(|it| &it.request.operation)
    }

    /// Handles one input, and tells `host` what is to be done as it comes to it: `handle`
    /// without memory for the effects.
    pub fn feed(&mut self, now: Time, input: SessionInput, host: &mut impl SessionHost) {
        match input {
            SessionInput::Tick => {}
            SessionInput::Submit { call, operation, deadline } => {
                self.on_submit(now, call, operation, deadline, host);
            }
            SessionInput::LinkUp { peer, worker, link, bases } => {
                self.on_link_up(now, peer, worker, link, &bases, host);
            }
            SessionInput::ConnectFailed { peer, worker } => {
                self.on_connect_failed(now, peer, worker);
            }
            SessionInput::LinkDown { link } => self.on_link_down(now, link, host),
            SessionInput::Answer { link, attempt, answer } => {
                self.on_answer(now, link, attempt, answer, host);
            }
            SessionInput::ViewLearned(view) => self.on_view(now, view, host),
        }
        self.on_tick(now, host);
        self.fetch_if_due(now, host);
    }

    fn on_submit(
        &mut self,
        now: Time,
        id: CallId,
        operation: Operation,
        deadline: Time,
        host: &mut impl SessionHost,
    ) {
        let outstanding_max = self.settings.outstanding_max;
        if self.calls.len() + self.strays.len() >= outstanding_max {
            let outcome = Outcome::NotDone(NotDone::TooMany { outstanding_max });
            host.complete(id, &operation, outcome);
            return;
        }
        self.calls.insert(id, Call::new(operation, deadline));
        if deadline <= now {
            self.on_deadline(id, host);
        } else {
            self.dispatch(now, id, host);
        }
    }

    fn on_tick(&mut self, now: Time, host: &mut impl SessionHost) {
        loop {
            self.timers.trim(&self.calls);
            let Some((due, id)) = self.timers.first() else { break };
            if due > now {
                break;
            }
            let call = self.calls.get(id).expect("every timer belongs to a call");
            if call.deadline <= now {
                self.on_deadline(id, host);
            } else if call.phase.is_backing_off() {
                self.dispatch(now, id, host);
            } else {
                self.want_view();
                self.rest(now, id);
            }
        }
    }

    /// Sets the timer of a call that waits for someone else: patience, or its deadline.
    fn rest(&mut self, now: Time, id: CallId) {
        let call = self.calls.change(id).expect("a call in flight rests");
        self.timers.rest(id, call, now + self.settings.patience);
    }

    /// Moves the one timer of a call, which never lies beyond its deadline.
    fn set_timer(&mut self, id: CallId, due: Time) {
        let call = self.calls.change(id).expect("a timer is set for a call in flight");
        self.timers.set(id, call, due);
    }

    /// All that tells this session from another.
    fn knowledge(&self) -> impl Eq + Hash + '_ {
        let Session {
            settings,
            jitter,
            roads,
            bases,
            calls,
            timers: _,
            attempts: _,
            attempt_last,
            number_last,
            unanswered,
            strays,
            fetch,
        } = self;
        let counters = (jitter, attempt_last, number_last);
        (settings, counters, roads, bases, calls, unanswered, strays, fetch)
    }

    /// A delay that doubles with `step`, and lies at random in the upper half of its range.
    fn backoff(&mut self, step: u32) -> Span {
        let SessionSettings { backoff_min, backoff_max, .. } = self.settings;
        let full = backoff_min.0.saturating_mul(1 << step.min(16)).min(backoff_max.0).max(1);
        // SplitMix64: every seed gives a full-period sequence.
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        Span(full / 2 + mixed % (full - full / 2) + 1)
    }
}

/// Two sessions are equal if they do the same from here on, however they got there: `timers` and
/// `attempts` say nothing that the calls do not say.
impl PartialEq for Session {
    fn eq(&self, other: &Session) -> bool {
        self.knowledge() == other.knowledge()
    }
}

impl Eq for Session {}

impl Hash for Session {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.knowledge().hash(state);
    }
}

impl Machine for Session {
    type Input = SessionInput;
    type Effect = SessionEffect;

    fn handle(&mut self, now: Time, input: SessionInput, effects: &mut Vec<SessionEffect>) {
        self.feed(now, input, effects);
    }

    fn deadline(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(due, _)| due);
        let fetch = self.fetch.wanted.then_some(self.fetch.due);
        timer.into_iter().chain(fetch).min()
    }
}
