//! The picture of a run: one page with a common axis of time.
//!
//! ```text
//!   title, verdict, figures
//!   faults        a row for each kind, a bar for each that struck
//!   operations    done a second, reads and writes; failures below the line
//!   latency       median and 99th percentile, logarithmic
//!   key sets      a row each; darker where no write was taken for longer
//!   servers       state, key sets they are primary of, steps of their recoveries
//!   the longest pause by kind of fault, against grace
//! ```

mod charts;
mod lanes;

use tandem::protocol::time::Time;
use tandem_svg::{Font, Page, Place};

use crate::judge::{Findings, longest};
use crate::nemesis::Kind;
use crate::run::Outcome;
use crate::summary::{Summary, seconds};

const WIDTH: f64 = 1_600.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 1_560.0;

const INK: &str = "#1f2933";
const SOFT: &str = "#66758a";
const GRID: &str = "#e3e8ef";
const PAPER: &str = "#fbfcfe";
const GOOD: &str = "#1a9c5b";
const BAD: &str = "#d13438";

const TITLE: Font = Font::new(26.0, INK).bold();
const HEAD: Font = Font::new(13.0, INK).bold();
const SMALL: Font = Font::new(11.0, SOFT);

/// The page under way: what is drawn, where the next panel goes, and the axis of time.
struct Drawing<'a> {
    page: Page,
    outcome: &'a Outcome,
    findings: &'a Findings,
    /// Below all that is drawn so far.
    y: f64,
}

/// Draws a run.
pub fn draw(outcome: &Outcome, findings: &Findings, summary: &Summary) -> String {
    let mut drawing = Drawing { page: Page::default(), outcome, findings, y: 0.0 };
    drawing.header(summary);
    drawing.faults();
    drawing.operations();
    drawing.latency();
    drawing.key_sets();
    drawing.servers();
    drawing.axis();
    drawing.pauses();
    let height = drawing.y + 30.0;
    drawing.page.finish(WIDTH, height, PAPER)
}

impl Drawing<'_> {
    /// Where `at` is on the axis.
    fn x(&self, at: Time) -> f64 {
        let whole = self.outcome.end.since(self.outcome.begin).0.max(1) as f64;
        let part = at.since(self.outcome.begin).0 as f64 / whole;
        LEFT + part.min(1.0) * (RIGHT - LEFT)
    }

    /// The next panel: its name, its height, and lines of time through it.
    fn panel(&mut self, name: &str, note: &str, height: f64) -> Place {
        self.page.text(LEFT, self.y + 14.0, HEAD, name);
        let indent = LEFT + 9.0 * name.len() as f64 + 14.0;
        self.page.text(indent, self.y + 14.0, SMALL, note);
        let place = Place { x: LEFT, y: self.y + 24.0, width: RIGHT - LEFT, height };
        self.page.rect(place, "#ffffff", 1.0, 4.0, "");
        for (at, _) in self.ticks() {
            let x = self.x(at);
            self.page.line((x, place.y), (x, place.y + height), GRID, "");
        }
        for at in [self.outcome.calm_end, self.outcome.chaos_end] {
            let x = self.x(at);
            self.page.line((x, place.y), (x, place.y + height), SOFT, "2 3");
        }
        self.y = place.y + height + 16.0;
        place
    }

    /// Times to name on the axis, in seconds.
    fn ticks(&self) -> Vec<(Time, u64)> {
        let length = self.outcome.end.since(self.outcome.begin).as_millis() / 1_000;
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800];
        let step = steps.into_iter().find(|it| length / it <= 15).unwrap_or(3_600);
        (0..=length)
            .step_by(step as usize)
            .map(|it| (self.outcome.begin + tandem::protocol::time::Span(it * 1_000_000_000), it))
            .collect()
    }

    fn axis(&mut self) {
        let y = self.y;
        for (at, second) in self.ticks() {
            self.page.text(self.x(at), y, SMALL.middle(), &format!("{second} s"));
        }
        self.y += 26.0;
    }

    fn header(&mut self, summary: &Summary) {
        self.page.text(40.0, 48.0, TITLE, "Tandem under chaos");
        let (colour, words) = if summary.holds() {
            (GOOD, "linearizable, nothing lost, all holds that must".to_owned())
        } else {
            let first = summary.broken.first().map_or("", String::as_str);
            (BAD, format!("BROKEN: {}", first.lines().next().unwrap_or_default()))
        };
        let width = 8.0 * words.chars().count() as f64 + 30.0;
        let chip = Place { x: 370.0, y: 26.0, width: width.min(1_190.0), height: 30.0 };
        self.page.rect(chip, colour, 1.0, 15.0, "");
        self.page.text(385.0, 46.0, Font::new(14.0, "#ffffff").bold(), &words);
        let config = summary.config_words();
        self.page.text(40.0, 76.0, Font::new(13.0, SOFT), config);
        let figures = self.figures();
        let width = (RIGHT - 40.0) / figures.len() as f64;
        for (number, (figure, words)) in figures.iter().enumerate() {
            let x = 40.0 + width * number as f64;
            let card = Place { x, y: 92.0, width: width - 12.0, height: 58.0 };
            self.page.rect(card, "#ffffff", 1.0, 6.0, "");
            self.page.text(x + 12.0, 120.0, Font::new(21.0, INK).bold(), figure);
            self.page.text(x + 12.0, 140.0, SMALL, words);
        }
        self.y = 172.0;
    }

    fn figures(&self) -> Vec<(String, &'static str)> {
        let longest = longest(&self.findings.pauses);
        let worst = longest.values().map(|it| it.length()).max().unwrap_or_default();
        let unknown =
            self.outcome.samples.iter().filter(|it| it.ending == crate::load::Ending::Unknown);
        vec![
            (grouped(self.outcome.history.operations.len() as u64), "operations judged"),
            (format!("{:.0} /s", self.findings.calm_per_s), "done undisturbed"),
            (format!("{:.0} /s", self.findings.chaos_per_s), "done under chaos"),
            (grouped(unknown.count() as u64), "of unknown outcome"),
            (grouped(self.outcome.faults.len() as u64), "faults"),
            (grouped(self.outcome.recoveries.len() as u64), "recoveries of servers"),
            (format!("{:.1} s", seconds(worst)), "longest pause of a key set"),
            (format!("{:.1} s", seconds(self.outcome.grace)), "grace"),
        ]
    }
}

/// A number with spaces between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut words = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            words.push('\u{202f}');
        }
        words.push(digit);
    }
    words
}

/// The colour of a kind of fault.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Cut => "#4c78d8",
        Kind::Flap => "#7a9be6",
        Kind::Isolate => "#2f4fb0",
        Kind::Loss => "#8a63d2",
        Kind::Delay => "#b08be8",
        Kind::Duplicate => "#c774b6",
        Kind::Corrupt => "#a8418f",
        Kind::Rate => "#6b7fa8",
        Kind::Kill => "#d13438",
        Kind::Pause => "#e8843c",
        Kind::KillMeta => "#93212d",
        Kind::PauseMeta => "#c9653a",
        Kind::Restart => "#2a9d8f",
        Kind::Storm => "#333d4d",
        Kind::Power => "#111111",
    }
}

#[cfg(test)]
mod tests {
    //! Goal: figures are easy to read.
    //! Method: numbers of several lengths.

    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234), "1\u{202f}234");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
