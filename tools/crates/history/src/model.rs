//! One key as a sequential object: what each operation makes of it, and what it may answer.

use tandem::protocol::types::Revision;

use crate::operation::{Answer, Expect, Reply, Text, What};

/// What a key holds. Absent at first.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct State {
    pub value: Option<Text>,
    /// Of the write that made the value; none where nobody knows it (or the key is absent).
    pub revision: Option<Revision>,
}

impl State {
    fn holding(value: Text, revision: Option<Revision>) -> State {
        State { value: Some(value), revision }
    }

    /// The state after `what` answered as it did; none if that is no answer for this state.
    #[must_use]
    pub fn after(&self, what: &What, answer: &Answer) -> Option<State> {
        let revision = answer.revision;
        match (what, &answer.reply) {
            (What::Get, Reply::Value(value)) => {
                (self.value == *value && self.agrees(answer)).then(|| self.known_as(answer))
            }
            (What::Put { value }, Reply::Stored) => Some(State::holding(value.clone(), revision)),
            (What::Delete, Reply::Existed(existed)) => {
                (self.value.is_some() == *existed).then(State::default)
            }
            (What::Cas { expect, value }, Reply::Swapped(true)) => {
                let held = self.is_as(expect) != Some(false);
                held.then(|| State {
                    value: value.clone(),
                    revision: revision.filter(|_| value.is_some()),
                })
            }
            (What::Cas { expect, .. }, Reply::Swapped(false)) => {
                let failed = self.is_as(expect) != Some(true);
                (failed && self.agrees(answer)).then(|| self.known_as(answer))
            }
            (What::Incr { by }, Reply::Number(Some(number))) => {
                let sum = self.number().and_then(|old| old.checked_add(*by));
                let value = Text::from(number.to_string());
                (sum == Some(*number)).then(|| State::holding(value, revision))
            }
            (What::Incr { by }, Reply::Number(None)) => {
                let sum = self.number().and_then(|old| old.checked_add(*by));
                sum.is_none().then(|| self.clone())
            }
            _ => None,
        }
    }

    /// The state after `what` took effect, whatever it would have answered; none if it changes
    /// nothing here. Nobody knows the revision of what it made.
    #[must_use]
    pub fn changed_by(&self, what: &What) -> Option<State> {
        match what {
            What::Get => None,
            What::Put { value } => Some(State::holding(value.clone(), None)),
            What::Delete => self.value.is_some().then(State::default),
            What::Cas { expect, value } => {
                let held = self.is_as(expect) != Some(false);
                held.then(|| State { value: value.clone(), revision: None })
            }
            What::Incr { by } => {
                let sum = self.number()?.checked_add(*by)?;
                Some(State::holding(Text::from(sum.to_string()), None))
            }
        }
    }

    /// Whether the key is as a `cas` expects; none where that depends on an unknown revision.
    fn is_as(&self, expect: &Expect) -> Option<bool> {
        match expect {
            Expect::Absent => Some(self.value.is_none()),
            Expect::Value(value) => Some(self.value.as_ref() == Some(value)),
            Expect::Revision(_) if self.value.is_none() => Some(false),
            Expect::Revision(revision) => self.revision.map(|known| known == *revision),
        }
    }

    /// Whether the revision that an answer names can be that of the value here. A store that
    /// tells positions tells revisions as well, so that none means absent.
    fn agrees(&self, answer: &Answer) -> bool {
        match (answer.revision, self.revision) {
            (Some(named), Some(known)) => self.value.is_some() && named == known,
            (Some(_), None) => self.value.is_some(),
            (None, _) => answer.position.is_none() || self.value.is_none(),
        }
    }

    /// The same state, with the revision that the answer named.
    fn known_as(&self, answer: &Answer) -> State {
        State { value: self.value.clone(), revision: self.revision.or(answer.revision) }
    }

    fn number(&self) -> Option<i64> {
        match &self.value {
            None => Some(0),
            Some(value) => value.parse().ok(),
        }
    }
}
