//! What a cluster is to consist of, and the `cluster.toml` that says so.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};

use crate::ports;

/// The client that every planned cluster has a certificate for.
pub const CLIENT: &str = "app";

/// The admin that every planned cluster has a certificate for.
pub const ADMIN: &str = "ops";

/// First port of a node that has a host of its own.
const FIRST_PORT: u16 = 4700;

/// A cluster to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name, part of every certificate.
    pub name: String,
    /// Servers 1 to this number.
    pub servers: u16,
    /// Workers of each server.
    pub workers: u16,
    /// Copies of each key set.
    pub replicas: u16,
    pub key_sets: u16,
    /// Whether servers keep what they hold on the disk.
    pub durable: bool,
    /// Whether the metaserver starts the servers, and replaces the dead.
    pub spawn: bool,
    pub hosts: Hosts,
    /// Further lines of the section `[cluster]`, such as `lease = "300ms"`.
    pub settings: Vec<String>,
    /// Further lines of servers, by their number, such as `memory_capacity = "1GiB"`.
    pub of_servers: Vec<(u16, String)>,
}

/// Where the processes listen.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// On 127.0.0.1, on ports that are free now.
    Loopback,
    /// Each on an address of its own: the metaserver's, then the servers' in order.
    Each(Vec<IpAddr>),
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            name: "local".to_owned(),
            servers: 3,
            workers: 1,
            replicas: 2,
            key_sets: 16,
            durable: false,
            spawn: true,
            hosts: Hosts::Loopback,
            settings: Vec::new(),
            of_servers: Vec::new(),
        }
    }
}

impl Plan {
    /// The text of its `cluster.toml`, with relative paths.
    ///
    /// # Errors
    /// No free ports, or a number of hosts that does not fit.
    pub fn cluster_toml(&self) -> Result<String> {
        let mut addresses = self.addresses()?.into_iter();
        let mut next = || addresses.next().expect("as many addresses as planned");
        let Plan { name, key_sets, replicas, spawn, .. } = self;
        let mut text =
            format!("[cluster]\nname = \"{name}\"\nkey_sets = {key_sets}\nreplicas = {replicas}\n");
        let engine = if self.durable { "durable" } else { "memory" };
        let _ = writeln!(text, "engine = \"{engine}\"");
        for line in &self.settings {
            let _ = writeln!(text, "{line}");
        }
        let _ = write!(
            text,
            "\n[certs]\ndir = \"certs\"\n\n[meta]\nlisten = \"{}\"\nclient_listen = \"{}\"\n\
             state = \"state/meta\"\n",
            next(),
            next()
        );
        for id in 1..=self.servers {
            let workers: Vec<String> =
                (0..self.workers).map(|_| format!("\"{}\"", next())).collect();
            let _ = write!(
                text,
                "\n[[server]]\nid = {id}\nworkers = [{}]\nspawn = {spawn}\n\
                 state = \"state/server-{id}\"\n",
                workers.join(", ")
            );
            for (_, line) in self.of_servers.iter().filter(|it| it.0 == id) {
                let _ = writeln!(text, "{line}");
            }
        }
        let _ =
            write!(text, "\n[[client]]\nname = \"{CLIENT}\"\n\n[[admin]]\nname = \"{ADMIN}\"\n");
        Ok(text)
    }

    /// The metaserver's two addresses, then each server's workers.
    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let count = 2 + usize::from(self.servers) * usize::from(self.workers);
        match &self.hosts {
            Hosts::Loopback => {
                let ports = ports::free(count)?;
                let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
                Ok(ports.into_iter().map(|port| SocketAddr::new(local, port)).collect())
            }
            Hosts::Each(hosts) => {
                let nodes = 1 + usize::from(self.servers);
                ensure!(hosts.len() == nodes, "{nodes} nodes need as many hosts");
                let ports = std::iter::once(2).chain(std::iter::repeat(self.workers));
                Ok(hosts
                    .iter()
                    .zip(ports)
                    .flat_map(|(&host, ports)| {
                        (0..ports).map(move |port| SocketAddr::new(host, FIRST_PORT + port))
                    })
                    .collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a plan becomes a `cluster.toml` that the product accepts as meant.
    //! Method: parse the text with the product's own reader.

    use tandem::config::ClusterConfig;

    use super::*;

    #[test]
    fn the_product_reads_what_was_planned() {
        let plan = Plan { servers: 4, workers: 2, spawn: false, ..Plan::default() };
        let text = plan.cluster_toml().expect("a good plan");
        let config = ClusterConfig::parse(&text, "cluster.toml").expect("a good file");
        assert_eq!(config.servers().len(), 4);
        assert!(config.servers().iter().all(|it| it.workers.len() == 2 && !it.spawn));
        assert_eq!((config.key_sets(), config.replicas()), (16, 2));
    }

    #[test]
    fn every_node_can_have_its_own_host() {
        let hosts: Vec<IpAddr> =
            (1..=4).map(|it| IpAddr::V4(Ipv4Addr::new(10, 77, 0, it))).collect();
        let plan = Plan { hosts: Hosts::Each(hosts), ..Plan::default() };
        let text = plan.cluster_toml().expect("a good plan");
        let config = ClusterConfig::parse(&text, "cluster.toml").expect("a good file");
        let third = config.servers()[2].workers[0];
        assert_eq!(third.to_string(), "10.77.0.4:4700");
        let plan = Plan { hosts: Hosts::Each(Vec::new()), ..Plan::default() };
        assert!(plan.cluster_toml().is_err());
    }
}
