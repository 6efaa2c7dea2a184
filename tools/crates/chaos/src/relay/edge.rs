//! What one direction of a link does to packets, and the fate that it deals to each of them.

use tandem::protocol::time::{Span, Time};
use tandem::sim::rng::Rng;

/// Bytes that wait for a rate-limited edge, as time on it; more are dropped, as by a small queue.
const QUEUE_MAX: Span = Span::from_millis(200);

/// What an edge does to the packets on it; by default nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Impairment {
    pub cut: bool,
    pub loss_ppm: u64,
    /// Every packet is this late.
    pub delay: Span,
    /// And up to this much more, each by itself, so that they overtake each other.
    pub jitter: Span,
    pub duplicate_ppm: u64,
    pub corrupt_ppm: u64,
    pub bytes_per_s: Option<u64>,
}

impl Impairment {
    pub const CUT: Impairment = Impairment {
        cut: true,
        loss_ppm: 0,
        delay: Span::ZERO,
        jitter: Span::ZERO,
        duplicate_ppm: 0,
        corrupt_ppm: 0,
        bytes_per_s: None,
    };

    /// Both at once: the worse of each.
    #[must_use]
    pub fn and(self, other: Impairment) -> Impairment {
        Impairment {
            cut: self.cut || other.cut,
            loss_ppm: self.loss_ppm.max(other.loss_ppm),
            delay: self.delay.max(other.delay),
            jitter: self.jitter.max(other.jitter),
            duplicate_ppm: self.duplicate_ppm.max(other.duplicate_ppm),
            corrupt_ppm: self.corrupt_ppm.max(other.corrupt_ppm),
            bytes_per_s: match (self.bytes_per_s, other.bytes_per_s) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fate {
    /// When it leaves; none if it is dropped.
    pub leaves: Option<Time>,
    /// When a second copy leaves.
    pub copy_leaves: Option<Time>,
    pub corrupt: bool,
}

/// When a rate-limited edge is free again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    free: Time,
}

impl Line {
    /// Deals a packet of `bytes` its fate.
    pub fn fate(&mut self, what: &Impairment, rng: &mut Rng, now: Time, bytes: usize) -> Fate {
        if what.cut || (what.loss_ppm > 0 && rng.chance(what.loss_ppm)) {
            return Fate::default();
        }
        let mut ready = now;
        if let Some(rate) = what.bytes_per_s {
            let begins = self.free.max(now);
            if begins.since(now) > QUEUE_MAX {
                return Fate::default();
            }
            self.free = begins + Span(bytes as u64 * 1_000_000_000 / rate.max(1));
            ready = self.free;
        }
        let mut late = || ready + what.delay + rng.span(Span::ZERO, what.jitter);
        let (leaves, copy) = (late(), late());
        let copied = what.duplicate_ppm > 0 && rng.chance(what.duplicate_ppm);
        let corrupt = what.corrupt_ppm > 0 && rng.chance(what.corrupt_ppm);
        Fate { leaves: Some(leaves), copy_leaves: copied.then_some(copy), corrupt }
    }
}

/// Changes up to three bytes of a packet.
pub fn corrupt(packet: &mut [u8], rng: &mut Rng) {
    for _ in 0..rng.between(1, 3) {
        let at = rng.below(packet.len() as u64) as usize;
        if let Some(byte) = packet.get_mut(at) {
            *byte ^= rng.between(1, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every impairment strikes as often and as hard as it says, and none strikes unasked.
    //! Method: many packets through one line with a seeded generator, counted.

    use super::*;

    const PACKETS: u64 = 10_000;
    const NOW: Time = Time(1_000_000_000);

    fn fates(what: Impairment) -> Vec<Fate> {
        let (mut line, mut rng) = (Line::default(), Rng::new(7));
        (0..PACKETS).map(|_| line.fate(&what, &mut rng, NOW, 1_000)).collect()
    }

    fn dropped(fates: &[Fate]) -> usize {
        fates.iter().filter(|it| it.leaves.is_none()).count()
    }

    #[test]
    fn an_unimpaired_edge_passes_everything_at_once() {
        let passed = Fate { leaves: Some(NOW), copy_leaves: None, corrupt: false };
        assert!(fates(Impairment::default()).iter().all(|it| *it == passed));
    }

    #[test]
    fn a_cut_edge_passes_nothing() {
        assert_eq!(dropped(&fates(Impairment::CUT)), 10_000);
    }

    #[test]
    fn chances_are_kept() {
        let what = Impairment {
            loss_ppm: 100_000,
            duplicate_ppm: 200_000,
            corrupt_ppm: 50_000,
            ..Impairment::default()
        };
        let fates = fates(what);
        assert!((800..1_200).contains(&dropped(&fates)), "{}", dropped(&fates));
        let copies = fates.iter().filter(|it| it.copy_leaves.is_some()).count();
        assert!((1_600..2_000).contains(&copies), "{copies}");
        let corrupt = fates.iter().filter(|it| it.corrupt).count();
        assert!((350..550).contains(&corrupt), "{corrupt}");
    }

    #[test]
    fn jitter_reorders_within_its_bounds() {
        let (delay, jitter) = (Span::from_millis(10), Span::from_millis(20));
        let fates = fates(Impairment { delay, jitter, ..Impairment::default() });
        let times: Vec<Time> = fates.iter().filter_map(|it| it.leaves).collect();
        assert!(times.iter().all(|&it| it >= NOW + delay && it <= NOW + delay + jitter));
        assert!(!times.is_sorted());
    }

    #[test]
    fn a_limited_edge_passes_its_rate_and_drops_beyond_its_queue() {
        let fates = fates(Impairment { bytes_per_s: Some(1_000_000), ..Impairment::default() });
        // A packet a millisecond; those within the queue's 200 ms leave one after the other.
        let times: Vec<Time> = fates.iter().filter_map(|it| it.leaves).collect();
        assert_eq!(times.len(), 201);
        assert!(times.windows(2).all(|it| it[1].since(it[0]) == Span::from_millis(1)));
    }

    #[test]
    fn corruption_changes_a_packet() {
        let mut rng = Rng::new(7);
        for _ in 0..1_000 {
            let mut packet = [0; 1_200];
            corrupt(&mut packet, &mut rng);
            let changed = packet.iter().filter(|it| **it != 0).count();
            assert!((1..=3).contains(&changed), "{changed} bytes");
        }
        corrupt(&mut [], &mut rng);
    }

    #[test]
    fn two_impairments_are_the_worse_of_each() {
        let slow = Impairment { bytes_per_s: Some(5), loss_ppm: 7, ..Impairment::default() };
        let slower = Impairment { bytes_per_s: Some(3), loss_ppm: 2, ..Impairment::CUT };
        let both = slow.and(slower);
        assert_eq!((both.bytes_per_s, both.loss_ppm, both.cut), (Some(3), 7, true));
        assert_eq!(slow.and(Impairment::default()), slow);
    }
}
