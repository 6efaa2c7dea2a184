//! The threads behind a durable engine: the log's writer, and a checkpoint now and then.
//!
//! ```text
//!   worker --batches--> writer: append all that gathered, one sync --Synced--> worker
//!                          +--> checkpoint: a thread while it lasts --Checkpointed--> worker
//! ```
//!
//! Where the disk is full, what needs more of it waits and is tried again: nothing was written,
//! and nothing is acknowledged meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use tokio::sync::mpsc as queue;

use crate::protocol::limits::Limits;
use crate::store::durable::base::BaseError;
use crate::store::durable::files::Directory;
use crate::store::durable::log::{Log, LogError, RESERVE_NAME};
use crate::store::durable::store::Store;
use crate::store::durable::{Batch, Checkpoint, DurableEngine, DurableError, Found};

/// Blocks of the store that are kept in memory.
const CACHE_BYTES: u64 = 128 << 20;

/// How soon what a full disk did not take is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// The mark of a folder in which damage was found while it was read.
const CONDEMNED: &str = "damaged";

/// What a worker's disk has to do.
enum Work {
    Write(Batch),
    /// Write this checkpoint, which comes after the batch.
    Checkpoint(Batch, Checkpoint),
    /// Begin a new file, and write this checkpoint, which comes before it.
    Cut(Checkpoint),
    /// The log's files below this one are not needed any more.
    Forget(u64),
}

/// What became of it.
pub enum Told {
    /// All batches up to this number are durable.
    Synced(u64),
    /// The checkpoint is durable; the log from this file on comes after it.
    Checkpointed(u64),
    /// Nobody knows what is on the disk: the process must end.
    Failed(Error),
}

/// A worker's disk. Its threads end with it.
pub struct Disk {
    work: mpsc::Sender<Work>,
}

impl Disk {
    /// Starts the writer of `log`; what becomes of its work comes on `told`.
    pub fn start(log: Log, told: queue::UnboundedSender<Told>) -> Result<Disk> {
        let (work, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new().name("log".to_owned());
        let writer = Writer { log, told, waiting: VecDeque::new(), full: false };
        thread.spawn(move || writer.run(&inbox)).context("can not start a thread")?;
        Ok(Disk { work })
    }

    pub fn write(&self, batch: Batch) {
        self.ask(Work::Write(batch));
    }

    pub fn checkpoint(&self, batch: Batch, checkpoint: Checkpoint) {
        self.ask(Work::Checkpoint(batch, checkpoint));
    }

    pub fn forget_below(&self, file: u64) {
        self.ask(Work::Forget(file));
    }

    fn ask(&self, work: Work) {
        // The writer is gone only after it said why.
        let _ = self.work.send(work);
    }
}

struct Writer {
    log: Log,
    told: queue::UnboundedSender<Told>,
    /// What is not done yet.
    waiting: VecDeque<Work>,
    /// There was no room for the first of it.
    full: bool,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Work>) {
        loop {
            let next = if self.full {
                inbox.recv_timeout(FULL_RETRY)
            } else {
                inbox.recv().map_err(RecvTimeoutError::from)
            };
            match next {
                Ok(work) => self.waiting.push_back(work),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.waiting.extend(inbox.try_iter());
            let told = match self.work() {
                Ok(None) => continue,
                Ok(Some(number)) => Told::Synced(number),
                Err(error) => Told::Failed(error),
            };
            let over = matches!(told, Told::Failed(_));
            if self.told.send(told).is_err() || over {
                return;
            }
        }
    }

    /// Does what waits, as far as there is room; answers the number of the last batch that is
    /// durable now, if there was any.
    fn work(&mut self) -> Result<Option<u64>> {
        if self.full {
            self.forget_first()?;
        }
        let mut last = None;
        while let Some(work) = self.waiting.pop_front() {
            match self.perform(&work) {
                Ok(number) => last = number.or(last),
                Err(LogError::Full { file }) => {
                    if !std::mem::replace(&mut self.full, true) {
                        tracing::error!(file, "the disk is full: writes wait for room");
                    }
                    self.waiting.push_front(work);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            match work {
                Work::Checkpoint(_, checkpoint) => self.waiting.push_front(Work::Cut(checkpoint)),
                Work::Cut(checkpoint) => self.start_checkpoint(checkpoint)?,
                Work::Write(_) | Work::Forget(_) => {}
            }
            if std::mem::take(&mut self.full) {
                tracing::info!("the disk has room again");
            }
        }
        if last.is_some() {
            self.log.sync()?;
        }
        Ok(last)
    }

    /// What the log needs done for one piece of work; answers the number of a batch that was added.
    fn perform(&mut self, work: &Work) -> Result<Option<u64>, LogError> {
        match work {
            Work::Write(batch) | Work::Checkpoint(batch, _) => {
                self.log.append(&batch.payload)?;
                Ok(Some(batch.number))
            }
            Work::Cut(_) => self.log.cut().map(|_| None),
            Work::Forget(file) => self.log.forget_below(*file).map(|()| None),
        }
    }

    /// What frees the disk does not wait behind what it has no room for.
    fn forget_first(&mut self) -> Result<(), LogError> {
        for work in std::mem::take(&mut self.waiting) {
            match work {
                Work::Forget(file) => self.log.forget_below(file)?,
                work => self.waiting.push_back(work),
            }
        }
        Ok(())
    }

    /// Writes a checkpoint of everything before the log's newest file.
    fn start_checkpoint(&self, mut checkpoint: Checkpoint) -> Result<()> {
        let (told, log_from) = (self.told.clone(), self.log.number());
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let write = move || {
            let mut put_off = false;
            let outcome = loop {
                match checkpoint.write(log_from) {
                    Ok(()) => break Told::Checkpointed(log_from),
                    // The log keeps everything until it is written.
                    Err(BaseError::Full(detail)) if !told.is_closed() => {
                        if !std::mem::replace(&mut put_off, true) {
                            tracing::error!(detail, "a checkpoint is put off: the disk is full");
                        }
                        std::thread::sleep(FULL_RETRY);
                    }
                    Err(error) => {
                        break Told::Failed(Error::from(error).context("a checkpoint failed"));
                    }
                }
            };
            let written = matches!(outcome, Told::Checkpointed(_));
            // The worker is gone only when the process ends.
            let _ = told.send(outcome);
            if written && let Err(error) = checkpoint.reclaim() {
                let failed = Error::from(error).context("freeing the disk failed");
                let _ = told.send(Told::Failed(failed));
            }
        };
        thread.spawn(write).context("can not start a thread")?;
        Ok(())
    }
}

/// Opens what a worker keeps in `folder`; its log has files of `file_bytes`. What is damaged is put
/// aside, and the worker starts with nothing: what it held is copied from the other members.
///
/// # Errors
/// It can not be read, or belongs to another version of the program.
pub fn open(folder: &Path, key_sets: u16, limits: &Limits, file_bytes: u64) -> Result<Found> {
    if folder.join(CONDEMNED).exists() {
        tracing::error!("damage was found; it is put aside, and everything is copied anew");
        discard(folder)?;
    }
    let mut opened = open_once(folder, key_sets, limits, file_bytes);
    if opened.as_ref().is_err_and(DurableError::is_full) && release_reserve(folder)? {
        opened = open_once(folder, key_sets, limits, file_bytes);
    }
    match opened {
        Err(error) if error.is_damage() => {
            tracing::error!("{error}; it is put aside, and everything is copied anew");
            discard(folder)?;
            open_once(folder, key_sets, limits, file_bytes).map_err(Error::from)
        }
        opened => opened.map_err(Error::from),
    }
    .with_context(|| format!("can not open the data in {}", folder.display()))
}

fn open_once(
    folder: &Path,
    key_sets: u16,
    limits: &Limits,
    file_bytes: u64,
) -> Result<Found, DurableError> {
    let log_folder = folder.join("log");
    let log = Directory::open(&log_folder).map_err(|error| {
        crate::store::durable::log::LogError::Io { file: log_folder.display().to_string(), error }
    })?;
    let store = Arc::new(Store::open(&folder.join("store"), CACHE_BYTES)?);
    DurableEngine::open(Box::new(log), store, key_sets, limits, file_bytes)
}

/// The same for all workers of the server whose state directory is `state`.
///
/// # Errors
/// The file system refused.
pub fn release_reserves(state: &Path, workers: usize) -> Result<bool> {
    let mut released = false;
    for worker in 0..workers {
        released |= release_reserve(&state.join(format!("worker-{worker}")))?;
    }
    Ok(released)
}

/// Lets go of the room that was kept for a start on a full disk; true = there was some.
fn release_reserve(folder: &Path) -> Result<bool> {
    let reserve = folder.join("log").join(RESERVE_NAME);
    match std::fs::remove_file(&reserve) {
        Ok(()) => {
            tracing::error!("the disk is full: starting with the room that was kept for that");
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("can not remove {}", reserve.display())),
    }
}

/// Marks what a worker keeps as damaged: the next start puts it aside, whatever it finds.
///
/// # Errors
/// The file system refused.
pub fn condemn(folder: &Path) -> Result<()> {
    let mark = || File::create(folder.join(CONDEMNED))?.sync_all();
    mark().with_context(|| format!("can not mark {} as damaged", folder.display()))
}

/// Puts aside what a worker kept: nobody stands for it any more. What was put aside before goes.
///
/// # Errors
/// The file system refused.
pub fn discard(folder: &Path) -> Result<()> {
    let aside = PathBuf::from(format!("{}.aside", folder.display()));
    let discard = || {
        match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::fs::rename(folder, &aside)
    };
    discard().with_context(|| format!("can not put {} aside", folder.display()))
}
