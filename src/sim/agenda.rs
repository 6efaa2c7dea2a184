//! What is going to happen, by true time: the simulator's event queue.
//!
//! Events at the same time come in the order in which they were entered, so that a run depends
//! on its seed alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::protocol::time::Time;

/// Names an entered event, for taking it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Entered {
    pub at: Time,
    number: u64,
    slot: u32,
}

/// Events in the order of their times.
///
/// The events themselves stay in their slots, because they are large; the heap orders their
/// names. What was taken back stays in the heap until its time comes.
#[derive(Clone, Debug)]
pub struct Agenda<E> {
    order: BinaryHeap<Reverse<Entered>>,
    slots: Vec<Option<(u64, E)>>,
    free: Vec<u32>,
    number_next: u64,
    now: Time,
}

impl<E> Default for Agenda<E> {
    fn default() -> Agenda<E> {
        Agenda {
            order: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            number_next: 0,
            now: Time(0),
        }
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
        let number = self.number_next;
        self.number_next += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some((number, event));
        let entered = Entered { at: at.max(self.now), number, slot };
        self.order.push(Reverse(entered));
        entered
    }

    pub fn take_back(&mut self, entered: Entered) {
        self.remove(entered);
        self.drop_stale();
    }

    fn is_pending(&self, entered: Entered) -> bool {
        let slot = self.slots.get(entered.slot as usize).and_then(Option::as_ref);
        slot.is_some_and(|(number, _)| *number == entered.number)
    }

    fn remove(&mut self, entered: Entered) -> Option<E> {
        if !self.is_pending(entered) {
            return None;
        }
        self.free.push(entered.slot);
        self.slots[entered.slot as usize].take().map(|(_, event)| event)
    }

    /// Keeps the head of the heap a pending event.
    fn drop_stale(&mut self) {
        while self.order.peek().is_some_and(|Reverse(head)| !self.is_pending(*head)) {
            self.order.pop();
        }
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        self.order.peek().map(|Reverse(head)| head.at)
    }

    /// Lets the next event happen.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse(entered) = self.order.pop()?;
        let event = self.remove(entered);
        self.drop_stale();
        self.now = entered.at;
        event
    }

    /// Lets any pending event happen, now or at its time, whichever is later.
    pub fn take(&mut self, entered: Entered) -> Option<E> {
        let event = self.remove(entered)?;
        self.drop_stale();
        self.now = self.now.max(entered.at);
        Some(event)
    }

    /// Moves true time on to `at`, where nothing is due before that.
    pub fn advance(&mut self, at: Time) {
        if self.next_time().is_none_or(|next| next >= at) {
            self.now = self.now.max(at);
        }
    }

    /// All pending events, by time.
    pub fn iter(&self) -> impl Iterator<Item = (Entered, &E)> + '_ {
        let mut pending: Vec<Entered> = self.order.iter().map(|it| it.0).collect();
        pending.retain(|it| self.is_pending(*it));
        pending.sort_unstable();
        pending.into_iter().filter_map(|it| {
            let (_, event) = self.slots[it.slot as usize].as_ref()?;
            Some((it, event))
        })
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
