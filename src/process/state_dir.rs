//! The state directory of a server or metaserver: locked for the life of its process.
//!
//! ```text
//!   lock       the lock itself; empty
//!   process    who holds the lock: number, start time, boot
//!   cluster    the cluster's UUID and the highest epoch that was seen in it
//!   identity   the server's number, the latest incarnation that it was given, and the oldest
//!              whose memory any of its workers had then
//!   workers    into how many workers what is kept here is divided
//!   spawned    who the metaserver started here last
//!   reset-seed the secret by which others notice a restart at once; of its owner alone
//!   server.log what a started server prints; server.log.1 is an older part
//! ```
//!
//! The lock is the proof behind a registration: an incarnation that registers under it may take
//! every older one for dead. The kernel lifts it with the last descriptor of the process.

use std::fmt;
use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Access, ProcessRecord, fields, replace};
use crate::protocol::types::{ClusterId, Epoch, Incarnation, Member, ServerId};

const LOCK: &str = "lock";
const CLUSTER: &str = "cluster";
const IDENTITY: &str = "identity";
const RESET_SEED: &str = "reset-seed";
const WORKERS: &str = "workers";
pub(super) const PROCESS: &str = "process";
pub(super) const SPAWNED: &str = "spawned";
pub(super) const LOG: &str = "server.log";
pub(super) const LOG_BEFORE: &str = "server.log.1";

/// A state directory that this process holds.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
}

/// The cluster that a directory belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownCluster {
    pub cluster: ClusterId,
    /// Over all key sets; 0 = none was seen.
    pub highest_epoch: Epoch,
}

/// Who the last process of a directory was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnIdentity {
    pub member: Member,
    /// The oldest incarnation whose memory a worker had as it began; its own if it had none.
    pub memory: Incarnation,
}

/// Why a state directory can not be used.
#[derive(Debug)]
pub enum StateError {
    /// Another process holds the lock.
    InUse { path: PathBuf, holder: Option<u32> },
    /// A file in it is not what this program wrote.
    Damaged { path: PathBuf },
    /// The disk or the system refused.
    Io { path: PathBuf, error: io::Error },
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::InUse { path, holder } => {
                write!(f, "the state directory {} is in use by ", path.display())?;
                match holder {
                    Some(process) => write!(f, "process {process}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str(": stop that process first, or configure another directory")
            }
            StateError::Damaged { path } => write!(
                f,
                "the file {} is damaged: put back an intact copy; if this server's data may be \
                 lost, remove its state directory and start it again",
                path.display()
            ),
            StateError::Io { path, error } => write!(
                f,
                "{} can not be read or written ({error}): check the disk, its free space and \
                 the permissions",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StateError {}

impl StateDir {
    /// Takes the directory, made if it is missing, until the value is dropped, and writes down
    /// that this process has it.
    pub fn lock(path: &Path) -> Result<StateDir, StateError> {
        let Some(lock) = try_lock(path)? else {
            let holder = ProcessRecord::read(&path.join(PROCESS)).ok().flatten();
            let holder = holder.map(|record| record.process);
            return Err(StateError::InUse { path: path.to_owned(), holder });
        };
        let record = path.join(PROCESS);
        let own = ProcessRecord::of(std::process::id()).map_err(|error| failed(&record, error))?;
        let own = own.expect("this process is alive");
        own.write(&record).map_err(|error| failed(&record, error))?;
        Ok(StateDir { path: path.to_owned(), lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster that this directory belongs to, if it ever joined one.
    pub fn cluster(&self) -> Result<Option<KnownCluster>, StateError> {
        self.read(CLUSTER, |text| {
            let [cluster, epoch] = fields(text, ["cluster", "highest_epoch"])?;
            let highest_epoch = Epoch(epoch.parse().ok()?);
            Some(KnownCluster { cluster: parse_cluster(cluster)?, highest_epoch })
        })
    }

    /// Remembers the cluster, durably.
    pub fn store_cluster(&self, known: KnownCluster) -> Result<(), StateError> {
        let KnownCluster { cluster, highest_epoch } = known;
        self.write(CLUSTER, &format!("cluster {cluster}\nhighest_epoch {}\n", highest_epoch.0))
    }

    /// What this directory's last process was registered as, if it was.
    pub fn identity(&self) -> Result<Option<OwnIdentity>, StateError> {
        self.read(IDENTITY, |text| {
            let [server, incarnation, memory] = fields(text, ["server", "incarnation", "memory"])?;
            let server = ServerId(server.parse().ok()?);
            let member = Member { server, incarnation: Incarnation(incarnation.parse().ok()?) };
            Some(OwnIdentity { member, memory: Incarnation(memory.parse().ok()?) })
        })
    }

    /// Remembers what this process is registered as, durably.
    pub fn store_identity(&self, identity: OwnIdentity) -> Result<(), StateError> {
        let OwnIdentity { member: Member { server, incarnation }, memory } = identity;
        let lines = [("server", u64::from(server.0)), ("incarnation", incarnation.0)];
        let lines = lines.into_iter().chain([("memory", memory.0)]);
        let text: String = lines.map(|(name, value)| format!("{name} {value}\n")).collect();
        self.write(IDENTITY, &text)
    }

    /// The number of workers that keep data here, if any ever did.
    pub fn workers(&self) -> Result<Option<usize>, StateError> {
        self.read(WORKERS, |text| fields(text, ["workers"])?[0].parse().ok())
    }

    /// Remembers the number of workers, durably.
    pub fn store_workers(&self, count: usize) -> Result<(), StateError> {
        self.write(WORKERS, &format!("workers {count}\n"))
    }

    /// The secret of this directory's processes, drawn once: see `net::EndpointOptions`. A file
    /// that makes no sense is replaced: others then notice one restart later than they could.
    pub fn reset_seed(&self) -> Result<[u8; 32], StateError> {
        let path = self.path.join(RESET_SEED);
        let known = self.read(RESET_SEED, |text| parse_hex(fields(text, ["seed"])?[0]));
        match known {
            Ok(Some(seed)) => return Ok(seed),
            Ok(None) | Err(StateError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut seed = [0; 32];
        let drawn = getrandom(&mut seed, GetRandomFlags::empty());
        let drawn = drawn.map_err(|error| failed(&path, error.into()))?;
        assert!(drawn == seed.len(), "the kernel never cuts short what fits 256 bytes");
        let mut text = String::from("seed ");
        for byte in seed {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        replace(&path, &text, Access::Owner).map_err(|error| failed(&path, error))?;
        Ok(seed)
    }

    fn read<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => parse(&text).map(Some).ok_or(StateError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StateError::Damaged { path })
            }
            Err(error) => Err(failed(&path, error)),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        replace(&path, text, Access::All).map_err(|error| failed(&path, error))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        unlock(&self.lock);
    }
}

/// The directory's lock, or none if another process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, StateError> {
    fs::create_dir_all(path).map_err(|error| failed(path, error))?;
    let name = path.join(LOCK);
    let file = File::options().create(true).append(true).open(&name);
    let file = file.map_err(|error| failed(&name, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(&name, error)),
    }
}

/// Gives a lock back. Closing is not enough: a process that is just being started holds copies of
/// all descriptors for a moment.
pub(super) fn unlock(lock: &File) {
    lock.unlock().expect("an open file can be unlocked");
}

fn failed(path: &Path, error: io::Error) -> StateError {
    StateError::Io { path: path.to_owned(), error }
}

/// Reads a UUID as it is displayed, and only that.
fn parse_cluster(text: &str) -> Option<ClusterId> {
    let digits: String = text.chars().filter(|&digit| digit != '-').collect();
    let cluster = ClusterId(parse_hex(&digits)?);
    (cluster.to_string() == text).then_some(cluster)
}

/// Reads exactly `N` bytes, two hexadecimal digits each.
fn parse_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
