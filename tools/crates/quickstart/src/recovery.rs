//! Follows one recovery through its four steps and prints each as it ends.

use std::time::Duration;

use anyhow::Result;
use tandem::protocol::meta::durable::{Recovery, Step};
use tandem::protocol::types::Member;
use tandem_local::status::is_whole;

use crate::data::Data;

/// Between two looks at the cluster's status.
pub const LOOK: Duration = Duration::from_millis(20);

/// The four steps: what they are called, and what holds once they are done.
const STEPS: [(&str, &str); 4] = [
    ("invalidate", "the survivors serve its key sets"),
    ("copy-primary", "its successor has what it was primary of"),
    ("copy-secondary", "and what it was secondary of"),
    ("resume", "every key set has all its copies, where they belong"),
];

/// Prints the steps of the recovery of `failed` as they end, and returns when all have.
///
/// # Errors
/// The status can not be read.
pub async fn follow(data: &Data, failed: Member) -> Result<()> {
    let mut shown = 0;
    loop {
        let status = data.status().await?;
        if let Some(recovery) = status.recoveries.iter().rev().find(|it| it.failed == failed) {
            while let Some(took_ms) = ended(recovery, shown) {
                let (name, meaning) = STEPS[shown];
                println!("     {name:<15} {took_ms:>5} ms   {meaning}");
                shown += 1;
            }
            if shown == STEPS.len() && is_whole(&status) {
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When the step `index` ended, if it did: milliseconds from the start of the recovery.
fn ended(recovery: &Recovery, index: usize) -> Option<u64> {
    let over = match recovery.step {
        Step::Invalidate => 0,
        Step::CopyPrimary => 1,
        Step::CopySecondary => 2,
        Step::Resume => 3,
        Step::Done => 4,
    };
    if index < over { recovery.took_ms[index] } else { None }
}

#[cfg(test)]
mod tests {
    //! Goal: a step is shown once it is over.
    //! Method: a recovery made by hand, in the middle and at its end.

    use super::*;

    #[test]
    fn a_step_is_shown_when_it_is_over() {
        let mut recovery = Recovery {
            id: Default::default(),
            failed: Member::default(),
            primary_of: Vec::new(),
            secondary_of: Vec::new(),
            step: Step::CopyPrimary,
            took_ms: [Some(5), None, None, None],
            dropped: 0,
        };
        assert_eq!((ended(&recovery, 0), ended(&recovery, 1)), (Some(5), None));
        recovery.step = Step::Done;
        recovery.took_ms = [Some(5), Some(6), Some(7), Some(8)];
        assert_eq!((ended(&recovery, 3), ended(&recovery, 4)), (Some(8), None));
    }
}
