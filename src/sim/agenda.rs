//! What is going to happen, by true time: the simulator's event queue.
//!
//! Events at the same time come in the order in which they were entered, so that a run depends
//! on its seed alone.

use std::collections::BTreeMap;

use crate::protocol::time::Time;

/// Names an entered event, for taking it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Entered {
    pub at: Time,
    number: u64,
}

/// Events in the order of their times.
#[derive(Clone, Debug)]
pub struct Agenda<E> {
    pending: BTreeMap<Entered, E>,
    number_next: u64,
    now: Time,
}

impl<E> Default for Agenda<E> {
    fn default() -> Agenda<E> {
        Agenda { pending: BTreeMap::new(), number_next: 0, now: Time(0) }
    }
}

impl<E> Agenda<E> {
    /// True time: that of the event that happened last.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Enters an event; one in the past happens now.
    pub fn enter(&mut self, at: Time, event: E) -> Entered {
        let entered = Entered { at: at.max(self.now), number: self.number_next };
        self.number_next += 1;
        self.pending.insert(entered, event);
        entered
    }

    pub fn take_back(&mut self, entered: Entered) {
        self.pending.remove(&entered);
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        self.pending.keys().next().map(|it| it.at)
    }

    /// Lets the next event happen.
    pub fn pop(&mut self) -> Option<E> {
        let (entered, event) = self.pending.pop_first()?;
        self.now = entered.at;
        Some(event)
    }

    /// Lets any pending event happen, now or at its time, whichever is later.
    pub fn take(&mut self, entered: Entered) -> Option<E> {
        let event = self.pending.remove(&entered)?;
        self.now = self.now.max(entered.at);
        Some(event)
    }

    /// Moves true time on to `at`, where nothing is due before that.
    pub fn advance(&mut self, at: Time) {
        if self.next_time().is_none_or(|next| next >= at) {
            self.now = self.now.max(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Entered, &E)> + '_ {
        self.pending.iter().map(|(&entered, event)| (entered, event))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: events come by time, then in the order of entering, and can be taken back.
    //! Method: a handful of events with equal and unequal times.

    use super::*;

    #[test]
    fn events_come_in_order() {
        let mut agenda = Agenda::default();
        agenda.enter(Time(5), "c");
        let taken = agenda.enter(Time(1), "never");
        agenda.enter(Time(1), "a");
        agenda.enter(Time(1), "b");
        agenda.take_back(taken);
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(agenda.now(), Time(5));
        assert_eq!(agenda.enter(Time(2), "late").at, Time(5));
    }
}
