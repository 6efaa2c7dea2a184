//! What faults struck, whom and when: the proof that a suite of runs tried what it claims.
//!
//! A cell is a kind of fault, the role of its victim and the step of a recovery that was under
//! way. A victim with several roles, or several recoveries, count in every cell that they make.

use std::collections::BTreeMap;
use std::fmt;

use super::Node;
use super::faults::{KINDS, Kind};
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

/// What the victim of a fault was, in some key set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Role {
    Primary,
    Secondary,
    Learner,
    /// A running server that holds nothing of any set.
    Outsider,
    Metaserver,
}

pub const ROLES: [Role; 5] =
    [Role::Primary, Role::Secondary, Role::Learner, Role::Outsider, Role::Metaserver];

impl Role {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Secondary => "secondary",
            Role::Learner => "learner",
            Role::Outsider => "outsider",
            Role::Metaserver => "metaserver",
        }
    }
}

/// Outside of any recovery, and its four steps.
pub const STEPS: [Option<Step>; 5] = [
    None,
    Some(Step::Invalidate),
    Some(Step::CopyPrimary),
    Some(Step::CopySecondary),
    Some(Step::Resume),
];

/// A step's name for people.
#[must_use]
pub fn step_name(step: Option<Step>) -> &'static str {
    match step {
        None => "quiet",
        Some(Step::Invalidate) => "invalidate",
        Some(Step::CopyPrimary) => "copy-primary",
        Some(Step::CopySecondary) => "copy-secondary",
        Some(Step::Resume) => "resume",
        Some(Step::Done) => "done",
    }
}

/// A kind of fault, a victim and a step.
pub type Cell = (Kind, Role, Option<Step>);

/// All cells, by kind, role and step.
pub fn cells() -> impl Iterator<Item = Cell> {
    KINDS.into_iter().flat_map(|kind| {
        ROLES.into_iter().flat_map(move |role| STEPS.into_iter().map(move |it| (kind, role, it)))
    })
}

/// Why no run can hit a cell; none where it can.
#[must_use]
pub fn infeasible(cell: Cell) -> Option<&'static str> {
    match cell {
        (Kind::Stop | Kind::Stall, Role::Metaserver, _) => {
            Some("the metaserver has no orderly stop, and no store but its disk")
        }
        (Kind::Wipe, Role::Metaserver, _) => {
            Some("a metaserver without its disk is another cluster's: servers refuse it")
        }
        _ => None,
    }
}

/// How often each cell was hit, and each moment came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    cells: BTreeMap<Cell, u64>,
    moments: BTreeMap<&'static str, u64>,
    faults: u64,
}

impl Coverage {
    /// Notes one fault and the cells that it hit.
    pub fn fault(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.faults += 1;
        for cell in cells {
            *self.cells.entry(cell).or_default() += 1;
        }
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
        self.faults += other.faults;
    }

    /// How often a cell was hit.
    #[must_use]
    pub fn count(&self, cell: Cell) -> u64 {
        self.cells.get(&cell).copied().unwrap_or_default()
    }

    /// How often a moment came.
    #[must_use]
    pub fn moments(&self, name: &str) -> u64 {
        self.moments.get(name).copied().unwrap_or_default()
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// What is missing where every feasible cell and every moment is wanted `least` times, and
    /// what should not have been possible.
    #[must_use]
    pub fn gaps(&self, least: u64) -> Vec<String> {
        let mut gaps = Vec::new();
        for cell in cells() {
            let (kind, role, step) = cell;
            let (kind, role, step) = (kind.name(), role.name(), step_name(step));
            match (self.count(cell), infeasible(cell)) {
                (0, Some(_)) => {}
                (count, Some(reason)) => gaps.push(format!(
                    "{kind} of a {role} in {step} was hit {count} times, and is called \
                     infeasible: {reason}"
                )),
                (count, None) if count < least => {
                    gaps.push(format!("{kind} of a {role} in {step} was hit {count} times"));
                }
                (_, None) => {}
            }
        }
        for name in MOMENTS {
            let count = self.moments(name);
            if count < least {
                gaps.push(format!("the moment '{name}' came {count} times"));
            }
        }
        gaps
    }
}

/// Every moment of the protocol that runs must come by.
pub const MOMENTS: [&str; 31] = [
    "opened",
    "paused",
    "resigned",
    "adopted",
    "run started",
    "run ended",
    "chunk stored",
    "persisting",
    "registering",
    "registered",
    "suspected",
    "dead",
    "promoted",
    "removed",
    "proposed",
    "added",
    "handover ordered",
    "handover drained",
    "handed over",
    "resign ordered",
    "probe answered",
    "removal asked",
    "removal confirmed",
    "leave asked",
    "left",
    "change answered",
    "greeted",
    "fenced",
    "acknowledged",
    "recovery started",
    "recovery done",
];

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}{:<12}", "fault", "victim")?;
        for step in STEPS {
            write!(f, "{:>15}", step_name(step))?;
        }
        for kind in KINDS {
            for role in ROLES {
                write!(f, "\n{:<14}{:<12}", kind.name(), role.name())?;
                for step in STEPS {
                    let cell = (kind, role, step);
                    match (self.count(cell), infeasible(cell)) {
                        (0, Some(_)) => write!(f, "{:>15}", "-")?,
                        (count, _) => write!(f, "{count:>15}")?,
                    }
                }
            }
        }
        for (name, count) in &self.moments {
            write!(f, "\n{name:<26}{count:>10}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a cell that was not hit, and one that should not have been, are told.
    //! Method: coverage that lacks one cell, then one that has an infeasible one.

    use super::*;

    #[test]
    fn gaps_are_told() {
        let mut coverage = Coverage::default();
        for name in MOMENTS {
            coverage.moment(name);
        }
        let missing = (Kind::Kill, Role::Learner, Some(Step::Resume));
        let feasible = |cell: &Cell| infeasible(*cell).is_none() && *cell != missing;
        coverage.fault(cells().filter(feasible));
        let gaps = coverage.gaps(1);
        assert_eq!(gaps, ["kill of a learner in resume was hit 0 times"]);
        coverage.fault([missing]);
        assert_eq!(coverage.gaps(1), [""; 0]);
        coverage.fault([(Kind::Stop, Role::Metaserver, None)]);
        assert_eq!(coverage.gaps(1).len(), 1);
        assert!(coverage.gaps(2).len() > 100);
    }
}
