//! One primary an epoch: only the member that the metaserver's disk names opens in it, and only
//! that one answers reads in it.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::message::Answer;
use crate::protocol::time::Time;
use crate::protocol::types::{Epoch, KeySet};
use crate::sim::Process;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct OnePrimary {
    opened: BTreeMap<(KeySet, Epoch), Process>,
}

impl Invariant for OnePrimary {
    const NAME: &'static str = "one-primary";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        let (process, set, epoch) = match *fact {
            Fact::Opened { process, set, epoch } => (process, set, epoch),
            Fact::Answered { process, set, answer, .. } => match answer {
                Answer::Found { position, .. }
                | Answer::Absent { position }
                | Answer::Mismatch { position, .. }
                | Answer::Rejected { position, .. }
                | Answer::Page { position, .. }
                | Answer::Changes { position, .. } => (process, set, position.epoch),
                Answer::Written { .. }
                | Answer::Refused(_)
                | Answer::Forgotten { .. }
                | Answer::Moved { .. } => return Ok(()),
            },
            _ => return Ok(()),
        };
        let named = truth.history.get(&(set, epoch)).map(|it| it.primary);
        let member = truth.members.get(&process).copied();
        if named.is_none() || named != member {
            return Err(format!("{member:?} acts in {epoch} of {set}, whose primary is {named:?}"));
        }
        let first = *self.opened.entry((set, epoch)).or_insert(process);
        if first != process {
            return Err(format!("{first:?} and {process:?} both act in {epoch} of {set}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an answer by someone who is not the epoch's primary is found.
    //! Method: two members, both answer a read in epoch 1.

    use super::super::tests::*;
    use super::*;

    #[test]
    fn a_second_primary_is_found() {
        let (one, two) = (member(1, 1), member(2, 2));
        let configuration = configuration(1, one, &[two]);
        let set = KeySet(0);
        let request = request(get("a"), None);
        let answer = absent(1, 0);
        let answered = |process| {
            let (request, answer) = (&request, &answer);
            Fact::Answered { process: Process(process), set, request, answer }
        };
        let facts = [
            Fact::Registered { process: Process(1), member: one },
            Fact::Registered { process: Process(2), member: two },
            Fact::Configured { set, configuration: &configuration },
            answered(1),
            answered(2),
        ];
        assert_eq!(run::<OnePrimary>(&facts[..4]), Ok(()));
        assert!(run::<OnePrimary>(&facts).is_err());
    }
}
