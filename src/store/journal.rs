//! The journal: what the metaserver must remember across its own death, in one `redb` file.
//!
//! A record is the whole new value of one row, so that the file holds the latest of each and
//! never grows with history. A row is `(kind, id) -> format version, postcard of the record`;
//! a batch of records is one transaction, durable when `commit` returns, there in full or not at
//! all after a crash. A full disk costs nothing: what could
//! not be written may be given to `commit` again, which opens the file anew first, as a restart
//! would. Any other failure to write is final for this journal: the metaserver must stop, since
//! nobody can tell what of a failed batch the disk will show later.

mod room;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use self::room::Roomy;
pub use self::room::release_reserve;
use crate::protocol::meta::durable::MetaRecord;
use crate::store::durable::log::is_full;

/// The file in the metaserver's state directory.
const FILE: &str = "meta.redb";
/// A file that is being made; it becomes `FILE` in one step when it is complete.
const FILE_NEW: &str = "meta.redb.new";
/// Held for the journal's life, so that no second metaserver opens the directory.
const LOCK: &str = "meta.lock";

/// Version of the rows' encoding; a row of another one is refused.
const FORMAT: u8 = 2;

const ROWS: TableDefinition<'static, (u8, u64), &[u8]> = TableDefinition::new("rows");

/// The metaserver's durable state, open.
#[derive(Debug)]
pub struct Journal {
    /// None after a failed write, until the file is opened again.
    database: Option<Database>,
    /// Every row as the last commit left it.
    rows: BTreeMap<(u8, u64), MetaRecord>,
    dir: PathBuf,
    path: PathBuf,
    lock: File,
}

/// Why the journal can not be used.
#[derive(Debug)]
pub enum JournalError {
    /// Another process has it open.
    InUse { path: PathBuf },
    /// The file is not what a journal wrote.
    Damaged { path: PathBuf, detail: String },
    /// The file was written by another version of the program.
    Foreign { path: PathBuf, found: u8 },
    /// The disk has no room: nothing is lost, and the same may be tried again.
    Full { path: PathBuf },
    /// The disk or the system refused.
    Io { path: PathBuf, detail: String },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalError::InUse { path } => write!(
                f,
                "the metaserver's state in {} is in use by another process: stop that \
                 metaserver first, or give this one a state directory of its own",
                path.display()
            ),
            JournalError::Damaged { path, detail } => write!(
                f,
                "the metaserver's state in {} is damaged ({detail}): put back an intact copy of \
                 this file; never delete it while servers of the cluster hold data",
                path.display()
            ),
            JournalError::Foreign { path, found } => write!(
                f,
                "the metaserver's state in {} has format {found}, and this program reads format \
                 {FORMAT}: start the version of the program that wrote it",
                path.display()
            ),
            JournalError::Full { path } => write!(
                f,
                "the disk of the metaserver's state in {} is full: make room on it",
                path.display()
            ),
            JournalError::Io { path, detail } => write!(
                f,
                "the metaserver's state in {} can not be read or written ({detail}): check the \
                 disk, its free space and the permissions, then start the metaserver again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {}

impl Journal {
    /// Opens the journal in directory `dir`, made if it is missing, and returns its records in
    /// the order cluster, servers, key sets, recoveries, each by number.
    pub fn open(dir: &Path) -> Result<(Journal, Vec<MetaRecord>), JournalError> {
        let path = dir.join(FILE);
        let lock = lock(dir, &path)?;
        if !path.try_exists().map_err(|error| io_error(&path, &error))? {
            create(dir, &path)?;
        }
        let database = open_file(&path)?;
        let records = read(&database, &path)?;
        let rows = records.iter().map(|record| (row(record), record.clone())).collect();
        let dir = dir.to_owned();
        let journal = Journal { database: Some(database), rows, dir, path, lock };
        journal.keep_reserve();
        Ok((journal, records))
    }

    /// Makes `records` durable, all or none; later ones replace earlier ones of the same row.
    ///
    /// # Errors
    /// `Full`: nothing is lost, and the same records may be given again. After any other the
    /// journal must not be used any more.
    pub fn commit(&mut self, records: &[MetaRecord]) -> Result<(), JournalError> {
        // Whatever failed to write is closed; its file is as a crash would have left it.
        let database = match self.database.take() {
            Some(database) => database,
            None => open_file(&self.path)?,
        };
        write(&database, records).map_err(|error| outside(&self.path, error))?;
        self.database = Some(database);
        for record in records {
            if let MetaRecord::RecoveryForgotten(_) = record {
                self.rows.remove(&row(record));
            } else {
                self.rows.insert(row(record), record.clone());
            }
        }
        self.keep_reserve();
        Ok(())
    }

    /// Every row, as the last commit left it, in the order in which `open` gives them.
    #[must_use]
    pub fn records(&self) -> Vec<MetaRecord> {
        self.rows.values().cloned().collect()
    }

    /// Gives the room away that was kept for a full disk; true = there was some.
    ///
    /// # Errors
    /// The file system refused.
    pub fn release_reserve(&self) -> Result<bool, JournalError> {
        release_reserve(&self.dir).map_err(|error| io_error(&self.path, &error))
    }

    /// A reserve that can not be had now is tried for again after the next commit.
    fn keep_reserve(&self) {
        if let Err(error) = room::reserve(&self.dir)
            && !is_full(&error)
        {
            tracing::warn!(dir = %self.dir.display(), "no room is kept for a full disk: {error}");
        }
    }

    /// The file, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Journal {
    /// Closing is not enough to give the lock back: a process that is just being started holds
    /// copies of all descriptors for a moment.
    fn drop(&mut self) {
        self.lock.unlock().expect("an open file can be unlocked");
    }
}

/// The row of a record: its kind and its number among them.
fn row(record: &MetaRecord) -> (u8, u64) {
    match record {
        MetaRecord::Cluster(_) => (1, 0),
        MetaRecord::Server(server) => (2, u64::from(server.entry.id.0)),
        MetaRecord::Set(set) => (3, u64::from(set.set.0)),
        MetaRecord::Recovery(recovery) => (4, recovery.id.0),
        MetaRecord::RecoveryForgotten(id) => (4, id.0),
    }
}

fn lock(dir: &Path, path: &Path) -> Result<File, JournalError> {
    let file = fs::create_dir_all(dir)
        .and_then(|()| File::options().create(true).append(true).open(dir.join(LOCK)))
        .map_err(|error| io_error(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(path, &error)),
    }
}

/// Makes an empty journal under another name first: an empty file in the place of a journal is
/// then always damage, never the trace of a first start that was cut off.
fn create(dir: &Path, path: &Path) -> Result<(), JournalError> {
    let new = dir.join(FILE_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(path, &error));
        }
        Ok(()) | Err(_) => {}
    }
    let file = Roomy::create(&new).map_err(|error| io_error(path, &error))?;
    let database = Builder::new().create_with_backend(file);
    let database = database.map_err(|error| outside(path, error))?;
    write(&database, &[]).map_err(|error| outside(path, error))?;
    database.close().map_err(|error| outside(path, error))?;
    fs::rename(&new, path)
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|error| io_error(path, &error))
}

/// Opens a journal that is there. An empty file would pass for a new one.
fn open_file(path: &Path) -> Result<Database, JournalError> {
    let io_error = |error: io::Error| io_error(path, &error);
    if fs::metadata(path).map_err(io_error)?.len() == 0 {
        let detail = "it is empty".to_owned();
        return Err(JournalError::Damaged { path: path.to_owned(), detail });
    }
    let file = Roomy::open(path).map_err(io_error)?;
    let opened = Builder::new().set_check_integrity_on_open(true).create_with_backend(file);
    opened.map_err(|error| outside(path, error))
}

fn write(database: &Database, records: &[MetaRecord]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    fill(&transaction, records)?;
    transaction.commit()?;
    Ok(())
}

fn fill(transaction: &redb::WriteTransaction, records: &[MetaRecord]) -> Result<(), redb::Error> {
    let mut rows = transaction.open_table(ROWS)?;
    for record in records {
        if let MetaRecord::RecoveryForgotten(_) = record {
            rows.remove(row(record))?;
        } else {
            let encoded = postcard::to_extend(record, vec![FORMAT]);
            let encoded = encoded.expect("a record always encodes, into memory");
            rows.insert(row(record), encoded.as_slice())?;
        }
    }
    Ok(())
}

fn read(database: &Database, path: &Path) -> Result<Vec<MetaRecord>, JournalError> {
    let transaction = database.begin_read().map_err(|error| outside(path, error))?;
    let rows = transaction.open_table(ROWS).map_err(|error| outside(path, error))?;
    let mut records = Vec::new();
    for found in rows.iter().map_err(|error| outside(path, error))? {
        let (key, value) = found.map_err(|error| outside(path, error))?;
        records.push(decode(key.value(), value.value(), path)?);
    }
    Ok(records)
}

fn decode(key: (u8, u64), value: &[u8], path: &Path) -> Result<MetaRecord, JournalError> {
    let damaged = |what: &str| {
        let detail = format!("row {} of kind {} {what}", key.1, key.0);
        JournalError::Damaged { path: path.to_owned(), detail }
    };
    let (&format, encoded) = value.split_first().ok_or_else(|| damaged("is empty"))?;
    if format != FORMAT {
        return Err(JournalError::Foreign { path: path.to_owned(), found: format });
    }
    match postcard::take_from_bytes::<MetaRecord>(encoded) {
        Ok((MetaRecord::RecoveryForgotten(_), _)) => Err(damaged("holds no row")),
        Ok((record, [])) if row(&record) == key => Ok(record),
        Ok((_, [])) => Err(damaged("holds another row")),
        Ok((_, _)) => Err(damaged("goes on after its record")),
        Err(error) => Err(damaged(&format!("does not decode: {error}"))),
    }
}

fn io_error(path: &Path, error: &io::Error) -> JournalError {
    if is_full(error) {
        return JournalError::Full { path: path.to_owned() };
    }
    JournalError::Io { path: path.to_owned(), detail: error.to_string() }
}

/// A failure of the file under us, sorted by what a person has to do about it.
fn outside(path: &Path, error: impl Into<redb::Error>) -> JournalError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => JournalError::InUse { path },
        redb::Error::UpgradeRequired(found) => JournalError::Foreign { path, found },
        redb::Error::Io(error) if is_full(&error) => JournalError::Full { path },
        redb::Error::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            JournalError::Io { path, detail: error.to_string() }
        }
        error @ (redb::Error::PreviousIo | redb::Error::LockPoisoned(_)) => {
            JournalError::Io { path, detail: error.to_string() }
        }
        error => JournalError::Damaged { path, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
