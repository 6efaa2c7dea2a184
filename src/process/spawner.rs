//! The spawner: starts servers for the metaserver, takes over running ones, and hears them die.
//!
//! A started server is in a process group of its own, reads nothing and prints to its own log: it
//! outlives the metaserver, whose next process adopts it. Death is the kernel's word: a handle of
//! the process (pidfd) becomes readable when it ends, for children and adopted ones alike.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ProcessRecord;
use super::state_dir::{LOG, LOG_BEFORE, PROCESS, SPAWNED, StateError, try_lock, unlock};
use crate::protocol::types::ServerId;

/// A started server's log larger than this is set aside when the next one starts; the one set
/// aside before is gone then, so that a directory holds two at most.
pub(super) const LOG_BYTES_MAX: u64 = 16 << 20;

/// How to start one server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its state directory.
    pub state: PathBuf,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// Starts `server` as another process of this very program.
    pub fn server(config: &Path, server: ServerId, state: PathBuf) -> io::Result<Launch> {
        let program = std::env::current_exe()?;
        let id = server.0.to_string();
        let words = ["--role", "server", "--config"].map(OsString::from);
        let mut arguments = Vec::from(words);
        arguments.extend([config.into(), "--id".into(), id.into()]);
        Ok(Launch { state, program, arguments })
    }
}

/// A server's process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exited {
    pub server: ServerId,
    pub process: u32,
    /// How it ended; unknown of one that was adopted.
    pub status: Option<ExitStatus>,
}

/// Why a server could not be started or adopted.
#[derive(Debug)]
pub enum SpawnError {
    /// The spawner was not told how to start it.
    Unlisted { server: ServerId },
    /// Its state directory is held by a process that nobody wrote down.
    Held { server: ServerId, state: PathBuf },
    /// Its state directory can not be used.
    State { server: ServerId, error: StateError },
    /// The system refused.
    Start { server: ServerId, program: PathBuf, error: io::Error },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Unlisted { server } => write!(
                f,
                "server {} can not be started: it is not listed in the configuration; add it \
                 there and start the metaserver again",
                server.0
            ),
            SpawnError::Held { server, state } => write!(
                f,
                "server {} can not be started: a process unknown to the metaserver holds its \
                 state directory {}; stop that process",
                server.0,
                state.display()
            ),
            SpawnError::State { server, error } => {
                write!(f, "server {} can not be started: {error}", server.0)
            }
            SpawnError::Start { server, program, error } => write!(
                f,
                "server {} can not be started: {} failed ({error}); check that the program \
                 is there and may be run, and the limit of processes",
                server.0,
                program.display()
            ),
        }
    }
}

impl std::error::Error for SpawnError {}

/// A process under watch, until its end was reported.
struct Watch {
    process: u32,
    /// Readable when the process ended.
    handle: AsyncFd<OwnedFd>,
    /// None of an adopted one, which somebody else reaps.
    child: Option<Child>,
}

/// Starts, adopts and watches the listed servers, at most one process each.
///
/// All methods must be called on a tokio runtime with IO; a single-threaded one will do.
pub struct Spawner {
    launches: BTreeMap<ServerId, Launch>,
    watches: BTreeMap<ServerId, Watch>,
}

impl Spawner {
    #[must_use]
    pub fn new(launches: BTreeMap<ServerId, Launch>) -> Spawner {
        Spawner { launches, watches: BTreeMap::new() }
    }

    /// The process of a running `server`, which is watched from now on; none if it is proven that
    /// none that was ever written down runs. Asking again changes nothing.
    pub fn adopt(&mut self, server: ServerId) -> Result<Option<u32>, SpawnError> {
        if let Some(watch) = self.watches.get(&server) {
            return Ok(Some(watch.process));
        }
        let launch = self.launches.get(&server).ok_or(SpawnError::Unlisted { server })?;
        for name in [PROCESS, SPAWNED] {
            let path = launch.state.join(name);
            let found = find(&path).map_err(|error| {
                let error = StateError::Io { path, error };
                SpawnError::State { server, error }
            })?;
            if let Some((process, handle)) = found {
                self.watches.insert(server, Watch { process, handle, child: None });
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    /// Makes sure that `server` runs, as far as starting it can: adopts its process or else
    /// starts one. Returns the process.
    pub fn start(&mut self, server: ServerId) -> Result<u32, SpawnError> {
        if let Some(process) = self.adopt(server)? {
            return Ok(process);
        }
        let launch = self.launches.get(&server).ok_or(SpawnError::Unlisted { server })?;
        match try_lock(&launch.state) {
            // Given back at once: the started process takes it.
            Ok(Some(lock)) => unlock(&lock),
            Ok(None) => return Err(SpawnError::Held { server, state: launch.state.clone() }),
            Err(error) => return Err(SpawnError::State { server, error }),
        }
        let watch = spawn(launch).map_err(|error| {
            let program = launch.program.clone();
            SpawnError::Start { server, program, error }
        })?;
        let process = watch.process;
        self.watches.insert(server, watch);
        Ok(process)
    }

    /// Waits for the end of any watched process; for ever, if there is none. Each end is reported
    /// once; a future that is dropped early loses nothing.
    pub async fn exited(&mut self) -> Exited {
        poll_fn(|context| self.poll_exited(context)).await
    }

    fn poll_exited(&mut self, context: &mut Context<'_>) -> Poll<Exited> {
        let ended = self.watches.iter_mut().find_map(|(&server, watch)| {
            let Poll::Ready(status) = watch.poll_ended(context) else { return None };
            Some(Exited { server, process: watch.process, status })
        });
        let Some(exited) = ended else { return Poll::Pending };
        self.watches.remove(&exited.server);
        Poll::Ready(exited)
    }
}

impl Watch {
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Option<ExitStatus>> {
        loop {
            let ready = ready!(self.handle.poll_read_ready(context));
            let mut guard = ready.expect("the runtime outlives its spawner");
            let Some(child) = &mut self.child else { return Poll::Ready(None) };
            // Reaping is what removes the dead child from the process table.
            match child.try_wait().expect("a child is reaped by nobody else") {
                Some(status) => return Poll::Ready(Some(status)),
                None => guard.clear_ready(),
            }
        }
    }
}

/// The process of a record, if it is alive.
fn find(path: &Path) -> io::Result<Option<(u32, AsyncFd<OwnedFd>)>> {
    let Some(record) = ProcessRecord::read(path)? else { return Ok(None) };
    let Some(handle) = record.handle()? else { return Ok(None) };
    Ok(Some((record.process, watched(handle)?)))
}

fn watched(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe code; what that asks for, one descriptor that stays \
                  open, an owned one gives by its type"
    )]
    AsyncFd::with_interest(handle, Interest::READABLE)
}

fn spawn(launch: &Launch) -> io::Result<Watch> {
    let log = open_log(&launch.state)?;
    let mut child = Command::new(&launch.program)
        .args(&launch.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    match record(&child, &launch.state) {
        Ok(handle) => Ok(Watch { process: child.id(), handle, child: Some(child) }),
        Err(error) => {
            // Nobody would ever hear of its end: it must not run.
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// The log of the directory `state`, for a process that is about to start.
fn open_log(state: &Path) -> io::Result<File> {
    let path = state.join(LOG);
    match fs::metadata(&path) {
        Ok(log) if log.len() > LOG_BYTES_MAX => fs::rename(&path, state.join(LOG_BEFORE))?,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::options().create(true).append(true).open(path)
}

/// Writes a new child down and watches it. A child that is not reaped keeps its number, so that
/// the handle is surely its own, even if it has ended by now.
fn record(child: &Child, state: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    if let Some(record) = ProcessRecord::of(child.id())? {
        record.write(&state.join(SPAWNED))?;
    }
    let pid = rustix::process::Pid::from_child(child);
    watched(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}
