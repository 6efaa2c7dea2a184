//! Arrivals of an open loop: one clock for all sessions, which take turns.
//!
//! What became due since the last tick is handed over at once: up to a batch of arrivals that
//! follow one another go to one session, the next ones to the next. A batch costs every system
//! less than as many single operations, and so the sessions of an open loop have batches as large
//! as those of the closed loop that it is compared with. Nothing is gained by waiting for a tick:
//! each wait counts from when its own operation was due.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem::clock;
use tandem::protocol::time::{Span, Time};
use tokio::sync::Notify;

/// Between two looks at what is due. A runtime's own timers tick in milliseconds, longer than
/// most answers take; more ticks would take processor time from what is measured.
const TICK: Duration = Duration::from_micros(250);

/// What is due for one session.
#[derive(Clone, Default)]
pub(super) struct Inbox(Rc<RefCell<Due>>);

#[derive(Default)]
struct Due {
    times: VecDeque<Time>,
    over: bool,
    listener: Option<Waker>,
}

impl Inbox {
    /// The oldest time at which an operation was due that has not begun.
    pub(super) fn take(&self) -> Option<Time> {
        self.0.borrow_mut().times.pop_front()
    }

    /// Wakes the task when more is due; whether no more ever will be.
    pub(super) fn listen(&self, context: &Context<'_>) -> bool {
        let mut due = self.0.borrow_mut();
        if !due.listener.as_ref().is_some_and(|it| it.will_wake(context.waker())) {
            due.listener = Some(context.waker().clone());
        }
        due.over
    }

    fn change(&self, change: impl FnOnce(&mut Due)) {
        let mut due = self.0.borrow_mut();
        change(&mut due);
        if let Some(listener) = &due.listener {
            listener.wake_by_ref();
        }
    }
}

/// Tells the sessions what is due.
pub(super) struct Pacer {
    ticks: Arc<Notify>,
    schedule: Schedule,
    inboxes: Vec<Inbox>,
    /// Arrivals in a row that go to one session.
    batch: u64,
    end: Time,
}

/// Evenly spaced times: the k-th is `begun + k / rate`.
struct Schedule {
    begun: Time,
    rate: f64,
    count: u64,
}

impl Schedule {
    /// The next time, if it is not after `now`.
    fn next(&mut self, now: Time) -> Option<(u64, Time)> {
        let after = Span((self.count as f64 / self.rate * 1e9) as u64);
        let due = self.begun + after;
        if due > now {
            return None;
        }
        self.count += 1;
        Some((self.count - 1, due))
    }
}

/// A pacer of `rate` operations a second in batches of up to `batch` until `end`, and what it
/// tells each session.
///
/// # Errors
/// The system refuses a thread.
pub(super) fn pacer(
    rate: f64,
    batch: usize,
    sessions: usize,
    end: Time,
) -> Result<(Pacer, Vec<Inbox>)> {
    let ticks = Arc::new(Notify::new());
    let weak = Arc::downgrade(&ticks);
    std::thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || tick(&weak))
        .context("starting a thread")?;
    let inboxes: Vec<Inbox> = (0..sessions).map(|_| Inbox::default()).collect();
    let schedule = Schedule { begun: clock::now(), rate, count: 0 };
    let batch = batch.max(1) as u64;
    Ok((Pacer { ticks, schedule, inboxes: inboxes.clone(), batch, end }, inboxes))
}

impl Pacer {
    /// Tells what is due until the end.
    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            let now = clock::now().min(self.end);
            while let Some((number, due)) = self.schedule.next(now) {
                let inbox = session_of(number, self.batch, self.inboxes.len());
                self.inboxes[inbox].change(|it| it.times.push_back(due));
            }
            if now == self.end {
                self.inboxes.iter().for_each(|inbox| inbox.change(|it| it.over = true));
                return Ok(());
            }
            self.ticks.notified().await;
        }
    }
}

/// Whose turn it is to do arrival `number`.
fn session_of(number: u64, batch: u64, sessions: usize) -> usize {
    (number / batch) as usize % sessions
}

/// Ticks until nobody listens any more.
fn tick(ticks: &Weak<Notify>) {
    while let Some(ticks) = ticks.upgrade() {
        ticks.notify_one();
        drop(ticks);
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: arrivals keep their rate however late they are looked at, and sessions take turns.
    //! Method: a schedule that is asked seldom, in a time made by hand.

    use super::*;

    #[test]
    fn a_late_look_finds_all_that_was_due() {
        let mut schedule = Schedule { begun: Time(1_000), rate: 1e6, count: 0 };
        assert_eq!(schedule.next(Time(999)), None);
        assert_eq!(schedule.next(Time(1_000)), Some((0, Time(1_000))));
        assert_eq!(schedule.next(Time(1_999)), None);
        let late: Vec<_> =
            std::iter::from_fn(|| schedule.next(Time(5_500))).map(|it| it.1.0).collect();
        assert_eq!(late, [2_000, 3_000, 4_000, 5_000]);
    }

    #[test]
    fn sessions_take_turns_by_batches() {
        let turns: Vec<usize> = (0..14).map(|number| session_of(number, 4, 3)).collect();
        assert_eq!(turns, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]);
    }
}
