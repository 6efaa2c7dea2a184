//! One operation in flight: its phase, and the attempts whose fate is open.
//!
//! Invariant: an attempt leaves `open` only by its own answer. A link that goes down turns its
//! attempts into lost ones, which stay open for ever.

use super::{AttemptId, Waiting};
use crate::protocol::message::{AckLevel, Operation, ReadLevel, Refusal, Request};
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, LinkId, Member, WorkerId};

/// Where a call stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(super) enum Phase {
    /// No view names a primary with an address for its key set.
    NoPrimary,
    /// A dial is under way to the worker that serves its key set.
    Dialling { peer: Member, worker: WorkerId },
    /// This attempt is with the primary that the view names.
    Sent { attempt: AttemptId },
    /// Waits for its timer. Where `from` names who would not have it, a view that names another
    /// primary wakes it as well.
    BackingOff { from: Option<Member> },
}

impl Phase {
    pub(super) fn waiting(self) -> Waiting {
        match self {
            Phase::NoPrimary => Waiting::Primary,
            Phase::Dialling { .. } => Waiting::Link,
            Phase::Sent { .. } => Waiting::Answer,
            Phase::BackingOff { .. } => Waiting::Turn,
        }
    }

    pub(super) fn is_backing_off(self) -> bool {
        match self {
            Phase::BackingOff { .. } => true,
            Phase::NoPrimary | Phase::Dialling { .. } | Phase::Sent { .. } => false,
        }
    }
}

/// An attempt whose fate is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) member: Member,
    /// None once the link is gone: no answer comes any more.
    pub(super) link: Option<LinkId>,
    /// The first later attempt that was sent when this one could not be admitted any more: its
    /// server was proven dead, or had told that it is deposed.
    pub(super) over_before: Option<AttemptId>,
}

/// The open attempts of a call, oldest first. Nearly every call has one in all its life, which
/// takes no memory of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub(super) struct Attempts {
    /// None only if there are no later ones.
    first: Option<Attempt>,
    later: Vec<Attempt>,
}

impl Attempts {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.first.iter().chain(&self.later)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Attempt> {
        self.first.iter_mut().chain(&mut self.later)
    }

    fn push(&mut self, attempt: Attempt) {
        if self.first.is_none() {
            self.first = Some(attempt);
        } else {
            self.later.push(attempt);
        }
    }

    fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        if self.first.is_some_and(|it| it.id == id) {
            let next = if self.later.is_empty() { None } else { Some(self.later.remove(0)) };
            return std::mem::replace(&mut self.first, next);
        }
        let index = self.later.iter().position(|it| it.id == id)?;
        Some(self.later.remove(index))
    }
}

/// An operation in flight.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub(super) struct Call {
    /// What is sent; a write that was sent keeps the number and the base of its origin.
    pub(super) request: Request,
    /// The key set it belongs to, once their number is known.
    set: Option<KeySet>,
    pub(super) deadline: Time,
    /// Its entry in the session's timers.
    pub(super) timer: Time,
    pub(super) phase: Phase,
    pub(super) open: Attempts,
    /// Refusals and failed dials so far, for the backoff.
    pub(super) setbacks: u32,
    pub(super) refusal: Option<Box<Refusal>>,
}

impl Call {
    pub(super) fn new(operation: Operation, deadline: Time) -> Call {
        Call {
            request: Request {
                operation,
                origin: None,
                read_level: ReadLevel::Linearizable,
                ack_level: AckLevel::Every,
                expiry_ms: None,
            },
            set: None,
            deadline,
            timer: deadline,
            phase: Phase::NoPrimary,
            open: Attempts::default(),
            setbacks: 0,
            refusal: None,
        }
    }

    /// The key set it belongs to, of `count`; none while `count` is 0.
    #[inline]
    pub(super) fn key_set(&self, count: u16) -> Option<KeySet> {
        let known = self.set;
        known.or_else(|| (count > 0).then(|| self.request.operation.key_set(count)))
    }

    /// The same, and remembers it.
    pub(super) fn placed(&mut self, count: u16) -> Option<KeySet> {
        self.set = self.key_set(count);
        self.set
    }

    /// Whether this call is a write that some attempt may have done, or may still do.
    pub(super) fn may_be_done(&self) -> bool {
        self.is_write() && !self.open.is_empty()
    }

    pub(super) fn is_write(&self) -> bool {
        self.request.operation.is_write()
    }

    /// The unanswered attempt on `link`, if any.
    #[inline]
    pub(super) fn open_on(&self, link: LinkId) -> Option<AttemptId> {
        self.open.iter().find(|it| it.link == Some(link)).map(|it| it.id)
    }

    /// Takes the attempt that was answered out of the open ones.
    #[inline]
    pub(super) fn close(&mut self, attempt: AttemptId) -> Option<Attempt> {
        self.open.remove(attempt)
    }

    /// Notes a new attempt; `is_dead` tells which members were proven dead before it was sent.
    pub(super) fn opened(
        &mut self,
        id: AttemptId,
        member: Member,
        link: LinkId,
        is_dead: impl Fn(Member) -> bool,
    ) {
        for earlier in self.open.iter_mut() {
            if earlier.over_before.is_none() && is_dead(earlier.member) {
                earlier.over_before = Some(id);
            }
        }
        self.open.push(Attempt { id, member, link: Some(link), over_before: None });
        self.phase = Phase::Sent { attempt: id };
    }

    /// The link is gone: its attempt will never be answered. Lost attempts to one member are
    /// alike, so that one of them stands for all: the list is as long as there are members.
    pub(super) fn lose(&mut self, link: LinkId) -> Option<AttemptId> {
        let lost = *self.open.iter().find(|it| it.link == Some(link))?;
        let known = self.open.iter().any(|it| it.link.is_none() && it.member == lost.member);
        if known {
            self.open.remove(lost.id);
        } else if let Some(attempt) = self.open.iter_mut().find(|it| it.id == lost.id) {
            attempt.link = None;
        }
        Some(lost.id)
    }

    /// The deposed primary told what it knows of this attempt: nothing of it comes later than
    /// what the new primary answers to `next`, which is sent after that word.
    pub(super) fn depose(&mut self, attempt: AttemptId, next: AttemptId) {
        if let Some(told) = self.open.iter_mut().find(|it| it.id == attempt) {
            told.over_before.get_or_insert(next);
        }
    }

    /// Whether an answer to `attempt` that wrote nothing is the last word: no other open attempt
    /// could write after it, because they were over when `attempt` was sent.
    pub(super) fn is_last_word(&self, attempt: AttemptId) -> bool {
        self.open.iter().all(|it| it.over_before.is_some_and(|after| after <= attempt))
    }
}
