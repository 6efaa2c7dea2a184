//! At the instant at which a write is acknowledged, every living member of the configuration on
//! the metaserver's disk has it, in its log or in its store.
//!
//! A primary that was replaced without knowing it may acknowledge late what it committed before:
//! its acknowledgements are judged by `acknowledged_kept` instead.

use super::Invariant;
use crate::protocol::message::Answer;
use crate::protocol::time::Time;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct AckEverywhere;

impl Invariant for AckEverywhere {
    const NAME: &'static str = "ack-everywhere";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, truth: &Truth) -> Result<(), String> {
        let Fact::Answered { process, set, answer: Answer::Written { position, .. }, .. } = *fact
        else {
            return Ok(());
        };
        let Some(configuration) = truth.configurations.get(&set) else {
            return Err(format!("{set} acknowledged {position} before it was created"));
        };
        let is_current = truth.members.get(&process) == Some(&configuration.primary);
        if !is_current || position.loss_epoch != configuration.loss_epoch {
            return Ok(());
        }
        for member in configuration.members().filter(|&it| truth.is_alive(it)) {
            if !truth.copy_of(member, set).is_some_and(|copy| copy.holds(position.op)) {
                let primary = configuration.primary;
                let epoch = configuration.epoch;
                return Err(format!(
                    "{primary} acknowledged {position} of {set} in {epoch}, {member} lacks it"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an acknowledgement that one member does not cover is found.
    //! Method: two members; the secondary has the entry, or not, or is no member.

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::KeySet;
    use crate::sim::Process;

    fn acked(with_secondary: bool, secondary_is_member: bool) -> Result<(), String> {
        let (one, two) = (member(1, 1), member(2, 2));
        let secondaries = if secondary_is_member { vec![two] } else { Vec::new() };
        let configuration = configuration(1, one, &secondaries);
        let entries = [entry(1, 1, "a", "x")];
        let request = request(put("a", "x"), Some(origin(1, 1)));
        let answer = stored(1, 1);
        let set = KeySet(0);
        let mut facts = vec![
            Fact::Registered { process: Process(1), member: one },
            Fact::Registered { process: Process(2), member: two },
            Fact::Configured { set, configuration: &configuration },
            Fact::Appended { process: Process(1), set, entries: &entries },
        ];
        if with_secondary {
            facts.push(Fact::Appended { process: Process(2), set, entries: &entries });
        }
        let (request, answer) = (&request, &answer);
        facts.push(Fact::Answered { process: Process(1), set, request, answer });
        run::<AckEverywhere>(&facts)
    }

    #[test]
    fn every_living_member_must_have_the_write() {
        assert_eq!(acked(true, true), Ok(()));
        assert_eq!(acked(false, false), Ok(()));
        assert!(acked(false, true).is_err());
    }
}
