//! Leases are disjoint in true time: once a primary of a later epoch opened, no primary of an
//! earlier one would answer a read.
//!
//! Whether it would is asked of its replica, by its own clock, whether or not a client asks at
//! that moment: so no read has to come at the last instant of a lease for a mistake to show.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet};
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct LeasesDisjoint {
    opened: BTreeMap<KeySet, Epoch>,
}

impl Invariant for LeasesDisjoint {
    const NAME: &'static str = "leases-disjoint";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Opened { set, epoch, .. } => {
                let latest = self.opened.entry(set).or_default();
                *latest = epoch.max(*latest);
                Ok(())
            }
            Fact::Serving { process, set, epoch, left } => {
                match self.opened.get(&set).filter(|latest| epoch < **latest) {
                    Some(latest) => Err(format!(
                        "{process:?} would answer reads of {set} in {epoch} for {} us more, \
                         and {latest} has opened",
                        left.map_or(u64::MAX, |left| left.0 / 1_000)
                    )),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a primary that still serves when its successor opened is found, however it came.
    //! Method: it serves on after the opening, or serves in the latest epoch, or before.

    use super::super::tests::run;
    use super::*;
    use crate::protocol::time::Span;
    use crate::sim::Process;

    const SET: KeySet = KeySet(0);

    fn opened(process: u32, epoch: u64) -> Fact<'static> {
        Fact::Opened { process: Process(process), set: SET, epoch: Epoch(epoch) }
    }

    fn serving(process: u32, epoch: u64) -> Fact<'static> {
        let left = Some(Span::from_millis(1));
        Fact::Serving { process: Process(process), set: SET, epoch: Epoch(epoch), left }
    }

    #[test]
    fn a_lease_that_reaches_into_the_next_epoch_is_found() {
        assert_eq!(run::<LeasesDisjoint>(&[opened(1, 1), serving(1, 1), opened(2, 2)]), Ok(()));
        assert_eq!(run::<LeasesDisjoint>(&[opened(2, 2), serving(2, 2)]), Ok(()));
        assert!(run::<LeasesDisjoint>(&[opened(1, 1), opened(2, 2), serving(1, 1)]).is_err());
    }
}
