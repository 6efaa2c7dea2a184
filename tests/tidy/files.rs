//! Which files the tree consists of, and rules on files of any kind.

use std::path::Path;
use std::process::Command;

use super::source::SourceFile;
use super::{Finding, Rule};

pub const RULES: &[Rule] = &[
    Rule {
        name: "private key",
        instead: "remove it from git and from its history, and issue new certificates \
                  (tools/certs init --force)",
        check: private_key,
        bad: &[
            ("certs/a.key", concat!("-----BEGIN PRIVATE", " KEY-----\n")),
            ("src/a.rs", concat!("\"-----BEGIN EC PRIVATE", " KEY-----\"\n")),
        ],
        good: &[("certs/a.pem", "-----BEGIN CERTIFICATE-----\n")],
    },
    Rule {
        name: "trailing space",
        instead: "run tools/fix",
        check: trailing_space,
        bad: &[("a.md", "a \n"), ("tools/a", "a\n\n\n"), ("a.toml", "a")],
        good: &[("a.md", "a\n"), ("a.md", "")],
    },
    Rule {
        name: "test that is not there",
        instead: "name the file by its path from tests/, or say that nothing covers the scenario",
        check: named_tests,
        bad: &[("tests/README.md", "| 1 | `scenarios/nothing.txt` |\n")],
        good: &[
            ("tests/README.md", "`scenarios/birth.txt`, `../src/lib.rs` and `a_test`\n"),
            ("README.md", "`scenarios/nothing.txt`\n"),
        ],
    },
];

/// The text files that git tracks or would track.
///
/// # Panics
/// Where git can not be asked: tidy never passes without having read the tree.
pub fn tracked() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("tidy needs git: install it");
    assert!(
        listed.status.success(),
        "git ls-files failed, and tidy needs a clone: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    String::from_utf8_lossy(&listed.stdout)
        .split('\0')
        .filter(|path| !path.is_empty() && *path != "Cargo.lock")
        .filter_map(|path| {
            // A file that was deleted but not committed yet is still listed; binaries have no
            // lines to judge.
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(SourceFile::new(path, &text))
        })
        .collect()
}

fn private_key(file: &SourceFile) -> Vec<Finding> {
    file.text_lines()
        .filter(|(_, text)| {
            text.split_once("-----BEGIN ")
                .is_some_and(|(_, rest)| rest.contains(concat!("PRIVATE", " KEY-----")))
        })
        .map(|(line, _)| Finding { line, what: "a private key in the tree".to_owned() })
        .collect()
}

fn trailing_space(file: &SourceFile) -> Vec<Finding> {
    let mut findings: Vec<Finding> = file
        .text_lines()
        .filter(|(_, text)| text.ends_with([' ', '\t']))
        .map(|(line, _)| Finding { line, what: "space at the end of the line".to_owned() })
        .collect();
    let text = &file.text;
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        let line = text.lines().count();
        findings.push(Finding { line, what: "the file ends without one line end".to_owned() });
    }
    findings
}

/// What the table of scenarios names has to exist.
fn named_tests(file: &SourceFile) -> Vec<Finding> {
    if file.path != "tests/README.md" {
        return Vec::new();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let is_file = |name: &&str| [".txt", ".rs", ".md"].iter().any(|it| name.ends_with(it));
    file.text_lines()
        .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |it| (line, it)))
        .filter(|(_, name)| is_file(name) && !folder.join(name).exists())
        .map(|(line, name)| Finding { line, what: format!("there is no {name}") })
        .collect()
}
