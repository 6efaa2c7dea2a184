//! Links cut between named nodes, one way and both: nothing acknowledged is lost, nothing stale
//! is read, and after healing the cluster is whole again.
//!
//! Goal: no cut between a primary, its secondary, the metaserver and a client breaks a promise.
//! Method: one network namespace for each process; two clients on different nodes write and read
//! across the cut under one ledger (`tandem_local::Load`), so that each sees what the other must
//! not miss.
//!
//! Nodes: 1 is the metaserver, 2 to 4 are servers 1 to 3, 5 and 6 are clients.

use std::time::Duration;

use tandem::client::{Client, block_on};
use tandem::protocol::meta::{ServerState, Status};
use tandem::protocol::placement;
use tandem::protocol::types::ServerId;
use tandem_local::{Hosts, Load, Plan, status};

use super::loopback::{busiest, client, until_progress, until_whole};
use super::network::{Network, Node, isolated};
use super::{TestCluster, wait};

const META: Node = 1;
const CLIENTS: [Node; 2] = [5, 6];

/// Until the cluster, or a client, notices a cut.
const NOTICED: Duration = Duration::from_secs(20);

/// A running cluster with a primary, its secondary in some key set, and two clients.
struct Stage {
    network: Network,
    clients: [Client; 2],
    primary: ServerId,
    secondary: ServerId,
}

impl Stage {
    fn primary(&self) -> Node {
        node(self.primary)
    }

    fn secondary(&self) -> Node {
        node(self.secondary)
    }

    fn status(&self) -> Result<Status, String> {
        block_on(status::ask(&self.clients[1])).map_err(|error| format!("{error:#}"))
    }

    /// No key set relies on both ends of the cut any more.
    fn pair_is_parted(&self) -> Result<(), String> {
        let status = self.status()?;
        let both = |it: &tandem::protocol::types::Configuration| {
            [self.primary, self.secondary]
                .iter()
                .all(|server| it.members().any(|member| member.server == *server))
        };
        let sets = status.sets.iter().filter_map(|it| it.configuration.as_ref());
        let left = sets.filter(|it| both(it)).count();
        if left == 0 { Ok(()) } else { Err(format!("{left} key sets rely on both")) }
    }

    /// The metaserver misses the primary.
    fn primary_is_suspected(&self) -> Result<(), String> {
        let status = self.status()?;
        let state = status.servers.iter().find(|it| it.id == self.primary).map(|it| it.state);
        if state == Some(ServerState::Suspected) { Ok(()) } else { Err(format!("{state:?}")) }
    }

    /// The first client gets no answer from the primary; the second one does.
    fn client_is_parted(&self) -> Result<(), String> {
        let status = self.status()?;
        let count = u16::try_from(status.sets.len()).expect("16 key sets");
        let key = (0..)
            .map(|it: u32| it.to_string())
            .find(|key| {
                let set = usize::from(placement::key_set(key.as_bytes(), count).0);
                let configuration = status.sets[set].configuration.as_ref();
                configuration.is_some_and(|it| it.primary.server == self.primary)
            })
            .expect("the primary has key sets");
        let [near, far] = self.clients.each_ref().map(|client| {
            let session = client.session().with_timeout(Duration::from_secs(1));
            block_on(session.get(key.clone())).is_ok()
        });
        if !near && far { Ok(()) } else { Err(format!("answers: near {near}, far {far}")) }
    }
}

fn node(server: ServerId) -> Node {
    META + Node::try_from(server.0).expect("three servers")
}

/// Runs a cluster under load, makes the cut, waits until it is `noticed`, heals it, and judges
/// every read.
fn survives(cut: impl FnOnce(&Stage), noticed: impl Fn(&Stage) -> Result<(), String>) {
    isolated(|| {
        let network = Network::new(6);
        let hosts = (META..=4).map(|it| network.address(it)).collect();
        let plan = Plan { spawn: false, hosts: Hosts::Each(hosts), ..Plan::default() };
        let mut made = TestCluster::create(&plan);
        network.on(META, || made.cluster.start_meta()).expect("the binary starts");
        for server in 1..=3 {
            let id = ServerId(server);
            network.on(node(id), || made.cluster.start_server(id)).expect("the binary starts");
        }
        let clients = CLIENTS.map(|it| network.on(it, || client(&made)));
        let status = until_whole(&clients[0]);
        let primary = busiest(&status);
        let secondary = status
            .sets
            .iter()
            .filter_map(|it| it.configuration.as_ref())
            .find(|it| it.primary.server == primary)
            .and_then(|it| it.secondaries.first())
            .expect("two copies of each key set")
            .server;
        let stage = Stage { network, clients, primary, secondary };
        let mut load = Load::new();
        load.join(&stage.clients[0], "near", 2);
        load.join(&stage.clients[1], "far", 2);
        until_progress(&load, 100);
        cut(&stage);
        wait::until("the cut to be noticed", NOTICED, || noticed(&stage));
        until_progress(&load, 200);
        stage.network.heal();
        until_progress(&load, 200);
        until_whole(&stage.clients[0]);
        let tally = load.finish(&stage.clients[1]).expect("no promise is broken");
        assert!(tally.reads > 0 && tally.writes > 0, "{tally:?}");
    });
}

#[test]
fn primary_and_secondary_both_ways() {
    survives(|stage| stage.network.cut(stage.primary(), stage.secondary()), Stage::pair_is_parted);
}

#[test]
fn primary_to_secondary() {
    survives(
        |stage| stage.network.cut_one_way(stage.primary(), stage.secondary()),
        Stage::pair_is_parted,
    );
}

#[test]
fn secondary_to_primary() {
    survives(
        |stage| stage.network.cut_one_way(stage.secondary(), stage.primary()),
        Stage::pair_is_parted,
    );
}

#[test]
fn primary_and_metaserver_both_ways() {
    survives(|stage| stage.network.cut(stage.primary(), META), Stage::primary_is_suspected);
}

#[test]
fn primary_to_metaserver() {
    survives(|stage| stage.network.cut_one_way(stage.primary(), META), Stage::primary_is_suspected);
}

#[test]
fn metaserver_to_primary() {
    survives(|stage| stage.network.cut_one_way(META, stage.primary()), Stage::primary_is_suspected);
}

#[test]
fn client_and_primary_both_ways() {
    survives(|stage| stage.network.cut(CLIENTS[0], stage.primary()), Stage::client_is_parted);
}

#[test]
fn client_to_primary() {
    survives(
        |stage| stage.network.cut_one_way(CLIENTS[0], stage.primary()),
        Stage::client_is_parted,
    );
}

#[test]
fn primary_to_client() {
    survives(
        |stage| stage.network.cut_one_way(stage.primary(), CLIENTS[0]),
        Stage::client_is_parted,
    );
}
