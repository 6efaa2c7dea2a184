//! Copies at the same position hold the same: one digest for each place in a key set's order.
//!
//! A digest counts once everything that a copy run read is covered by the committed point; until
//! then a copy is ahead of its position in some of its ranges.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, LossEpoch, Op};
use crate::sim::Process;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct StatesAgree {
    /// The first digest of each place, and whose it was.
    digests: BTreeMap<(KeySet, LossEpoch, Op), (u64, Process)>,
}

impl Invariant for StatesAgree {
    const NAME: &'static str = "states-agree";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        let Fact::Digested { process, set, at, digest } = *fact else { return Ok(()) };
        let place = (set, at.loss_epoch, at.op);
        let (known, first) = *self.digests.entry(place).or_insert((digest, process));
        if known == digest {
            return Ok(());
        }
        Err(format!("{first:?} and {process:?} hold different states of {set} at {at:?}"))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: two states at one position are found, two positions may differ.
    //! Method: digests by hand.

    use super::super::tests::{revision, run};
    use super::*;

    fn digested(process: u32, op: u64, digest: u64) -> Fact<'static> {
        let (process, at) = (Process(process), revision(op));
        Fact::Digested { process, set: KeySet(0), at, digest }
    }

    #[test]
    fn different_states_at_one_position_are_found() {
        assert_eq!(run::<StatesAgree>(&[digested(1, 5, 7), digested(2, 5, 7)]), Ok(()));
        assert_eq!(run::<StatesAgree>(&[digested(1, 5, 7), digested(2, 6, 8)]), Ok(()));
        assert!(run::<StatesAgree>(&[digested(1, 5, 7), digested(2, 5, 8)]).is_err());
    }
}
