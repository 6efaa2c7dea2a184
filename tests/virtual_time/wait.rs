//! Waiting in virtual time, which passes only while nobody has anything to do.

use std::time::Duration;

use tandem::clock;
use tandem::protocol::time::Span;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Lets `span` pass.
pub async fn pause(span: Span) {
    tokio::time::sleep(span.into()).await;
}

/// Looks until `condition` has an answer, and gives it.
///
/// # Panics
/// After `patience` without one: what was waited for, and what was seen last.
pub async fn until<T>(
    what: &str,
    patience: Span,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = clock::now();
    loop {
        match condition().await {
            Ok(answer) => return answer,
            Err(seen) => assert!(
                clock::now().since(begun) < patience,
                "{what}: not in {patience:?} of virtual time; last: {seen}"
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
