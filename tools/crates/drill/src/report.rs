//! What a drill found: figures, and what must hold and did not.

use std::fmt::Display;

use serde_json::{Map, Value, json};
use tandem::protocol::time::Span;

/// The outcome of a drill that ran to its end.
#[derive(Debug, Default)]
pub struct Report {
    figures: Map<String, Value>,
    broken: Vec<String>,
}

impl Report {
    /// Notes a figure; its unit comes last in `name`.
    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Notes `words` if what must hold does not.
    pub fn demand(&mut self, holds: bool, words: impl Display) {
        if !holds {
            self.broken.push(words.to_string());
        }
    }

    /// Whether all holds that must.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    /// Prints the end of the drill called `name`.
    pub fn print(&self, name: &str, json: bool) {
        for (name, value) in &self.figures {
            println!("  {name:<32} {}", plain(value));
        }
        for words in &self.broken {
            println!("  BROKEN: {words}");
        }
        let holds = if self.holds() { "all holds that must" } else { "not all holds that must" };
        println!("drill {name}: {holds}; nothing is left running");
        if json {
            println!(
                "{}",
                json!({
                    "drill": name, "holds": self.holds(), "broken": self.broken,
                    "figures": self.figures,
                })
            );
        }
    }

    /// The summary of a drill that did not run to its end.
    pub fn failed(name: &str, error: &anyhow::Error) -> Value {
        json!({"drill": name, "holds": false, "broken": [format!("{error:#}")], "figures": {}})
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// Milliseconds with one decimal.
pub fn ms(span: Span) -> f64 {
    (span.0 as f64 / 100_000.0).round() / 10.0
}

/// The middle of `spans`, the lower one of two.
pub fn median(spans: &[Span]) -> Span {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Goal: a broken demand is not forgotten, and the median is the middle.
    //! Method: small examples.

    use super::*;

    #[test]
    fn one_broken_demand_breaks_the_drill() {
        let mut report = Report::default();
        report.demand(true, "fine");
        assert!(report.holds());
        report.demand(false, "not fine");
        report.demand(true, "fine again");
        assert!(!report.holds());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3, 1, 2].map(Span)), Span(2));
        assert_eq!(median(&[4, 1, 2, 3].map(Span)), Span(2));
        assert_eq!(median(&[]), Span(0));
        assert_eq!(ms(Span::from_micros(1_260)), 1.3);
    }
}
