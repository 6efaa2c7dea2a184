//! The only reader of the operating system's clocks.
//!
//! Leases are measured on CLOCK_BOOTTIME: it never steps, and unlike CLOCK_MONOTONIC it counts
//! the time that a machine was suspended, so that a primary which wakes up knows that its leases
//! are over.

use std::time::SystemTime;
#[cfg(feature = "hooks")]
use std::{cell::Cell, marker::PhantomData, rc::Rc};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use crate::protocol::time::Time;

/// The local clock, as the machines want it.
#[must_use]
pub fn now() -> Time {
    #[cfg(feature = "hooks")]
    if let Some(time) = virtual_now() {
        return time;
    }
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    let reading = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(reading.tv_sec).expect("the time since boot is positive");
    let nanoseconds = u64::try_from(reading.tv_nsec).expect("a fraction of a second is positive");
    Time(seconds * 1_000_000_000 + nanoseconds)
}

/// The calendar's time in UTC, for messages to people and the validity of certificates; it may
/// step either way, and nothing in the protocol depends on it.
#[must_use]
pub fn wall_clock() -> OffsetDateTime {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    let reading = SystemTime::now();
    reading.into()
}

/// By how much the calendar's time since 1970 is ahead of `now`, in milliseconds.
#[must_use]
pub fn wall_ahead_ms() -> u64 {
    #[cfg(feature = "hooks")]
    if virtual_now().is_some() {
        return 1_795_000_000_000;
    }
    let wall = wall_clock().unix_timestamp_nanos() / 1_000_000;
    u64::try_from(wall).unwrap_or(0).saturating_sub(now().0 / 1_000_000)
}

/// Test builds only: this thread's clock is its runtime's, which may be paused, while this lives.
#[cfg(feature = "hooks")]
pub struct VirtualTime(PhantomData<Rc<()>>);

#[cfg(feature = "hooks")]
thread_local! {
    /// When virtual time began on this thread; none where the clock is the kernel's.
    static BEGUN: Cell<Option<tokio::time::Instant>> = const { Cell::new(None) };
}

#[cfg(feature = "hooks")]
impl VirtualTime {
    /// Virtual time begins an hour after a boot that never was. Needs a running runtime.
    #[must_use]
    pub fn begin() -> VirtualTime {
        BEGUN.set(Some(runtime_now()));
        VirtualTime(PhantomData)
    }
}

#[cfg(feature = "hooks")]
impl Drop for VirtualTime {
    fn drop(&mut self) {
        BEGUN.set(None);
    }
}

#[cfg(feature = "hooks")]
fn virtual_now() -> Option<Time> {
    let passed = runtime_now().duration_since(BEGUN.get()?);
    let passed = u64::try_from(passed.as_nanos()).expect("tests end within centuries");
    Some(Time(3_600_000_000_000 + passed))
}

#[cfg(feature = "hooks")]
fn runtime_now() -> tokio::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    //! Goal: the local clock is the kernel's CLOCK_BOOTTIME in nanoseconds and never goes back.
    //! Method: readings are bracketed by what the kernel itself says in /proc/uptime, whose
    //! seconds have two decimals.

    use super::*;

    fn uptime() -> f64 {
        let text = std::fs::read_to_string("/proc/uptime").expect("/proc is mounted");
        text.split(' ').next().and_then(|first| first.parse().ok()).expect("seconds since boot")
    }

    #[test]
    fn the_clock_is_the_time_since_boot() {
        let before = uptime();
        let reading = now().0 as f64 / 1e9;
        let after = uptime();
        assert!(before <= reading && reading <= after + 0.01, "{before} {reading} {after}");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let readings: Vec<Time> = (0..1000).map(|_| now()).collect();
        assert!(readings.is_sorted());
        assert!(readings.first() < readings.last(), "it stands still");
    }

    #[test]
    fn the_wall_clock_is_this_century() {
        assert!((2020..2100).contains(&wall_clock().year()));
    }
}
