//! The protocol: pure state machines that are handed the time and their inputs, and answer with
//! effects.
//!
//! ```text
//!            inputs                    effects
//!   driver ----------> Machine::handle ---------> driver (network, store, timers)
//!   (production, simulator and model checker drive the very same machines)
//! ```
//!
//! Nothing here reads a clock, draws a random number, logs, awaits or touches a file. All state
//! that is iterated lives in ordered collections, so that equal inputs give equal effects.

pub mod dedup;
pub mod effect;
pub mod expiries;
pub mod inheritance;
pub mod lease;
pub mod limits;
pub mod members;
pub mod message;
pub mod meta;
pub mod mutants;
pub mod placement;
pub mod replica;
pub mod session;
pub mod space;
pub mod time;
pub mod timing;
pub mod types;
pub mod view;
pub mod worker;

use time::Time;

/// A protocol state machine.
///
/// `handle` consumes one input at local time `now` (never smaller than an earlier `now`) and
/// appends the effects to perform, in order. A driver calls `handle` with the machine's own
/// `Tick` input when `deadline` is reached, and feeds completions of effects back as inputs.
pub trait Machine {
    type Input;
    type Effect;

    /// Handles one input.
    fn handle(&mut self, now: Time, input: Self::Input, effects: &mut Vec<Self::Effect>);

    /// The next local time at which the machine wants a `Tick`, if any.
    fn deadline(&self) -> Option<Time>;
}
