//! One operation in flight: its phase, and the attempts whose fate is open.
//!
//! Invariant: an attempt leaves `open` only by its own answer. A link that goes down turns its
//! attempts into lost ones, which stay open for ever.

use super::{AttemptId, Waiting};
use crate::protocol::message::{Operation, Refusal};
use crate::protocol::time::Time;
use crate::protocol::types::{LinkId, Member, RequestNumber, Revision, WorkerId};

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

/// What a write takes along over all its attempts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(super) struct Identity {
    pub(super) number: RequestNumber,
    pub(super) base: Revision,
}

/// An operation in flight.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) deadline: Time,
    /// Its entry in the session's timers.
    pub(super) timer: Time,
    pub(super) phase: Phase,
    /// Of a write that was sent.
    pub(super) identity: Option<Identity>,
    pub(super) open: Vec<Attempt>,
    /// Refusals and failed dials so far, for the backoff.
    pub(super) setbacks: u32,
    pub(super) refusal: Option<Refusal>,
}

impl Call {
    pub(super) fn new(operation: Operation, deadline: Time) -> Call {
        Call {
            operation,
            deadline,
            timer: deadline,
            phase: Phase::NoPrimary,
            identity: None,
            open: Vec::new(),
            setbacks: 0,
            refusal: None,
        }
    }

    /// Whether this call is a write that some attempt may have done, or may still do.
    pub(super) fn may_be_done(&self) -> bool {
        self.operation.is_write() && !self.open.is_empty()
    }

    /// The unanswered attempt on `link`, if any.
    pub(super) fn open_on(&self, link: LinkId) -> Option<AttemptId> {
        self.open.iter().find(|it| it.link == Some(link)).map(|it| it.id)
    }

    /// Takes the attempt that was answered out of the open ones.
    pub(super) fn close(&mut self, attempt: AttemptId) -> Option<Attempt> {
        let index = self.open.iter().position(|it| it.id == attempt)?;
        Some(self.open.remove(index))
    }

    /// Notes a new attempt; `is_dead` tells which members were proven dead before it was sent.
    pub(super) fn opened(
        &mut self,
        id: AttemptId,
        member: Member,
        link: LinkId,
        is_dead: impl Fn(Member) -> bool,
    ) {
        for earlier in &mut self.open {
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
        let index = self.open.iter().position(|it| it.link == Some(link))?;
        let lost = self.open[index];
        let known = self.open.iter().any(|it| it.link.is_none() && it.member == lost.member);
        if known {
            self.open.remove(index);
        } else {
            self.open[index].link = None;
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
