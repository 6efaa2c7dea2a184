//! Links cut between named nodes, one way and both: nothing acknowledged is lost, nothing stale
//! is read, and after healing the cluster is whole again.
//!
//! Goal: no cut between a primary, its secondary, the metaserver and a client breaks a promise.
//! Method: one network namespace for each process; two clients on different nodes write and read
//! across the cut under one ledger (`load`), so that each sees what the other must not miss.
//!
//! Nodes: 1 is the metaserver, 2 to 4 are servers 1 to 3, 5 and 6 are clients.

use tandem::protocol::meta::Status;
use tandem::protocol::types::ServerId;
use tandem_local::{Hosts, Plan};

use super::TestCluster;
use super::load::Load;
use super::loopback::{busiest, client, until_progress, until_whole};
use super::network::{Network, Node, isolated};

const META: Node = 1;
const CLIENTS: [Node; 2] = [5, 6];

fn node(server: ServerId) -> Node {
    META + Node::try_from(server.0).expect("three servers")
}

/// A server that is primary, and one that is its secondary in some key set.
fn pair(status: &Status) -> (Node, Node) {
    let primary = busiest(status);
    let secondary = status
        .sets
        .iter()
        .filter_map(|it| it.configuration.as_ref())
        .find(|it| it.primary.server == primary)
        .and_then(|it| it.secondaries.first())
        .expect("two copies of each key set");
    (node(primary), node(secondary.server))
}

/// Runs a cluster under load, makes the cut, heals it, and judges every read.
fn survives(cut: impl FnOnce(&Network, Node, Node)) {
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
        let (primary, secondary) = pair(&until_whole(&clients[0]));
        let mut load = Load::new();
        load.join(&clients[0], "near", 2);
        load.join(&clients[1], "far", 2);
        until_progress(&load, 100);
        cut(&network, primary, secondary);
        until_progress(&load, 200);
        network.heal();
        until_progress(&load, 200);
        until_whole(&clients[0]);
        let tally = load.finish(&clients[1]);
        assert!(tally.reads > 0 && tally.writes > 0, "{tally:?}");
    });
}

#[test]
fn primary_and_secondary_both_ways() {
    survives(|network, primary, secondary| network.cut(primary, secondary));
}

#[test]
fn primary_to_secondary() {
    survives(|network, primary, secondary| network.cut_one_way(primary, secondary));
}

#[test]
fn secondary_to_primary() {
    survives(|network, primary, secondary| network.cut_one_way(secondary, primary));
}

#[test]
fn primary_and_metaserver_both_ways() {
    survives(|network, primary, _| network.cut(primary, META));
}

#[test]
fn primary_to_metaserver() {
    survives(|network, primary, _| network.cut_one_way(primary, META));
}

#[test]
fn metaserver_to_primary() {
    survives(|network, primary, _| network.cut_one_way(META, primary));
}

#[test]
fn client_and_primary_both_ways() {
    survives(|network, primary, _| network.cut(CLIENTS[0], primary));
}

#[test]
fn client_to_primary() {
    survives(|network, primary, _| network.cut_one_way(CLIENTS[0], primary));
}

#[test]
fn primary_to_client() {
    survives(|network, primary, _| network.cut_one_way(primary, CLIENTS[0]));
}
