//! Configurations change because something happened: the epochs of a run are bounded by its
//! faults, and once all is healed and whole none is installed any more.

use std::collections::BTreeMap;

use crate::protocol::types::{Epoch, KeySet};
use crate::sim::truth::Truth;

/// Epochs that a fault may cost every key set: promotion, removal, addition, handover, and again
/// where messages get lost on the way.
const EPOCHS_PER_FAULT: u64 = 8;

/// Epochs of a key set without any fault: birth, and what lost messages alone may bring.
const EPOCHS_FREE: u64 = 40;

/// The epoch of every key set on the metaserver's disk.
#[must_use]
pub fn epochs(truth: &Truth) -> BTreeMap<KeySet, Epoch> {
    truth.configurations.iter().map(|(&set, it)| (set, it.epoch)).collect()
}

/// Judges the epochs of a run with that many faults.
///
/// # Errors
/// The key set with too many.
pub fn bounded(epochs: &BTreeMap<KeySet, Epoch>, faults: u64) -> Result<(), String> {
    let most = EPOCHS_FREE + EPOCHS_PER_FAULT * faults;
    match epochs.iter().find(|(_, epoch)| epoch.0 > most) {
        Some((set, epoch)) => Err(format!("{set} came to {epoch} with {faults} faults")),
        None => Ok(()),
    }
}

/// Judges what has become of the epochs while nothing went wrong.
///
/// # Errors
/// The key set that was given another configuration.
pub fn unchanged(
    before: &BTreeMap<KeySet, Epoch>,
    after: &BTreeMap<KeySet, Epoch>,
) -> Result<(), String> {
    match after.iter().find(|(set, epoch)| before.get(set) != Some(epoch)) {
        Some((set, epoch)) => {
            Err(format!("{set} was given {epoch} although all is healed and whole"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: epochs without a reason are found.
    //! Method: maps by hand.

    use super::*;

    fn at(epoch: u64) -> BTreeMap<KeySet, Epoch> {
        BTreeMap::from([(KeySet(0), Epoch(3)), (KeySet(1), Epoch(epoch))])
    }

    #[test]
    fn too_many_epochs_are_found() {
        assert_eq!(bounded(&at(48), 1), Ok(()));
        assert!(bounded(&at(49), 1).is_err());
    }

    #[test]
    fn a_change_without_a_reason_is_found() {
        assert_eq!(unchanged(&at(5), &at(5)), Ok(()));
        assert!(unchanged(&at(5), &at(6)).is_err());
        assert!(unchanged(&BTreeMap::new(), &at(5)).is_err());
    }
}
