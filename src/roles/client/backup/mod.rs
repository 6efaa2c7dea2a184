//! `admin backup`, `restore` and `verify-backup`: a cluster's keys in a directory.
//!
//! ```text
//!   DIR/manifest.json    the cluster, its key sets and the revision of each; written last
//!   DIR/set-00000.tandem the records of a key set, in pieces with a checksum each
//! ```
//!
//! Each key set is as it was at its revision, however much was written meanwhile; there is no one
//! instant over key sets, as there is none for readers. A directory without a manifest is no
//! backup: it was not finished.

mod file;
mod manifest;
mod restore;
mod take;
mod verify;

use indicatif::{ProgressBar, ProgressStyle};

pub(super) use restore::run as restore;
pub(super) use take::run as take;
pub(super) use verify::run as verify;

use super::Failure;
use crate::roles::Exit;

/// Key sets that are read or written at a time.
const THREADS: usize = 8;

/// What is in the way of using a backup.
fn damaged(words: String) -> Failure {
    Failure { exit: Exit::Refused, words }
}

fn bar(template: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
