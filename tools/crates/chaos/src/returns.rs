//! How long the cluster took to come back after each power cut: from the start of its processes to
//! the first acknowledged write, and to one on every key set.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::KeySet;

use crate::load::{Ending, Sample};
use crate::nemesis::Kind;
use crate::run::Outcome;

/// The returns of a run; a cut that struck before a key set was back counts for the others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Returns {
    /// To the first acknowledged write, ascending.
    pub first: Vec<Span>,
    /// To an acknowledged write on every key set, ascending.
    pub all: Vec<Span>,
}

impl Returns {
    pub fn of(outcome: &Outcome) -> Returns {
        let cuts: Vec<(Time, Time)> = outcome
            .faults
            .iter()
            .filter(|it| it.kind == Kind::Power)
            .filter_map(|it| Some((it.begin, it.end?)))
            .collect();
        let mut returns = Returns::default();
        for (number, &(_, start)) in cuts.iter().enumerate() {
            let until = cuts.get(number + 1).map_or(outcome.end, |&(next, _)| next);
            let firsts = firsts(&outcome.samples, start, until);
            returns.first.extend(firsts.values().min().map(|it| it.since(start)));
            if firsts.len() == usize::from(outcome.key_sets) {
                returns.all.extend(firsts.values().max().map(|it| it.since(start)));
            }
        }
        returns.first.sort_unstable();
        returns.all.sort_unstable();
        returns
    }

    pub fn words(&self) -> String {
        let both = |of: &[Span]| format!("median {}, worst {} ms", ms(median(of)), ms(worst(of)));
        format!(
            "from the start of all processes to the first acknowledged write {} ({} cuts); to one \
             on every key set {} ({} cuts)",
            both(&self.first),
            self.first.len(),
            both(&self.all),
            self.all.len()
        )
    }

    pub fn value(&self) -> Value {
        let each = |of: &[Span]| {
            json!({
                "cuts": of.len(), "median_ms": median(of).as_millis(),
                "worst_ms": worst(of).as_millis(),
            })
        };
        json!({"first_write": each(&self.first), "every_key_set": each(&self.all)})
    }
}

/// The first acknowledged write of each key set between two times.
fn firsts(samples: &[Sample], from: Time, until: Time) -> BTreeMap<KeySet, Time> {
    let mut firsts: BTreeMap<KeySet, Time> = BTreeMap::new();
    let counts = |it: &&Sample| {
        it.is_write && it.ending == Ending::Ok && (from..until).contains(&it.answered)
    };
    for sample in samples.iter().filter(counts) {
        let first = firsts.entry(sample.set).or_insert(sample.answered);
        *first = (*first).min(sample.answered);
    }
    firsts
}

fn median(sorted: &[Span]) -> Span {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn worst(sorted: &[Span]) -> Span {
    sorted.last().copied().unwrap_or_default()
}

fn ms(span: Span) -> u64 {
    span.as_millis()
}

#[cfg(test)]
mod tests {
    //! Goal: a return counts from the start of the processes to the first write, and only until
    //! the next cut.
    //! Method: writes of two key sets by hand, some before the start and some after the next cut.

    use super::*;
    use crate::nodes::Node;

    #[test]
    fn firsts_are_found_between_two_cuts() {
        let at = |ms: u64| Time(ms * 1_000_000);
        let write = |set: u16, ms: u64| Sample {
            client: Node::Client(1),
            set: KeySet(set),
            is_write: true,
            sent: at(ms - 1),
            answered: at(ms),
            ending: Ending::Ok,
        };
        let failed = Sample { ending: Ending::Unknown, ..write(1, 110) };
        let read = Sample { is_write: false, ..write(1, 110) };
        let samples = [write(0, 99), write(0, 130), write(0, 120), failed, read, write(1, 200)];
        assert_eq!(firsts(&samples, at(100), at(200)), BTreeMap::from([(KeySet(0), at(120))]));
        let both = BTreeMap::from([(KeySet(0), at(120)), (KeySet(1), at(200))]);
        assert_eq!(firsts(&samples, at(100), at(201)), both);
        let spans = [1, 2, 9].map(Span::from_millis);
        assert_eq!((ms(median(&spans)), ms(worst(&spans))), (2, 9));
    }
}
