//! Committed writes are the same everywhere: two copies never apply different writes at one
//! place, and no copy skips a place.

use super::Invariant;
use crate::protocol::time::Time;
use crate::sim::truth::{Fact, Truth, fingerprint};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct CommittedPrefix;

impl Invariant for CommittedPrefix {
    const NAME: &'static str = "committed-prefix";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        let Fact::Applied { process, set, revision, entry, copying } = *fact else {
            return Ok(());
        };
        if revision.op != entry.op {
            return Err(format!("{process:?} applied {} of {set} as {}", entry.op, revision.op));
        }
        let known = truth.committed_at(set, revision);
        if known.is_some_and(|known| known.fingerprint != fingerprint(entry)) {
            return Err(format!(
                "{process:?} applied {entry:?} at {revision:?} of {set}, where {known:?} was \
                 committed"
            ));
        }
        let applied = truth.copies.get(&(process, set)).map_or(0, |copy| copy.applied.0);
        if !copying && revision.op.0 > applied + 1 {
            return Err(format!("{process:?} applied {} of {set} after op{applied}", revision.op));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: divergence and gaps are found.
    //! Method: a second copy applies the same write, another one, or one too far on.

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::{Entry, KeySet};
    use crate::sim::Process;

    fn applied(process: u32, entry: &Entry) -> Fact<'_> {
        let revision = revision(entry.op.0);
        let process = Process(process);
        Fact::Applied { process, set: KeySet(0), revision, entry, copying: false }
    }

    #[test]
    fn divergence_is_found() {
        let (first, other) = (entry(1, 1, "a", "x"), entry(2, 1, "a", "y"));
        let facts = [applied(1, &first), applied(2, &first)];
        assert_eq!(run::<CommittedPrefix>(&facts), Ok(()));
        let facts = [applied(1, &first), applied(2, &other)];
        assert!(run::<CommittedPrefix>(&facts).is_err());
    }

    #[test]
    fn a_gap_is_found() {
        let (first, third) = (entry(1, 1, "a", "x"), entry(1, 3, "a", "y"));
        assert!(run::<CommittedPrefix>(&[applied(1, &first), applied(1, &third)]).is_err());
    }
}
