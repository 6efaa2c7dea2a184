//! Waiting for a condition with a deadline: below `tests`, nothing else lets time pass.

use std::time::Duration;

/// Looks until `condition` has an answer, and gives it.
///
/// # Panics
/// After `patience` without one, naming `what` was waited for and what was seen last.
pub fn until<T>(what: &str, patience: Duration, condition: impl FnMut() -> Result<T, String>) -> T {
    tandem_local::wait::until(what, patience, condition).unwrap_or_else(|late| panic!("{late:#}"))
}
