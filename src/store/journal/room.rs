//! The journal's file below its database: the room for it is taken ahead.
//!
//! Space is allocated when the file grows, so that a full disk is met before anything of a
//! transaction is written, and commits that fit into the file need no room at all. A sync that
//! fails is never taken for a full disk: nobody can tell what is on the disk after that.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Kept beside the journal: its room is given to a metaserver that finds the disk full.
const RESERVE: &str = "meta.reserve";

/// As much as the journal of a cluster of 4,096 key sets grows at a time.
const RESERVE_BYTES: u64 = 4 << 20;

/// A file whose length is backed by the disk.
#[derive(Debug)]
pub(super) struct Roomy(File);

impl Roomy {
    pub(super) fn create(path: &Path) -> io::Result<Roomy> {
        let mut options = File::options();
        Ok(Roomy(options.read(true).write(true).create_new(true).open(path)?))
    }

    /// Opens a file that is there. What an older version left without room gets it now, if there
    /// is any; otherwise its writes find out.
    pub(super) fn open(path: &Path) -> io::Result<Roomy> {
        let file = File::options().read(true).write(true).open(path)?;
        match allocate(&file, file.metadata()?.len()) {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
            Ok(()) | Err(_) => Ok(Roomy(file)),
        }
    }
}

/// Backs the first `len` bytes of `file`, where the file system can.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl StorageBackend for Roomy {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        super::tests::spend_room()?;
        if len > self.len()? {
            allocate(&self.0, len)?;
        }
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data().map_err(io::Error::other)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        super::tests::spend_room()?;
        self.0.write_all_at(data, offset)
    }
}

/// Keeps room in `dir` for a full disk. Where there is none now, the next commit tries again.
pub(super) fn reserve(dir: &Path) -> io::Result<()> {
    let path = dir.join(RESERVE);
    let kept = fs::metadata(&path).is_ok_and(|it| it.len() == RESERVE_BYTES);
    if kept {
        return Ok(());
    }
    let file = File::options().write(true).create(true).truncate(false).open(&path)?;
    let taken = allocate(&file, RESERVE_BYTES).and_then(|()| file.set_len(RESERVE_BYTES));
    if taken.is_err() {
        // What it got before there was no more goes back.
        fs::remove_file(&path)?;
    }
    taken
}

/// Lets go of the room that was kept in `dir`; true = there was some.
///
/// # Errors
/// The file system refused.
pub fn release_reserve(dir: &Path) -> io::Result<bool> {
    match fs::remove_file(dir.join(RESERVE)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
