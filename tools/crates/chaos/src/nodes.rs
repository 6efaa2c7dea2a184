//! Who is on the network: the metaserver, the servers, the tester's clients and its observer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use tandem::protocol::types::ServerId;

/// A node with a network of its own. Numbers count from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Node {
    Meta,
    Server(u8),
    Client(u8),
    /// Where the tester asks for the status: no fault ever touches its links.
    Observer,
}

impl Node {
    pub fn server(id: ServerId) -> Node {
        Node::Server(u8::try_from(id.0).expect("arguments allow at most 9 servers"))
    }

    /// All nodes of a run.
    pub fn all(servers: u8, clients: u8) -> Vec<Node> {
        let servers = (1..=servers).map(Node::Server);
        let clients = (1..=clients).map(Node::Client);
        [Node::Meta].into_iter().chain(servers).chain(clients).chain([Node::Observer]).collect()
    }

    pub fn address(self) -> IpAddr {
        let (kind, number) = match self {
            Node::Meta => (0, 1),
            Node::Server(number) => (1, number),
            Node::Client(number) => (2, number),
            Node::Observer => (3, 1),
        };
        IpAddr::V4(Ipv4Addr::new(10, 77, kind, number))
    }

    /// The node that owns `address`.
    pub fn of(address: IpAddr) -> Option<Node> {
        let IpAddr::V4(address) = address else { return None };
        match address.octets() {
            [10, 77, 0, 1] => Some(Node::Meta),
            [10, 77, 1, number] => Some(Node::Server(number)),
            [10, 77, 2, number] => Some(Node::Client(number)),
            [10, 77, 3, 1] => Some(Node::Observer),
            _ => None,
        }
    }

    /// Its name within the system: of its namespace and its devices.
    pub fn tag(self) -> String {
        match self {
            Node::Meta => "meta".to_owned(),
            Node::Server(number) => format!("s{number}"),
            Node::Client(number) => format!("c{number}"),
            Node::Observer => "observer".to_owned(),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Meta => f.write_str("meta"),
            Node::Server(number) => write!(f, "server {number}"),
            Node::Client(number) => write!(f, "client {number}"),
            Node::Observer => f.write_str("observer"),
        }
    }
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Edge {
    pub from: Node,
    pub to: Node,
}

impl Edge {
    pub fn new(from: Node, to: Node) -> Edge {
        Edge { from, to }
    }

    /// Both directions between `a` and `b`.
    pub fn both(a: Node, b: Node) -> [Edge; 2] {
        [Edge::new(a, b), Edge::new(b, a)]
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a packet's address names its node.
    //! Method: there and back for every node of a run.

    use super::*;

    #[test]
    fn addresses_name_nodes() {
        let nodes = Node::all(3, 2);
        assert_eq!(nodes.len(), 7);
        for node in nodes {
            assert_eq!(Node::of(node.address()), Some(node));
        }
        assert_eq!(Node::of(IpAddr::V4(Ipv4Addr::new(10, 78, 0, 1))), None);
    }
}
