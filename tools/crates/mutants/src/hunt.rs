//! The hunt for one mutant: what is known to find it, or everything until something does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tandem::clock;
use tandem::mutants::{Mutant, plant};
use tandem::protocol::time::Span;
use tandem::sim::{Options, simulate};

use crate::cases;
use crate::kills::{Kill, Place};
use crate::report::Row;

/// A machine's own assertion, as a check.
pub const ASSERTION: &str = "assertion";

/// How long to look, and from where on.
#[derive(Clone, Copy, Debug)]
pub struct Hunt {
    pub first: u64,
    pub seconds: u64,
    /// Of each run.
    pub power_cuts: u64,
}

/// What broke a property in a run, with the property's name.
type Broken = Option<(String, String)>;

/// Runs `act` in this thread with the bug, or without any.
fn with(mutant: Option<Mutant>, act: impl FnOnce() -> Broken) -> Broken {
    plant(mutant);
    let ended = catch_unwind(AssertUnwindSafe(act));
    plant(None);
    ended.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        Some((ASSERTION.to_owned(), words.unwrap_or_default()))
    })
}

fn run_seed(seed: u64, power_cuts: u64) -> Broken {
    let usual = Options { hash: false, text: false, ..Options::default() };
    let report = simulate(seed, Options { power_cuts, ..usual });
    report.violation.map(|it| (it.invariant.to_owned(), it.words))
}

fn run_case(name: &str) -> Broken {
    let case = cases::ALL.iter().find(|it| it.name == name)?;
    (case.run)().err().map(|words| (case.check.to_owned(), words))
}

/// Replays what is known to find `mutant`, with the bug and without it.
pub fn replay(mutant: Mutant, kill: Option<&Kill>) -> Row {
    let Some(kill) = kill else { return Row::survivor(mutant, 0) };
    let act = || match &kill.place {
        Place::Seed { seed, .. } => run_seed(*seed, 0),
        Place::Case(name) => run_case(name),
    };
    let sound = with(None, act);
    let broken = with(Some(mutant), act);
    match (sound, broken) {
        (Some((check, words)), _) => {
            Row { alarm: Some(format!("{check}: {words}")), ..Row::survivor(mutant, 0) }
        }
        (None, Some((check, words))) => {
            let kill = Kill { check, place: kill.place.clone() };
            Row { kill: Some(kill), words, ..Row::survivor(mutant, 0) }
        }
        (None, None) => Row::survivor(mutant, 0),
    }
}

/// Looks for `mutant`: by the cases that were written for it, then seed after seed.
pub fn search(mutant: Mutant, hunt: Hunt) -> Row {
    let began = clock::now();
    for case in cases::ALL.iter().filter(|case| case.against == mutant) {
        let broken = with(Some(mutant), || run_case(case.name));
        if let Some((check, words)) = broken
            && with(None, || run_case(case.name)).is_none()
        {
            let kill = Kill { check, place: Place::Case(case.name.to_owned()) };
            return Row { kill: Some(kill), words, ..Row::survivor(mutant, 0) };
        }
    }
    let mut tried = 0;
    for seed in hunt.first.. {
        tried += 1;
        let run = || run_seed(seed, hunt.power_cuts);
        let broken = with(Some(mutant), run);
        // A seed that breaks a property by itself proves nothing about the mutant.
        if let Some((check, words)) = broken
            && with(None, run).is_none()
        {
            let kill = Kill { check, place: Place::Seed { seed, tried } };
            return Row { kill: Some(kill), words, ..Row::survivor(mutant, tried) };
        }
        if clock::now().since(began) >= Span::from_millis(hunt.seconds * 1_000) {
            break;
        }
    }
    Row::survivor(mutant, tried)
}
