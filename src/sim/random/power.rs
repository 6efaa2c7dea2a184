//! Power cuts: every server and the metaserver gone at once, and back one after the other.
//!
//! Each cut has a time of its own kind: soon after the one before, so that it strikes those who
//! are just coming back; at a moment of the protocol, most of which are acknowledgements; or once
//! everything is whole. All draws come from a generator of their own: a run without power cuts is
//! what it would be if there were none.

use super::driver::Driver;
use crate::protocol::time::{Span, Time};
use crate::sim::faults::Fault;
use crate::sim::rng::Rng;

/// That many moments in a million are the end, where one is waited for.
const AIM_PPM: u64 = 20_000;

/// A cut that waits for a moment, or for whole redundancy, strikes after this in any case.
const WAIT_MAX: Span = Span::from_millis(5_000);

/// That many of a million chances to take one server's memory are used: most whole worlds are left
/// to the power cuts.
const LOSSES_PPM: u64 = 300_000;

/// When the power goes next.
#[derive(Clone, Copy, Debug)]
enum When {
    Soon,
    AtMoment,
    OnceWhole,
}

/// The power of a run in which it is cut.
#[derive(Clone, Debug)]
pub(super) struct Power {
    rng: Rng,
    left: u64,
    pub cuts: u64,
    when: When,
    not_before: Time,
}

impl Power {
    /// For `cuts` power cuts; none where there are none.
    pub fn new(seed: u64, cuts: u64) -> Option<Power> {
        let rng = Rng::new(seed.rotate_left(17) ^ 0x706f_7765_7220_6375);
        let (when, not_before) = (When::OnceWhole, Time(0));
        (cuts > 0).then_some(Power { rng, left: cuts, cuts: 0, when, not_before })
    }

    /// Whether all cuts are made.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Whether a chance to take one server's memory is used.
    pub fn leaves_a_loss(&mut self) -> bool {
        self.rng.chance(LOSSES_PPM)
    }

    fn plan(&mut self, now: Time) {
        self.left -= 1;
        self.cuts += 1;
        (self.when, self.not_before) = match self.rng.below(10) {
            0..3 => (When::Soon, now + self.rng.span(Span::ZERO, Span::from_millis(700))),
            3..7 => (When::AtMoment, now + self.rng.span(Span::ZERO, Span::from_millis(300))),
            _ => (When::OnceWhole, now + self.rng.span(Span::ZERO, Span::from_millis(800))),
        };
    }
}

impl Driver<'_> {
    /// Cuts the power if it is time for that.
    pub(super) fn cut_power_in_time(&mut self) {
        let now = self.world.now();
        let Some(power) = &self.power else { return };
        if self.script.is_some() || power.is_over() || now < power.not_before {
            return;
        }
        let due = match power.when {
            When::Soon => true,
            When::AtMoment => now >= power.not_before + WAIT_MAX,
            When::OnceWhole => now >= power.not_before + WAIT_MAX || self.world.is_whole(),
        };
        if due {
            self.cut_power();
        }
    }

    /// Something has just happened: the power may go at this very moment.
    pub(super) fn cut_power_at_moment(&mut self) {
        let now = self.world.now();
        let Some(power) = &mut self.power else { return };
        let waits = matches!(power.when, When::AtMoment) && now >= power.not_before;
        if waits && !power.is_over() && power.rng.chance(AIM_PPM) {
            self.cut_power();
        }
    }

    fn cut_power(&mut self) {
        let now = self.world.now();
        self.world.strike(Fault::Power);
        if let Some(power) = &mut self.power {
            power.plan(now);
        }
    }
}
