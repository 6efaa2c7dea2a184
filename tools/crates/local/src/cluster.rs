//! A cluster on this machine: its folder, its processes, and the certainty that they end.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tandem::config::ClusterConfig;
use tandem::identity::{Identity, PartyRole};
use tandem::protocol::types::ServerId;
use tandem_certs::Issue;

use crate::plan::Plan;
use crate::process::{Process, Role};

/// How long a killed process may take to be gone: the kernel frees its memory meanwhile.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Rounds of looking for processes and killing them: the metaserver goes first, so one round
/// finds all, and a second one whatever it started in that moment.
const STOP_ROUNDS_MAX: usize = 5;

/// The environment's names for the step at which a test build's metaserver dies, and for the file
/// that must be there for it to do so.
const EXIT_AT: &str = "TANDEM_EXIT_AT";
const EXIT_IF: &str = "TANDEM_EXIT_IF";

/// A cluster of real processes. Dropped, it kills them all, unless `keep` was called.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    directory: PathBuf,
    config: ClusterConfig,
    /// Children of this process; those that the metaserver started are not among them.
    children: Vec<(Role, Child)>,
    /// How those that have ended did, in the order in which that was seen.
    ended: Vec<(Role, ExitStatus)>,
    keep: bool,
}

impl Cluster {
    /// Writes `cluster.toml` and missing certificates into `directory`, and starts nothing.
    ///
    /// # Errors
    /// The folder can not be written, or processes of an earlier cluster run from it.
    pub fn create(binary: &Path, directory: &Path, plan: &Plan) -> Result<Cluster> {
        let show = directory.display();
        std::fs::create_dir_all(directory).with_context(|| format!("creating {show}"))?;
        let directory = directory.canonicalize().with_context(|| format!("finding {show}"))?;
        let path = directory.join("cluster.toml");
        let running = Process::all(&path)?;
        if let Some(process) = running.first() {
            bail!("a cluster still runs from {show} (process {}): stop it first", process.pid);
        }
        std::fs::write(&path, plan.cluster_toml()?)
            .with_context(|| format!("writing {}", path.display()))?;
        std::fs::create_dir_all(directory.join("logs")).with_context(|| format!("in {show}"))?;
        let config = ClusterConfig::load(&path)?;
        tandem_certs::init(&config, Issue::default()).context("making certificates")?;
        Ok(Cluster {
            binary: binary.to_owned(),
            directory,
            config,
            children: Vec::new(),
            ended: Vec::new(),
            keep: false,
        })
    }

    /// Takes hold of the cluster whose files are in `directory`, running or not.
    ///
    /// # Errors
    /// There is none.
    pub fn open(binary: &Path, directory: &Path) -> Result<Cluster> {
        let show = directory.display();
        let directory = directory.canonicalize().with_context(|| format!("finding {show}"))?;
        let config = ClusterConfig::load(directory.join("cluster.toml"))?;
        Ok(Cluster {
            binary: binary.to_owned(),
            directory,
            config,
            children: Vec::new(),
            ended: Vec::new(),
            keep: true,
        })
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Where the processes log: those started here in `logs`, others beside their state.
    #[must_use]
    pub fn logs(&self) -> Vec<PathBuf> {
        let started = self.directory.join("logs");
        std::iter::once(started)
            .chain(self.config.servers().iter().map(|it| it.state.clone()))
            .collect()
    }

    /// From now on processes are started from another file.
    pub fn become_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// Starts the metaserver, and with `spawn` through it the servers.
    ///
    /// # Errors
    /// The process can not be started.
    pub fn start_meta(&mut self) -> Result<()> {
        self.start(Role::Meta, "meta", &["--role", "meta"], &[])
    }

    /// Starts a metaserver that dies as if killed when a recovery enters `step`, once
    /// `doom_meta` was called; needs a binary with the feature `hooks`.
    ///
    /// # Errors
    /// The process can not be started.
    pub fn start_meta_to_die_at(&mut self, step: &str) -> Result<()> {
        let doom = self.doom();
        let environment = [(EXIT_AT, OsStr::new(step)), (EXIT_IF, doom.as_os_str())];
        self.start(Role::Meta, "meta", &["--role", "meta"], &environment)
    }

    /// From now on the metaserver dies at the step that it was started for.
    ///
    /// # Errors
    /// The cluster's folder can not be written.
    pub fn doom_meta(&self) -> Result<()> {
        File::create(self.doom()).context("writing a mark for the metaserver")?;
        Ok(())
    }

    fn doom(&self) -> PathBuf {
        self.directory.join("doom")
    }

    /// Starts a server.
    ///
    /// # Errors
    /// The process can not be started.
    pub fn start_server(&mut self, id: ServerId) -> Result<()> {
        let number = id.0.to_string();
        let arguments = ["--role", "server", "--id", &number];
        self.start(Role::Server(id), &format!("server-{number}"), &arguments, &[])
    }

    /// Starts the metaserver and those servers that it does not start itself.
    ///
    /// # Errors
    /// A process can not be started.
    pub fn start_all(&mut self) -> Result<()> {
        self.start_meta()?;
        let own: Vec<ServerId> =
            self.config.servers().iter().filter(|it| !it.spawn).map(|it| it.id).collect();
        own.into_iter().try_for_each(|id| self.start_server(id))
    }

    fn start(
        &mut self,
        role: Role,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> Result<()> {
        let path = self.directory.join("logs").join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))?;
        // A group of its own: an interrupt at the terminal is for the tool, which then stops
        // the cluster in order.
        let child = Command::new(&self.binary)
            .args(arguments)
            .envs(environment.iter().copied())
            .arg("--config")
            .arg(self.config.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing a log file")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.children.push((role, child));
        Ok(())
    }

    /// A command of the client role; `name` chooses the certificate.
    #[must_use]
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--role", "client", "--config"]).arg(self.config.path());
        command.args(["--as", name]).stdin(Stdio::null());
        command
    }

    /// The command that rebuilds the metaserver's state; `arguments` follow.
    #[must_use]
    pub fn rebuild(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--role", "meta", "rebuild", "--config"]).arg(self.config.path());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Gives the client called `name` another certificate, valid for `validity` from now on.
    ///
    /// # Errors
    /// The cluster lists no such client, or its files can not be written.
    pub fn renew_client(&self, name: &str, validity: Duration) -> Result<()> {
        let identities = self.config.identities();
        let named = |it: &&Identity| it.role == PartyRole::Client && it.id == name;
        let identity = identities.iter().find(named).context("no such client")?;
        let options = Issue { validity, force: true, ..Issue::default() };
        tandem_certs::issue(&self.config, identity, options).context("making a certificate")?;
        Ok(())
    }

    /// All running processes of the cluster, whoever started them.
    ///
    /// # Errors
    /// The kernel's list of processes can not be read.
    pub fn processes(&self) -> Result<Vec<Process>> {
        Process::all(self.config.path())
    }

    /// The running process of `role`.
    ///
    /// # Errors
    /// There is none.
    pub fn process(&self, role: Role) -> Result<Process> {
        let found = self.processes()?.into_iter().find(|it| it.role == role);
        found.with_context(|| format!("no process of the cluster is {role:?}"))
    }

    /// Kills the process of `role`, as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// There is none, or it can not be killed.
    pub fn kill(&mut self, role: Role) -> Result<()> {
        self.process(role)?.kill(self.config.path(), KILL_PATIENCE)?;
        self.reap();
        Ok(())
    }

    /// Kills every process of the cluster at once, as a power cut would, and waits until all are
    /// gone.
    ///
    /// # Errors
    /// One can not be killed.
    pub fn kill_all(&mut self) -> Result<()> {
        Process::kill_all(&self.processes()?, self.config.path(), KILL_PATIENCE)?;
        self.reap();
        Ok(())
    }

    /// Asks the process of `role` to stop, and waits until it is gone.
    ///
    /// # Errors
    /// There is none, or it still runs after `patience`.
    pub fn terminate(&mut self, role: Role, patience: Duration) -> Result<()> {
        self.process(role)?.terminate(self.config.path(), patience)?;
        self.reap();
        Ok(())
    }

    /// Leaves the processes running when this is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Kills all processes of the cluster, the metaserver first, for it would replace servers.
    ///
    /// # Errors
    /// One is left; the message names it.
    pub fn stop(&mut self) -> Result<()> {
        for _ in 0..STOP_ROUNDS_MAX {
            let processes = self.processes()?;
            if processes.is_empty() {
                self.reap();
                return Ok(());
            }
            for process in processes {
                process.kill(self.config.path(), KILL_PATIENCE)?;
            }
        }
        bail!("processes are left: {:?}", self.processes()?)
    }

    /// Whether every process of `role` that was started here has ended, with all its threads: its
    /// ports and locks are free. (A process that is about to end is no longer in `processes`, but
    /// may still hold them for a while.)
    pub fn has_ended(&mut self, role: Role) -> bool {
        self.reap();
        self.children.iter().all(|(other, _)| *other != role)
    }

    /// How the last process of `role` ended that was started here; none if none has.
    pub fn exit_of(&mut self, role: Role) -> Option<ExitStatus> {
        self.reap();
        let mut ended = self.ended.iter().rev();
        ended.find(|(other, _)| *other == role).map(|(_, status)| *status)
    }

    /// Collects ended children, so that none stays in the process table.
    fn reap(&mut self) {
        let Cluster { children, ended, .. } = self;
        children.retain_mut(|(role, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                ended.push((*role, status));
                false
            }
            Err(_) => false,
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.stop() {
            eprintln!("the cluster in {} was not stopped: {error:#}", self.directory.display());
        }
    }
}
