//! An acknowledged write is at its place in every later committed state: the place is never
//! given to another write, and no primary opens below it in the latest epoch.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::message::Answer;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, LossEpoch, Op};
use crate::sim::truth::{Fact, Truth, WriteId, write_id};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct AcknowledgedKept {
    acknowledged: BTreeMap<KeySet, BTreeMap<(LossEpoch, Op), WriteId>>,
}

impl Invariant for AcknowledgedKept {
    const NAME: &'static str = "acknowledged-kept";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Answered { set, request, answer: Answer::Written { position, .. }, .. } => {
                let Some(write) = request.origin.map(write_id) else { return Ok(()) };
                let place = (position.loss_epoch, position.op);
                let there = truth.committed_at(set, position.revision());
                if there.is_none_or(|there| there.write != Some(write)) {
                    return Err(format!(
                        "{write:?} acknowledged at {position} of {set}, where \
                        {:?} was committed",
                        there.map(|it| it.write)
                    ));
                }
                let known = self.acknowledged.entry(set).or_default().insert(place, write);
                if known.is_some_and(|known| known != write) {
                    return Err(format!("{set} acknowledged two writes at {position}"));
                }
                Ok(())
            }
            Fact::Applied { process, set, revision, entry, .. } => {
                let place = (revision.loss_epoch, revision.op);
                let known = self.acknowledged.get(&set).and_then(|set| set.get(&place));
                match known {
                    Some(&known) if entry.origin.map(write_id) != Some(known) => Err(format!(
                        "{process:?} applied {:?} at {revision:?} of {set}, where {known:?} was \
                         acknowledged",
                        entry.origin
                    )),
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Opened { process, set, epoch } => self.opened(process, set, epoch, truth),
            _ => Ok(()),
        }
    }
}

impl AcknowledgedKept {
    fn opened(
        &self,
        process: crate::sim::Process,
        set: KeySet,
        epoch: crate::protocol::types::Epoch,
        truth: &Truth,
    ) -> Result<(), String> {
        // Who wakes up in an epoch that has passed may open; its reads have no lease.
        let current = truth.configurations.get(&set).filter(|it| it.epoch == epoch);
        let loss_epoch = current.map(|it| it.loss_epoch);
        let last = self.acknowledged.get(&set).and_then(|set| set.last_key_value());
        let Some((&(loss, op), _)) = last.filter(|((loss, _), _)| Some(*loss) == loss_epoch) else {
            return Ok(());
        };
        let holds = truth.copies.get(&(process, set)).is_some_and(|copy| copy.holds(op));
        if holds {
            return Ok(());
        }
        Err(format!(
            "{process:?} opened {set} in {epoch} without {op} of {loss}, which was \
            acknowledged"
        ))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a lost or replaced acknowledged write is found, at the latest when a primary opens.
    //! Method: acknowledge op 1, then apply another write there, or open an empty primary.

    use std::rc::Rc;

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::Epoch;
    use crate::sim::Process;

    const SET: KeySet = KeySet(0);

    fn after_ack(then: Fact<'_>) -> Result<(), String> {
        let one = member(1, 1);
        let first = configuration(1, one, &[]);
        let second = configuration(2, member(2, 2), &[]);
        let entry = entry(1, 1, "a", "x");
        let request = request(put("a", "x"), entry.origin);
        let answer = stored(1, 1);
        let applied = Fact::Applied {
            process: Process(1),
            set: SET,
            revision: revision(1),
            entry: &entry,
            copying: false,
        };
        run::<AcknowledgedKept>(&[
            Fact::Configured { set: SET, configuration: &first },
            Fact::Configured { set: SET, configuration: &second },
            applied,
            Fact::Answered { process: Process(1), set: SET, request: &request, answer: &answer },
            then,
        ])
    }

    #[test]
    fn another_write_at_the_place_is_found() {
        let mut other = entry(2, 1, "a", "y");
        Rc::make_mut(&mut other).origin = Some(origin(9, 9));
        let (revision, copying) = (revision(1), false);
        let applied =
            Fact::Applied { process: Process(2), set: SET, revision, entry: &other, copying };
        assert!(after_ack(applied).is_err());
        let same = entry(2, 1, "a", "x");
        let applied =
            Fact::Applied { process: Process(2), set: SET, revision, entry: &same, copying };
        assert_eq!(after_ack(applied), Ok(()));
    }

    #[test]
    fn a_primary_that_opens_without_it_is_found() {
        let opened = |process| Fact::Opened { process, set: SET, epoch: Epoch(2) };
        assert_eq!(after_ack(opened(Process(1))), Ok(()));
        assert!(after_ack(opened(Process(2))).is_err());
    }
}
