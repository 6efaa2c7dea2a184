//! Rules on `Cargo.toml` files: every dependency says why it is there.

use super::source::SourceFile;
use super::{Finding, Rule};

pub const RULES: &[Rule] = &[Rule {
    name: "dependency",
    instead: "write the reason behind it: name = \"1\"  # why",
    check: reasons,
    bad: &[
        ("Cargo.toml", "[dependencies]\nbytes = \"1\"\n"),
        ("tools/crates/a/Cargo.toml", "[dev-dependencies]\na = { path = \"#\" } #\n"),
        ("Cargo.toml", "[target.'cfg(unix)'.dependencies]\na = \"1\"\n"),
    ],
    good: &[
        ("Cargo.toml", "[package]\nname = \"a\"\n\n[dependencies]\n# Pure.\na = \"1\"  # why so\n"),
        ("tests/a.toml", "[dependencies]\na = \"1\"\n"),
    ],
}];

fn reasons(file: &SourceFile) -> Vec<Finding> {
    if file.path.rsplit('/').next() != Some("Cargo.toml") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (line, text) in file.text_lines() {
        if let Some(section) = text.strip_prefix('[') {
            in_dependencies = section.trim_end().trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies && text.contains('=') && !text.starts_with('#') {
            let reason = text.rsplit_once("# ").map_or("", |it| it.1.trim());
            if reason.is_empty() {
                let name = text.split(['=', '.', ' ']).next().unwrap_or_default();
                findings.push(Finding { line, what: format!("'{name}' without a reason") });
            }
        }
    }
    findings
}
