//! Space: servers fill up and have room again, each by a level at a time that is drawn.
//!
//! What a server holds has nothing to do with it: what matters is who is full, who knows, and what
//! the metaserver moves meanwhile. All draws come from a generator of their own: a run in which
//! nothing is measured is what it would be if there were no space.

use super::driver::Driver;
use crate::protocol::space::Level;
use crate::protocol::time::{Span, Time};
use crate::sim::faults::Fault;
use crate::sim::rng::Rng;

/// The levels of servers over a run.
#[derive(Clone, Debug)]
pub(super) struct Filling {
    rng: Rng,
    /// Longest pause between two changes.
    gap_max: Span,
    next: Time,
    begun: bool,
}

impl Filling {
    pub fn new(seed: u64) -> Filling {
        let mut rng = Rng::new(seed.rotate_left(29) ^ 0x6e6f_2072_6f6f_6d21);
        let gap_max = Span::from_millis([60, 400, 2_000][rng.below(3) as usize]);
        Filling { rng, gap_max, next: Time(0), begun: false }
    }
}

impl Driver<'_> {
    /// Lets a server fill up, or have room, if it is time for that. At first all are measured.
    pub(super) fn fill_in_time(&mut self) {
        let now = self.world.now();
        let servers: Vec<_> = self.world.servers.keys().copied().collect();
        let Some(filling) = &mut self.filling else { return };
        if self.script.is_some() || now < filling.next {
            return;
        }
        filling.next = now + filling.rng.span(Span::ZERO, filling.gap_max);
        if !std::mem::replace(&mut filling.begun, true) {
            for server in servers {
                self.world.strike(Fault::Space(server, Level::Ok));
            }
            return;
        }
        let levels = [Level::Ok, Level::Soft, Level::High, Level::Hard];
        let level = levels[filling.rng.weighted(&[5, 1, 4, 3])];
        if let Some(&server) = filling.rng.pick(&servers) {
            self.world.strike(Fault::Space(server, level));
        }
    }
}
