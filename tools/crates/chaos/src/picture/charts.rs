//! Panels with a scale: operations, latency, and the longest pauses.

use tandem::protocol::time::{Span, Time};
use tandem_svg::{Font, Place};

use super::{BAD, Drawing, GOOD, GRID, HEAD, INK, LEFT, RIGHT, SMALL, SOFT};
use crate::judge::longest;
use crate::load::{Ending, Sample};
use crate::summary::seconds;

/// Points along the axis; shorter runs have at least half a second between them.
const BUCKETS: u64 = 280;
const BUCKET_MIN: Span = Span::from_millis(500);

const READS: &str = "#6aa5e8";
const WRITES: &str = "#2b6cb0";
const UNKNOWN: &str = "#d13438";
const FAILED: &str = "#f0a33a";

/// What happened in one stretch of time.
#[derive(Clone, Debug, Default)]
struct Bucket {
    middle: Time,
    reads: f64,
    writes: f64,
    failed: f64,
    unknown: f64,
    /// Milliseconds that done operations took, sorted.
    waits_ms: Vec<f64>,
}

impl Bucket {
    fn percentile(&self, part: f64) -> Option<f64> {
        let last = self.waits_ms.len().checked_sub(1)?;
        self.waits_ms.get((last as f64 * part).round() as usize).copied()
    }
}

impl Drawing<'_> {
    fn buckets(&self) -> Vec<Bucket> {
        let (begin, end) = (self.outcome.begin, self.outcome.end);
        let length = Span(end.since(begin).0 / BUCKETS).max(BUCKET_MIN);
        let count = (end.since(begin).0 / length.0).max(1);
        let mut buckets: Vec<Bucket> = (0..count)
            .map(|it| Bucket {
                middle: begin + Span(it * length.0 + length.0 / 2),
                ..Bucket::default()
            })
            .collect();
        let per_s = 1e9 / length.0 as f64;
        for sample in &self.outcome.samples {
            let index = (sample.answered.since(begin).0 / length.0) as usize;
            let Some(bucket) = buckets.get_mut(index) else { continue };
            bucket.take(sample, per_s);
        }
        for bucket in &mut buckets {
            bucket.waits_ms.sort_by(f64::total_cmp);
        }
        buckets
    }

    pub(super) fn operations(&mut self) {
        let note = "done a second: writes below, reads on top; under the line what failed";
        let place = self.panel("Operations", note, 150.0);
        let buckets = self.buckets();
        let most = buckets.iter().map(|it| it.reads + it.writes).fold(1.0, f64::max);
        let failures = buckets.iter().map(|it| it.failed + it.unknown).fold(1.0, f64::max);
        let (zero, room) = (place.y + 112.0, 104.0);
        let y = |rate: f64| zero - rate / most * room;
        let points = |rate: &dyn Fn(&Bucket) -> f64| -> Vec<(f64, f64)> {
            buckets.iter().map(|it| (self.x(it.middle), y(rate(it)))).collect()
        };
        let writes = points(&|it| it.writes);
        let all = points(&|it| it.reads + it.writes);
        let base: Vec<(f64, f64)> = writes.iter().rev().map(|it| (it.0, zero)).collect();
        let between: Vec<(f64, f64)> = all.iter().chain(writes.iter().rev()).copied().collect();
        let below: Vec<(f64, f64)> = writes.iter().copied().chain(base).collect();
        let bars: Vec<(f64, f64, f64)> = buckets
            .iter()
            .filter(|it| it.failed + it.unknown > 0.0)
            .map(|it| (self.x(it.middle), it.failed / failures, it.unknown / failures))
            .collect();
        self.page.area(&between, READS, 0.55);
        self.page.area(&below, WRITES, 0.75);
        self.page.path(&all, WRITES, 1.2);
        for (x, failed, unknown) in bars {
            let (width, room) = (3.0, 34.0);
            let first = Place { x: x - 1.5, y: zero + 2.0, width, height: failed * room };
            let second = Place { y: first.y + first.height, height: unknown * room, ..first };
            self.page.rect(first, FAILED, 1.0, 0.0, "surely not done");
            self.page.rect(second, UNKNOWN, 1.0, 0.0, "outcome unknown");
        }
        self.page.line((LEFT, zero), (RIGHT, zero), SOFT, "");
        let calm = self.findings.calm_per_s;
        for (rate, words) in [(calm, "undisturbed"), (calm / 5.0, "a fifth of it")] {
            self.page.line((LEFT, y(rate)), (RIGHT, y(rate)), GOOD, "6 4");
            let font = Font::new(10.0, GOOD).end();
            self.page.note(RIGHT - 4.0, y(rate) - 3.0, font, words);
        }
        self.page.text(LEFT - 8.0, place.y + 14.0, SMALL.end(), &format!("{most:.0} /s"));
        self.page.text(LEFT - 8.0, zero + 4.0, SMALL.end(), "0");
        self.page.text(LEFT - 8.0, zero + 20.0, Font::new(10.0, FAILED).end(), "surely not done");
        self.page.text(LEFT - 8.0, zero + 33.0, Font::new(10.0, UNKNOWN).end(), "unknown");
    }

    pub(super) fn latency(&mut self) {
        let note = "of operations that were done, by the time of the answer; logarithmic";
        let place = self.panel("Latency", note, 120.0);
        let buckets = self.buckets();
        // From 1 ms to 10 s.
        let y = |ms: f64| {
            let part = (ms.max(1.0).log10() / 4.0).min(1.0);
            place.y + place.height - 4.0 - part * (place.height - 12.0)
        };
        for (ms, words) in [
            (1.0, "1 ms"),
            (10.0, "10 ms"),
            (100.0, "100 ms"),
            (1_000.0, "1 s"),
            (10_000.0, "10 s"),
        ] {
            self.page.line((LEFT, y(ms)), (RIGHT, y(ms)), GRID, "");
            self.page.text(LEFT - 8.0, y(ms) + 4.0, SMALL.end(), words);
        }
        let grace = self.outcome.grace.as_millis() as f64;
        self.page.line((LEFT, y(grace)), (RIGHT, y(grace)), GOOD, "6 4");
        self.page.note(RIGHT - 4.0, y(grace) - 3.0, Font::new(10.0, GOOD).end(), "grace");
        for (part, colour, width) in [(0.99, "#e8843c", 1.3), (0.5, WRITES, 1.6)] {
            let points: Vec<(f64, f64)> = buckets
                .iter()
                .filter_map(|it| Some((self.x(it.middle), y(it.percentile(part)?))))
                .collect();
            self.page.path(&points, colour, width);
        }
        self.page.text(LEFT + 8.0, place.y + 16.0, Font::new(11.0, "#e8843c").bold(), "p99");
        self.page.text(LEFT + 38.0, place.y + 16.0, Font::new(11.0, WRITES).bold(), "median");
    }

    /// The longest pause of each cause.
    pub(super) fn pauses(&mut self) {
        let longest = longest(&self.findings.pauses);
        let mut rows: Vec<_> =
            longest.iter().map(|(cause, it)| (*cause, it.length(), it.set, it.begin)).collect();
        rows.sort_by_key(|it| std::cmp::Reverse(it.1));
        let title = "The longest time that a key set took no write, by what it goes back to";
        self.page.text(LEFT, self.y + 14.0, HEAD, title);
        self.y += 26.0;
        let room = RIGHT - LEFT - 330.0;
        let most = rows.first().map_or(1.0, |it| seconds(it.1)).max(0.001);
        let top = self.y;
        let grace = LEFT + seconds(self.outcome.grace) / most * room;
        for (cause, length, set, begin) in rows {
            let words = if cause == "none" { "no fault" } else { cause };
            self.page.text(LEFT - 8.0, self.y + 12.0, Font::new(12.0, INK).end(), words);
            let width = seconds(length) / most * room;
            let bar = Place { x: LEFT, y: self.y, width, height: 15.0 };
            let colour = if cause == "none" { SOFT } else { "#4c78d8" };
            self.page.rect(bar, colour, 0.85, 3.0, "");
            let at = seconds(begin.since(self.outcome.begin));
            let words = format!(
                "{:.2} s, {:.1} times grace; key set {} at {at:.1} s",
                seconds(length),
                length.0 as f64 / self.outcome.grace.0.max(1) as f64,
                set.0
            );
            // The words stand clear of the line that marks grace.
            let clear = if LEFT + width < grace + 2.0 { grace } else { LEFT + width };
            self.page.text(clear + 8.0, self.y + 12.0, SMALL, &words);
            self.y += 21.0;
        }
        self.page.line((grace, top - 4.0), (grace, self.y), BAD, "4 3");
        self.page.text(grace, self.y + 10.0, Font::new(10.0, BAD).middle(), "grace");
        self.y += 14.0;
    }
}

impl Bucket {
    fn take(&mut self, sample: &Sample, per_s: f64) {
        match sample.ending {
            Ending::Ok => {
                if sample.is_write {
                    self.writes += per_s;
                } else {
                    self.reads += per_s;
                }
                self.waits_ms.push(sample.answered.since(sample.sent).0 as f64 / 1e6);
            }
            Ending::Fail => self.failed += per_s,
            Ending::Unknown => self.unknown += per_s,
        }
    }
}
