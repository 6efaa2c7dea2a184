//! The processes of a cluster, as the kernel shows them.
//!
//! A process number may be reused, so whoever kills or waits holds the process by a descriptor,
//! and looks at its command line once more after opening it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tandem::protocol::types::ServerId;

/// What a process of a cluster is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Role {
    Meta,
    Server(ServerId),
    Client,
}

/// A process that runs with a cluster's `cluster.toml`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Process {
    pub role: Role,
    pub pid: i32,
}

impl Process {
    /// All processes that were started with `--config` and the path `config`.
    ///
    /// # Errors
    /// The kernel's list of processes can not be read.
    pub fn all(config: &Path) -> Result<Vec<Process>> {
        let entries = std::fs::read_dir("/proc").context("reading the processes in /proc")?;
        let mut found: Vec<Process> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Process::look(pid, config))
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The process `pid`, if it is one of the cluster; none if it ended.
    fn look(pid: i32, config: &Path) -> Option<Process> {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments: Vec<&str> =
            line.split(|&it| it == 0).filter_map(|it| std::str::from_utf8(it).ok()).collect();
        if value(&arguments, "--config").is_none_or(|it| Path::new(it) != config) {
            return None;
        }
        let role = match value(&arguments, "--role")? {
            "meta" => Role::Meta,
            "server" => Role::Server(ServerId(value(&arguments, "--id")?.parse().ok()?)),
            "client" => Role::Client,
            _ => return None,
        };
        Some(Process { role, pid })
    }

    /// Kills it (SIGKILL) and waits until it is gone; fine if it was gone before.
    ///
    /// # Errors
    /// It may not be killed, or still runs after `patience`.
    pub fn kill(self, config: &Path, patience: Duration) -> Result<()> {
        self.signal(config, Signal::KILL, Some(patience))
    }

    /// Kills all of `processes` (SIGKILL) before it waits for any, and until the last is gone.
    ///
    /// # Errors
    /// One may not be killed, or still runs after `patience`.
    pub fn kill_all(processes: &[Process], config: &Path, patience: Duration) -> Result<()> {
        let mut held = Vec::new();
        for process in processes {
            held.extend(process.hold(config)?.map(|descriptor| (*process, descriptor)));
        }
        held.iter().try_for_each(|(it, descriptor)| it.send(descriptor, Signal::KILL))?;
        held.iter().try_for_each(|(it, descriptor)| it.wait(descriptor, patience))
    }

    /// Asks it to stop (SIGTERM) and waits until it is gone.
    ///
    /// # Errors
    /// It may not be signalled, or still runs after `patience`.
    pub fn terminate(self, config: &Path, patience: Duration) -> Result<()> {
        self.signal(config, Signal::TERM, Some(patience))
    }

    /// Stops its threads (SIGSTOP) until `resume`.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn pause(self, config: &Path) -> Result<()> {
        self.signal(config, Signal::STOP, None)
    }

    /// Lets it go on after `pause`.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn resume(self, config: &Path) -> Result<()> {
        self.signal(config, Signal::CONT, None)
    }

    fn signal(self, config: &Path, signal: Signal, patience: Option<Duration>) -> Result<()> {
        let Some(descriptor) = self.hold(config)? else { return Ok(()) };
        self.send(&descriptor, signal)?;
        patience.map_or(Ok(()), |patience| self.wait(&descriptor, patience))
    }

    /// Fine if it is gone.
    fn send(self, descriptor: &OwnedFd, signal: Signal) -> Result<()> {
        match pidfd_send_signal(descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => bail!("process {} can not be signalled: {error}", self.pid),
        }
    }

    fn wait(self, descriptor: &OwnedFd, patience: Duration) -> Result<()> {
        let timeout = Timespec::try_from(patience).context("a wait of this length")?;
        let mut ended = [PollFd::new(descriptor, PollFlags::IN)];
        if poll(&mut ended, Some(&timeout)).context("waiting for a process to end")? == 0 {
            bail!("process {} still runs after {patience:?}", self.pid);
        }
        Ok(())
    }

    /// A descriptor of this very process; none if it is gone.
    fn hold(self, config: &Path) -> Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid).context("a process number is positive")?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => {
                Ok(Process::look(self.pid, config).filter(|it| *it == self).map(|_| descriptor))
            }
            Err(Errno::SRCH) => Ok(None),
            Err(error) => bail!("process {} can not be watched: {error}", self.pid),
        }
    }
}

/// The value after `name`, or behind `name=`.
fn value<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == name {
            return rest.next().copied();
        }
        if let Some(value) = argument.strip_prefix(name).and_then(|it| it.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Goal: a cluster's processes are found by their `--config`, and killed for certain.
    //! Method: shells that wait for their input stand in for the product.

    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::wait;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A process with the product's arguments that reads its standard input until it ends.
    fn stand_in(config: &str, role: &[&str]) -> Child {
        Command::new("sh")
            .args(["-c", "read line; exit 0", "tandem", "--config", config])
            .args(role)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell")
    }

    #[test]
    fn processes_are_found_by_their_config_and_killed() {
        let config = format!("/nowhere/{}/cluster.toml", std::process::id());
        let path = Path::new(&config);
        let mut meta = stand_in(&config, &["--role", "meta"]);
        let mut server = stand_in(&config, &["--role=server", "--id=2"]);
        let mut stranger = stand_in("/nowhere/else.toml", &["--role", "meta"]);
        // A process that begins has no command line for a moment.
        let found = wait::until("both processes", PATIENCE, || {
            let found = Process::all(path).map_err(|error| format!("{error:#}"))?;
            if found.len() < 2 { Err(format!("{found:?}")) } else { Ok(found) }
        });
        let found = found.expect("both were started");
        let roles: Vec<Role> = found.iter().map(|it| it.role).collect();
        assert_eq!(roles, [Role::Meta, Role::Server(ServerId(2))]);
        for process in found {
            process.kill(path, PATIENCE).expect("killed");
            process.kill(path, PATIENCE).expect("killing the dead is fine");
        }
        assert_eq!(Process::all(path).expect("a list"), []);
        assert!(!meta.wait().expect("a child").success());
        assert!(!server.wait().expect("a child").success());
        assert!(stranger.try_wait().expect("a child").is_none(), "a stranger was killed");
        drop(stranger.stdin.take());
        assert!(stranger.wait().expect("a child").success());
    }
}
