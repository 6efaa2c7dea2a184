//! What faults struck, and when: the proof that a suite of runs tried what it claims.

use std::collections::BTreeMap;
use std::fmt;

use super::Node;
use crate::protocol::meta::durable::Step;

/// A step of the protocol that a fault may aim at, and the nodes that it happens at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moment {
    pub name: &'static str,
    pub nodes: Vec<Node>,
}

impl Moment {
    #[must_use]
    pub fn at(name: &'static str, nodes: &[Node]) -> Moment {
        Moment { name, nodes: nodes.to_vec() }
    }
}

/// How often each kind of fault struck in each step of a recovery.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    cells: BTreeMap<(&'static str, Option<Step>), u64>,
    moments: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub fn fault(&mut self, kind: &'static str, step: Option<Step>) {
        *self.cells.entry((kind, step)).or_default() += 1;
    }

    pub fn moment(&mut self, name: &'static str) {
        *self.moments.entry(name).or_default() += 1;
    }

    pub fn add(&mut self, other: &Coverage) {
        for (&cell, count) in &other.cells {
            *self.cells.entry(cell).or_default() += count;
        }
        for (&name, count) in &other.moments {
            *self.moments.entry(name).or_default() += count;
        }
    }

    /// How often that kind of fault struck in that step; None = outside of any recovery.
    #[must_use]
    pub fn count(&self, kind: &'static str, step: Option<Step>) -> u64 {
        self.cells.get(&(kind, step)).copied().unwrap_or_default()
    }

    /// How often a moment came.
    #[must_use]
    pub fn moments(&self, name: &'static str) -> u64 {
        self.moments.get(name).copied().unwrap_or_default()
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.cells.values().sum()
    }
}

const STEPS: [(Option<Step>, &str); 5] = [
    (None, "quiet"),
    (Some(Step::Invalidate), "invalidate"),
    (Some(Step::CopyPrimary), "copy-primary"),
    (Some(Step::CopySecondary), "copy-secondary"),
    (Some(Step::Resume), "resume"),
];

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}", "fault")?;
        for (_, name) in STEPS {
            write!(f, "{name:>15}")?;
        }
        let mut kinds: Vec<_> = self.cells.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            write!(f, "\n{kind:<14}")?;
            for (step, _) in STEPS {
                write!(f, "{:>15}", self.count(kind, step))?;
            }
        }
        for (name, count) in &self.moments {
            write!(f, "\n{name:<20}{count:>9}")?;
        }
        Ok(())
    }
}
