//! For explorers of states: a replica forgets what can not decide anything any more.
//!
//! An explorer that runs machines by a timing with spans that never end tells states apart by
//! times that nothing will ever be compared with. This sets them all to one time. It changes
//! nothing that such a replica does.

use super::{Replica, Role};
use crate::protocol::time::{Span, Time};
use crate::protocol::timing::Timing;

/// In place of a time that does not count: it never becomes old.
pub const NO_TIME: Time = Time(u64::MAX);

/// What an explorer promises.
#[derive(Clone, Copy, Debug)]
pub struct Explored {
    /// Spans of this length never end.
    pub never: Span,
    /// The metaserver asks whether a follower answers, and whether a member hears its primary.
    pub questions: bool,
    /// The store still has reads to complete.
    pub reading: bool,
}

impl Explored {
    /// Nobody looks at when a follower was heard or moved.
    pub(crate) fn ignores_silence(&self, timing: &Timing) -> bool {
        timing.complain >= self.never && !self.questions
    }
}

impl Replica {
    /// Whether this replica is secondary, and took its epoch's first message.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        match &self.role {
            Role::Secondary(secondary) => secondary.joined,
            Role::Outside | Role::Primary(_) | Role::Learner(_) => false,
        }
    }

    /// Whether no read is under way that was asked of the store.
    #[must_use]
    pub fn reads_nothing(&self) -> bool {
        match &self.role {
            Role::Primary(primary) => !primary.requests.is_reading(),
            Role::Outside | Role::Secondary(_) | Role::Learner(_) => true,
        }
    }

    /// See the file's page. Promises that ended go as well: everyone who looks at promises lets
    /// go of them first.
    pub fn forget_needless(&mut self, now: Time, timing: &Timing, explored: Explored) {
        self.bonds.release(now, |_| false);
        self.memory.forget_numbers();
        if !explored.questions {
            self.bonds.forget_heard();
        }
        let Role::Primary(primary) = &mut self.role else { return };
        primary.since = NO_TIME;
        if timing.resign >= explored.never {
            primary.paused_since = None;
        }
        if timing.complain >= explored.never {
            primary.complained = NO_TIME;
        }
        if timing.heartbeat >= explored.never {
            primary.barrier_not_before = NO_TIME;
            for run in primary.followers.values_mut().filter_map(|it| it.run.as_mut()) {
                run.forget_since();
            }
        }
        if explored.ignores_silence(timing) {
            for follower in primary.followers.values_mut() {
                follower.heard = NO_TIME;
                follower.moved = NO_TIME;
                if let Some(run) = &mut follower.run {
                    run.forget_moved();
                }
            }
        }
        if timing.retry >= explored.never {
            if let Some(pending) = &mut primary.pending {
                pending.sent = NO_TIME;
                if timing.complain >= explored.never {
                    pending.first_sent = NO_TIME;
                }
            }
            if let Some(drain) = &mut primary.drain {
                drain.since = NO_TIME;
            }
        }
    }
}
