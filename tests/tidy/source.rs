//! A file as the rules see it: its text, and the same text without comments and literals.
//!
//! `code` has exactly the lines and columns of `text`, but blanks wherever the compiler would see
//! a comment or the inside of a literal. So a rule that looks for a call can search for it plainly.

/// A file of the tree.
pub struct SourceFile {
    /// From the root of the tree, with slashes.
    pub path: String,
    pub text: String,
    /// For Rust files: `text` with comments and the insides of literals blanked; else `text`.
    pub code: String,
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> SourceFile {
        let code = if path.ends_with(".rs") { blank(text) } else { text.to_owned() };
        SourceFile { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it belongs to the half that decides everything and does nothing.
    pub fn is_pure(&self) -> bool {
        ["src/protocol/", "src/sim/", "src/wire"].iter().any(|it| self.path.starts_with(it))
    }

    /// Lines of `code` that are part of a test: all of a test file, and what follows the
    /// `#[cfg(test)]` of an inline module in others, since such modules come last.
    pub fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let first = self.tests_from();
        self.code_lines().filter(move |(number, _)| *number >= first)
    }

    /// Lines of `code` that are in the product.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let first = self.tests_from();
        self.code_lines().filter(move |(number, _)| *number < first)
    }

    /// The line from which on all is test.
    fn tests_from(&self) -> usize {
        let folders = self.path.starts_with("tests/") || self.path.contains("/tests/");
        if folders || self.path.ends_with("/tests.rs") {
            return 1;
        }
        let lines: Vec<&str> = self.code.lines().collect();
        let inline = lines
            .windows(2)
            .position(|pair| pair[0].contains("#[cfg(test)]") && pair[1].trim_end().ends_with('{'));
        inline.map_or(usize::MAX, |index| index + 1)
    }

    /// Lines of `code`, numbered from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of `text`, numbered from 1.
    pub fn text_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// What the scanner is inside of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(u32),
    Text,
    /// Ends at a quote followed by this many hashes.
    RawText(usize),
    Char,
}

fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, used) = step(inside, &chars, at);
        let visible = inside == Inside::Code && next == Inside::Code;
        for &it in &chars[at..at + used] {
            code.push(if it == '\n' || visible { it } else { ' ' });
        }
        inside = next;
        at += used;
    }
    code
}

/// The state after the piece at `at`, and the length of that piece.
fn step(inside: Inside, chars: &[char], at: usize) -> (Inside, usize) {
    let is = |offset: usize, wanted: char| chars.get(at + offset) == Some(&wanted);
    match inside {
        Inside::Code => enter(chars, at),
        Inside::LineComment if is(0, '\n') => (Inside::Code, 1),
        Inside::LineComment => (Inside::LineComment, 1),
        Inside::BlockComment(depth) if is(0, '/') && is(1, '*') => {
            (Inside::BlockComment(depth + 1), 2)
        }
        Inside::BlockComment(1) if is(0, '*') && is(1, '/') => (Inside::Code, 2),
        Inside::BlockComment(depth) if is(0, '*') && is(1, '/') => {
            (Inside::BlockComment(depth - 1), 2)
        }
        Inside::BlockComment(depth) => (Inside::BlockComment(depth), 1),
        Inside::Text | Inside::Char if is(0, '\\') && at + 1 < chars.len() => (inside, 2),
        Inside::Text if is(0, '"') => (Inside::Code, 1),
        Inside::Text => (Inside::Text, 1),
        Inside::Char if is(0, '\'') => (Inside::Code, 1),
        Inside::Char => (Inside::Char, 1),
        Inside::RawText(hashes) if is(0, '"') && (1..=hashes).all(|it| is(it, '#')) => {
            (Inside::Code, 1 + hashes)
        }
        Inside::RawText(hashes) => (Inside::RawText(hashes), 1),
    }
}

/// From code into a comment or a literal, or on to the next character of code.
fn enter(chars: &[char], at: usize) -> (Inside, usize) {
    let is = |offset: usize, wanted: char| chars.get(at + offset) == Some(&wanted);
    if is(0, '/') && is(1, '/') {
        return (Inside::LineComment, 2);
    }
    if is(0, '/') && is(1, '*') {
        return (Inside::BlockComment(1), 2);
    }
    if is(0, '"') {
        return (Inside::Text, 1);
    }
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let prefix = usize::from(is(0, 'b') || is(0, 'c'));
    if !in_word && is(prefix, 'r') {
        let hashes = (prefix + 1..).take_while(|&it| is(it, '#')).count();
        if is(prefix + 1 + hashes, '"') {
            return (Inside::RawText(hashes), prefix + 2 + hashes);
        }
    }
    // A quote opens a character where it is closed again, and otherwise names a lifetime.
    if is(0, '\'') && (is(1, '\\') || is(2, '\'')) {
        return (Inside::Char, 1);
    }
    (Inside::Code, 1)
}

#[cfg(test)]
mod tests {
    //! Goal: only code stays visible, at its own line and column.
    //! Method: one sample for each way into and out of a comment or a literal.

    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x \\\" y\") z", "f(        ) z"),
            ("f(r#\"x \" y\"#) z", "f(          ) z"),
            ("f(b\"x\") z", "f(b   ) z"),
            ("f('\"') g('\\'') <'a> z", "f(   ) g(    ) <'a> z"),
            ("for_r\"x\" z", "for_r    z"),
        ] {
            let blanked = blank(text);
            assert_eq!(blanked, code, "of {text:?}");
            assert_eq!(blanked.chars().count(), text.chars().count());
        }
    }

    #[test]
    fn test_lines_start_at_the_test_module() {
        let file = SourceFile::new("src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n");
        assert_eq!(file.test_lines().map(|it| it.0).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(file.product_lines().map(|it| it.0).collect::<Vec<_>>(), [1]);
        for path in ["tests/a.rs", "src/a/tests.rs", "src/a/tests/b.rs"] {
            assert_eq!(SourceFile::new(path, "fn a() {}\n").test_lines().count(), 1, "{path}");
        }
        // A module in a file of its own ends nothing here.
        let file = SourceFile::new("src/a.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert_eq!(file.test_lines().count(), 0);
    }
}
