//! Zipfian numbers: a few are drawn very often, most seldom, as YCSB draws its keys.
//!
//! Source: Gray et al., "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994;
//! the constant and the scattering of popular numbers over the whole range are YCSB's.

/// How skewed: YCSB's constant.
const THETA: f64 = 0.99;

/// Draws numbers below a count.
#[derive(Clone, Debug)]
pub(super) struct Zipfian {
    count: u64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipfian {
    /// For the numbers 0 to `count - 1`; takes time in proportion to `count`.
    pub(super) fn new(count: u64) -> Zipfian {
        let zeta = |n: u64| (1..=n).map(|it| (it as f64).powf(-THETA)).sum::<f64>();
        let all = zeta(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / all);
        Zipfian { count, zeta: all, alpha: 1.0 / (1.0 - THETA), eta }
    }

    /// The popularity rank, 0 the highest, for a `uniform` number from 0 to 1.
    pub(super) fn rank(&self, uniform: f64) -> u64 {
        let share = uniform * self.zeta;
        if share < 1.0 {
            return 0;
        }
        if share < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(self.count - 1);
        }
        let rank = self.count as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }

    /// The number of rank `rank`: popular ones lie far from one another.
    pub(super) fn scattered(&self, rank: u64) -> u64 {
        fnv(rank) % self.count
    }
}

/// The hash FNV-1a of a number's bytes.
fn fnv(number: u64) -> u64 {
    number.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    //! Goal: the shares are Zipf's, and every number is in range.
    //! Method: evenly spaced draws, counted.

    use super::*;

    #[test]
    fn shares_follow_the_law() {
        const DRAWS: u32 = 200_000;
        let zipfian = Zipfian::new(1_000);
        let mut counts = [0_u32; 1_000];
        for draw in 0..DRAWS {
            let rank = zipfian.rank((f64::from(draw) + 0.5) / f64::from(DRAWS));
            counts[rank as usize] += 1;
        }
        let share = |rank: usize| f64::from(counts[rank]) / f64::from(DRAWS);
        let expected = |rank: f64| (rank + 1.0).powf(-THETA) / zipfian.zeta;
        assert!((share(0) - expected(0.0)).abs() < 0.001, "{}", share(0));
        assert!((share(1) - expected(1.0)).abs() < 0.001, "{}", share(1));
        let tail: f64 = (500..1_000).map(share).sum();
        let law: f64 = (500..1_000).map(|it| expected(f64::from(it))).sum();
        assert!((tail - law).abs() < 0.02, "{tail} against {law}");
    }

    #[test]
    fn numbers_are_in_range() {
        for count in [1, 2, 3, 10] {
            let zipfian = Zipfian::new(count);
            for draw in [0.0, 0.3, 0.9, 0.999_999] {
                let rank = zipfian.rank(draw);
                assert!(rank < count && zipfian.scattered(rank) < count);
            }
        }
    }
}
