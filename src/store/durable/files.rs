//! The few operations on files that the log needs, behind a trait, so that tests can lose what
//! was not synced and tear what was half written.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A file that is written by its offsets.
pub trait LogFile: Debug + Send {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns once everything that was written is on the disk. After an error nobody knows what
    /// is: whoever gets one must not write to this file again.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of files.
pub trait Folder: Debug + Send {
    /// The names of the files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `bytes` zeros, whose space is then its own. Where there is no room it takes
    /// none.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn LogFile>>;

    /// The whole content of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Gives a file another name, at once or not at all.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once the names are on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// How much of something is in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Bytes.
    pub used: u64,
    pub capacity: u64,
}

/// The file system of `path`, as anyone but root may use it.
///
/// # Errors
/// There is no such path, or the file system does not answer.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let found = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let used = bytes(found.f_blocks.saturating_sub(found.f_bfree));
    Ok(Usage { used, capacity: used.saturating_add(bytes(found.f_bavail)) })
}

/// Bytes that the files below `path` take on the disk. What goes away meanwhile takes none.
///
/// # Errors
/// The file system does not answer.
pub fn held(path: &Path) -> io::Result<u64> {
    let mut held = 0;
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in gone_is_none(fs::read_dir(&folder))?.into_iter().flatten() {
            let Some(entry) = gone_is_none(entry)? else { continue };
            let Some(metadata) = gone_is_none(entry.metadata())? else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                held += metadata.blocks() * 512;
            }
        }
    }
    Ok(held)
}

fn gone_is_none<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Directory(Box<Path>);

impl Directory {
    /// The folder at `path`, made if it is missing.
    pub fn open(path: &Path) -> io::Result<Directory> {
        fs::create_dir_all(path)?;
        Ok(Directory(path.into()))
    }
}

impl LogFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Folder for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn LogFile>> {
        let path = self.0.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // What it got before there was no more goes back.
            fs::remove_file(&path)?;
            return Err(error.into());
        }
        Ok(Box::new(file))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
