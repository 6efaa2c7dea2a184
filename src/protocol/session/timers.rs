//! The timers of calls, one each: when a call wants to be looked at.
//!
//! Nearly all timers are set when a call begins to rest, by one span of patience, and dropped
//! unused at its answer. They come in the order in which they are due, so that a queue holds
//! them. What is dropped stays in the queue until it gets to the front, and counts for nothing:
//! an entry is alive only while it says what its call says. All other timers lie in a set.
//!
//! Invariant: between two inputs the front of the queue is alive, so that the next deadline is
//! exact.

use std::collections::{BTreeSet, VecDeque};

use super::CallId;
use super::call::Call;
use super::calls::Calls;
use crate::protocol::time::Time;

/// Dropped timers that the queue may hold beyond as many as there are calls.
const DROPPED_MAX: usize = 64;

/// The timers of all calls, which themselves say how their own is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    /// Strictly ascending.
    resting: VecDeque<(Time, CallId)>,
    others: BTreeSet<(Time, CallId)>,
}

impl Timers {
    /// Moves the timer of a call that rests until `due`, or its deadline.
    #[inline]
    pub(super) fn rest(&mut self, id: CallId, call: &mut Call, due: Time) {
        if due < call.deadline && self.resting.back().is_none_or(|&last| last < (due, id)) {
            self.drop(call.timer, id);
            call.timer = due;
            self.resting.push_back((due, id));
        } else {
            self.set(id, call, due);
        }
    }

    /// Moves any other timer of a call, which never lies beyond its deadline.
    pub(super) fn set(&mut self, id: CallId, call: &mut Call, due: Time) {
        self.drop(call.timer, id);
        call.timer = due.min(call.deadline);
        self.others.insert((call.timer, id));
    }

    /// Drops a timer; the call says so by another timer, or by being gone.
    #[inline]
    pub(super) fn drop(&mut self, due: Time, id: CallId) {
        if !self.others.is_empty() {
            self.others.remove(&(due, id));
        }
    }

    /// The first timer of all. The front of the queue is alive.
    #[inline]
    pub(super) fn first(&self) -> Option<(Time, CallId)> {
        match (self.resting.front(), self.others.first()) {
            (Some(&resting), Some(&other)) => Some(resting.min(other)),
            (first, other) => first.or(other).copied(),
        }
    }

    /// Brings a timer that is alive to the front of the queue.
    #[inline]
    pub(super) fn trim(&mut self, calls: &Calls) {
        let alive = |&(due, id): &(Time, CallId)| calls.get(id).is_some_and(|it| it.timer == due);
        while self.resting.front().is_some_and(|first| !alive(first)) {
            self.resting.pop_front();
        }
        if self.resting.len() > 2 * calls.len() + DROPPED_MAX {
            self.resting.retain(alive);
        }
    }
}
