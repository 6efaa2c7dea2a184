//! Honest processes never accuse each other of breaking the protocol.

use super::Invariant;
use crate::protocol::time::Time;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct WellBehaved;

impl Invariant for WellBehaved {
    const NAME: &'static str = "well-behaved";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Accused { process, reason } => {
                Err(format!("{process:?} closed a link to an honest peer: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: an accusation is found.
    //! Method: one.

    use super::super::tests::run;
    use super::*;
    use crate::sim::Process;

    #[test]
    fn an_accusation_is_found() {
        let accused = Fact::Accused { process: Process(1), reason: "an op came twice" };
        assert!(run::<WellBehaved>(&[accused]).is_err());
    }
}
