//! The project's own source tree: what the quick start stores.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

/// A file of the project.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path from the root of the tree.
    pub key: Bytes,
    pub value: Bytes,
}

/// All files of the tree at `root` of at most `bytes_max` bytes, by path: those that git tracks,
/// and in a tree without git those in the folders of the sources.
///
/// # Errors
/// A file can not be read, or there is none.
pub fn sources(root: &Path, bytes_max: usize) -> Result<Vec<SourceFile>> {
    let mut paths = tracked(root).unwrap_or_default();
    if paths.is_empty() {
        for folder in ["src", "tests", "tools"] {
            walk(root, Path::new(folder), &mut paths)?;
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let full = root.join(&path);
        // Tracked and deleted, or a link to a folder: nothing to store.
        if !full.is_file() {
            continue;
        }
        let value = std::fs::read(&full).with_context(|| format!("reading {path}"))?;
        if value.len() <= bytes_max {
            files.push(SourceFile { key: path.into(), value: value.into() });
        }
    }
    ensure!(!files.is_empty(), "no source files in {}: run it from a clone", root.display());
    Ok(files)
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    Some(text.split('\0').filter(|it| !it.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    let show = folder.display();
    for entry in root.join(folder).read_dir().with_context(|| format!("reading {show}"))? {
        let entry = entry.with_context(|| format!("reading {show}"))?;
        let path = folder.join(entry.file_name());
        if entry.file_type().with_context(|| format!("reading {show}"))?.is_dir() {
            walk(root, &path, paths)?;
        } else if let Some(path) = path.to_str() {
            paths.push(path.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: the tree is found, with and without git.
    //! Method: look for this very file in both listings.

    use super::*;

    #[test]
    fn this_file_is_among_the_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let this = "tools/crates/quickstart/src/files.rs";
        let mut walked = Vec::new();
        walk(&root, Path::new("tools"), &mut walked).expect("a readable tree");
        assert!(walked.iter().any(|it| it == this));
        let files = sources(&root, 1 << 20).expect("a readable tree");
        let stored = files.iter().find(|it| it.key == walked[0].as_bytes());
        assert!(stored.is_some_and(|it| !it.value.is_empty()) || tracked(&root).is_some());
        assert!(sources(&root, 0).is_err_and(|it| it.to_string().contains("no source files")));
    }
}
