//! The recorder: every operation is on file before it is sent.
//!
//! ```text
//!   begin: stamp, write {"id", "process", "op", "key", "arg", "invoke_ns"}, then send
//!   end:   receive, stamp, write {"id", "result", ..., "return_ns", "outcome"}
//!   close: FILE.journal -> FILE, one object an operation
//! ```
//!
//! Lines go to the operating system one by one, so that they survive the death of the tester at
//! any instant. What has begun and not ended is unknown, and a journal is read like a history.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tandem::protocol::time::Time;

use crate::history::{History, ReadError};
use crate::line;
use crate::operation::{Outcome, What};

/// Writes a history while clients run. Shared by reference among all their threads.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    journal: PathBuf,
    clock: fn() -> Time,
    id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Clients with an operation in flight.
    busy: BTreeSet<u64>,
    /// Clients with an operation of unknown outcome.
    retired: BTreeSet<u64>,
}

/// An operation that is on file and may be sent. Dropped without an end, it stays unknown.
#[derive(Debug)]
#[must_use = "an operation that was sent has an end"]
pub struct Begun {
    id: u64,
    process: u64,
    pub invoke_ns: u64,
}

impl Recorder {
    /// Starts a history that `close` will leave at `path`; until then it is in a journal beside
    /// it. `clock` is the one clock of all stamps: in tools, `tandem::clock::now`.
    ///
    /// # Errors
    /// The journal can not be made.
    pub fn create(path: &Path, clock: fn() -> Time) -> io::Result<Recorder> {
        let journal = journal_of(path);
        let state = State {
            file: File::create(&journal)?,
            busy: BTreeSet::new(),
            retired: BTreeSet::new(),
        };
        let (path, id) = (path.to_owned(), AtomicU64::new(0));
        Ok(Recorder { path, journal, clock, id, state: Mutex::new(state) })
    }

    /// Records an operation that is sent after this returns.
    ///
    /// # Errors
    /// It is not on file, and so must not be sent.
    ///
    /// # Panics
    /// The client has an operation in flight, or was retired by one of unknown outcome: then the
    /// history would not be one.
    pub fn begin(&self, process: u64, key: &str, what: &What) -> io::Result<Begun> {
        let id = self.id.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        assert!(!state.retired.contains(&process), "process {process} was retired");
        assert!(state.busy.insert(process), "process {process} has an operation in flight");
        let invoke_ns = (self.clock)().0;
        state.write(line::write_begin(id, process, key, what, invoke_ns))?;
        Ok(Begun { id, process, invoke_ns })
    }

    /// Records what became of an operation, as soon as its client knows, and gives the time.
    ///
    /// # Errors
    /// It is not on file, and counts as unknown.
    pub fn end(&self, begun: Begun, outcome: &Outcome) -> io::Result<Time> {
        let now = (self.clock)();
        let mut state = self.lock();
        state.busy.remove(&begun.process);
        if *outcome == Outcome::Unknown {
            state.retired.insert(begun.process);
        }
        state.write(line::write_end(begun.id, outcome, now.0))?;
        Ok(now)
    }

    /// Ends the recording and leaves the history at its path, sorted by the time of sending.
    /// Operations that have not ended are unknown in it.
    ///
    /// # Errors
    /// The history can not be written; the journal is still there, and is read like a history.
    pub fn close(self) -> Result<History, ReadError> {
        let mut history = History::load(&self.journal)?;
        for (index, operation) in history.operations.iter_mut().enumerate() {
            operation.line = index + 1;
        }
        history.save(&self.path)?;
        std::fs::remove_file(&self.journal)?;
        Ok(history)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Hands one line to the operating system, whole.
    fn write(&mut self, mut line: String) -> io::Result<()> {
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}

/// Where the recorder of the history at `path` writes while it runs.
#[must_use]
pub fn journal_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".journal");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    //! Goal: no operation that was sent is hidden by a crash of the tester, at whatever byte.
    //! Method: record a few operations, cut the journal at every byte, and read what is left.

    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::operation::{Answer, Ending, Operation, Reply, Text};

    /// Ticks by one at each reading.
    fn clock() -> Time {
        static TICKS: AtomicU64 = AtomicU64::new(0);
        Time(TICKS.fetch_add(1, Ordering::Relaxed))
    }

    fn folder(name: &str) -> PathBuf {
        let name = format!("tandem-history-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        folder
    }

    fn put(value: &str) -> What {
        What::Put { value: Text::from(value) }
    }

    fn stored() -> Outcome {
        Outcome::Ok(Answer { reply: Reply::Stored, revision: None, position: None })
    }

    #[test]
    fn a_closed_history_has_one_object_an_operation() {
        let folder = folder("closed");
        let path = folder.join("history.jsonl");
        let recorder = Recorder::create(&path, clock).expect("the folder is ours");
        let first = recorder.begin(1, "k", &put("a")).expect("on file");
        let second = recorder.begin(2, "k", &put("b")).expect("on file");
        let _open = recorder.begin(3, "k", &put("c")).expect("on file");
        recorder.end(second, &Outcome::Unknown).expect("on file");
        recorder.end(first, &stored()).expect("on file");
        let closed = recorder.close().expect("a history");
        assert_eq!(closed, History::load(&path).expect("the same history"));
        let endings: Vec<bool> = closed.operations.iter().map(Operation::is_ambiguous).collect();
        assert_eq!(endings, [false, true, true]);
        assert!(!journal_of(&path).exists());
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_hides_nothing_that_was_sent() {
        let folder = folder("cut");
        let path = folder.join("history.jsonl");
        let recorder = Recorder::create(&path, clock).expect("the folder is ours");
        for value in ["a", "b", "c"] {
            let begun = recorder.begin(1, "k", &put(value)).expect("on file");
            recorder.end(begun, &stored()).expect("on file");
        }
        let journal = std::fs::read(journal_of(&path)).expect("the journal is there");
        for cut in 0..=journal.len() {
            let left = &journal[..cut];
            let lines = left.iter().filter(|&&byte| byte == b'\n').count();
            // A last line that only lacks its end is as good as whole.
            let whole = lines + usize::from(left.ends_with(b"}"));
            let history = match History::read(left, |_| ()) {
                Ok(history) => history,
                // The very first line is torn: nothing was sent, and it is no history either.
                Err(_) if lines == 0 => continue,
                Err(error) => panic!("cut at {cut}: {error}"),
            };
            assert!(history.operations.len() >= lines.div_ceil(2), "cut at {cut}");
            let done = history.operations.iter().filter(|it| it.ending != Ending::Unknown);
            assert!(done.count() <= whole / 2, "cut at {cut}");
        }
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }

    #[test]
    #[should_panic(expected = "was retired")]
    fn a_client_is_retired_by_an_unknown_outcome() {
        let folder = folder("retired");
        let recorder = Recorder::create(&folder.join("h"), clock).expect("the folder is ours");
        let begun = recorder.begin(1, "k", &What::Get).expect("on file");
        recorder.end(begun, &Outcome::Unknown).expect("on file");
        std::fs::remove_dir_all(folder).expect("the folder is ours");
        let _ = recorder.begin(1, "k", &What::Get);
    }
}
