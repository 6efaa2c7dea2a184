//! A network of its own for every node, and a hub through which all their packets pass.
//!
//! The tool runs itself again inside fresh user, network, mount and process namespaces, where it
//! may do what otherwise takes root, and with whose end the kernel ends every process in them:
//! whatever happens, nothing is left behind.
//!
//! ```text
//!   meta (10.77.0.1)   server 1 (10.77.1.1)   ...   client 1 (10.77.2.1)   ...
//!      eth0                eth0                        eth0
//!        |                   |                           |
//!      meta'                s1'       hub               c1'
//!       what comes in from a node is taken in here, whoever it is addressed to;
//!       what the relay sends in the name of a node goes out to the node it is addressed to
//! ```
//!
//! The hub is a router that routes nothing: a rule for each incoming device says that every
//! address is its own, so that packets end in the relay's sockets.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::nodes::Node;

/// Set for the run inside the namespaces.
const INSIDE: &str = "TANDEM_CHAOS_INSIDE";

/// What to do where namespaces are refused.
const REMEDY: &str = "tools/chaos needs `ip` (apt install iproute2), `unshare` (apt install \
    util-linux) and user namespaces: run as root, or sysctl kernel.unprivileged_userns_clone=1 \
    and kernel.apparmor_restrict_unprivileged_userns=0";

/// The namespace where the relay runs.
const HUB: &str = "hub";

/// A node's router: an address that nobody has.
const GATEWAY: &str = "10.77.255.254";

/// The table that takes in what nodes send.
const TABLE: &str = "100";

/// Whether this process is the one inside the namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Replaces this process by one inside fresh namespaces, with the same arguments.
///
/// # Errors
/// It can not be started; otherwise this does not return.
pub fn enter() -> Result<Infallible> {
    let this = std::env::current_exe().context("finding this program")?;
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "--"])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    bail!("unshare can not be run ({error}): {REMEDY}")
}

/// Namespaces joined by the hub; they live as long as the process that made them.
#[derive(Clone, Copy, Debug)]
pub struct Topology;

impl Topology {
    /// Makes the network of `nodes`.
    ///
    /// # Errors
    /// `ip` fails; the message says what to do.
    pub fn new(nodes: &[Node]) -> Result<Topology> {
        // `ip netns` keeps its namespaces below /run, which belongs to the system outside.
        run("mount", "-t tmpfs tmpfs /run")?;
        ip("link set lo up")?;
        ip(&format!("netns add {HUB}"))?;
        ip(&format!("-n {HUB} link set lo up"))?;
        ip(&format!("-n {HUB} route add local 10.77.0.0/16 dev lo table {TABLE}"))?;
        for (number, &node) in (1..).zip(nodes) {
            join(node, number)?;
        }
        Ok(Topology)
    }

    /// Runs `work` on a thread inside the network of `node`: sockets that it opens and processes
    /// and threads that it starts belong there for good.
    ///
    /// # Errors
    /// The namespace can not be entered.
    pub fn on<T: Send>(self, node: Node, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(&node.tag(), work)
    }

    /// As `on`, in the hub.
    ///
    /// # Errors
    /// The namespace can not be entered.
    pub fn on_hub<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T> {
        within(HUB, work)
    }
}

fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| -> Result<T> {
            let path = format!("/run/netns/{namespace}");
            let file = File::open(&path).with_context(|| format!("opening {path}"))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("entering {path}"))?;
            Ok(work())
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Gives `node` a namespace and a line to the hub.
fn join(node: Node, number: u8) -> Result<()> {
    let (tag, address) = (node.tag(), node.address());
    // Both ends know the other's hardware address by heart: there is nothing to resolve.
    let [near, far] = [1, 2].map(|side| format!("02:00:00:00:{side:02x}:{number:02x}"));
    ip(&format!("netns add {tag}"))?;
    ip(&format!("link add eth0 netns {tag} type veth peer name {tag} netns {HUB}"))?;
    ip(&format!("-n {tag} link set lo up"))?;
    ip(&format!("-n {tag} address add {address}/32 dev eth0"))?;
    ip(&format!("-n {tag} link set eth0 address {near} up"))?;
    ip(&format!("-n {HUB} link set {tag} address {far} up"))?;
    ip(&format!("-n {tag} neighbour add {GATEWAY} lladdr {far} nud permanent dev eth0"))?;
    ip(&format!("-n {tag} route add default via {GATEWAY} dev eth0 onlink src {address}"))?;
    ip(&format!("-n {HUB} neighbour add {address} lladdr {near} nud permanent dev {tag}"))?;
    ip(&format!("-n {HUB} route add {address}/32 dev {tag}"))?;
    ip(&format!("-n {HUB} rule add iif {tag} lookup {TABLE}"))
}

fn ip(arguments: &str) -> Result<()> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Result<()> {
    let run = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .with_context(|| format!("{program} can not be run: {REMEDY}"))?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "{program} {arguments}: {said}; {REMEDY}");
    Ok(())
}
