//! The folder of the certificates: whole files or none, and keys that only their owner reads.
//!
//! A file is written under another name, flushed, and renamed, so that a reader or a crash never
//! meets half of one. Whoever writes holds the folder's lock.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tandem::config::CredentialFiles;

use crate::authority::Pem;

/// How often the lock of the folder is tried, and how long it is waited for in between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Permissions of private keys, of certificates, and of a folder that is made.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;

/// How much of a pair is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    Both,
    /// Only the certificate, or only the key.
    Half,
    None,
}

/// A folder that this process alone writes to.
pub struct Folder {
    path: PathBuf,
    /// Open for the lock, and to flush renames.
    handle: File,
}

impl Folder {
    /// Makes the folder if there is none, and takes its lock; whoever holds it has a moment to be
    /// done with its files.
    ///
    /// # Errors
    /// It can not be made, or another process is writing to it.
    pub fn lock(path: &Path) -> Result<Folder> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            .with_context(|| format!("can not make the folder {}", path.display()))?;
        let handle = File::open(path)
            .with_context(|| format!("can not open the folder {}", path.display()))?;
        for _ in 0..LOCK_TRIES {
            match handle.try_lock() {
                Ok(()) => return Ok(Folder { path: path.to_path_buf(), handle }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => {
                    let show = path.display();
                    return Err(error).with_context(|| format!("can not lock the folder {show}"));
                }
            }
        }
        bail!("another process writes to {}; try again when it is done", path.display())
    }

    /// Writes a pair, the key first: a certificate is never there without its key.
    ///
    /// # Errors
    /// A file can not be written.
    pub fn write_pair(&self, files: &CredentialFiles, pem: &Pem) -> Result<()> {
        self.write(&files.key, pem.key.as_bytes(), KEY_MODE)?;
        self.write(&files.certificate, pem.certificate.as_bytes(), CERTIFICATE_MODE)
    }

    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        // The ending stays, so that what a crash leaves of a key is never committed.
        let mut name = OsString::from(".new-");
        name.push(path.file_name().unwrap_or_default());
        let fresh = self.path.join(name);
        let written = || -> std::io::Result<()> {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            self.handle.sync_all()
        };
        written().with_context(|| format!("can not write {}", path.display()))
    }
}

/// How much of the pair `files` is there.
pub(crate) fn kept(files: &CredentialFiles) -> Kept {
    match (files.certificate.exists(), files.key.exists()) {
        (true, true) => Kept::Both,
        (false, false) => Kept::None,
        (true, false) | (false, true) => Kept::Half,
    }
}

/// Who besides the owner may use the key at `path`, as its mode; none if nobody.
pub(crate) fn loose_mode(path: &Path) -> Result<Option<u32>> {
    let metadata =
        fs::metadata(path).with_context(|| format!("can not look at {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can not read {}", path.display()))
}
