//! `import`: stores many keys, many at a time, and counts what became of each.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Context, Failure, Format, exit_of, report};
use crate::client::{Answer, Error, Operation, Result as ClientResult, block_on};
use crate::roles::Exit;

/// Bytes of values in flight, whatever their number.
const BYTES_MAX: usize = 8 << 20;

/// Failures that are named one by one.
const NAMED_MAX: u64 = 10;

/// Where the keys come from.
enum Source {
    /// A file each, under this directory; a key is the path below it.
    Files { root: PathBuf, files: Vec<PathBuf> },
    /// `key<TAB>value` each.
    Lines(Vec<u8>),
}

/// What became of the keys.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    not_done: u64,
    unknown: u64,
    /// The gravest of the failures' exit codes.
    exit: Option<Exit>,
}

impl Tally {
    fn count(&mut self, progress: &ProgressBar, result: ClientResult<Answer>) {
        progress.inc(1);
        match result {
            Ok(_) => self.done += 1,
            Err(error) => self.fail(progress, &error),
        }
    }

    fn fail(&mut self, progress: &ProgressBar, error: &Error) {
        if error.is_surely_not_done() {
            self.not_done += 1;
        } else {
            self.unknown += 1;
        }
        if self.not_done + self.unknown <= NAMED_MAX {
            progress.suspend(|| eprintln!("tandem: {error}"));
        }
        // "Unknown" outweighs all others: whoever reads it has to look.
        let exit = exit_of(error);
        let weight = |exit: Exit| (exit == Exit::Unknown, exit);
        self.exit = self.exit.into_iter().chain([exit]).max_by_key(|&exit| weight(exit));
    }
}

pub(super) fn run(
    context: &Context,
    path: &Path,
    prefix: &str,
    outstanding_max: usize,
) -> Result<Exit, Failure> {
    let unreadable = |path: &Path, error: &io::Error| {
        Failure::usage(format!("can not read {}: {error}", path.display()))
    };
    let source = Source::open(path).map_err(|(path, error)| unreadable(&path, &error))?;
    let progress = bar(source.len());
    let session = context.client.session().with_timeout(context.timeout);
    let mut tally = Tally::default();
    let mut flying = VecDeque::new();
    let mut flying_bytes = 0;
    for item in source.items() {
        let (key, value) = item?;
        let bytes = value.len();
        while flying.len() >= outstanding_max || flying_bytes + bytes > BYTES_MAX {
            let Some((landed, result)) = flying.pop_front() else { break };
            tally.count(&progress, block_on(result));
            flying_bytes -= landed;
        }
        let key = [prefix.as_bytes(), &key].concat().into();
        flying.push_back((bytes, session.begin(Operation::Put { key, value })));
        flying_bytes += bytes;
    }
    for (_, result) in flying {
        tally.count(&progress, block_on(result));
    }
    progress.finish_and_clear();
    tell(context, &tally)?;
    Ok(tally.exit.unwrap_or(Exit::Done))
}

fn tell(context: &Context, tally: &Tally) -> io::Result<()> {
    let Tally { done, not_done, unknown, .. } = tally;
    match context.format {
        Format::Json => {
            report::print(&json!({ "done": done, "not_done": not_done, "unknown": unknown }))?;
        }
        Format::People if not_done + unknown == 0 => println!("{done} keys stored"),
        Format::People => println!(
            "{done} keys stored, {not_done} surely not, {unknown} unknown; importing again is \
             harmless"
        ),
    }
    Ok(())
}

fn bar(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {per_sec}, {eta} left");
    let bar = ProgressBar::new(total as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Source {
    /// The files below a directory in the order of their paths, or the lines of a file.
    fn open(path: &Path) -> Result<Source, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error| (path, error)
        };
        if !path.metadata().map_err(at(path))?.is_dir() {
            return Ok(Source::Lines(std::fs::read(path).map_err(at(path))?));
        }
        let mut files = Vec::new();
        let mut folders = vec![path.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
                let entry = entry.map_err(at(&folder))?;
                // Links are not followed: a ring of them would have no end.
                let kind = entry.file_type().map_err(at(&entry.path()))?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        Ok(Source::Files { root: path.to_path_buf(), files })
    }

    fn len(&self) -> usize {
        match self {
            Source::Files { files, .. } => files.len(),
            Source::Lines(text) => lines(text).count(),
        }
    }

    /// Keys and values, each read when its turn comes.
    fn items(&self) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes), Failure>> + '_> {
        match self {
            Source::Files { root, files } => Box::new(files.iter().map(move |file| {
                let value = std::fs::read(file).map_err(|error| {
                    Failure::usage(format!("can not read {}: {error}", file.display()))
                })?;
                let key = file.strip_prefix(root).unwrap_or(file);
                let key = key.as_os_str().as_encoded_bytes();
                Ok((Bytes::copy_from_slice(key), value.into()))
            })),
            Source::Lines(text) => Box::new(records(text).map(|it| it.map_err(Failure::usage))),
        }
    }
}

/// Keys and values of a text whose lines are a key, a tab and a value each; empty lines do not
/// count. The error is for people, and names the line.
pub fn records(text: &[u8]) -> impl Iterator<Item = Result<(Bytes, Bytes), String>> {
    lines(text).map(|(number, line)| {
        let tab = line.iter().position(|&byte| byte == b'\t').ok_or_else(|| {
            format!("line {number} has no tab: a line is a key, a tab and a value")
        })?;
        let (key, value) = (&line[..tab], &line[tab + 1..]);
        Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
    })
}

/// The lines that are not empty, with their numbers from 1.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(text.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    //! Goal: every file and line becomes one key, and the gravest outcome is the exit code.
    //! Method: a folder of files, a text, and a tally that is fed failures.

    use crate::client::{NotDone, Unknown};

    use super::*;

    #[test]
    fn keys_are_paths_below_the_folder() {
        let root = std::env::temp_dir().join(format!("tandem-import-{}", std::process::id()));
        std::fs::create_dir_all(root.join("b/c")).expect("the temporary folder is writable");
        std::fs::write(root.join("a"), "1").expect("the temporary folder is writable");
        std::fs::write(root.join("b/c/d"), [0, 255]).expect("the temporary folder is writable");
        let source = Source::open(&root).map_err(|(_, error)| error).expect("it is readable");
        let items: Vec<_> = source.items().filter_map(Result::ok).collect();
        std::fs::remove_dir_all(&root).expect("it was just made");
        let expected = [("a", &b"1"[..]), ("b/c/d", &[0, 255])];
        assert_eq!(source.len(), 2);
        assert_eq!(
            items,
            expected.map(|(key, value)| { (Bytes::from(key), Bytes::copy_from_slice(value)) })
        );
    }

    #[test]
    fn lines_are_split_at_their_first_tab() {
        let source = Source::Lines(b"a\t1\t2\n\nb\t\nc".to_vec());
        let items: Vec<_> = source.items().collect();
        assert_eq!((source.len(), items.len()), (3, 3));
        let (key, value) = items[0].as_ref().ok().expect("the line has a tab");
        assert_eq!((&key[..], &value[..]), (&b"a"[..], &b"1\t2"[..]));
        assert!(items[1].is_ok());
        let failure = items[2].as_ref().expect_err("the line has no tab");
        assert!(failure.words.contains("line 4"));
    }

    #[test]
    fn the_gravest_outcome_decides() {
        let progress = ProgressBar::hidden();
        let mut tally = Tally::default();
        let what = || "put \"a\"".to_owned();
        tally.count(&progress, Err(Error::Unknown { what: what(), why: Unknown::Forgotten }));
        let why = NotDone::Refused(crate::protocol::message::Refusal::Lost);
        tally.count(&progress, Err(Error::NotDone { what: what(), why }));
        assert_eq!((tally.done, tally.not_done, tally.unknown), (0, 1, 1));
        assert_eq!(tally.exit, Some(Exit::Unknown));
    }
}
