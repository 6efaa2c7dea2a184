//! Every duration of the protocol in one place, and the relations between them.
//!
//! Safety needs one relation only: a secondary's promise (`grace`) outlasts the primary's use of
//! it (`lease`) at any clock rates within the stated drift. All else is a matter of taste.

use super::mutants::{Mutant, planted};
use super::time::Span;

/// Clock-rate drift that leases allow for, in parts per million of the nominal rate.
pub const DRIFT_PPM: u64 = 10_000;

/// The durations that a cluster runs by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Timing {
    /// Server to metaserver, this often.
    pub heartbeat: Span,
    /// A primary may serve this long after the sending of what was acknowledged.
    pub lease: Span,
    /// A secondary promises to wait this long after its acknowledgement.
    pub grace: Span,
    /// The metaserver suspects a server that it has not heard for this long.
    pub suspect: Span,
    /// A primary complains of a follower that it got nothing from, or that did not move, for
    /// this long.
    pub complain: Span,
    /// A primary paused for this long without hearing the metaserver resigns.
    pub resign: Span,
    /// An unanswered request to the metaserver is sent again, and an unanswered handover resumed.
    pub retry: Span,
    /// A client's request waits in a server's queue for at most this long.
    pub queue: Span,
    /// Twice the longest delay between attempts to connect again.
    pub reconnect: Span,
    /// A server that stops reports what holds it up after this long, and serves on.
    pub stop: Span,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::new(Span::from_millis(50), Span::from_millis(150), Span::from_millis(200))
    }
}

impl Timing {
    /// The durations that follow from the three that people set.
    #[must_use]
    pub fn new(heartbeat: Span, lease: Span, grace: Span) -> Timing {
        Timing {
            heartbeat,
            lease,
            grace,
            suspect: grace + heartbeat,
            complain: grace + grace,
            resign: grace.scaled(5, 1),
            retry: grace + grace,
            queue: Span::from_millis(10_000),
            reconnect: Span::from_millis(400),
            stop: Span::from_millis(30_000),
        }
    }

    /// The shortest promise that covers `lease` when clock rates differ by the allowed drift:
    /// `lease * (1 + d) / (1 - d)`, rounded up.
    #[must_use]
    pub fn grace_floor(lease: Span) -> Span {
        lease.scaled(1_000_000 + DRIFT_PPM, 1_000_000 - DRIFT_PPM) + Span(1)
    }

    /// How long an acknowledgement of a message that names `lease` binds its sender.
    #[must_use]
    pub fn promise(&self, lease: Span) -> Span {
        if planted(Mutant::NoDriftMargin) {
            return lease + Span(1);
        }
        self.grace.max(Timing::grace_floor(lease))
    }

    /// What is wrong with these durations, in words for a person, if anything.
    ///
    /// # Errors
    /// The first broken relation.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.lease == Span::ZERO || self.heartbeat == Span::ZERO {
            return Err(TimingError::Zero);
        }
        let floor = Timing::grace_floor(self.lease);
        if self.grace < floor {
            return Err(TimingError::GraceTooShort { grace: self.grace, floor });
        }
        Ok(())
    }
}

/// A broken relation between durations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimingError {
    /// `heartbeat` or `lease` is zero.
    Zero,
    /// `grace` does not cover `lease` at the allowed drift.
    GraceTooShort { grace: Span, floor: Span },
}

#[cfg(test)]
mod tests {
    //! Goal: the one relation that safety needs is computed and enforced.
    //! Method: check the defaults, and a grace just below its floor.

    use super::*;

    #[test]
    fn default_grace_covers_default_lease() {
        assert_eq!(Timing::default().check(), Ok(()));
    }

    #[test]
    fn a_grace_below_the_floor_is_refused() {
        let lease = Span::from_millis(150);
        let floor = Timing::grace_floor(lease);
        let short = Timing::new(Span::from_millis(50), lease, Span(floor.0 - 1));
        assert!(matches!(short.check(), Err(TimingError::GraceTooShort { .. })));
        assert!(floor > lease);
    }

    #[test]
    fn the_promise_follows_the_lease_that_a_message_names() {
        let timing = Timing::default();
        let longer = Span::from_millis(1_000);
        assert_eq!(timing.promise(longer), Timing::grace_floor(longer));
        assert_eq!(timing.promise(timing.lease), timing.grace);
    }
}
