//! No queue passes its limit: requests that a server has not answered, and writes that a copy
//! has logged and not applied.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::time::Time;
use crate::sim::Process;
use crate::sim::truth::{Fact, Truth};

/// Requests that a server may owe answers to, over all its key sets.
pub const UNANSWERED_MAX: usize = 16_384;
/// Writes that a copy may hold beyond its applied point. Two windows, because a new primary
/// takes over a window and fills its own.
pub const LOGGED_MAX: usize = 8_192;

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct BoundedQueues {
    unanswered: BTreeMap<Process, usize>,
}

impl Invariant for BoundedQueues {
    const NAME: &'static str = "bounded-queues";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Requested { process } => {
                let count = self.unanswered.entry(process).or_default();
                *count += 1;
                if *count > UNANSWERED_MAX {
                    return Err(format!("{process:?} owes {count} answers"));
                }
            }
            Fact::Answered { process, .. } => self.less(process, 1),
            Fact::Abandoned { process, requests } => self.less(process, requests),
            Fact::Died { process } => {
                self.unanswered.remove(&process);
            }
            Fact::Appended { process, set, entries } => {
                let held = truth.copies.get(&(process, set)).map_or(0, |copy| copy.log.len());
                if held + entries.len() > LOGGED_MAX {
                    return Err(format!("{process:?} has {held} writes of {set} unapplied"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl BoundedQueues {
    fn less(&mut self, process: Process, requests: usize) {
        if let Some(count) = self.unanswered.get_mut(&process) {
            *count = count.saturating_sub(requests);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: one request too many is found; answered and abandoned ones do not count.
    //! Method: fill a server's queue to its limit.

    use super::super::tests::run;
    use super::*;

    #[test]
    fn one_too_many_is_found() {
        let asked = Fact::Requested { process: Process(1) };
        let mut facts = vec![asked; UNANSWERED_MAX];
        assert_eq!(run::<BoundedQueues>(&facts), Ok(()));
        facts.push(Fact::Abandoned { process: Process(1), requests: 1 });
        facts.push(asked);
        assert_eq!(run::<BoundedQueues>(&facts), Ok(()));
        facts.push(asked);
        assert!(run::<BoundedQueues>(&facts).is_err());
    }
}
