//! A page of SVG, put together shape by shape.

use std::fmt::Write;

/// Text on the page: its size, weight and where it is anchored.
#[derive(Clone, Copy, Debug)]
pub struct Font {
    pub size: f64,
    pub bold: bool,
    pub anchor: &'static str,
    pub colour: &'static str,
}

impl Font {
    #[must_use]
    pub const fn new(size: f64, colour: &'static str) -> Font {
        Font { size, bold: false, anchor: "start", colour }
    }

    #[must_use]
    pub const fn bold(self) -> Font {
        Font { bold: true, ..self }
    }

    #[must_use]
    pub const fn end(self) -> Font {
        Font { anchor: "end", ..self }
    }

    #[must_use]
    pub const fn middle(self) -> Font {
        Font { anchor: "middle", ..self }
    }
}

/// A rectangle on the page.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The page so far.
#[derive(Debug, Default)]
pub struct Page {
    body: String,
}

impl Page {
    /// The whole document.
    #[must_use]
    pub fn finish(self, width: f64, height: f64, background: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Inter, 'Segoe UI', 'DejaVu Sans', \
             Helvetica, Arial, sans-serif\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"{background}\"/>\n{}</svg>\n",
            self.body
        )
    }

    /// A box; `hint` shows where a pointer rests on it.
    pub fn rect(&mut self, place: Place, fill: &str, opacity: f64, round: f64, hint: &str) {
        let Place { x, y, width, height } = place;
        let hint = if hint.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(hint))
        };
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
             rx=\"{round}\" fill=\"{fill}\" fill-opacity=\"{opacity}\">{hint}</rect>",
            width.max(0.0)
        ));
    }

    /// A straight line; `dashes` as SVG has them, empty for none.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, dashes: &str) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
             stroke-width=\"1\" stroke-dasharray=\"{dashes}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line through `points`.
    pub fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64) {
        let points = list(points);
        self.add(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" stroke-linejoin=\"round\"/>"
        ));
    }

    /// The area within `points`.
    pub fn area(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        let points = list(points);
        self.add(format_args!(
            "<polygon points=\"{points}\" fill=\"{fill}\" fill-opacity=\"{opacity}\"/>"
        ));
    }

    pub fn text(&mut self, x: f64, y: f64, font: Font, words: &str) {
        let weight = if font.bold { "600" } else { "400" };
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" font-weight=\"{weight}\" \
             text-anchor=\"{}\" fill=\"{}\">{}</text>",
            font.size,
            font.anchor,
            font.colour,
            escape(words)
        ));
    }

    /// Text on a ground of its own, so that it is read on anything.
    pub fn note(&mut self, x: f64, y: f64, font: Font, words: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{}\" font-weight=\"600\" \
             text-anchor=\"{}\" fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"3\" \
             paint-order=\"stroke\">{}</text>",
            font.size,
            font.anchor,
            font.colour,
            escape(words)
        ));
    }

    fn add(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{shape}");
    }
}

fn list(points: &[(f64, f64)]) -> String {
    let each: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    each.join(" ")
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    //! Goal: words can not break the page.
    //! Method: text with every special character.

    use super::*;

    #[test]
    fn words_are_escaped() {
        let mut page = Page::default();
        page.text(1.0, 2.0, Font::new(10.0, "#000").bold().end(), "a <-> \"b\" & c");
        let text = page.finish(10.0, 10.0, "#fff");
        assert!(text.contains("a &lt;-&gt; &quot;b&quot; &amp; c"), "{text}");
    }
}
