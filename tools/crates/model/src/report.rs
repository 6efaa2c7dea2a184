//! How it went, for people and for scripts.

use serde_json::{Value, json};
use tandem::protocol::mutants::Mutant;

use crate::checker::{Counterexample, End, Outcome};
use crate::plan::Plan;

/// The end of a search in words.
#[must_use]
pub fn end(end: End) -> &'static str {
    match end {
        End::Exhausted => "exhausted",
        End::Violated => "VIOLATED",
        End::StatesBound => "stopped by the bound on states",
        End::TimeBound => "stopped by the bound on time",
    }
}

/// The head of the table of worlds.
pub const HEAD: &str = "world               states      steps  depth  seconds  end";

/// A line of that table.
#[must_use]
pub fn line(plan: &Plan, outcome: &Outcome) -> String {
    let Outcome { steps, states, depth, took, .. } = outcome;
    let (name, seconds, end) = (plan.name, took.as_secs_f64(), end(outcome.end));
    format!("{name:<17}{states:>9}{steps:>11}{depth:>7}{seconds:>9.1}  {end}")
}

/// A counterexample, step by step.
#[must_use]
pub fn story(it: &Counterexample) -> String {
    let mut text = String::new();
    for (number, step) in it.steps.iter().enumerate() {
        text.push_str(&format!("  {:>3}. {step}\n", number + 1));
    }
    text.push_str(&format!("       {}: {}", it.property, it.words));
    text
}

/// A world's outcome for scripts.
#[must_use]
pub fn json(plan: &Plan, outcome: &Outcome) -> Value {
    let counterexample = outcome
        .counterexample
        .as_ref()
        .map(|it| json!({ "property": it.property, "words": it.words, "steps": it.steps }));
    json!({
        "world": plan.name,
        "about": plan.about,
        "states": outcome.states,
        "steps": outcome.steps,
        "depth": outcome.depth,
        "seconds": outcome.took.as_secs_f64(),
        "exhausted": outcome.end == End::Exhausted,
        "end": end(outcome.end),
        "counterexample": counterexample,
    })
}

/// A mutant that was looked for in one world.
#[must_use]
pub fn hunt(mutant: Mutant, plan: &Plan, outcome: &Outcome) -> (String, Value) {
    let (name, world, seconds) = (mutant.name(), plan.name, outcome.took.as_secs_f64());
    let property = outcome.counterexample.as_ref().map(|it| it.property);
    let text = match &outcome.counterexample {
        Some(it) => {
            let (property, steps, states) = (it.property, it.steps.len(), outcome.states);
            format!(
                "{name:<26}found  {world:<18}{property:<18}{steps:>3} steps{states:>8} states\
                 {seconds:>6.1} s"
            )
        }
        None => format!("{name:<26}MISSED {world:<18}{} {seconds:>6.1} s", end(outcome.end)),
    };
    let value = json!({
        "mutant": name,
        "breaks": mutant.breaks(),
        "property": property,
        "outcome": json(plan, outcome),
    });
    (text, value)
}

/// A mutant that no world finds, and why.
#[must_use]
pub fn out_of_reach(mutant: Mutant, reason: &str) -> (String, Value) {
    let (name, breaks) = (mutant.name(), mutant.breaks());
    let text = format!("{name:<26}argued {reason}");
    (text, json!({ "mutant": name, "breaks": breaks, "out_of_reach": reason }))
}
