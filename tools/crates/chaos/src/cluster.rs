//! The cluster under torture: its processes, each in its node's network, and who should run.
//!
//! Nothing starts servers but this: the metaserver lives in a network of its own and could not.
//! A watcher compares the processes that run with those that should; any other end of a process
//! than one that the nemesis brought about breaks the run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tandem::client::{Client, ClientOptions};
use tandem::config::ClusterConfig;
use tandem::protocol::types::ServerId;
use tandem_local::{CLIENT, Cluster, Hosts, Plan, Process, Role, wait};

use crate::nodes::Node;
use crate::topology::Topology;
use crate::verdict::Verdict;

/// Between two looks at the processes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a process that was started may be without its command line.
const RUNNING: Duration = Duration::from_secs(2);

/// The processes of a run. Clones share them.
#[derive(Clone)]
pub struct Stage {
    pub topology: Topology,
    pub config: ClusterConfig,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    cluster: Cluster,
    /// Who should run.
    expected: BTreeSet<Role>,
    /// Who should run and was not seen at the last look: a process that was just started has
    /// no command line yet for an instant.
    missed: BTreeSet<Role>,
}

impl Stage {
    /// Makes the files of a cluster of `servers` in `folder`, and starts nothing.
    ///
    /// # Errors
    /// The folder can not be written.
    pub fn create(binary: &Path, folder: &Path, topology: Topology, plan: Plan) -> Result<Stage> {
        let servers = (1..=plan.servers).map(|it| Node::server(ServerId(it)));
        let hosts = [Node::Meta].into_iter().chain(servers).map(Node::address).collect();
        let plan = Plan { spawn: false, hosts: Hosts::Each(hosts), ..plan };
        let cluster = Cluster::create(binary, folder, &plan)?;
        let config = cluster.config().clone();
        let shared = Shared { cluster, expected: BTreeSet::new(), missed: BTreeSet::new() };
        Ok(Stage { topology, config, shared: Arc::new(Mutex::new(shared)) })
    }

    /// Starts the metaserver and all servers.
    ///
    /// # Errors
    /// A process can not be started.
    pub fn start_all(&self) -> Result<()> {
        self.start(Role::Meta)?;
        let servers: Vec<ServerId> = self.config.servers().iter().map(|it| it.id).collect();
        servers.into_iter().try_for_each(|id| self.start(Role::Server(id)))
    }

    /// Starts `role` in the network of its node.
    ///
    /// # Errors
    /// It can not be started.
    pub fn start(&self, role: Role) -> Result<()> {
        let mut shared = self.lock();
        let cluster = &mut shared.cluster;
        match role {
            Role::Meta => self.topology.on(Node::Meta, || cluster.start_meta())??,
            Role::Server(id) => {
                self.topology.on(Node::server(id), || cluster.start_server(id))??;
            }
            Role::Client => anyhow::bail!("clients are part of this process"),
        }
        shared.expected.insert(role);
        shared.missed.remove(&role);
        Ok(())
    }

    /// Kills `role` as a power cut would.
    ///
    /// # Errors
    /// It does not run, or can not be killed.
    pub fn kill(&self, role: Role) -> Result<()> {
        let mut shared = self.lock();
        shared.expected.remove(&role);
        shared.cluster.kill(role)
    }

    /// Kills everybody at once, as a power cut would.
    ///
    /// # Errors
    /// Somebody who should run does not, or can not be killed.
    pub fn kill_all(&self) -> Result<()> {
        let mut shared = self.lock();
        wait::until("every process", RUNNING, || {
            let running = shared.cluster.processes().map_err(|error| format!("{error:#}"))?;
            let runs = |role: Role| running.iter().any(|it| it.role == role);
            let missing: Vec<Role> =
                shared.expected.iter().copied().filter(|&it| !runs(it)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} do not run")) }
        })?;
        shared.expected.clear();
        shared.cluster.kill_all()
    }

    /// Asks `role` to stop, and waits until it is gone.
    ///
    /// # Errors
    /// It still runs after `patience`.
    pub fn terminate(&self, role: Role, patience: Duration) -> Result<()> {
        let process = {
            let mut shared = self.lock();
            shared.expected.remove(&role);
            shared.cluster.process(role)?
        };
        process.terminate(self.config.path(), patience)
    }

    /// Stops the threads of `role`.
    ///
    /// # Errors
    /// It does not run, or may not be signalled.
    pub fn pause(&self, role: Role) -> Result<()> {
        self.process(role)?.pause(self.config.path())
    }

    /// Lets `role` go on.
    ///
    /// # Errors
    /// It does not run, or may not be signalled.
    pub fn resume(&self, role: Role) -> Result<()> {
        self.process(role)?.resume(self.config.path())
    }

    fn process(&self, role: Role) -> Result<Process> {
        self.lock().cluster.process(role)
    }

    /// Ends all processes.
    ///
    /// # Errors
    /// One is left.
    pub fn stop(&self) -> Result<()> {
        let mut shared = self.lock();
        shared.expected.clear();
        shared.cluster.stop()
    }

    /// A client whose sockets are in the network of `node`.
    ///
    /// # Errors
    /// It can not start.
    pub fn connect(&self, node: Node) -> Result<Client> {
        let options = ClientOptions::from_config(&self.config, CLIENT)?;
        let client = self.topology.on(node, || Client::connect(options))?;
        client.with_context(|| format!("starting {node}"))
    }

    /// Looks after the processes until `stop`, on a thread of its own.
    ///
    /// # Errors
    /// There is no thread.
    pub fn watch(&self, verdict: Verdict, stop: Arc<AtomicBool>) -> Result<()> {
        let stage = self.clone();
        std::thread::Builder::new().name("processes".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(words) = stage.look() {
                    verdict.note(words);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(())
    }

    /// Whether all run who should; one that ended unasked is told once.
    fn look(&self) -> Result<(), String> {
        let mut shared = self.lock();
        let running = shared.cluster.processes().map_err(|error| format!("{error:#}"))?;
        let ended = shared.ended(|role| running.iter().any(|it| it.role == role));
        let names: Vec<String> = ended.into_iter().map(name).collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(format!("ended by itself: {}", names.join(", ")))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Who should run and was missed twice in a row; nobody waits for it any more.
    fn ended(&mut self, runs: impl Fn(Role) -> bool) -> Vec<Role> {
        let missed: BTreeSet<Role> =
            self.expected.iter().copied().filter(|&it| !runs(it)).collect();
        let ended: Vec<Role> = missed.intersection(&self.missed).copied().collect();
        self.expected.retain(|it| !ended.contains(it));
        self.missed = missed;
        ended
    }
}

fn name(role: Role) -> String {
    match role {
        Role::Meta => Node::Meta.to_string(),
        Role::Server(id) => Node::server(id).to_string(),
        Role::Client => "a client".to_owned(),
    }
}

/// Lines of the logs in `folder` that no run may have, each with the name of its file.
///
/// # Errors
/// A log can not be read.
pub fn panics(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let show = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(show)? {
        let path = entry.with_context(show)?.path();
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&text);
        let bad = text.lines().filter(|it| it.contains("panicked"));
        found.extend(bad.map(|line| format!("{name}: {line}")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    //! Goal: a panic in any log is found.
    //! Method: two logs, one of them bad.

    use super::*;

    #[test]
    fn a_panic_in_a_log_is_found() {
        let name = format!("tandem-chaos-{}-panics", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
        std::fs::write(folder.join("meta.log"), "all is well\n").expect("the folder is ours");
        assert_eq!(panics(&folder).expect("logs"), Vec::<String>::new());
        let bad = "fine\nthread 'worker-0' panicked at src/a.rs:1:1:\nno\n";
        std::fs::write(folder.join("server-1.log"), bad).expect("the folder is ours");
        let found = panics(&folder).expect("logs");
        std::fs::remove_dir_all(&folder).expect("the folder is ours");
        assert_eq!(found, ["server-1.log: thread 'worker-0' panicked at src/a.rs:1:1:"]);
    }
}
