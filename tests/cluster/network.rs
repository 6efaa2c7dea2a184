//! Nodes with networks of their own, and links between them that can be cut, one way or both.
//!
//! A test runs itself again inside fresh user, network and mount namespaces, where it may do what
//! otherwise takes root. There a bridge joins one network namespace for each node:
//!
//! ```text
//!   node 1 (10.77.0.1)   node 2 (10.77.0.2)   ...      a thread or process enters its node's
//!        eth0                 eth0                     namespace, and whatever it opens or
//!          \___________________/                       starts stays there
//!                 bridge
//! ```
//!
//! Every node knows the others' hardware addresses by heart (no ARP). To cut `a -> b`, node `a` is
//! told a hardware address for `b` that nobody has: packets vanish without an error, as on a
//! broken line, while those of `b` still arrive.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set for the run inside the namespaces.
const INSIDE: &str = "TANDEM_TEST_NETWORK";

/// What to do where namespaces are refused.
const REMEDY: &str = "cut-link tests need `ip` (apt install iproute2), `unshare` (apt install \
    util-linux) and user namespaces: run as root, or sysctl kernel.unprivileged_userns_clone=1 \
    and kernel.apparmor_restrict_unprivileged_userns=0";

/// A node of the network, from 1.
pub type Node = u8;

/// Nodes on one bridge; lives as long as the process that entered the namespaces.
pub struct Network {
    nodes: Node,
}

/// Runs `test` inside namespaces of its own, in a second process of this test binary.
///
/// # Panics
/// Where namespaces are refused, with the remedy; and where the test fails inside.
pub fn isolated(test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        test();
        return;
    }
    let this = std::env::current_exe().expect("a running test has a binary");
    let thread = std::thread::current();
    let name = thread.name().expect("the test runner names its threads after the tests");
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(this)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap_or_else(|error| panic!("unshare can not be run ({error}): {REMEDY}"));
    let said =
        [run.stdout, run.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    // Indented, so that nobody takes the inner run's count for one of the outer.
    let said: String = said.lines().map(|line| format!("    | {line}\n")).collect();
    // A run of no test at all would succeed too.
    let ran = said.contains("1 passed");
    assert!(
        run.status.success() && ran,
        "inside its namespaces: {}\n{said}(if namespaces were refused: {REMEDY})",
        run.status
    );
}

impl Network {
    /// Joins nodes 1 to `nodes` by a bridge. Only within `isolated`.
    ///
    /// # Panics
    /// Where `ip` fails, with the remedy.
    pub fn new(nodes: Node) -> Network {
        // `ip netns` keeps its namespaces below /run, which belongs to the system outside.
        run("mount", "-t tmpfs tmpfs /run");
        ip("link set lo up");
        ip("link add bridge type bridge");
        ip("link set bridge up");
        let network = Network { nodes };
        for node in 1..=nodes {
            ip(&format!("netns add n{node}"));
            ip(&format!("link add v{node} type veth peer name eth0 netns n{node}"));
            ip(&format!("link set v{node} master bridge up"));
            ip(&format!("-n n{node} link set lo up"));
            ip(&format!("-n n{node} address add {}/24 dev eth0", network.address(node)));
            ip(&format!("-n n{node} link set eth0 address {} up", hardware(node)));
        }
        network.heal();
        network
    }

    pub fn address(&self, node: Node) -> IpAddr {
        assert!((1..=self.nodes).contains(&node), "there is no node {node}");
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, node))
    }

    /// From now on nothing that `from` sends arrives at `to`.
    pub fn cut_one_way(&self, from: Node, to: Node) {
        self.teach(from, to, &hardware(0));
    }

    /// From now on nothing passes between `a` and `b`.
    pub fn cut(&self, a: Node, b: Node) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// All links work again.
    pub fn heal(&self) {
        for from in 1..=self.nodes {
            for to in (1..=self.nodes).filter(|&to| to != from) {
                self.teach(from, to, &hardware(to));
            }
        }
    }

    fn teach(&self, from: Node, to: Node, hardware: &str) {
        let address = self.address(to);
        ip(&format!(
            "-n n{from} neighbour replace {address} lladdr {hardware} nud permanent dev eth0"
        ));
    }

    /// Runs `work` on a thread inside the network of `node`: sockets that it opens and processes
    /// and threads that it starts belong there for good.
    ///
    /// # Panics
    /// With `work`.
    pub fn on<T: Send>(&self, node: Node, work: impl FnOnce() -> T + Send) -> T {
        assert!((1..=self.nodes).contains(&node), "there is no node {node}");
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/n{node}"))
                    .expect("the node's namespace was made by `new`");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the test is root inside its namespaces");
                work()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The hardware address of a node; node 0 is nobody.
fn hardware(node: Node) -> String {
    format!("02:00:00:00:00:{node:02x}")
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn run(program: &str, arguments: &str) {
    let run = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("{program} can not be run ({error}): {REMEDY}"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {arguments}: {said}; {REMEDY}");
}

#[cfg(test)]
mod tests {
    //! Goal: a cut stops exactly the packets that it names, and healing lets them pass again.
    //! Method: datagrams between sockets in three nodes, before, during and after a cut.

    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;

    const PORT: u16 = 5000;

    /// Far longer than a packet takes between two nodes of one machine.
    const PATIENCE: Duration = Duration::from_millis(300);

    fn socket(network: &Network, node: Node) -> UdpSocket {
        let address = SocketAddr::new(network.address(node), PORT);
        let socket = network.on(node, || UdpSocket::bind(address)).expect("a socket in the node");
        socket.set_read_timeout(Some(PATIENCE)).expect("a read can have a timeout");
        socket
    }

    /// Whether a datagram of `from` arrives at `to`.
    fn passes(sockets: &[UdpSocket], from: Node, to: Node) -> bool {
        let [sender, receiver] = [from, to].map(|it| &sockets[usize::from(it) - 1]);
        let target = receiver.local_addr().expect("bound");
        sender.send_to(&[from, to], target).expect("a cut is silent");
        let mut bytes = [0; 2];
        receiver.recv(&mut bytes).is_ok_and(|_| bytes == [from, to])
    }

    #[test]
    fn cuts_stop_what_they_name_and_nothing_else() {
        isolated(|| {
            let network = Network::new(3);
            let sockets = [1, 2, 3].map(|node| socket(&network, node));
            assert!(passes(&sockets, 1, 2) && passes(&sockets, 2, 1));
            network.cut_one_way(1, 2);
            assert!(!passes(&sockets, 1, 2), "the cut does not cut");
            assert!(passes(&sockets, 2, 1), "the cut is not one-way");
            assert!(passes(&sockets, 1, 3) && passes(&sockets, 3, 2), "other links are cut");
            network.cut(2, 3);
            assert!(!passes(&sockets, 2, 3) && !passes(&sockets, 3, 2));
            network.heal();
            for (from, to) in [(1, 2), (2, 3), (3, 2)] {
                assert!(passes(&sockets, from, to), "{from} -> {to} is not healed");
            }
        });
    }

    #[test]
    #[should_panic(expected = "inside its namespaces")]
    fn a_failure_inside_is_a_failure_outside() {
        isolated(|| panic!("as planned"));
    }
}
