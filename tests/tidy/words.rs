//! Rules on words that must not stand in the code: calls that break purity or determinism,
//! shortcuts, and names that say nothing.

use super::source::SourceFile;
use super::{Finding, Rule};

pub const RULES: &[Rule] = &[
    Rule {
        name: "pure half",
        instead: "the pure half is handed its time, randomness and data by its driver; ordered \
                  collections (BTreeMap, BTreeSet, Vec) keep equal inputs at equal effects",
        check: pure_half,
        bad: &[
            ("src/protocol/a.rs", "use std::collections::HashMap;\n"),
            ("src/sim/a.rs", "let it = std::fs::read(path);\n"),
            ("src/wire.rs", "tracing::info!(it);\n"),
            ("src/wire/a.rs", "println!();\n"),
            ("src/protocol/a.rs", "use std::time::Instant;\n"),
            ("src/protocol/a.rs", "async fn a() {}\n"),
        ],
        good: &[
            ("src/protocol/a.rs", "use std::collections::BTreeMap;\n// No HashMap.\n"),
            ("src/net/a.rs", "use std::collections::HashMap;\n"),
            ("src/wire/tests/golden.rs", "let text = std::fs::read_to_string(path);\n"),
            ("src/protocol/a.rs", "use std::time::Duration;\nuse std::net::SocketAddr;\n"),
        ],
    },
    Rule {
        name: "clock",
        instead: "call tandem::clock, the only reader of the clocks",
        check: clock,
        bad: &[
            ("src/driver.rs", "let now = Instant::now();\n"),
            ("tools/crates/a/src/main.rs", "let it = SystemTime::now();\n"),
            ("src/net/a.rs", "let it = time::OffsetDateTime::now_utc();\n"),
        ],
        good: &[
            ("src/clock.rs", "let it = rustix::time::clock_gettime(BOOTTIME);\n"),
            ("src/driver.rs", "let now = clock::now();\n"),
        ],
    },
    Rule {
        name: "sleep",
        instead: "wait for a condition (tests/cluster: wait::until)",
        check: sleeps,
        bad: &[
            ("tests/a.rs", "std::thread::sleep(a);\n"),
            ("src/a.rs", "#[cfg(test)]\nmod tests {\n    tokio::time::sleep(a).await;\n}\n"),
            ("tests/a.rs", "std::thread::park_timeout(a);\n"),
        ],
        good: &[
            ("src/net/a.rs", "tokio::time::sleep(backoff).await;\n"),
            ("tests/a.rs", "// Nobody calls sleep() here.\n"),
        ],
    },
    Rule {
        name: "shortcut",
        instead: "return a typed error, or 'expect' the invariant in words; finish what is begun",
        check: shortcut,
        bad: &[
            ("src/a.rs", "a().unwrap();\n"),
            ("src/a.rs", "unimplemented!()\n"),
            ("tests/a.rs", "#[ignore = \"slow\"]\n"),
            ("src/a.rs", "dbg!(a);\n"),
            ("src/a.rs", concat!("// TO", "DO: more\n")),
            ("README.md", concat!("FIX", "ME\n")),
        ],
        good: &[("src/a.rs", "a().unwrap_or(0);\n// No unwrap() here.\n")],
    },
    Rule {
        name: "silenced lint",
        instead: "mend it, or write #[expect(lint, reason = \"...\")]",
        check: silenced,
        bad: &[
            ("src/a.rs", "#[allow(dead_code)]\n"),
            ("src/a.rs", "#![allow(dead_code)]\n"),
            ("src/a.rs", "#[cfg_attr(test, allow(dead_code))]\n"),
            ("src/a.rs", "#[expect(dead_code)]\n"),
        ],
        good: &[
            ("src/a.rs", "#[expect(dead_code, reason = \"read by scripts\")]\n"),
            ("src/a.rs", "#[expect(\n    dead_code,\n    reason = \"read by scripts\"\n)]\n"),
            ("src/a.rs", "fn a() {\n    disallow(b);\n    self.allow(c);\n}\n"),
        ],
    },
    Rule {
        name: "name",
        instead: "name it for the idea that it holds",
        check: name,
        bad: &[
            ("src/util.rs", "//! A.\n"),
            ("src/common/mod.rs", "//! A.\n"),
            ("src/a.rs", "mod inner {}\n"),
            ("src/a.rs", "pub fn get_key() {}\n"),
            ("src/a.rs", "struct LinkManager;\n"),
        ],
        good: &[("src/a.rs", "mod links;\npub fn get(key: Key) {}\nstruct Link;\n")],
    },
];

/// Findings where a line of `lines` contains one of `words` whole, not within a longer word.
fn words<'a>(lines: impl Iterator<Item = (usize, &'a str)>, words: &[&str]) -> Vec<Finding> {
    let part = |it: char| it.is_alphanumeric() || it == '_';
    let whole = |text: &str, word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let before = word.starts_with(part) && text[..at].ends_with(part);
            let after = word.ends_with(part) && text[at + word.len()..].starts_with(part);
            !before && !after
        })
    };
    lines
        .flat_map(|(line, text)| {
            words
                .iter()
                .filter(move |word| whole(text, word))
                .map(move |word| Finding { line, what: format!("'{word}'") })
        })
        .collect()
}

fn pure_half(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || !file.is_pure() {
        return Vec::new();
    }
    let banned = [
        "HashMap",
        "HashSet",
        "RandomState",
        "std::fs",
        "std::env",
        "std::io",
        "std::thread",
        "std::process",
        "std::sync",
        "Instant",
        "SystemTime",
        "UdpSocket",
        "TcpStream",
        "tokio",
        "tracing",
        "rand::",
        "println!",
        "eprintln!",
        "async ",
        ".await",
    ];
    words(file.product_lines(), &banned)
}

fn clock(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() || file.path == "src/clock.rs" {
        return Vec::new();
    }
    let banned = ["Instant::now", "SystemTime::now", "clock_gettime", "now_utc", "now_local"];
    words(file.code_lines(), &banned)
}

/// Two places may pause between two looks at a condition: the wait helpers of the cluster tests
/// and of those in virtual time, which costs nothing and hides no race.
fn sleeps(file: &SourceFile) -> Vec<Finding> {
    const HELPERS: [&str; 2] = ["tests/cluster/wait.rs", "tests/virtual_time/wait.rs"];
    if !file.is_rust() || HELPERS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    words(file.test_lines(), &["sleep(", "sleep_until(", "park_timeout("])
}

fn shortcut(file: &SourceFile) -> Vec<Finding> {
    let undone = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut findings = words(file.text_lines(), &undone);
    if file.is_rust() {
        let banned = [".unwrap()", ".unwrap_err()", "todo!", "unimplemented!", "dbg!", "#[ignore"];
        findings.extend(words(file.code_lines(), &banned));
    }
    findings
}

fn silenced(file: &SourceFile) -> Vec<Finding> {
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, _) in file.code.match_indices("#[").chain(file.code.match_indices("#![")) {
        let attribute = &file.code[at..];
        let end = attribute.find("]\n").unwrap_or(attribute.len());
        let attribute = &attribute[..end];
        let silent = attribute.contains("[allow(") || attribute.contains(" allow(");
        let bare = attribute.contains("expect(") && !attribute.contains("reason =");
        if silent || bare {
            let line = file.code[..=at].lines().count();
            let what = if silent { "a lint is allowed" } else { "no reason is given" };
            findings.push(Finding { line, what: what.to_owned() });
        }
    }
    findings
}

fn name(file: &SourceFile) -> Vec<Finding> {
    const EMPTY: [&str; 4] = ["util", "utils", "common", "inner"];
    if !file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for part in file.path.trim_end_matches(".rs").split('/').filter(|it| EMPTY.contains(it)) {
        findings.push(Finding { line: 1, what: format!("a file called '{part}'") });
    }
    for (line, text) in file.code_lines() {
        let mut tokens = text.split(|it: char| !(it.is_alphanumeric() || it == '_'));
        while let Some(token) = tokens.next() {
            let named = match token {
                "mod" => tokens.next().filter(|it| EMPTY.contains(it)),
                "fn" => tokens.next().filter(|it| {
                    ["get_", "do_", "process_"].iter().any(|prefix| it.starts_with(prefix))
                }),
                "struct" | "enum" | "trait" => {
                    tokens.next().filter(|it| it.ends_with("Manager") || it.ends_with("Inner"))
                }
                _ => None,
            };
            findings.extend(named.map(|it| Finding { line, what: format!("the name '{it}'") }));
        }
    }
    findings
}
