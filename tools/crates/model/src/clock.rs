//! How long a search takes: the one reader of the clock here. The product's clock belongs to its
//! impure half, which this tool does without.

use std::time::Duration;

/// A time in the past.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "machines get their time from the world")]
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
