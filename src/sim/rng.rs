//! The simulator's own random numbers: the same seed gives the same sequence, for ever.
//!
//! SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one word of state, passes the usual test
//! batteries, and needs no dependency whose next version could change old seeds.

use crate::protocol::time::Span;

/// A seeded source of numbers.
#[derive(Clone, Debug, Hash)]
pub struct Rng {
    state: u64,
}

impl Rng {
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A span from `low` to `high`, both included.
    pub fn span(&mut self, low: Span, high: Span) -> Span {
        Span(self.between(low.0, high.0))
    }

    /// True `ppm` times in a million.
    pub fn chance(&mut self, ppm: u64) -> bool {
        self.below(1_000_000) < ppm
    }

    /// A place in `shares`, each as likely as its share is large; 0 if all are zero.
    pub fn weighted(&mut self, shares: &[u64]) -> usize {
        let mut draw = self.below(shares.iter().sum());
        let here = |&share: &u64| {
            let here = draw < share;
            draw = draw.saturating_sub(share);
            here
        };
        shares.iter().position(here).unwrap_or_default()
    }

    /// One of `choices`; none if there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(choices.len() as u64);
        choices.get(index as usize)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: seeds stay valid and bounds hold.
    //! Method: golden first numbers of a seed, and many draws against their bounds.

    use super::*;

    #[test]
    fn a_seed_never_changes_its_sequence() {
        let mut rng = Rng::new(0);
        assert_eq!(rng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_both_ends() {
        let mut rng = Rng::new(7);
        let drawn: Vec<_> = (0..1_000).map(|_| rng.between(3, 5)).collect();
        assert!(drawn.iter().all(|it| (3..=5).contains(it)));
        assert!(drawn.contains(&3) && drawn.contains(&5));
        assert!(!rng.chance(0));
        assert!(rng.chance(1_000_000));
        assert_eq!(rng.pick::<u8>(&[]), None);
    }
}
