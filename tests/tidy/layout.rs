//! Rules on the shape of Rust files: sizes, the opening sentence, the blocks of imports.

use super::source::SourceFile;
use super::{Finding, Rule};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

pub const RULES: &[Rule] = &[
    Rule {
        name: "file length",
        instead: "split it by concern",
        check: file_length,
        bad: &[("src/a.rs", TOO_LONG)],
        good: &[("src/a.rs", "//! A.\n")],
    },
    Rule {
        name: "function length",
        instead: "split it: branches in the handler, straight work in helpers",
        check: function_length,
        bad: &[("src/a.rs", LONG_FUNCTION)],
        good: &[("src/a.rs", "fn a() {\n}\ntrait T {\n    fn b(x: [u8; 2]);\n}\n")],
    },
    Rule {
        name: "columns",
        instead: "break the line at 100 columns",
        check: columns,
        bad: &[("src/a.rs", LONG_LINE)],
        good: &[("src/a.rs", "// Short.\n"), ("src/a.toml", LONG_LINE)],
    },
    Rule {
        name: "opening",
        instead: "open the file with '//!' and one sentence that says what it is",
        check: opening,
        bad: &[("src/a.rs", "use std::fmt;\n"), ("src/a.rs", "// A.\n"), ("src/a.rs", "")],
        good: &[("src/a.rs", "//! A.\n"), ("a.md", "")],
    },
    Rule {
        name: "import blocks",
        instead: "write three blocks apart by a blank line: std, crates, ours",
        check: import_blocks,
        bad: &[
            ("src/a.rs", "use crate::b;\n\nuse std::fmt;\n"),
            ("src/a.rs", "use std::fmt;\nuse bytes::Bytes;\n"),
            ("src/a.rs", "use std::fmt;\n\nuse std::io;\n"),
        ],
        good: &[
            ("src/a.rs", "use std::{\n    fmt,\n};\n\nuse bytes::Bytes;\n\nuse super::b;\n"),
            ("src/a.rs", "mod b;\n\nuse bytes::Bytes;\n\nuse b::C;\nuse crate::d;\n"),
            ("tests/a.rs", "use std::fmt;\n\nuse tandem::b;\n\nfn f() {\n    use std::io;\n}\n"),
            ("tests/a.rs", "use bytes::Bytes;\nuse tandem::b;\n\nuse super::c;\n"),
            ("tests/a.rs", "use bytes::Bytes;\n\nuse tandem::b;\nuse super::c;\n"),
        ],
    },
    Rule {
        name: "goal and method",
        instead: "open the test module with 'Goal:' and 'Method:'",
        check: goal_and_method,
        bad: &[
            ("src/a.rs", "//! A.\n#[cfg(test)]\nmod tests {\n#[test]\nfn a() {}\n}\n"),
            ("tests/scenarios/a.txt", "# goal: see\ncluster servers=3\n"),
            ("tests/scenarios/a.txt", "cluster servers=3\n# goal: a\n# method: b\n"),
        ],
        good: &[
            ("src/a.rs", "//! Goal: a.\n//! Method: b.\n#[test]\nfn a() {}\n"),
            ("src/a.rs", "//! A.\n"),
            ("tests/scenarios/a.txt", "# goal: a\n# method: b\ncluster servers=3\n"),
        ],
    },
];

fn file_length(file: &SourceFile) -> Vec<Finding> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![Finding { line: lines, what: format!("{lines} lines, at most {FILE_LINES_MAX}") }]
}

/// Counts from the line of `fn` to the line of the brace that closes the body.
fn function_length(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut from = 0;
    while let Some(found) = file.code[from..].find("fn ") {
        let start = from + found;
        from = start + 3;
        let in_word = file.code[..start].ends_with(|it: char| it.is_alphanumeric() || it == '_');
        if in_word {
            continue;
        }
        let Some(length) = body_end(&file.code[start..]) else { continue };
        let lines = file.code[start..start + length].lines().count();
        if lines > FUNCTION_LINES_MAX {
            let line = file.code[..start].lines().count().max(1);
            let what = format!("{lines} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(Finding { line, what });
        }
    }
    findings
}

/// Where the body of the function that `code` starts with ends; none if it has no body.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, it) in code.char_indices() {
        match it {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                // A brace that was not opened here closes what surrounds a function type.
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn columns(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    file.text_lines()
        .filter(|(_, text)| text.chars().count() > COLUMNS_MAX)
        .map(|(line, text)| Finding { line, what: format!("{} columns", text.chars().count()) })
        .collect()
}

fn opening(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Finding { line: 1, what: "the file does not say what it is".to_owned() }]
}

/// Which block an import belongs to: 0 std, 1 crates, 2 ours.
fn block(path: &str, own_modules: &[&str]) -> usize {
    let first = path.split(|it: char| !it.is_alphanumeric() && it != '_').next();
    match first.unwrap_or_default() {
        "std" | "core" | "alloc" => 0,
        "crate" | "super" | "self" => 2,
        ours if own_modules.contains(&ours) => 2,
        _ => 1,
    }
}

/// Judges the imports at the top level of a file; those inside functions are few and near.
fn import_blocks(file: &SourceFile) -> Vec<Finding> {
    let own_modules: Vec<&str> = file
        .code_lines()
        .filter_map(|(_, line)| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|rest| rest.trim_end_matches([';', '{', ' ']))
        .collect();
    let mut findings = Vec::new();
    let mut last: Option<usize> = None;
    let mut blank_since = false;
    for (line, text) in file.code_lines().filter(|_| file.is_rust()) {
        blank_since |= text.trim().is_empty();
        let Some(path) = text.strip_prefix("use ") else { continue };
        let this = match block(path, &own_modules) {
            // The product is a crate to the tools and tests, and ours all the same.
            _ if path.starts_with("tandem") => match last {
                Some(1) if blank_since => 2,
                Some(before) if !blank_since => before.max(1),
                _ => 1,
            },
            block => block,
        };
        let what = match last {
            Some(before) if this < before => Some("an earlier block comes after a later one"),
            Some(before) if this > before && !blank_since => Some("no blank line between blocks"),
            Some(before) if this == before && blank_since => Some("a blank line within a block"),
            _ => None,
        };
        findings.extend(what.map(|it| Finding { line, what: it.to_owned() }));
        last = Some(this);
        blank_since = false;
    }
    findings
}

fn goal_and_method(file: &SourceFile) -> Vec<Finding> {
    let missing = |what: &str| vec![Finding { line: 1, what: what.to_owned() }];
    if file.path.starts_with("tests/scenarios/") && file.path.ends_with(".txt") {
        let mut lines = file.text.lines();
        let opens = lines.next().is_some_and(|it| it.starts_with("# goal:"))
            && file
                .text
                .lines()
                .take_while(|it| it.starts_with('#'))
                .any(|it| it.starts_with("# method:"));
        return if opens { Vec::new() } else { missing("a transcript says goal and method first") };
    }
    let has_tests = file.is_rust() && file.code_lines().any(|(_, it)| it.trim() == "#[test]");
    let comments = file.text.to_lowercase();
    if has_tests && !(comments.contains("goal:") && comments.contains("method:")) {
        return missing("tests without goal and method");
    }
    Vec::new()
}

const LONG_LINE: &str = "// This line is written to be longer than a hundred columns, \
                         which is why it goes on and on and on and on.\n";

/// Ten times the same.
macro_rules! tenfold {
    ($text:expr) => {
        concat!($text, $text, $text, $text, $text, $text, $text, $text, $text, $text)
    };
}

const TOO_LONG: &str =
    concat!(tenfold!(tenfold!("//! A.\n//! B.\n//! C.\n//! D.\n//! E.\n")), "//! F.\n");

const LONG_FUNCTION: &str = concat!(
    "fn a() {\n",
    tenfold!("    a();\n    b();\n    c();\n    d();\n    e();\n    f();\n    g();\n"),
    "}\n"
);
