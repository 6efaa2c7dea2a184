//! How long a search takes. Machines get their time from their world, never from here.

use std::time::Duration;

use tandem::clock;
use tandem::protocol::time::Time;

/// A time in the past.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Time);

impl Stopwatch {
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch(clock::now())
    }

    #[must_use]
    pub fn elapsed(&self) -> Duration {
        clock::now().since(self.0).into()
    }
}
