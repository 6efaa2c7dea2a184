//! A write takes effect at one place only, however often its client sent it.

use super::Invariant;
use crate::protocol::time::Time;
use crate::sim::truth::{Fact, Truth, write_id};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct AppliedOnce;

impl Invariant for AppliedOnce {
    const NAME: &'static str = "applied-once";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        let Fact::Applied { set, revision, entry, .. } = *fact else { return Ok(()) };
        let Some(write) = entry.origin.map(write_id) else { return Ok(()) };
        match truth.writes.get(&(set, write)) {
            Some(&place) if place != (revision.loss_epoch, revision.op) => {
                Err(format!("{write:?} of {set} was applied at {place:?} and at {revision:?}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the same write at two places is found, the same place at two replicas is not.
    //! Method: apply one write twice, at equal and at different ops.

    use std::rc::Rc;

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::KeySet;
    use crate::sim::Process;

    fn twice(op: u64) -> Result<(), String> {
        let first = entry(1, 1, "a", "x");
        let mut again = entry(2, op, "a", "x");
        Rc::make_mut(&mut again).origin = first.origin;
        let fact = |process, entry, op| Fact::Applied {
            process: Process(process),
            set: KeySet(0),
            revision: revision(op),
            entry,
            copying: false,
        };
        run::<AppliedOnce>(&[fact(1, &first, 1), fact(2, &again, op)])
    }

    #[test]
    fn a_second_place_is_found() {
        assert_eq!(twice(1), Ok(()));
        assert!(twice(2).is_err());
    }
}
