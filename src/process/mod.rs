//! Processes: whose memory a state directory belongs to, and servers that outlive their starter.
//!
//! Two files name a process: `process` is written by the holder of the directory's lock itself,
//! `spawned` by the metaserver that started it. Between them no running server is ever unknown,
//! whoever dies at whatever moment: a server that was started and not yet written down has not
//! locked its directory yet, and of two only one gets the lock.
//!
//! A process is named by its number, its start time and the boot that both belong to, so that a
//! number which the kernel uses again is never mistaken for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub mod spawner;
pub mod state_dir;

pub use spawner::{Exited, Launch, SpawnError, Spawner};
pub use state_dir::{KnownCluster, OwnIdentity, StateDir, StateError};

#[cfg(test)]
mod tests;

/// A process that can be told from every other one, past and future, of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ProcessRecord {
    process: u32,
    /// In clock ticks since the machine's boot.
    started: u64,
    /// The kernel's random name of that boot.
    boot: String,
}

impl ProcessRecord {
    /// Describes the process that now has this number; none if there is none or it is dead.
    fn of(process: u32) -> io::Result<Option<ProcessRecord>> {
        let stat = match fs::read_to_string(format!("/proc/{process}/stat")) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((state, started)) = parse_stat(&stat) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown /proc/PID/stat"));
        };
        if matches!(state, "Z" | "X" | "x") {
            return Ok(None);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Some(ProcessRecord { process, started, boot: boot.trim_end().to_owned() }))
    }

    /// A handle of this very process; none if it is dead.
    fn handle(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.process).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        // The handle first: if the number still means this process afterwards, it did before.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let alive = ProcessRecord::of(self.process)?.as_ref() == Some(self);
        Ok(alive.then_some(handle))
    }

    /// Reads a record; none if there is none, or none that makes sense: a record is a hint, the
    /// directory's lock is what keeps a second process out.
    fn read(path: &Path) -> io::Result<Option<ProcessRecord>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(ProcessRecord::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<ProcessRecord> {
        let [process, started, boot] = fields(text, ["process", "started", "boot"])?;
        let (process, started) = (process.parse().ok()?, started.parse().ok()?);
        Some(ProcessRecord { process, started, boot: boot.to_owned() })
    }

    /// Writes the record in one step. It says nothing after a crash of the machine, so that it
    /// need not be durable.
    fn write(&self, path: &Path) -> io::Result<()> {
        let ProcessRecord { process, started, boot } = self;
        let text = format!("process {process}\nstarted {started}\nboot {boot}\n");
        let new = with_suffix(path);
        fs::write(&new, text)?;
        fs::rename(&new, path)
    }
}

/// The process died before or while its file was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::SRCH)
}

/// State and start time. The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?;
    // The start time is the 22nd field, the state the third.
    let started = words.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The values of a file of `name value` lines, which must be these, in this order.
fn fields<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[&'a str; N]> {
    let mut lines = text.lines();
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
    }
    lines.next().is_none().then_some(values)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    /// Whom the system's mask lets.
    All,
    /// The user of this process alone: it holds a secret.
    Owner,
}

/// Replaces a file by `text` in one durable step: after a crash it is the old or the new one.
fn replace(path: &Path, text: &str, access: Access) -> io::Result<()> {
    let new = with_suffix(path);
    let mode = match access {
        Access::All => 0o666,
        Access::Owner => 0o600,
    };
    // One that a crash left behind may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
