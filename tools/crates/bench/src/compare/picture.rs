//! The picture of a comparison: a panel for each row, a bar for each system.

use tandem_svg::{Font, Page, Place};

use super::row::{Row, figure};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 190.0;
const BARS: f64 = 560.0;
const BAR: f64 = 17.0;
const GAP: f64 = 16.0;

const INK: &str = "#1f2933";
const SOFT: &str = "#66758a";
const PAPER: &str = "#fbfcfe";
const TANDEM: &str = "#2b6cb0";
const TANDEM_OWN: &str = "#8fb8e3";
const PEER: &str = "#d1632f";
const ETCD: &str = "#1a9c5b";
const LIMIT: &str = "#c5cdd8";

const TITLE: Font = Font::new(20.0, INK).bold();
const HEAD: Font = Font::new(13.0, INK).bold();
const LABEL: Font = Font::new(11.0, SOFT);
const FIGURE: Font = Font::new(11.0, INK);

/// Draws `rows`.
#[must_use]
pub fn draw(rows: &[Row]) -> String {
    let mut page = Page::default();
    page.text(24.0, 36.0, TITLE, "Tandem, its peer and the bare network under the same load");
    page.text(
        24.0,
        56.0,
        LABEL,
        "medians; each panel has a scale of its own; of throughput more is better, of waits less",
    );
    let mut y = 80.0;
    for row in rows {
        y = panel(&mut page, y, row) + GAP;
    }
    page.finish(WIDTH, y + 8.0, PAPER)
}

fn panel(page: &mut Page, top: f64, row: &Row) -> f64 {
    let words = if row.op.is_wait() {
        format!("{} {}: {:.2} of the peer's wait", row.op.name(), row.load, row.ratio())
    } else {
        format!("{} {}: {:.2} times the peer", row.op.name(), row.load, row.ratio())
    };
    let words = format!("{words}  {}", row.behind());
    page.text(24.0, top + 12.0, HEAD, words.trim_end());
    let own = row.tandem_own_connections.map(|it| ("Tandem, own connections", it, TANDEM_OWN));
    let limit_own = row.limit_own_connections.map(|it| ("echo, own connections", it, LIMIT));
    let bars: Vec<(&str, f64, &str)> = [
        Some(("Tandem", row.tandem, TANDEM)),
        own,
        Some((row.peer_name.as_str(), row.peer, PEER)),
        row.etcd.map(|it| (row.etcd_name.as_deref().unwrap_or("etcd"), it, ETCD)),
        Some(("bare QUIC echo", row.limit, LIMIT)),
        limit_own,
    ]
    .into_iter()
    .flatten()
    .collect();
    let most = bars.iter().map(|it| it.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut y = top + 20.0;
    for (name, value, colour) in bars {
        let width = BARS * value / most;
        let told = figure(row.op, value);
        page.text(LEFT - 8.0, y + BAR - 5.0, LABEL.end(), name);
        let place = Place { x: LEFT, y, width, height: BAR - 3.0 };
        page.rect(place, colour, 1.0, 2.0, &format!("{name}: {told}"));
        page.text(LEFT + width + 6.0, y + BAR - 5.0, FIGURE, &told);
        y += BAR;
    }
    y
}

#[cfg(test)]
mod tests {
    //! Goal: every figure of every row is in the picture.
    //! Method: draw a row, and look for its words.

    use super::*;
    use crate::compare::Op;

    #[test]
    fn all_figures_are_drawn() {
        let row = Row {
            op: Op::Get,
            load: "8x128".to_owned(),
            tandem: 1_000.0,
            tandem_own_connections: Some(2_000.0),
            peer: 500.0,
            peer_name: "Redis".to_owned(),
            limit: 4_000.0,
            limit_own_connections: None,
            etcd: Some(33.0),
            etcd_name: Some("etcd 3".to_owned()),
            open: None,
        };
        let text = draw(&[row]);
        for words in ["get 8x128: 2.00 times the peer", "1 000", "2 000", ">500", "4 000", ">33<"] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }
}
