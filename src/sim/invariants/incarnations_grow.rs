//! Incarnations name memories: no two processes have the same, and a server's later process has
//! a higher one.

use std::collections::BTreeMap;

use super::Invariant;
use crate::protocol::time::Time;
use crate::protocol::types::{Incarnation, ServerId};
use crate::sim::Process;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct IncarnationsGrow {
    latest: BTreeMap<ServerId, (Incarnation, Process)>,
}

impl Invariant for IncarnationsGrow {
    const NAME: &'static str = "incarnations-grow";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        let Fact::Registered { process, member } = *fact else { return Ok(()) };
        let known = self.latest.insert(member.server, (member.incarnation, process));
        match known {
            Some((_, earlier)) if earlier == process => {
                Err(format!("{process:?} was registered twice, last as {member}"))
            }
            Some((incarnation, earlier)) if incarnation >= member.incarnation => Err(format!(
                "{process:?} was registered as {member}, after {earlier:?} as {incarnation}"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an incarnation that comes twice or goes back is found.
    //! Method: registrations by hand.

    use super::super::tests::{member, run};
    use super::*;

    fn registered(process: u32, server: u16, incarnation: u64) -> Fact<'static> {
        Fact::Registered { process: Process(process), member: member(server, incarnation) }
    }

    #[test]
    fn incarnations_that_do_not_grow_are_found() {
        let first = registered(1, 1, 5);
        assert_eq!(run::<IncarnationsGrow>(&[first, registered(2, 1, 6)]), Ok(()));
        assert_eq!(run::<IncarnationsGrow>(&[first, registered(2, 2, 4)]), Ok(()));
        assert!(run::<IncarnationsGrow>(&[first, registered(2, 1, 5)]).is_err());
        assert!(run::<IncarnationsGrow>(&[first, registered(2, 1, 4)]).is_err());
        assert!(run::<IncarnationsGrow>(&[first, registered(1, 1, 6)]).is_err());
    }
}
