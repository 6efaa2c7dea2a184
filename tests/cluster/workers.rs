//! Servers with several workers: each has a port and key sets of its own, and all die together.
//!
//! Goal: with two workers a server, a killed server costs no write and its recovery gives every
//! worker its key sets back; a planned stop fails no request although each worker leaves by
//! itself; a metaserver that was away finds all workers again.
//! Method: as in `loopback`, with clusters of two worker ports a server.

use std::collections::BTreeSet;

use tandem::client::block_on;
use tandem::protocol::meta::durable::Step;
use tandem::protocol::meta::{ServerState, SetStatus, Status};
use tandem::protocol::placement;
use tandem::protocol::types::{KeySet, Member, ServerId};
use tandem_local::{Load, Plan, Role, status};

use super::loopback::{WHOLE, busiest, client, until_progress, until_whole};
use super::{TestCluster, wait};

/// Workers of each server.
const WORKERS: u16 = 2;

fn plan() -> Plan {
    Plan { workers: WORKERS, ..Plan::default() }
}

/// The workers of `server` that are primary of a key set.
fn working(status: &Status, server: ServerId) -> BTreeSet<u16> {
    let primary =
        |set: &&SetStatus| set.configuration.as_ref().is_some_and(|it| it.primary.server == server);
    status.sets.iter().filter(primary).map(|it| worker_of(it.set)).collect()
}

/// The worker of every server that `set` belongs to.
fn worker_of(set: KeySet) -> u16 {
    placement::worker(set, WORKERS).0
}

#[test]
fn a_killed_server_costs_no_write_and_every_worker_comes_back() {
    let mut made = TestCluster::start(&plan());
    let client = client(&made);
    let mut load = Load::new();
    until_whole(&client);
    load.join(&client, "a", 4);
    // Each server in turn: the third kill hits copies that the first ones made.
    for server in (1..=3).map(ServerId) {
        let status = until_whole(&client);
        let row = status.servers.iter().find(|it| it.id == server).expect("it is listed");
        let victim = Member { server, incarnation: row.incarnation };
        assert_eq!(working(&status, server).len(), usize::from(WORKERS), "{status:?}");
        until_progress(&load, 100);
        made.cluster.kill(Role::Server(server)).expect("a running server");
        until_progress(&load, 100);
        let status = wait::until("the recovery of the killed server", WHOLE, || {
            let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
            let recovery = status.recoveries.iter().find(|it| it.failed == victim);
            let over = recovery.is_some_and(|it| it.step == Step::Done);
            if over && status::is_whole(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        });
        assert_eq!(working(&status, server).len(), usize::from(WORKERS), "{status:?}");
    }
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
}

#[test]
fn a_planned_stop_of_all_workers_fails_no_request() {
    let plan = Plan { spawn: false, ..plan() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    let leaving = busiest(&until_whole(&client));
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 100);
    made.cluster.terminate(Role::Server(leaving), WHOLE).expect("the server stops in order");
    until_progress(&load, 100);
    made.cluster.start_server(leaving).expect("the binary starts");
    until_whole(&client);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
}

#[test]
fn a_metaserver_that_was_away_finds_all_workers() {
    let mut made = TestCluster::start(&plan());
    let client = client(&made);
    until_whole(&client);
    let mut load = Load::new();
    load.join(&client, "a", 4);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    until_progress(&load, 200);
    made.cluster.start_meta().expect("the binary starts");
    let status = wait::until("every worker's heartbeats", WHOLE, || {
        let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
        let up = status.servers.iter().all(|it| it.state == ServerState::Up);
        if up && status::is_whole(&status) { Ok(status) } else { Err(format!("{status:?}")) }
    });
    for server in (1..=3).map(ServerId) {
        assert_eq!(working(&status, server).len(), usize::from(WORKERS), "{status:?}");
    }
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
}
