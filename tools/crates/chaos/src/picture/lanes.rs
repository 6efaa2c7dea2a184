//! Panels with a row for each: faults, key sets, servers.

use std::collections::BTreeSet;

use tandem::protocol::meta::ServerState;
use tandem::protocol::time::{Span, Time};
use tandem_svg::{Font, Place};

use super::{Drawing, INK, LEFT, SMALL, SOFT, colour};
use crate::nemesis::Kind;
use crate::nodes::Node;
use crate::observer::STEPS;
use crate::summary::seconds;

const ROW: f64 = 17.0;
const LANE: f64 = 54.0;

/// Colours of the four steps of a recovery.
const STEP_COLOURS: [&str; 4] = ["#d13438", "#e8843c", "#e3b93c", "#2a9d8f"];

/// Where a fault's words fit into its bar: their width a letter.
const LETTER: f64 = 5.4;

impl Drawing<'_> {
    pub(super) fn faults(&mut self) {
        let kinds: BTreeSet<Kind> = self.outcome.faults.iter().map(|it| it.kind).collect();
        let height = ROW * kinds.len().max(1) as f64 + 6.0;
        let note = "what was done to the cluster; the dark edge marks what struck in a storm";
        let place = self.panel("Faults", note, height);
        for (row, &kind) in kinds.iter().enumerate() {
            let y = place.y + 3.0 + ROW * row as f64;
            let font = Font::new(12.0, colour(kind)).bold().end();
            self.page.text(LEFT - 8.0, y + 12.5, font, kind.name());
            for fault in self.outcome.faults.iter().filter(|it| it.kind == kind) {
                let (x, end) = (self.x(fault.begin), self.x(fault.end.unwrap_or(self.outcome.end)));
                let bar = Place { x, y: y + 1.0, width: (end - x).max(2.5), height: ROW - 3.0 };
                let at = seconds(fault.begin.since(self.outcome.begin));
                let hint = format!("{at:.1} s: {kind} {}", fault.label);
                self.page.rect(bar, colour(kind), 0.9, 2.0, &hint);
                if fault.storm {
                    self.page.rect(Place { width: 2.0, ..bar }, INK, 1.0, 0.0, &hint);
                }
                if LETTER * fault.label.len() as f64 + 8.0 < bar.width {
                    let font = Font::new(10.0, "#ffffff");
                    self.page.text(x + 5.0, y + 12.0, font, &fault.label);
                }
            }
        }
    }

    pub(super) fn key_sets(&mut self) {
        let sets = self.outcome.fortunes.iter().map(|it| it.sets.len()).max().unwrap_or(0);
        let row = (200.0 / sets.max(1) as f64).clamp(4.0, 14.0);
        let note = "dark where a key set took no write: from 0.1 s (pale) to 2 s and longer (dark)";
        let place = self.panel("Key sets", note, row * sets as f64 + 6.0);
        for pause in &self.findings.pauses {
            let (x, end) = (self.x(pause.begin), self.x(pause.end));
            let y = place.y + 3.0 + row * f64::from(pause.set.0);
            let hint = format!(
                "key set {}: {:.2} s from {:.1} s ({})",
                pause.set.0,
                seconds(pause.length()),
                seconds(pause.begin.since(self.outcome.begin)),
                pause.cause
            );
            let bar = Place { x, y, width: (end - x).max(1.0), height: row - 1.0 };
            self.page.rect(bar, shade(pause.length()), 1.0, 1.0, &hint);
        }
        for set in (0..sets).filter(|it| row >= 9.0 || it.is_multiple_of(4)) {
            let y = place.y + 3.0 + row * set as f64 + row.min(11.0) - 1.0;
            self.page.text(LEFT - 8.0, y, SMALL.end(), &set.to_string());
        }
    }

    pub(super) fn servers(&mut self) {
        let numbers: BTreeSet<u8> = self
            .outcome
            .fortunes
            .iter()
            .flat_map(|it| it.servers.iter().flatten())
            .map(|it| it.number)
            .collect();
        let height = LANE * numbers.len() as f64 + 30.0;
        let note = "as the metaserver saw them: key sets they are primary of; below, their \
                    recoveries in four steps";
        let place = self.panel("Servers", note, height);
        self.legend(place.y - 24.0);
        for (row, &number) in numbers.iter().enumerate() {
            let y = place.y + 4.0 + LANE * row as f64;
            self.server(number, y);
        }
        self.meta(place.y + height - 22.0);
    }

    fn legend(&mut self, y: f64) {
        let mut x = 880.0;
        for (colour, words) in STEP_COLOURS.into_iter().zip(STEPS.map(|it| it.1)) {
            self.page.rect(
                Place { x, y: y + 5.0, width: 11.0, height: 11.0 },
                colour,
                1.0,
                2.0,
                "",
            );
            self.page.text(x + 15.0, y + 14.0, SMALL, words);
            x += 36.0 + 6.3 * words.len() as f64;
        }
        let states =
            [("#d9efe2", "up"), ("#f8d9a8", "suspected"), ("#cfd6e0", "leaving"), (INK, "dead")];
        for (colour, words) in states {
            self.page.rect(
                Place { x, y: y + 5.0, width: 11.0, height: 11.0 },
                colour,
                1.0,
                2.0,
                "",
            );
            self.page.text(x + 15.0, y + 14.0, SMALL, words);
            x += 34.0 + 6.3 * words.len() as f64;
        }
    }

    fn server(&mut self, number: u8, y: f64) {
        let name = Node::Server(number).to_string();
        self.page.text(LEFT - 8.0, y + 22.0, Font::new(12.0, INK).bold().end(), &name);
        let room = 30.0;
        let seen: Vec<(Time, ServerState, u16)> = self
            .outcome
            .fortunes
            .iter()
            .filter_map(|it| {
                let server = it.servers.as_ref()?.iter().find(|it| it.number == number)?;
                Some((it.at, server.state, server.primary_of))
            })
            .collect();
        // One box for each stretch of the same state.
        let mut from = 0;
        for index in 1..=seen.len() {
            if index < seen.len() && seen[index].1 == seen[from].1 {
                continue;
            }
            let until = seen.get(index).map_or(self.outcome.end, |it| it.0);
            let (x, end) = (self.x(seen[from].0), self.x(until));
            let place = Place { x, y, width: end - x, height: room };
            self.page.rect(place, state_colour(seen[from].1), 0.8, 0.0, "");
            from = index;
        }
        let most = self
            .outcome
            .fortunes
            .iter()
            .flat_map(|it| it.servers.iter().flatten())
            .map(|it| it.primary_of)
            .max()
            .unwrap_or(1)
            .max(1);
        let mut points = Vec::new();
        for (at, _, primary_of) in &seen {
            let height = y + room - f64::from(*primary_of) / f64::from(most) * (room - 4.0);
            let x = self.x(*at);
            if let Some(&(_, before)) = points.last() {
                points.push((x, before));
            }
            points.push((x, height));
        }
        self.page.path(&points, "#1a7f4b", 1.4);
        self.steps(number, y + room + 2.0);
    }

    /// The steps of the recoveries of a server, each a band.
    fn steps(&mut self, number: u8, y: f64) {
        for recovery in self.outcome.recoveries.iter().filter(|it| it.server == number) {
            let mut from = recovery.begin;
            for ((end, colour), (_, name)) in
                recovery.steps.iter().zip(STEP_COLOURS).zip(STEPS.iter())
            {
                let until = end.unwrap_or(self.outcome.end);
                let (x, right) = (self.x(from), self.x(until));
                let band = Place { x, y, width: (right - x).max(1.0), height: 13.0 };
                let hint = format!("{name}: {:.2} s", seconds(until.since(from)));
                self.page.rect(band, colour, 0.95, 1.0, &hint);
                from = until;
                if end.is_none() {
                    break;
                }
            }
        }
    }

    /// When the metaserver answered.
    fn meta(&mut self, y: f64) {
        self.page.text(LEFT - 8.0, y + 11.0, Font::new(12.0, INK).bold().end(), "meta");
        let seen: Vec<(Time, bool)> =
            self.outcome.fortunes.iter().map(|it| (it.at, it.servers.is_some())).collect();
        let mut from = 0;
        for index in 1..=seen.len() {
            if index < seen.len() && seen[index].1 == seen[from].1 {
                continue;
            }
            let until = seen.get(index).map_or(self.outcome.end, |it| it.0);
            let (x, end) = (self.x(seen[from].0), self.x(until));
            let (colour, hint) = if seen[from].1 { ("#d9efe2", "") } else { (SOFT, "no answer") };
            let place = Place { x, y, width: end - x, height: 14.0 };
            self.page.rect(place, colour, 0.9, 0.0, hint);
            from = index;
        }
    }
}

fn state_colour(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "#d9efe2",
        ServerState::Suspected => "#f8d9a8",
        ServerState::Leaving => "#cfd6e0",
        ServerState::Dead | ServerState::Expected => INK,
    }
}

/// Darker for longer.
fn shade(length: Span) -> &'static str {
    match length.as_millis() {
        0..250 => "#fbe3c4",
        250..500 => "#f6c58a",
        500..1_000 => "#ee9a54",
        1_000..2_000 => "#d8602f",
        _ => "#9c2b1f",
    }
}
