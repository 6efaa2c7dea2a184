//! A whole history: read from a file, and found to be one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use crate::line::{self, Line, LineError};
use crate::operation::{Ending, Operation};

/// Everything that clients saw, sorted by the time of sending.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    pub operations: Vec<Operation>,
}

/// Why a file is no history.
#[derive(Debug)]
pub enum ReadError {
    Io(io::Error),
    /// The line that is wrong, from 1.
    Line {
        line: usize,
        error: LineError,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::Line { line, error } => write!(f, "line {line}: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl History {
    /// Reads a history, or the journal of one whose tester crashed.
    ///
    /// # Errors
    /// The file can not be read, or the first line that is wrong.
    pub fn load(path: &Path) -> Result<History, ReadError> {
        History::read(BufReader::new(File::open(path)?), |_| ())
    }

    /// As `load`; tells `progress` now and then how many bytes it has read.
    ///
    /// # Errors
    /// As for `load`.
    pub fn read(mut from: impl BufRead, progress: impl Fn(u64)) -> Result<History, ReadError> {
        const TOLD_EVERY: usize = 4096;
        let mut operations = Vec::new();
        // Operations that have begun, by their id in the journal.
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        let (mut text, mut bytes, mut number) = (String::new(), 0, 0);
        loop {
            text.clear();
            let read = from.read_line(&mut text).map_err(|error| not_text(error, number + 1))?;
            if read == 0 {
                break;
            }
            number += 1;
            bytes += read as u64;
            if number.is_multiple_of(TOLD_EVERY) {
                progress(bytes);
            }
            if text.trim().is_empty() {
                continue;
            }
            let at = |error| ReadError::Line { line: number, error };
            // The journal of a tester that died may end within a line: an invocation whose line
            // is torn was never sent, and a completion whose line is torn is unknown.
            let line = match line::read(&text) {
                Err(_) if !text.ends_with('\n') && !open.is_empty() => break,
                line => line.map_err(at)?,
            };
            match line {
                Line::Whole(operation) => operations.push(Operation { line: number, ..operation }),
                Line::Begin { id, operation } => {
                    if open.insert(id, operations.len()).is_some() {
                        return Err(at(LineError(format!("a second operation with id {id}"))));
                    }
                    operations.push(Operation { line: number, ..operation });
                }
                Line::End { id, outcome } => {
                    let begun = open.get(&id).and_then(|&index| operations.get_mut(index));
                    let Some(begun) = begun.filter(|it| it.ending == Ending::Unknown) else {
                        let words = format!("the end of operation {id}, which is not in flight");
                        return Err(at(LineError(words)));
                    };
                    *begun = line::end(begun.clone(), outcome).map_err(at)?;
                }
            }
        }
        progress(bytes);
        operations.sort_by_key(|it| (it.invoke_ns, it.line));
        let history = History { operations };
        history.one_in_flight()?;
        Ok(history)
    }

    /// Writes one object an operation.
    ///
    /// # Errors
    /// The file can not be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for operation in &self.operations {
            writeln!(file, "{}", line::write_whole(operation))?;
        }
        file.flush()
    }

    /// The operations of each key, in the order of sending.
    #[must_use]
    pub fn by_key(&self) -> BTreeMap<&str, Vec<&Operation>> {
        let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys
    }

    /// A client has at most one operation in flight, and none after one of unknown outcome.
    fn one_in_flight(&self) -> Result<(), ReadError> {
        let mut last: BTreeMap<u64, &Operation> = BTreeMap::new();
        for operation in &self.operations {
            let process = operation.process;
            let Some(earlier) = last.insert(process, operation) else { continue };
            let what = match earlier.return_ns() {
                Some(ended) if ended <= operation.invoke_ns => continue,
                Some(_) => "had not returned; give every client in flight a process of its own",
                None => "is unknown; go on with a new process after that",
            };
            let words = format!(
                "process {process} begins an operation while that of line {} {what}",
                earlier.line
            );
            return Err(ReadError::Line { line: operation.line, error: LineError(words) });
        }
        Ok(())
    }
}

fn not_text(error: io::Error, line: usize) -> ReadError {
    if error.kind() == io::ErrorKind::InvalidData {
        let words = "is not UTF-8; keys and values of a history are JSON strings";
        return ReadError::Line { line, error: LineError(words.to_owned()) };
    }
    ReadError::Io(error)
}
