//! A node's own clock: true time with an offset and a rate that is a little wrong.
//!
//! Machines only ever see readings of such clocks. The simulator alone knows true time.

use super::rng::Rng;
use crate::protocol::time::Time;

/// How far the rates of a world's clocks are off, in parts per million.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rates {
    Exact,
    /// Each clock anywhere within this.
    Within(u64),
    /// Each clock off by just this, one way or the other.
    Extreme(u64),
}

impl Rates {
    /// The rate of one clock.
    pub fn draw(self, rng: &mut Rng) -> i64 {
        match self {
            Rates::Exact => 0,
            Rates::Within(most) => rng.between(0, 2 * most) as i64 - most as i64,
            Rates::Extreme(most) if rng.chance(500_000) => most as i64,
            Rates::Extreme(most) => -(most as i64),
        }
    }
}

/// How a node reads time.
#[derive(Clone, Copy, Debug, Hash)]
pub struct NodeClock {
    /// The reading at true time zero.
    offset: Time,
    /// Parts per million that this clock runs fast; negative = slow.
    skew_ppm: i64,
}

impl NodeClock {
    #[must_use]
    pub fn new(offset: Time, skew_ppm: i64) -> NodeClock {
        NodeClock { offset, skew_ppm }
    }

    /// What the clock shows at true time `at`.
    #[must_use]
    pub fn read(&self, at: Time) -> Time {
        let elapsed = i128::from(at.0) * i128::from(1_000_000 + self.skew_ppm) / 1_000_000;
        Time(self.offset.0 + elapsed as u64)
    }

    /// The first true time at which the clock shows at least `reading`.
    #[must_use]
    pub fn when(&self, reading: Time) -> Time {
        let elapsed = i128::from(reading.0.saturating_sub(self.offset.0)) * 1_000_000;
        let rate = i128::from(1_000_000 + self.skew_ppm);
        Time(((elapsed + rate - 1) / rate) as u64)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a timer set by a node's clock fires neither early nor much too late.
    //! Method: for fast, slow and exact clocks, `when` is the least time whose reading suffices.

    use super::*;

    #[test]
    fn when_is_the_first_moment_that_shows_the_reading() {
        for skew in [-10_000, -1, 0, 1, 10_000] {
            let clock = NodeClock::new(Time(5_000_000_000), skew);
            for reading in [5_000_000_001, 5_000_123_457, 9_999_999_999] {
                let at = clock.when(Time(reading));
                assert!(clock.read(at) >= Time(reading));
                assert!(clock.read(Time(at.0 - 1)) < Time(reading));
            }
        }
    }
}
