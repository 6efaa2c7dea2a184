//! What a run found: how many operations ended within its window, and how long they waited.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hdrhistogram::Histogram;
use tandem::protocol::time::{Span, Time};

use super::{Kind, Ticket, Window};

/// Waits are told apart to three digits, up to a minute.
const WAIT_NS_MIN: u64 = 1;
const WAIT_NS_MAX: u64 = 60_000_000_000;

/// The share of what became due that ends meanwhile where a system keeps up.
const KEPT_UP: f64 = 0.98;

/// The figures that all sessions of a run fill.
pub(super) type SharedFound = Rc<RefCell<Found>>;

pub(super) fn shared() -> SharedFound {
    Rc::default()
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    waits: BTreeMap<Kind, Histogram<u64>>,
    /// Operations of an open loop that ended within the window, whenever they were due.
    ended_within: u64,
    length: Span,
}

impl Found {
    /// An operation ended at `now`.
    pub(super) fn on_done(&mut self, window: &Window, now: Time, ticket: &Ticket) {
        self.length = window.to.since(window.from);
        if now >= window.from && now < window.to {
            self.record(ticket.kind, now.since(ticket.begun));
        }
    }

    /// An operation of an open loop ended at `now`: it counts if it was due within the window,
    /// however late it ended, for those that end late are the ones to be seen.
    pub(super) fn on_due_done(&mut self, window: &Window, now: Time, ticket: &Ticket) {
        self.length = window.to.since(window.from);
        self.ended_within += u64::from(now >= window.from && now < window.to);
        if ticket.begun >= window.from && ticket.begun < window.to {
            self.record(ticket.kind, now.since(ticket.begun));
        }
    }

    /// An operation was due and never began.
    pub(super) fn on_left_over(&mut self, window: &Window, due: Time, waited: Span) {
        if due >= window.from {
            self.record(Kind::Read, waited);
        }
    }

    fn record(&mut self, kind: Kind, wait: Span) {
        self.waits.entry(kind).or_insert_with(histogram).saturating_record(wait.0);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.waits.values().map(Histogram::len).sum()
    }

    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.count() as f64 / (self.length.0.max(1) as f64 / 1e9)
    }

    /// Whether an open loop of `rate` operations a second was kept up with: as many ended within
    /// the window as became due, but for a fiftieth.
    #[must_use]
    pub fn kept_up(&self, rate: f64) -> bool {
        let due = rate * self.length.0 as f64 / 1e9;
        self.ended_within as f64 >= KEPT_UP * due
    }

    /// The wait in microseconds that `share` of all operations did not exceed.
    #[must_use]
    pub fn wait_us(&self, share: f64) -> f64 {
        let mut all = histogram();
        for waits in self.waits.values() {
            // All have the same bounds.
            let _ = all.add(waits);
        }
        all.value_at_quantile(share) as f64 / 1e3
    }

    /// The waits of each kind of operation.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, &Histogram<u64>)> {
        self.waits.iter().map(|(kind, waits)| (*kind, waits))
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(WAIT_NS_MIN, WAIT_NS_MAX, 3).expect("good bounds")
}

#[cfg(test)]
mod tests {
    //! Goal: only what ends within the window counts, and runs add up.
    //! Method: answers at chosen times.

    use super::*;

    const WINDOW: Window = Window { from: Time(1_000_000), to: Time(2_000_000) };

    fn done(found: &mut Found, begun: u64, ended: u64) {
        let ticket = Ticket { begun: Time(begun), kind: Kind::Read, then_write: None };
        found.on_done(&WINDOW, Time(ended), &ticket);
    }

    #[test]
    fn the_warm_up_and_the_tail_do_not_count() {
        let mut found = Found::default();
        done(&mut found, 0, 999_999);
        done(&mut found, 900_000, 1_000_000);
        done(&mut found, 1_500_000, 1_999_999);
        done(&mut found, 1_500_000, 2_000_000);
        assert_eq!(found.count(), 2);
        assert_eq!(found.per_second(), 2_000.0);
    }

    #[test]
    fn what_was_due_counts_however_late_it_ends() {
        let mut found = Found::default();
        for (begun, ended) in [(900_000, 1_100_000), (1_900_000, 5_900_000)] {
            let ticket = Ticket { begun: Time(begun), kind: Kind::Write, then_write: None };
            found.on_due_done(&WINDOW, Time(ended), &ticket);
        }
        assert_eq!(found.count(), 1);
        assert!((found.wait_us(0.5) - 4_000.0).abs() < 4.0, "{}", found.wait_us(0.5));
    }

    #[test]
    fn whoever_answers_later_and_later_does_not_keep_up() {
        // An operation each microsecond, for a millisecond before the window and throughout.
        let found_after = |wait: fn(u64) -> u64| {
            let mut found = Found::default();
            for number in 0..2_000 {
                let begun = Time(number * 1_000);
                let ticket = Ticket { begun, kind: Kind::Read, then_write: None };
                let window = Window { from: Time(1_000_000), to: Time(2_000_000) };
                found.on_due_done(&window, Time(begun.0 + wait(begun.0)), &ticket);
            }
            found.kept_up(1e6)
        };
        assert!(found_after(|_| 900_000), "long waits that stay the same");
        assert!(!found_after(|begun| begun / 10), "a tenth too slow");
    }

    #[test]
    fn waits_of_all_kinds_are_joined() {
        let mut found = Found::default();
        for (kind, wait) in [(Kind::Read, 10_000), (Kind::Write, 30_000)] {
            let ticket = Ticket { begun: Time(1_500_000), kind, then_write: None };
            found.on_done(&WINDOW, Time(1_500_000 + wait), &ticket);
        }
        assert!((found.wait_us(0.5) - 10.0).abs() < 0.1);
        assert!((found.wait_us(1.0) - 30.0).abs() < 0.1);
    }

    #[test]
    fn what_never_began_has_waited() {
        let mut found = Found::default();
        for _ in 0..97 {
            done(&mut found, 1_500_000, 1_510_000);
        }
        for _ in 0..3 {
            found.on_left_over(&WINDOW, Time(1_100_000), Span(900_000));
        }
        found.on_left_over(&WINDOW, Time(900_000), Span(1_100_000));
        assert_eq!(found.count(), 100);
        assert!((found.wait_us(0.5) - 10.0).abs() < 0.1);
        assert!((found.wait_us(0.99) - 900.0).abs() < 1.0, "{}", found.wait_us(0.99));
    }
}
