//! The check of a whole history by several checkers.

use crate::history::History;
use crate::verdict::{Checker, Verdict, Verdicts};
use crate::{wgl, witness, zones};

/// How to check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    pub checkers: Vec<Checker>,
    /// The cluster's number of key sets: with it the positions of all keys of a key set have to
    /// be in one order, which is more than linearizability asks for.
    pub key_sets: Option<u16>,
    /// After how many steps a search gives a key up.
    pub steps_max: u64,
}

/// A second or so of search a key.
pub const STEPS_MAX: u64 = 2_000_000;

impl Default for Options {
    fn default() -> Options {
        Options { checkers: Checker::ALL.to_vec(), key_sets: None, steps_max: STEPS_MAX }
    }
}

/// Checks a history.
#[must_use]
pub fn check(history: &History, options: &Options) -> Verdicts {
    check_with(history, options, |_, _| ())
}

/// As `check`; tells `progress` the checker at work and how many operations it goes on to.
#[must_use]
pub fn check_with(
    history: &History,
    options: &Options,
    progress: impl Fn(Checker, usize),
) -> Verdicts {
    let keys = history.by_key();
    let verdicts = options
        .checkers
        .iter()
        .map(|&checker| {
            let step = |operations: usize| progress(checker, operations);
            let each = |judge: &dyn Fn(&[&crate::Operation]) -> crate::Judged| {
                keys.values()
                    .map(|operations| {
                        step(operations.len());
                        judge(operations)
                    })
                    .collect()
            };
            let keys = match checker {
                Checker::Witness => {
                    witness::judge(&keys, options.key_sets, options.steps_max, step)
                }
                Checker::Zones => each(&zones::judge),
                Checker::Wgl => each(&|operations| wgl::judge(operations, options.steps_max)),
            };
            Verdict { checker, keys }
        })
        .collect();
    Verdicts {
        keys: keys.keys().map(|&key| key.to_owned()).collect(),
        operations: history.operations.len(),
        unknown: history.operations.iter().filter(|it| it.is_ambiguous()).count(),
        verdicts,
    }
}
