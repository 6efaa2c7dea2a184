//! Epochs only grow, on the metaserver's disk and in the view of every process, and an epoch has
//! one configuration for ever.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet};
use crate::sim::Process;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct EpochsGrow {
    viewed: BTreeMap<(Process, KeySet), Epoch>,
}

impl Invariant for EpochsGrow {
    const NAME: &'static str = "epochs-grow";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Configured { set, configuration } => {
                let epoch = configuration.epoch;
                let known = truth.configurations.get(&set).map(|known| known.epoch);
                if known > Some(epoch) {
                    return Err(format!("{set} went from {known:?} to {epoch}"));
                }
                match truth.history.get(&(set, epoch)) {
                    Some(earlier) if earlier != configuration => Err(format!(
                        "{set} has two configurations in {epoch}: {earlier:?}, {configuration:?}"
                    )),
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Viewed { process, set, epoch } => {
                let known = self.viewed.insert((process, set), epoch);
                if known > Some(epoch) {
                    return Err(format!("{process:?} went from {known:?} to {epoch} of {set}"));
                }
                if !truth.history.contains_key(&(set, epoch)) {
                    return Err(format!(
                        "{process:?} knows {epoch} of {set}, which is not durable"
                    ));
                }
                Ok(())
            }
            Fact::Died { process } => {
                self.viewed.retain(|&(owner, _), _| owner != process);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an epoch that goes back, comes twice, or was never durable is found.
    //! Method: short sequences of configurations and views.

    use super::super::tests::*;
    use super::*;

    const SET: KeySet = KeySet(0);

    #[test]
    fn the_disk_never_goes_back_nor_repeats_an_epoch() {
        let first = configuration(1, member(1, 1), &[]);
        let second = configuration(2, member(2, 2), &[]);
        let twin = configuration(2, member(3, 3), &[]);
        let fact = |configuration| Fact::Configured { set: SET, configuration };
        assert_eq!(run::<EpochsGrow>(&[fact(&first), fact(&second), fact(&second)]), Ok(()));
        assert!(run::<EpochsGrow>(&[fact(&second), fact(&first)]).is_err());
        assert!(run::<EpochsGrow>(&[fact(&second), fact(&twin)]).is_err());
    }

    #[test]
    fn views_never_go_back_nor_ahead_of_the_disk() {
        let first = configuration(1, member(1, 1), &[]);
        let second = configuration(2, member(2, 2), &[]);
        let durable = |configuration| Fact::Configured { set: SET, configuration };
        let viewed = |epoch| Fact::Viewed { process: Process(1), set: SET, epoch: Epoch(epoch) };
        let both = [durable(&first), durable(&second)];
        assert_eq!(run::<EpochsGrow>(&[both[0], both[1], viewed(1), viewed(2)]), Ok(()));
        assert!(run::<EpochsGrow>(&[both[0], both[1], viewed(2), viewed(1)]).is_err());
        assert!(run::<EpochsGrow>(&[both[0], viewed(2)]).is_err());
    }
}
