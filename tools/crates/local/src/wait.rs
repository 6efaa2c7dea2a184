//! Waiting for a condition with a deadline.

use std::time::Duration;

use anyhow::{Result, bail};
use tandem::clock;
use tandem::protocol::time::Span;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `condition` has an answer, and gives it.
///
/// # Errors
/// After `patience` without one, naming `what` was waited for and what was seen last.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let begun = clock::now();
    loop {
        match condition() {
            Ok(answer) => return Ok(answer),
            Err(seen) => {
                if clock::now().since(begun) >= Span::from(patience) {
                    bail!("{what}: not in {patience:?}; last: {seen}");
                }
            }
        }
        std::thread::park_timeout(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a wait ends with its condition, and fails at its deadline.
    //! Method: a condition that comes true at the third look, and one that never does.

    use super::*;

    #[test]
    fn a_wait_ends_with_its_condition() {
        let mut looks = 0;
        let answer = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(answer.expect("in time"), 3);
    }

    #[test]
    fn a_wait_fails_at_its_deadline() {
        let failed = until::<()>("rain", Duration::from_millis(20), || Err("sun".to_owned()));
        let words = failed.expect_err("it never rains").to_string();
        assert_eq!(words, "rain: not in 20ms; last: sun");
    }
}
