//! Canonical fingerprints: two states that can never be told apart have the same one.
//!
//! Machines keep readings of their clock, and the clock runs on. What matters of a reading is how
//! old it is, up to the longest span that anything is compared with, and of a deadline whether it
//! came, or how far it is. So this hasher takes every number from `CLOCK_START` up for a time on
//! the clock of the machine at hand, and hashes what matters of it.
//!
//! It tells readings from deadlines by their phase: clocks tick in whole units, and every span of
//! a world's timing is chosen not to be a multiple of any unit (see `plan`).

use std::hash::Hasher;

/// Clocks start here; no other number of a machine is as large.
pub const CLOCK_START: u64 = 1 << 50;

/// A deadline that is at least this far never comes.
const NEVER: u64 = 1 << 39;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const ADDEND: u64 = 0xd1b5_4a32_d192_ed03;

/// The clock that times are seen against.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub now: u64,
    /// It shows multiples of this, from `CLOCK_START` on.
    pub unit: u64,
    /// All that is older than this many units is equally old.
    pub horizon: u64,
}

/// The hasher.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    sum: u64,
    clock: Option<Clock>,
}

impl Fingerprint {
    /// Of something without times.
    #[must_use]
    pub fn timeless() -> Fingerprint {
        Fingerprint { sum: ADDEND, clock: None }
    }

    /// Of something whose times are all on one clock.
    #[must_use]
    pub fn at(clock: Clock) -> Fingerprint {
        Fingerprint { sum: ADDEND, clock: Some(clock) }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.sum ^ word) * u128::from(MULTIPLIER);
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.sum = folded.rotate_left(29).wrapping_add(ADDEND);
    }
}

impl Clock {
    /// What matters of a time.
    fn essence(&self, time: u64) -> u64 {
        const AGE: u64 = 1 << 60;
        const DUE: u64 = 2 << 60;
        const COMING: u64 = 3 << 60;
        let is_reading = (time - CLOCK_START).is_multiple_of(self.unit);
        match time.checked_sub(self.now) {
            None | Some(0) if is_reading => AGE | ((self.now - time) / self.unit).min(self.horizon),
            None | Some(0) => DUE,
            Some(ahead) => COMING | ahead.min(NEVER),
        }
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.sum
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        match self.clock {
            Some(clock) if value >= CLOCK_START => self.mix(clock.essence(value)),
            Some(_) | None => self.mix(value),
        }
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: only what can be told apart has different fingerprints.
    //! Method: readings and deadlines against a moving clock.

    use super::*;

    fn of(now: u64, time: u64) -> u64 {
        let now = CLOCK_START + now;
        let mut fingerprint = Fingerprint::at(Clock { now, unit: 10, horizon: 3 });
        fingerprint.write_u64(CLOCK_START + time);
        fingerprint.finish()
    }

    #[test]
    fn a_reading_is_its_age() {
        assert_eq!(of(20, 10), of(70, 60));
        assert_ne!(of(20, 10), of(30, 10));
        assert_eq!(of(50, 10), of(60, 10), "beyond the horizon all are equally old");
        assert_ne!(of(40, 10), of(30, 10));
    }

    #[test]
    fn a_deadline_came_or_is_so_far() {
        assert_eq!(of(20, 15), of(90, 15));
        assert_eq!(of(20, 25), of(30, 35));
        assert_ne!(of(20, 25), of(20, 35));
        assert_ne!(of(20, 15), of(20, 10), "a reading is no deadline");
    }

    #[test]
    fn other_numbers_are_themselves() {
        let mut one = Fingerprint::timeless();
        let mut other = one.clone();
        one.write_u64(CLOCK_START + 1);
        other.write_u64(CLOCK_START + 2);
        assert_ne!(one.finish(), other.finish());
    }
}
