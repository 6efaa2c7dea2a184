//! The picture of curves: for each axis a panel of throughput and one of memory.

use tandem_svg::{Font, Page, Place};

use super::Point;

const PANEL: f64 = 380.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 80.0;
const ROW: f64 = HEIGHT + 70.0;
const GAP: f64 = 100.0;

/// Half of a point's width: an axis with one point has no line.
const DOT: f64 = 3.0;

/// About the width of a letter of a legend.
const LETTER: f64 = 7.0;

const INK: &str = "#1f2933";
const SOFT: &str = "#66758a";
const GRID: &str = "#e3e8ef";
const PAPER: &str = "#fbfcfe";
const GETS: &str = "#2b6cb0";
const PUTS: &str = "#d1632f";
const MEMORY: &str = "#1a9c5b";

const TITLE: Font = Font::new(20.0, INK).bold();
const HEAD: Font = Font::new(13.0, INK).bold();
const LABEL: Font = Font::new(11.0, SOFT);

/// A line of a panel.
struct Line<'a> {
    name: &'a str,
    colour: &'a str,
    figures: Vec<f64>,
}

/// Draws the curves.
#[must_use]
pub fn draw(curves: &[(&str, Vec<Point>)]) -> String {
    let mut page = Page::default();
    page.text(24.0, 36.0, TITLE, "Throughput and memory as the work grows");
    page.text(24.0, 56.0, LABEL, "the axis below is logarithmic, the one beside begins at zero");
    let mut top = TOP;
    for (words, points) in curves {
        let figures = |of: fn(&Point) -> f64| points.iter().map(of).collect();
        let places: Vec<u64> = points.iter().map(|it| it.at).collect();
        let rates = [
            Line { name: "get/s", colour: GETS, figures: figures(|it| it.gets) },
            Line { name: "put/s", colour: PUTS, figures: figures(|it| it.puts) },
        ];
        let memory = [Line {
            name: "MiB in all servers",
            colour: MEMORY,
            figures: figures(|it| it.bytes as f64 / f64::from(1 << 20)),
        }];
        panel(&mut page, (LEFT, top), words, &places, &rates);
        panel(&mut page, (LEFT + PANEL + GAP, top), words, &places, &memory);
        top += ROW;
    }
    page.finish(LEFT + 2.0 * PANEL + GAP + 60.0, top, PAPER)
}

fn panel(page: &mut Page, corner: (f64, f64), words: &str, places: &[u64], lines: &[Line<'_>]) {
    let (left, top) = (corner.0, corner.1 + 24.0);
    let bottom = top + HEIGHT - 40.0;
    page.text(left, corner.1 + 8.0, HEAD, words);
    let most = lines.iter().flat_map(|it| &it.figures).copied().fold(f64::MIN_POSITIVE, f64::max);
    let log = |at: u64| (at.max(1) as f64).ln();
    let (first, last) = (places.first().copied(), places.last().copied());
    let (first, last) = (log(first.unwrap_or(1)), log(last.unwrap_or(1)));
    let x = |at: u64| left + PANEL * (log(at) - first) / (last - first).max(f64::MIN_POSITIVE);
    let y = |figure: f64| bottom - (bottom - top) * figure / most;
    for share in [0.0, 0.5, 1.0] {
        let (figure, height) = (most * share, y(most * share));
        page.line((left, height), (left + PANEL, height), GRID, "");
        page.text(left - 6.0, height + 4.0, LABEL.end(), &short(figure));
    }
    for &at in places {
        page.text(x(at), bottom + 16.0, LABEL.middle(), &short(at as f64));
    }
    for line in lines {
        let points: Vec<(f64, f64)> =
            places.iter().zip(&line.figures).map(|(&at, &figure)| (x(at), y(figure))).collect();
        page.path(&points, line.colour, 2.0);
        for (&(x, y), (&at, &figure)) in points.iter().zip(places.iter().zip(&line.figures)) {
            let dot = Place { x: x - DOT, y: y - DOT, width: 2.0 * DOT, height: 2.0 * DOT };
            let hint = format!("{words} {at}: {figure:.0} {}", line.name);
            page.rect(dot, line.colour, 1.0, DOT, &hint);
        }
    }
    legend(page, (left + PANEL, corner.1 + 8.0), lines);
}

/// The names of the lines, side by side, up to the corner on the right.
fn legend(page: &mut Page, corner: (f64, f64), lines: &[Line<'_>]) {
    let (mut right, height) = corner;
    for line in lines.iter().rev() {
        page.note(right, height, Font::new(11.0, INK).end(), line.name);
        let left = right - LETTER * line.name.len() as f64;
        let middle = height - 4.0;
        page.path(&[(left - 26.0, middle), (left - 6.0, middle)], line.colour, 2.0);
        right = left - 44.0;
    }
}

/// A figure in a few letters.
fn short(figure: f64) -> String {
    match figure {
        it if it >= 1e6 => format!("{:.1} M", it / 1e6),
        it if it >= 1e4 => format!("{:.0} k", it / 1e3),
        it => format!("{it:.0}"),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every axis has its panels, also with one point.
    //! Method: draw curves made by hand, and look for their words.

    use super::*;

    #[test]
    fn every_axis_is_drawn() {
        let point = |at| Point { at, gets: 1_234_567.0, puts: 20_000.0, bytes: 64 << 20 };
        let text = draw(&[("keys", vec![point(10), point(100)]), ("servers", vec![point(3)])]);
        for words in ["keys", "servers", "1.2 M", "put/s", "MiB in all servers"] {
            assert!(text.contains(words), "{words} is not drawn");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
