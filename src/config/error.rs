//! What is wrong with a `cluster.toml`: the place, the key, the problem and the remedy, in one
//! line for a person.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration file is refused.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can not be read.
    Unreadable { path: PathBuf, cause: std::io::Error },
    /// The file is read, and something in it is wrong.
    Wrong {
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The key with its section, such as `cluster.grace`; empty where the text is no TOML.
        key: String,
        problem: String,
        remedy: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, cause } => write!(
                f,
                "can not read the cluster's configuration {}: {cause}; name the file with \
                 --config, or copy the example cluster.toml there",
                path.display()
            ),
            ConfigError::Wrong { path, line, column, key, problem, remedy } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
                if !key.is_empty() {
                    write!(f, "{key}: ")?;
                }
                write!(f, "{problem}; {remedy}")
            }
        }
    }
}

// No `source`: the message has its cause in it, and would be printed with it twice.
impl std::error::Error for ConfigError {}

/// The text of a configuration and where it came from, to turn byte ranges into places.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// The error about what stands at `span`.
    pub fn error(
        &self,
        span: &Range<usize>,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Wrong {
            path: self.path.to_path_buf(),
            line: self.line(span),
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The line at which `span` begins, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }
}
