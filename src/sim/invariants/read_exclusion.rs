//! No read is answered in an epoch after anything was answered in a later one.
//!
//! A late acknowledgement of a write by a replaced primary is legal: the write is in its
//! successor too. A late read is not.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::message::Answer;
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet, LossEpoch};
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct ReadExclusion {
    answered: BTreeMap<KeySet, (LossEpoch, Epoch)>,
}

impl Invariant for ReadExclusion {
    const NAME: &'static str = "read-exclusion";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        let Fact::Answered { process, set, answer, .. } = *fact else { return Ok(()) };
        let Some(position) = answer.position() else { return Ok(()) };
        let epoch = (position.loss_epoch, position.epoch);
        let latest = self.answered.entry(set).or_default();
        let is_read = match answer {
            Answer::Found { .. }
            | Answer::Absent { .. }
            | Answer::Mismatch { .. }
            | Answer::Rejected { .. }
            | Answer::Page { .. }
            | Answer::Changes { .. } => true,
            Answer::Written { .. }
            | Answer::Refused(_)
            | Answer::Forgotten { .. }
            | Answer::Moved { .. } => false,
        };
        if is_read && epoch < *latest {
            let later = latest.1;
            return Err(format!(
                "{process:?} answered a read of {set} at {position}, after an answer in {later}"
            ));
        }
        *latest = epoch.max(*latest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a stale read is found, a late acknowledgement is not blamed.
    //! Method: an answer in epoch 2, then a read or an acknowledgement in epoch 1.

    use super::super::tests::*;
    use super::*;
    use crate::sim::Process;

    fn then(late: &Answer) -> Result<(), String> {
        let request = request(get("a"), None);
        let fresh = absent(2, 3);
        let answered = |answer| {
            let request = &request;
            Fact::Answered { process: Process(1), set: KeySet(0), request, answer }
        };
        run::<ReadExclusion>(&[answered(&fresh), answered(late)])
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(then(&absent(1, 3)).is_err());
        assert_eq!(then(&stored(1, 3)), Ok(()));
        assert_eq!(then(&absent(2, 3)), Ok(()));
    }
}
