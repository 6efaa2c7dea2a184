//! The one loop: take an input, let the machine handle it, perform the effects.
//!
//! ```text
//!   readers, timers, completions --input--> Driver --handle--> machine
//!                                             |  ^
//!                                     perform |  | completions that are there at once
//!                                             v  |
//!                                            Shell
//! ```
//!
//! A driver lives on one thread. Readers call it directly; it takes a new clock reading for every
//! input. What a batch of inputs leaves to be sent is sent by the timer's task, which has its turn
//! after all readers that have something now: one message for all of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::protocol::Machine;
use crate::protocol::time::Time;

/// Performs a machine's effects.
pub trait Shell<M: Machine> {
    /// Performs one effect. Completions that are there at once are appended to `inputs`; others
    /// come later through the driver's handle.
    fn perform(&mut self, effect: M::Effect, inputs: &mut VecDeque<M::Input>);

    /// Whether effects of this turn left something that `settle` has to see to.
    fn is_due(&self) -> bool {
        false
    }

    /// A turn is over: hands on what its effects left together.
    fn settle(&mut self) {}
}

/// A machine whose driver needs to tell it the time.
pub trait Ticks: Machine {
    /// The input that says that the deadline came.
    fn tick() -> Self::Input;
}

/// A machine with its shell.
pub struct Driver<M: Machine, S> {
    pub machine: M,
    pub shell: S,
    inputs: VecDeque<M::Input>,
    effects: Vec<M::Effect>,
}

/// A shared handle on a driver, of one thread.
pub struct Handle<M: Machine, S> {
    driver: Rc<RefCell<Driver<M, S>>>,
    timer: Rc<Timer>,
}

impl<M: Machine, S> Clone for Handle<M, S> {
    fn clone(&self) -> Handle<M, S> {
        Handle { driver: self.driver.clone(), timer: self.timer.clone() }
    }
}

/// When the timer task wakes up next.
struct Timer {
    armed: Cell<Option<Time>>,
    changed: Notify,
}

impl<M: Ticks, S: Shell<M>> Driver<M, S> {
    /// Handles `input` and everything that follows from it at once.
    fn take(&mut self, input: M::Input) {
        self.handle(input);
        while let Some(input) = self.inputs.pop_front() {
            self.handle(input);
        }
    }

    fn handle(&mut self, input: M::Input) {
        self.machine.handle(clock::now(), input, &mut self.effects);
        for effect in self.effects.drain(..) {
            self.shell.perform(effect, &mut self.inputs);
        }
    }

    /// Lets the machine do what is due.
    fn settle(&mut self) -> Option<Time> {
        // Bounded: a machine that is always due would otherwise keep the thread.
        for _ in 0..4 {
            if self.machine.deadline().is_none_or(|deadline| deadline > clock::now()) {
                break;
            }
            self.take(M::tick());
        }
        self.shell.settle();
        self.machine.deadline()
    }
}

impl<M: Ticks + 'static, S: Shell<M> + 'static> Handle<M, S> {
    /// A driver for `machine`; `run_timer` must run beside it.
    pub fn new(machine: M, shell: S) -> Handle<M, S> {
        let driver = Driver { machine, shell, inputs: VecDeque::new(), effects: Vec::new() };
        Handle {
            driver: Rc::new(RefCell::new(driver)),
            timer: Rc::new(Timer { armed: Cell::new(None), changed: Notify::new() }),
        }
    }

    /// Hands in one input of a batch.
    ///
    /// # Panics
    /// If called while the driver handles an input: shells defer what they start.
    pub fn input(&self, input: M::Input) {
        self.driver.borrow_mut().take(input);
    }

    /// Ends a batch: what it left to do is done in this turn of the thread, once for all batches
    /// of the turn.
    pub fn settle(&self) {
        let driver = self.driver.borrow();
        let armed = self.timer.armed.get();
        let sooner = |deadline| armed.is_none_or(|armed| deadline < armed);
        if driver.shell.is_due() || driver.machine.deadline().is_some_and(sooner) {
            self.timer.changed.notify_one();
        }
    }

    /// Hands in a batch of one.
    pub fn submit(&self, input: M::Input) {
        self.input(input);
        self.settle();
    }

    /// Looks at the machine, or acts on the shell, between inputs.
    pub fn with<R>(&self, act: impl FnOnce(&mut M, &mut S) -> R) -> R {
        let driver = &mut *self.driver.borrow_mut();
        act(&mut driver.machine, &mut driver.shell)
    }

    /// Lets the machine do what is due after each turn's batches and at its deadlines, for ever.
    pub async fn run_timer(self) {
        let mut sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut slept_until = None;
        loop {
            let deadline = self.driver.borrow_mut().settle();
            self.timer.armed.set(deadline);
            let Some(deadline) = deadline else {
                self.timer.changed.notified().await;
                continue;
            };
            if slept_until != Some(deadline) {
                let wait = Duration::from(deadline.since(clock::now()));
                sleep.set(tokio::time::sleep(wait));
                slept_until = Some(deadline);
            }
            tokio::select! {
                biased;
                () = self.timer.changed.notified() => {}
                () = sleep.as_mut() => slept_until = None,
            }
        }
    }
}
