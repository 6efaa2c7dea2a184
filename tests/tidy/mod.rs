//! Tidy: the house rules that compiler and clippy can not hold, as tests.
//!
//! Each rule is a row of a table: its name, what to do instead, the check, and samples on which
//! it must fire and must stay silent. A rule whose bad sample passes is a defect of the rule, so
//! the table tests itself.
//!
//! ```text
//!   tracked files -> SourceFile {text, code} -> every Rule -> findings, one line each
//! ```

mod files;
mod imports;
mod layout;
mod manifest;
mod source;
mod words;

use source::SourceFile;

/// A place that breaks a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Finding {
    /// From 1.
    line: usize,
    what: String,
}

/// A house rule about single files.
struct Rule {
    name: &'static str,
    /// What to do instead, for the person who meets it.
    instead: &'static str,
    check: fn(&SourceFile) -> Vec<Finding>,
    /// Path and text on which it must fire.
    bad: &'static [(&'static str, &'static str)],
    /// Path and text on which it must stay silent.
    good: &'static [(&'static str, &'static str)],
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    [layout::RULES, imports::RULES, words::RULES, manifest::RULES, files::RULES]
        .into_iter()
        .flatten()
}

/// One line a finding: the place, the rule and the remedy.
fn report(rule: &Rule, file: &SourceFile) -> Vec<String> {
    (rule.check)(file)
        .into_iter()
        .map(|it| {
            format!("{}:{}: {}: {}; {}", file.path, it.line, rule.name, it.what, rule.instead)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    //! Goal: the tree obeys every house rule, and every rule can fail.
    //! Method: run each rule over its own samples, then over all files that git lists.

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_fires_on_its_bad_samples_and_only_there() {
        let mut names = BTreeSet::new();
        for rule in rules() {
            assert!(names.insert(rule.name), "two rules are called '{}'", rule.name);
            assert!(!rule.bad.is_empty(), "'{}' has no sample that it must refuse", rule.name);
            for (path, text) in rule.bad {
                let findings = (rule.check)(&SourceFile::new(path, text));
                assert!(!findings.is_empty(), "'{}' lets pass {path}:\n{text}", rule.name);
            }
            for (path, text) in rule.good {
                let findings = (rule.check)(&SourceFile::new(path, text));
                assert_eq!(findings, [], "'{}' refuses {path}:\n{text}", rule.name);
            }
        }
    }

    #[test]
    fn the_tree_obeys_the_house_rules() {
        let files = files::tracked();
        assert!(
            files.iter().any(|it| it.path == "src/lib.rs"),
            "git lists no src/lib.rs: tidy reads the files that git tracks, so run it in a clone"
        );
        let findings: Vec<String> =
            files.iter().flat_map(|file| rules().flat_map(|rule| report(rule, file))).collect();
        assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
    }
}
