//! Space: how full a server is, and what follows from that (rule 16).
//!
//! ```text
//!   ok --soft--> warned --high--> gets nothing new --hard--> writes that grow are refused
//! ```
//!
//! A server measures itself; its followers tell their primaries with their acknowledgements, and
//! it tells the metaserver. A level is taken back by itself as soon as there is room again.

use serde::{Deserialize, Serialize};

/// How full a server is.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub enum Level {
    #[default]
    Ok,
    /// A person should look.
    Soft,
    /// No new copies are placed here.
    High,
    /// Writes that grow are refused; reads, deletes and writes that shrink go on.
    Hard,
}

/// What a server has only so much of.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub enum Resource {
    #[default]
    Disk,
    Memory,
}

/// The shares of a capacity, in percent, at which the levels begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Thresholds {
    pub soft: u8,
    pub high: u8,
    pub hard: u8,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { soft: 85, high: 90, hard: 95 }
    }
}

/// By so much, in percent, a share lies below a threshold before its level is taken back.
const SLACK: u8 = 1;

impl Thresholds {
    /// The level of a server that uses `used` of `capacity` bytes, and was at `before`.
    #[must_use]
    pub fn level(self, used: u64, capacity: u64, before: Level) -> Level {
        let reaches =
            |percent: u8| u128::from(used) * 100 >= u128::from(capacity) * u128::from(percent);
        let begins = |percent: u8, level: Level| {
            let percent = if before >= level { percent.saturating_sub(SLACK) } else { percent };
            reaches(percent).then_some(level)
        };
        begins(self.hard, Level::Hard)
            .or_else(|| begins(self.high, Level::High))
            .or_else(|| begins(self.soft, Level::Soft))
            .unwrap_or_default()
    }
}

/// How a server stands with what it has least of.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize,
)]
pub struct Space {
    pub level: Level,
    pub of: Resource,
    /// Bytes.
    pub used: u64,
    pub capacity: u64,
}

impl Space {
    /// The share that is used, in thousandths.
    #[must_use]
    pub fn per_mille(&self) -> u64 {
        let share = u128::from(self.used) * 1_000 / u128::from(self.capacity.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each level begins at its threshold, and ends only clearly below it.
    //! Method: figures around the thresholds, from every level.

    use super::*;

    #[test]
    fn a_level_begins_at_its_threshold() {
        let level = |used| Thresholds::default().level(used, 1_000, Level::Ok);
        let expected = [
            (0, Level::Ok),
            (849, Level::Ok),
            (850, Level::Soft),
            (899, Level::Soft),
            (900, Level::High),
            (949, Level::High),
            (950, Level::Hard),
            (2_000, Level::Hard),
        ];
        for (used, expected) in expected {
            assert_eq!(level(used), expected, "{used} of 1000");
        }
    }

    #[test]
    fn a_level_ends_one_percent_below_its_threshold() {
        let level = |used, before| Thresholds::default().level(used, 1_000, before);
        assert_eq!(level(940, Level::Hard), Level::Hard);
        assert_eq!(level(939, Level::Hard), Level::High);
        assert_eq!(level(890, Level::High), Level::High);
        assert_eq!(level(889, Level::High), Level::Soft);
        assert_eq!(level(840, Level::Soft), Level::Soft);
        assert_eq!(level(839, Level::Hard), Level::Ok);
    }

    #[test]
    fn figures_of_any_size_have_a_level() {
        let level = |used, capacity| Thresholds::default().level(used, capacity, Level::Ok);
        assert_eq!(level(u64::MAX, u64::MAX), Level::Hard);
        assert_eq!(level(0, 0), Level::Hard, "nothing fits into nothing");
        assert_eq!(Space { used: u64::MAX, ..Space::default() }.per_mille(), u64::MAX);
    }
}
