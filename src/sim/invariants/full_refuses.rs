//! A full primary admits nothing that grows, and room is a reason to refuse nothing else.

use super::Invariant;
use crate::protocol::message::{Answer, Operation, Refusal};
use crate::protocol::time::Time;
use crate::protocol::types::Written;
use crate::sim::truth::{Fact, Truth};

/// See the file's page.
#[derive(Clone, Debug, Default, Hash)]
pub struct FullRefuses;

impl Invariant for FullRefuses {
    const NAME: &'static str = "full-refuses";

    fn judge(&mut self, _: Time, fact: &Fact<'_>, _: &Truth) -> Result<(), String> {
        match *fact {
            Fact::Admitted { process, set, entry, before } => {
                let counts = before.is_some() && matches!(entry.written, Written::Counter(_));
                let length = entry.change.value().map(|it| it.len());
                if length <= before || counts {
                    return Ok(());
                }
                let op = entry.op;
                Err(format!("{process:?} is full, and admitted op {op} of {set}, which grows"))
            }
            Fact::Answered { process, set, request, answer } => {
                let full = matches!(answer, Answer::Refused(Refusal::Full { .. }));
                let operation = &request.operation;
                let grows = operation.is_write() && !matches!(operation, Operation::Delete { .. });
                if !full || grows {
                    return Ok(());
                }
                Err(format!("{process:?} refused {operation:?} of {set} for want of room"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a write that grows at a full primary is found, and so is a read that was refused.
    //! Method: values longer, shorter and as long; a refused write and a refused read.

    use super::super::tests::*;
    use super::*;
    use crate::protocol::types::{Key, KeySet, ServerId};
    use crate::sim::Process;

    #[test]
    fn a_write_that_grows_is_found() {
        let entry = entry(1, 1, "a", "four");
        let (process, set) = (Process(1), KeySet(0));
        let admitted = |before| Fact::Admitted { process, set, entry: &entry, before };
        assert_eq!(run::<FullRefuses>(&[admitted(Some(4)), admitted(Some(5))]), Ok(()));
        assert!(run::<FullRefuses>(&[admitted(Some(3))]).is_err());
        assert!(run::<FullRefuses>(&[admitted(None)]).is_err());
    }

    #[test]
    fn what_does_not_grow_is_not_refused() {
        let answer = Answer::Refused(Refusal::Full { server: ServerId(2) });
        let judged = |operation| {
            let request = request(operation, None);
            let (process, set) = (Process(1), KeySet(0));
            run::<FullRefuses>(&[Fact::Answered {
                process,
                set,
                request: &request,
                answer: &answer,
            }])
        };
        assert_eq!(judged(put("a", "x")), Ok(()));
        assert!(judged(get("a")).is_err());
        assert!(judged(Operation::Delete { key: Key::from_static(b"a") }).is_err());
    }
}
