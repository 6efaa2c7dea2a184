//! The few operations on files that the log needs, behind a trait, so that tests can lose what
//! was not synced and tear what was half written.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

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

    /// Makes a file of `bytes` zeros, whose space is then its own.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn LogFile>>;

    /// The whole content of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Gives a file another name, at once or not at all.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once the names are on the disk.
    fn sync(&self) -> io::Result<()>;
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
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
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
