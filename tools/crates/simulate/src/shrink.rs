//! Makes a failing run smaller: drops faults while it still breaks the same property.
//!
//! First large parts are dropped, then smaller ones, down to single faults; what ends a fault
//! stays, because it does no harm. A run whose faults come as a script may differ from the one
//! that drew them where two things happen at the same instant; then nothing is dropped.

use tandem::sim::faults::Fault;
use tandem::sim::{Options, Report, simulate_with};

/// A smaller run: the places of the faults that it keeps, and what it came to.
pub struct Smaller {
    pub kept: Vec<usize>,
    pub begun: usize,
    pub report: Report,
}

/// Looks for a smaller run that breaks the property which `report` broke, with at most
/// `runs_max` tries.
#[must_use]
pub fn shrink(report: &Report, options: Options, runs_max: u32) -> Option<Smaller> {
    let broken = report.violation.as_ref()?.invariant;
    let options = Options { hash: true, text: false, ..options };
    let strikes = &report.strikes;
    let run = |kept: &[usize]| {
        let script = kept.iter().map(|&place| strikes[place]).collect();
        let again = simulate_with(report.seed, options, Some(script), &mut |_| ());
        let same = again.violation.as_ref().is_some_and(|it| it.invariant == broken);
        same.then_some(again)
    };
    let mut kept: Vec<usize> = (0..strikes.len()).collect();
    let mut best = run(&kept)?;
    let begins = |place: &usize| is_beginning(strikes[*place].1);
    let begun = kept.iter().filter(|place| begins(place)).count();
    let mut part = begun.div_ceil(2);
    let mut runs = 1;
    while part > 0 && runs < runs_max {
        let places: Vec<usize> = kept.iter().copied().filter(begins).collect();
        for dropped in places.chunks(part) {
            if runs >= runs_max {
                break;
            }
            let fewer: Vec<_> =
                kept.iter().copied().filter(|place| !dropped.contains(place)).collect();
            runs += 1;
            if let Some(again) = run(&fewer) {
                (kept, best) = (fewer, again);
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    Some(Smaller { kept, begun, report: best })
}

/// Whether something goes wrong, as opposed to ending.
#[must_use]
pub fn is_beginning(fault: Fault) -> bool {
    !matches!(fault, Fault::Start(_) | Fault::Mend(..) | Fault::MendAll)
}
