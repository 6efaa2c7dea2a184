//! How a run ended, in words and for scripts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem::protocol::time::{Span, Time};

use crate::Arguments;
use crate::judge::{Findings, longest};
use crate::load::Ending;
use crate::run::Outcome;

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
        let count = |ending| outcome.samples.iter().filter(|it| it.ending == ending).count();
        let [ok, fail, unknown] = [Ending::Ok, Ending::Fail, Ending::Unknown].map(count);
        let mut struck: BTreeMap<&str, u64> = BTreeMap::new();
        for fault in &outcome.faults {
            *struck.entry(fault.kind.name()).or_default() += 1;
        }
        let longest = longest(&findings.pauses);
        let since = |at: Time| seconds(at.since(outcome.begin));
        let pauses: BTreeMap<&str, Value> = longest
            .iter()
            .map(|(cause, it)| {
                let set = it.set.0;
                let words = json!({
                    "ms": it.length().as_millis(), "key_set": set, "at_s": since(it.begin),
                });
                (*cause, words)
            })
            .collect();
        let timeline: Vec<Value> = outcome
            .faults
            .iter()
            .map(|it| {
                json!({
                    "at_s": since(it.begin), "until_s": it.end.map(since),
                    "kind": it.kind.name(), "what": it.label, "storm": it.storm,
                })
            })
            .collect();
        let traffic = outcome.traffic;
        let served = findings.served;
        let names: Vec<&str> = arguments.kinds().iter().map(|it| it.name()).collect();
        let value = json!({
            "chaos": "done",
            "holds": broken.is_empty(),
            "broken": broken,
            "seed": outcome.seed,
            "config": {
                "seconds": arguments.seconds, "nemesis": names, "servers": arguments.servers,
                "replicas": arguments.replicas, "key_sets": arguments.key_sets,
                "clients": arguments.clients,
            },
            "history_operations": outcome.history.operations.len(),
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
            "grace_ms": outcome.grace.as_millis(),
            "longest_without_write": pauses,
            "packets": {
                "passed": traffic.passed, "dropped": traffic.dropped, "late": traffic.late,
                "duplicated": traffic.duplicated, "corrupted": traffic.corrupted,
            },
            "timeline": timeline,
        });
        let mut lines = vec![
            format!(
                "{} operations in the history; {ok} done, {fail} surely not, {unknown} unknown",
                outcome.history.operations.len()
            ),
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
                traffic.passed,
                traffic.dropped,
                traffic.late,
                traffic.duplicated,
                traffic.corrupted
            ),
            format!(
                "longest time a key set took no write (grace {} ms):",
                outcome.grace.as_millis()
            ),
        ];
        for (cause, it) in &longest {
            lines.push(format!(
                "  {cause:<12} {:>7} ms  key set {} at {:.1} s",
                it.length().as_millis(),
                it.set.0,
                since(it.begin)
            ));
        }
        let config = format!(
            "seed {} \u{b7} {} s \u{b7} {} servers, {} copies of {} key sets, {} clients with {} \
             sessions \u{b7} one network namespace a process, every packet through the relay",
            outcome.seed,
            arguments.seconds,
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

/// Seconds with three decimals.
pub fn seconds(span: Span) -> f64 {
    span.as_millis() as f64 / 1_000.0
}
