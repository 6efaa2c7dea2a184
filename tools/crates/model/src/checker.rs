//! The search: breadth first over everything that can happen, so that the first counterexample is
//! a shortest one.
//!
//! A state that was seen is remembered as its fingerprint (64 bits), the state that it came from
//! and the number of the action that led to it; whole states are kept only while they wait to be
//! expanded. A counterexample is found again by letting the same actions happen from the start.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::plan::Plan;
use crate::world::World;

/// How far a search may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub states_max: usize,
    pub time_max: Duration,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Every state was seen.
    Exhausted,
    Violated,
    StatesBound,
    TimeBound,
}

/// A broken property and a shortest way to it, in words.
#[derive(Clone, Debug)]
pub struct Counterexample {
    pub property: &'static str,
    pub words: String,
    pub steps: Vec<String>,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps that were taken, whether or not they led anywhere new.
    pub steps: usize,
    /// States that can be told apart.
    pub states: usize,
    pub depth: usize,
    pub took: Duration,
    pub end: End,
    pub counterexample: Option<Counterexample>,
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

struct Search {
    plan: Rc<Plan>,
    seen: HashSet<u64, BuildHasherDefault<AsIs>>,
    /// By state, in the order of discovery: where it came from, and by which action.
    origins: Vec<(u32, u16)>,
    steps: usize,
    depth: usize,
}

/// Explores a world.
#[must_use]
pub fn explore(plan: &Rc<Plan>, bounds: Bounds) -> Outcome {
    let watch = Stopwatch::start();
    let mut search = Search {
        plan: Rc::clone(plan),
        seen: HashSet::default(),
        origins: Vec::new(),
        steps: 0,
        depth: 0,
    };
    let (end, counterexample) = search.run(bounds, &watch);
    Outcome {
        steps: search.steps,
        states: search.origins.len(),
        depth: search.depth,
        took: watch.elapsed(),
        end,
        counterexample,
    }
}

impl Search {
    fn run(&mut self, bounds: Bounds, watch: &Stopwatch) -> (End, Option<Counterexample>) {
        let first = World::begin(Rc::clone(&self.plan));
        self.seen.insert(first.fingerprint());
        self.origins.push((0, 0));
        if first.violation().is_some() {
            return (End::Violated, Some(self.retell(0)));
        }
        let mut level = vec![(0_u32, first)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (origin, world) in level.drain(..) {
                if self.origins.len() >= bounds.states_max {
                    return (End::StatesBound, None);
                }
                if self.steps.is_multiple_of(64) && watch.elapsed() >= bounds.time_max {
                    return (End::TimeBound, None);
                }
                if let Some(broken) = self.expand(origin, &world, &mut next) {
                    self.depth += 1;
                    return (End::Violated, Some(self.retell(broken)));
                }
            }
            self.depth += usize::from(!next.is_empty());
            level = next;
        }
        (End::Exhausted, None)
    }

    /// Lets everything happen that can, and keeps what is new; gives back a state that breaks a
    /// property.
    fn expand(&mut self, origin: u32, world: &World, next: &mut Vec<(u32, World)>) -> Option<u32> {
        for (number, action) in world.enabled().iter().enumerate() {
            self.steps += 1;
            let Some(reached) = world.step(action) else { continue };
            if !self.seen.insert(reached.fingerprint()) {
                continue;
            }
            let state = u32::try_from(self.origins.len()).expect("memory ends before numbers do");
            self.origins.push((origin, u16::try_from(number).expect("few things can happen")));
            if reached.violation().is_some() {
                return Some(state);
            }
            next.push((state, reached));
        }
        None
    }

    /// The way to a state, from the beginning.
    fn retell(&self, state: u32) -> Counterexample {
        let mut numbers = Vec::new();
        let mut at = state;
        while at != 0 {
            let (origin, number) = self.origins[at as usize];
            numbers.push(number);
            at = origin;
        }
        let mut world = World::begin(Rc::clone(&self.plan));
        let mut steps = Vec::new();
        for number in numbers.into_iter().rev() {
            let action = world.enabled().swap_remove(usize::from(number));
            steps.push(world.describe(&action));
            world = world.step(&action).expect("it happened before");
        }
        let violation = world.violation().expect("it was broken before");
        let (property, words) = (violation.property, violation.words.clone());
        Counterexample { property, words, steps }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a search sees every state, ends at its bounds, and tells the way to what is broken.
    //! Method: the smallest worlds, with and without a planted bug.

    use tandem::protocol::mutants::{Mutant, plant};

    use super::*;

    const BOUNDS: Bounds = Bounds { states_max: 100_000, time_max: Duration::from_secs(600) };

    fn world(name: &str) -> Rc<Plan> {
        let plan = crate::worlds::all().into_iter().find(|it| it.name == name);
        Rc::new(plan.expect("it is one of the worlds"))
    }

    #[test]
    fn a_small_world_is_exhausted_and_the_same_every_time() {
        let first = explore(&world("pair"), BOUNDS);
        let again = explore(&world("pair"), BOUNDS);
        assert_eq!(first.end, End::Exhausted);
        assert!(first.states > 100, "time and a write make states");
        assert_eq!((first.states, first.steps), (again.states, again.steps));
    }

    #[test]
    fn a_bound_is_told() {
        let bounds = Bounds { states_max: 50, ..BOUNDS };
        assert_eq!(explore(&world("pair"), bounds).end, End::StatesBound);
    }

    #[test]
    fn a_planted_bug_is_found_with_the_way_to_it() {
        plant(Some(Mutant::OpensAtOnce));
        let outcome = explore(&world("pair-epoch"), BOUNDS);
        plant(None);
        let found = outcome.counterexample.expect("two primaries serve");
        assert_eq!(found.property, "disjoint-leases");
        assert_eq!(found.steps.len(), 2, "{:?}", found.steps);
    }
}
