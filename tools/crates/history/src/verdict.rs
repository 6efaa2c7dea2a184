//! What the checkers say: of each key, of a whole history, in words for people.

use std::collections::BTreeMap;
use std::fmt;

use crate::operation::Operation;

/// A way to judge a history.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Checker {
    /// By the positions in the answers.
    Witness,
    /// By zones: keys of which every value is put once, and only put and read.
    Zones,
    /// By search, whatever the positions say.
    Wgl,
}

impl Checker {
    pub const ALL: [Checker; 3] = [Checker::Witness, Checker::Zones, Checker::Wgl];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Checker::Witness => "witness",
            Checker::Zones => "zones",
            Checker::Wgl => "wgl",
        }
    }
}

/// What can not be, and the operations that show it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub key: String,
    /// What is wrong, and below it the operations, one a line.
    pub words: String,
    /// Their lines in the file.
    pub operations: Vec<usize>,
}

impl Violation {
    pub(crate) fn of(words: &str, operations: &[&Operation]) -> Violation {
        let key = operations.first().map(|it| it.key.to_string()).unwrap_or_default();
        let (mut told, mut lines) = (words.to_owned(), Vec::new());
        for operation in operations {
            if !lines.contains(&operation.line) {
                told.push_str(&format!("\n    {operation}"));
                lines.push(operation.line);
            }
        }
        Violation { key, words: told, operations: lines }
    }
}

/// What one checker says of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Judged {
    /// It found an order that explains everything: that is a proof.
    Accepted,
    Violated(Violation),
    /// It gave up; why.
    Undecided(String),
    /// The key is not of the kind that it judges; why.
    NotJudged(String),
}

/// What one checker says of a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub checker: Checker,
    /// For each key, in their order.
    pub keys: Vec<Judged>,
}

impl Verdict {
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.keys.iter().filter_map(|it| match it {
            Judged::Violated(violation) => Some(violation),
            Judged::Accepted | Judged::Undecided(_) | Judged::NotJudged(_) => None,
        })
    }

    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for judged in &self.keys {
            *match judged {
                Judged::Accepted => &mut tally.accepted,
                Judged::Violated(_) => &mut tally.violated,
                Judged::Undecided(_) => &mut tally.undecided,
                Judged::NotJudged(_) => &mut tally.not_judged,
            } += 1;
        }
        tally
    }
}

/// Keys, by what a checker says of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    pub accepted: usize,
    pub violated: usize,
    pub undecided: usize,
    pub not_judged: usize,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conclusion {
    /// Every key was accepted by a checker, and none was found broken.
    Linearizable,
    Violated,
    /// Of some keys no checker found either an order or a fault.
    Undecided,
}

/// What all checkers say of a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdicts {
    /// The keys, in the order of every verdict.
    pub keys: Vec<String>,
    pub operations: usize,
    pub unknown: usize,
    pub verdicts: Vec<Verdict>,
}

impl Verdicts {
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        if self.verdicts.iter().any(|it| it.violations().next().is_some()) {
            Conclusion::Violated
        } else if self.open_keys().is_empty() {
            Conclusion::Linearizable
        } else {
            Conclusion::Undecided
        }
    }

    /// Keys that no checker accepted, with what each said instead.
    #[must_use]
    pub fn open_keys(&self) -> BTreeMap<&str, Vec<(Checker, &str)>> {
        let mut open = BTreeMap::new();
        for (index, key) in self.keys.iter().enumerate() {
            let judged = || self.verdicts.iter().map(|it| (it.checker, &it.keys[index]));
            if judged().any(|(_, it)| *it == Judged::Accepted) {
                continue;
            }
            let said = judged().filter_map(|(checker, it)| match it {
                Judged::Undecided(why) | Judged::NotJudged(why) => Some((checker, why.as_str())),
                Judged::Accepted | Judged::Violated(_) => None,
            });
            open.insert(key.as_str(), said.collect());
        }
        open
    }
}

/// A few lines: each checker, then the first faults, then the conclusion.
impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TOLD_MAX: usize = 5;
        for verdict in &self.verdicts {
            let Tally { accepted, violated, undecided, not_judged } = verdict.tally();
            writeln!(
                f,
                "{:<8} {accepted} keys linearizable, {violated} not, {undecided} undecided, \
                 {not_judged} not of its kind",
                verdict.checker.name()
            )?;
            for violation in verdict.violations().take(TOLD_MAX) {
                writeln!(f, "  key {}: {}", violation.key, violation.words)?;
            }
            if violated > TOLD_MAX {
                writeln!(f, "  and {} keys more", violated - TOLD_MAX)?;
            }
        }
        let (operations, keys) = (self.operations, self.keys.len());
        let counted = format!("{operations} operations over {keys} keys");
        match self.conclusion() {
            Conclusion::Linearizable => write!(f, "linearizable: {counted}"),
            Conclusion::Violated => write!(f, "NOT linearizable: {counted}"),
            Conclusion::Undecided => {
                let open = self.open_keys();
                for (key, said) in open.iter().take(TOLD_MAX) {
                    for (checker, why) in said {
                        writeln!(f, "  key {key}: {}: {why}", checker.name())?;
                    }
                }
                write!(f, "UNDECIDED for {} keys: {counted}", open.len())
            }
        }
    }
}
