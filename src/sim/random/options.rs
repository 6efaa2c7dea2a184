//! What a run is drawn from: the world's make and the habits of its faults, by seed.
//!
//! Every seed draws its own probabilities (swarm testing), so that runs differ in kind and not
//! in detail only: one has no loss and many kills, the next one pauses and slow disks.

use crate::protocol::limits::Limits;
use crate::protocol::time::Span;
use crate::protocol::timing::{DRIFT_PPM, Timing};
use crate::sim::clock::Rates;
use crate::sim::network::NetworkSettings;
use crate::sim::rng::Rng;
use crate::sim::{Settings, faults};

/// How long a run is, and what is recorded of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// The trouble ends after that many failovers.
    pub failovers: u64,
    /// Or, where this is not zero, after that many power cuts; then all servers are durable.
    pub power_cuts: u64,
    /// Servers fill up, and have room again.
    pub space: bool,
    /// And after this much virtual time at the latest.
    pub trouble: Span,
    /// Everything is whole again this long after the healing.
    pub heal_max: Span,
    /// More inputs than this are a run that gets nowhere.
    pub steps_max: u64,
    /// Name the run by a hash of every input; costs time.
    pub hash: bool,
    /// Keep the text of the trace.
    pub text: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            failovers: 200,
            power_cuts: 0,
            space: false,
            trouble: Span::from_millis(200_000),
            heal_max: Span::from_millis(60_000),
            steps_max: 3_000_000,
            hash: true,
            text: false,
        }
    }
}

/// The world of a seed.
pub(super) fn draw_settings(rng: &mut Rng) -> Settings {
    let copies = rng.between(2, 3) as u16;
    let servers = copies + [1, 1, 2][rng.below(3) as usize];
    let key_sets = [1, 2, 3, 4, 6, 8][rng.below(6) as usize];
    let delay_min = Span::from_micros(rng.between(20, 200));
    let network = NetworkSettings {
        delay_min,
        delay_max: delay_min + Span::from_micros(rng.between(10, 2_000)),
        tail_ppm: [0, 1_000, 20_000][rng.below(3) as usize],
        tail_max: Span::from_millis(rng.between(5, 150)),
        drop_ppm: [0, 0, 10_000, 200_000][rng.below(4) as usize],
        double_ppm: [0, 50_000][rng.below(2) as usize],
        idle: Span::from_millis([300, 1_000, 3_000][rng.below(3) as usize]),
        reconnect_max: Span::from_millis([50, 200][rng.below(2) as usize]),
    };
    Settings {
        spawn: rng.chance(500_000),
        durable: rng.chance(400_000),
        min_write_copies: if rng.chance(150_000) { 2 } else { 1 },
        timing: draw_timing(rng),
        limits: draw_limits(rng),
        network,
        disk_min: Span::from_micros(50),
        disk_max: Span::from_micros([100, 5_000, 50_000][rng.below(3) as usize]),
        store_max: Span::from_micros([0, 0, 200, 5_000][rng.below(4) as usize]),
        rates: draw_rates(rng),
        tick_late: Span::from_micros([0, 1_000, 10_000][rng.below(3) as usize]),
        replace_after: Span::from_millis([300, 2_000][rng.below(2) as usize]),
        ..Settings::quiet(servers, copies, key_sets)
    }
}

/// The usual durations; or a grace that is just long enough, where every mistake in the drift
/// or in who waits from when shows.
fn draw_timing(rng: &mut Rng) -> Timing {
    if rng.chance(400_000) {
        return Timing::default();
    }
    let lease = Span::from_millis([60, 150][rng.below(2) as usize]);
    Timing::new(lease.scaled(1, 3), lease, Timing::grace_floor(lease))
}

/// The usual limits; or such that windows fill, copies take many chunks and duplicate records are
/// forgotten.
fn draw_limits(rng: &mut Rng) -> Limits {
    let usual = Limits::default();
    Limits {
        window_ops_max: [usual.window_ops_max, 6][rng.below(2) as usize],
        dedup_records_max: [usual.dedup_records_max, 12][rng.below(2) as usize],
        learner_lag_ops_max: [usual.learner_lag_ops_max, 8][rng.below(2) as usize],
        chunk_items_max: [usual.chunk_items_max, 1, 2][rng.below(3) as usize],
        prepare_bytes_max: [usual.prepare_bytes_max, 64][rng.below(2) as usize],
        ..usual
    }
}

fn draw_rates(rng: &mut Rng) -> Rates {
    match rng.below(3) {
        0 => Rates::Exact,
        1 => Rates::Within(DRIFT_PPM),
        _ => Rates::Extreme(DRIFT_PPM),
    }
}

/// The probabilities of one seed.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    /// Longest pause between full redundancy and the next kill or stop.
    pub rest_max: Span,
    /// Longest pause between faults of other kinds by time.
    pub gap_max: Span,
    /// That many moments in a million draw a fault.
    pub aim_ppm: u64,
    /// That many faults by time in a million befall the metaserver.
    pub meta_ppm: u64,
    pub freeze_max: Span,
    pub cut_max: Span,
    pub down_max: Span,
    /// Shares of the kinds, in the order of `faults::KINDS`.
    pub shares: [u64; faults::KINDS.len()],
    /// Operations that clients begin for every failover.
    pub operations: u64,
    pub think_max: Span,
    pub patience: Span,
    pub reads_ppm: u64,
}

impl Swarm {
    pub(super) fn draw(rng: &mut Rng) -> Swarm {
        let mut shares = [0; faults::KINDS.len()];
        for share in &mut shares {
            *share = [0, 1, 4][rng.below(3) as usize];
        }
        shares[0] = shares[0].max(1);
        Swarm {
            rest_max: Span::from_millis([1, 20, 100][rng.below(3) as usize]),
            gap_max: Span::from_millis([100, 500, 4_000][rng.below(3) as usize]),
            aim_ppm: [0, 5_000, 50_000][rng.below(3) as usize],
            meta_ppm: [0, 50_000, 300_000][rng.below(3) as usize],
            freeze_max: Span::from_millis([50, 300, 1_200][rng.below(3) as usize]),
            cut_max: Span::from_millis([50, 300, 1_500][rng.below(3) as usize]),
            down_max: Span::from_millis([20, 100, 600][rng.below(3) as usize]),
            shares,
            operations: 48,
            think_max: Span::from_millis([2, 10, 40][rng.below(3) as usize]),
            patience: Span::from_millis(rng.between(200, 4_000)),
            reads_ppm: rng.between(200_000, 700_000),
        }
    }
}
