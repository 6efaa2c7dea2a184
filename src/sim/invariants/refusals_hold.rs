//! What a client was told was surely not done is never done, before or after.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::protocol::time::Time;
use crate::protocol::types::{KeySet, Revision};
use crate::sim::truth::{Ending, Fact, Truth, WriteId, write_id};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct RefusalsHold {
    refused: BTreeSet<WriteId>,
    /// Where each write was applied first.
    applied: BTreeMap<WriteId, (KeySet, Revision)>,
}

impl Invariant for RefusalsHold {
    const NAME: &'static str = "refusals-hold";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Ended { write: Some(write), ending: Ending::NotDone, .. } => {
                self.refused.insert(write);
                match self.applied.get(&write) {
                    Some(place) => Err(format!("{write:?} was called not done, and is {place:?}")),
                    None => Ok(()),
                }
            }
            Fact::Applied { set, revision, entry, .. } => {
                let Some(write) = entry.origin.map(write_id) else { return Ok(()) };
                self.applied.entry(write).or_insert((set, revision));
                if self.refused.contains(&write) {
                    return Err(format!(
                        "{write:?} was called not done, and is applied at {revision:?} of {set}"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a refused write that takes effect is found, whichever comes first.
    //! Method: the refusal before the application, and after it.

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::KeySet;
    use crate::sim::Process;
    use crate::sim::truth::OperationId;

    #[test]
    fn a_refused_write_that_is_done_is_found() {
        let entry = entry(1, 1, "a", "x");
        let write = entry.origin.map(write_id);
        let applied = Fact::Applied {
            process: Process(1),
            set: KeySet(0),
            revision: revision(1),
            entry: &entry,
            copying: false,
        };
        let ended = |ending| Fact::Ended { operation: OperationId(1), write, ending };
        assert_eq!(run::<RefusalsHold>(&[ended(Ending::Unknown), applied]), Ok(()));
        assert!(run::<RefusalsHold>(&[ended(Ending::NotDone), applied]).is_err());
        assert!(run::<RefusalsHold>(&[applied, ended(Ending::NotDone)]).is_err());
    }
}
