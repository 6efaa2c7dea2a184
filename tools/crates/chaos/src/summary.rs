//! How a run ended, in words and for scripts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem::protocol::time::{Span, Time};
use tandem_history::Tally;

use crate::Arguments;
use crate::judge::{Findings, Pause, longest};
use crate::load::Ending;
use crate::nemesis::Cuts;
use crate::returns::Returns;
use crate::run::Outcome;
use crate::timeline::Record;

/// The end of a run.
pub struct Summary {
    pub broken: Vec<String>,
    value: Value,
    lines: Vec<String>,
    config: String,
}

impl Summary {
    pub fn new(
        arguments: &Arguments,
        outcome: &Outcome,
        findings: &Findings,
        broken: Vec<String>,
    ) -> Summary {
        let value = value(arguments, outcome, findings, &broken);
        let lines = lines(outcome, findings);
        let config = format!(
            "seed {} \u{b7} {} \u{b7} {} servers, {} copies of {} key sets, {} clients with {} \
             sessions \u{b7} one network namespace a process, every packet through the relay",
            outcome.seed,
            arguments.length_words(),
            arguments.servers,
            arguments.replicas,
            arguments.key_sets,
            arguments.clients,
            u16::from(arguments.clients) * arguments.key_sets
        );
        Summary { broken, value, lines, config }
    }

    /// What the run was made of, in a line.
    pub fn config_words(&self) -> &str {
        &self.config
    }

    /// Whether all holds that must.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// Prints it; with `json` as one object on the last line, too.
    pub fn print(&self, json: bool) {
        for line in &self.lines {
            println!("  {line}");
        }
        for words in &self.broken {
            println!("  BROKEN: {words}");
        }
        let holds = if self.holds() { "all holds that must" } else { "not all holds that must" };
        println!("chaos: {holds}; nothing is left running");
        if json {
            println!("{}", self.value);
        }
    }
}

/// Operations that were done, surely not done, and of unknown outcome.
fn counts(outcome: &Outcome) -> [usize; 3] {
    let count = |ending| outcome.samples.iter().filter(|it| it.ending == ending).count();
    [Ending::Ok, Ending::Fail, Ending::Unknown].map(count)
}

/// The summary for scripts.
fn value(
    arguments: &Arguments,
    outcome: &Outcome,
    findings: &Findings,
    broken: &[String],
) -> Value {
    let [ok, fail, unknown] = counts(outcome);
    let (traffic, served) = (outcome.traffic, findings.served);
    let mut struck: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in &outcome.faults {
        *struck.entry(fault.kind.name()).or_default() += 1;
    }
    let names: Vec<&str> = arguments.kinds().iter().map(|it| it.name()).collect();
    json!({
        "chaos": "done",
        "holds": broken.is_empty(),
        "broken": broken,
        "seed": outcome.seed,
        "config": {
            "seconds": arguments.seconds, "nemesis": names, "servers": arguments.servers,
            "replicas": arguments.replicas, "key_sets": arguments.key_sets,
            "clients": arguments.clients,
            "rounds": arguments.cuts_power().then_some(arguments.rounds),
        },
        "history_operations": outcome.history.operations.len(),
        "checkers": checkers(findings),
        "operations_ok": ok,
        "operations_fail": fail,
        "operations_unknown": unknown,
        "undisturbed_per_s": findings.calm_per_s.round(),
        "disturbed_per_s": findings.chaos_per_s.round(),
        "seconds_served": served.demanded - served.starved,
        "seconds_starved": served.starved,
        "seconds_exempt": served.exempt,
        "faults": struck,
        "recoveries": outcome.recoveries.len(),
        "power_cuts": outcome.cuts.as_ref().map(|cuts| power(outcome, cuts)),
        "grace_ms": outcome.grace.as_millis(),
        "longest_without_write": pauses(outcome, findings),
        "packets": {
            "passed": traffic.passed, "dropped": traffic.dropped, "late": traffic.late,
            "duplicated": traffic.duplicated, "corrupted": traffic.corrupted,
        },
        "timeline": timeline(outcome),
    })
}

/// Power cuts, by their moments, and the returns from them.
fn power(outcome: &Outcome, cuts: &Cuts) -> Value {
    let moments: BTreeMap<&str, u64> =
        cuts.moments.iter().map(|(moment, &count)| (moment.name(), count)).collect();
    json!({
        "moments": moments, "checkpoints": cuts.checkpoints,
        "returns": Returns::of(outcome).value(),
    })
}

fn checkers(findings: &Findings) -> BTreeMap<&'static str, Value> {
    let of_one = |(checker, it): &(&'static str, Tally)| {
        let words = json!({
            "keys_accepted": it.accepted, "keys_violated": it.violated,
            "keys_undecided": it.undecided, "keys_not_judged": it.not_judged,
        });
        (*checker, words)
    };
    findings.checks.iter().map(of_one).collect()
}

fn pauses(outcome: &Outcome, findings: &Findings) -> BTreeMap<&'static str, Value> {
    let words = |it: &Pause| {
        let at = seconds(it.begin.since(outcome.begin));
        json!({"ms": it.length().as_millis(), "key_set": it.set.0, "at_s": at})
    };
    longest(&findings.pauses).into_iter().map(|(cause, it)| (cause, words(it))).collect()
}

fn timeline(outcome: &Outcome) -> Vec<Value> {
    let since = |at: Time| seconds(at.since(outcome.begin));
    let of_one = |it: &Record| {
        json!({
            "at_s": since(it.begin), "until_s": it.end.map(since), "kind": it.kind.name(),
            "what": it.label, "storm": it.storm,
        })
    };
    outcome.faults.iter().map(of_one).collect()
}

/// The summary for people.
fn lines(outcome: &Outcome, findings: &Findings) -> Vec<String> {
    let [ok, fail, unknown] = counts(outcome);
    let (traffic, served) = (outcome.traffic, findings.served);
    let mut lines = vec![
        format!(
            "{} operations in the history; {ok} done, {fail} surely not, {unknown} unknown",
            outcome.history.operations.len()
        ),
        checked(findings),
        format!(
            "{:.0} a second undisturbed, {:.0} under chaos; {} faults, {} recoveries",
            findings.calm_per_s,
            findings.chaos_per_s,
            outcome.faults.len(),
            outcome.recoveries.len()
        ),
        format!(
            "{} seconds had to be served, {} were not, {} were exempt",
            served.demanded, served.starved, served.exempt
        ),
        format!(
            "packets: {} passed, {} dropped, {} late, {} doubled, {} corrupt",
            traffic.passed, traffic.dropped, traffic.late, traffic.duplicated, traffic.corrupted
        ),
        format!("longest time a key set took no write (grace {} ms):", outcome.grace.as_millis()),
    ];
    if let Some(cuts) = &outcome.cuts {
        let moments: Vec<String> = cuts
            .moments
            .iter()
            .map(|(moment, count)| format!("{count} {}", moment.name()))
            .collect();
        let (moments, checkpoints) = (moments.join(", "), cuts.checkpoints);
        lines.insert(2, format!("power cuts: {moments}; {checkpoints} checkpoints"));
        lines.insert(3, Returns::of(outcome).words());
    }
    for (cause, it) in longest(&findings.pauses) {
        lines.push(format!(
            "  {cause:<12} {:>7} ms  key set {} at {:.1} s",
            it.length().as_millis(),
            it.set.0,
            seconds(it.begin.since(outcome.begin))
        ));
    }
    lines
}

/// What the checkers say, in a line.
fn checked(findings: &Findings) -> String {
    let each: Vec<String> = findings
        .checks
        .iter()
        .map(|(checker, it)| {
            let judged = it.accepted + it.violated + it.undecided;
            format!("{checker} accepts {} of {judged} keys", it.accepted)
        })
        .collect();
    format!("linearizability: {}", each.join(", "))
}

/// Seconds with three decimals.
pub fn seconds(span: Span) -> f64 {
    span.as_millis() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    //! Goal: figures keep their fractions.
    //! Method: a span of some milliseconds.

    use super::*;

    #[test]
    fn seconds_have_three_decimals() {
        assert!((seconds(Span::from_millis(1_234)) - 1.234).abs() < 1e-9);
    }
}
