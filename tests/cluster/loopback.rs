//! Clusters on loopback: they come up, lose servers and the metaserver, and lose no data.
//!
//! Goal: an acknowledged write outlives a killed server, a planned stop fails nobody, and the
//! metaserver's absence goes unnoticed by reads and writes.
//! Method: real processes under a load that knows what each read may return (`tandem_local::Load`).

use std::time::Duration;

use tandem::client::{Client, ClientOptions, block_on};
use tandem::protocol::meta::Status;
use tandem::protocol::types::ServerId;
use tandem_local::{CLIENT, Load, Plan, Role, status};

use super::{TestCluster, wait};

/// Until a cluster is whole: it starts up, or copies what a failure cost.
pub const WHOLE: Duration = Duration::from_secs(30);

/// Until a load has some more writes acknowledged.
const PROGRESS: Duration = Duration::from_secs(20);

pub fn client(cluster: &TestCluster) -> Client {
    let options = ClientOptions::from_config(cluster.cluster.config(), CLIENT)
        .expect("every planned cluster lists this client");
    Client::connect(options).unwrap_or_else(|error| panic!("no client: {error}"))
}

/// Waits until every key set is served with all its copies, and no recovery is under way.
pub fn until_whole(client: &Client) -> Status {
    wait::until("all copies of all key sets", WHOLE, || {
        let status = block_on(status::ask(client)).map_err(|error| format!("{error:#}"))?;
        if status::is_whole(&status) { Ok(status) } else { Err(format!("{:?}", status.sets)) }
    })
}

/// Waits until `load` has at least `more` further writes acknowledged.
pub fn until_progress(load: &Load, more: u64) {
    let before = load.acknowledged();
    wait::until("acknowledged writes", PROGRESS, || {
        let count = load.acknowledged() - before;
        if count >= more { Ok(()) } else { Err(format!("{count} of {more}")) }
    });
}

/// The server that is primary for most key sets.
pub fn busiest(status: &Status) -> ServerId {
    status.servers.iter().max_by_key(|it| it.primary_of).expect("a server").id
}

#[test]
fn a_killed_server_costs_no_write_and_comes_back() {
    let mut made = TestCluster::start(&Plan::default());
    let client = client(&made);
    let victim = busiest(&until_whole(&client));
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 100);
    made.cluster.kill(Role::Server(victim)).expect("a running server");
    until_progress(&load, 100);
    wait::until("the recovery of the killed server", WHOLE, || {
        let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
        let begun = status.recoveries.iter().any(|it| it.failed.server == victim);
        if begun && status::is_whole(&status) { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "a request failed: {tally:?}");
}

#[test]
fn a_planned_stop_fails_no_request() {
    let plan = Plan { spawn: false, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    let leaving = busiest(&until_whole(&client));
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 100);
    made.cluster.terminate(Role::Server(leaving), WHOLE).expect("the server stops in order");
    until_progress(&load, 100);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "a request failed: {tally:?}");
}

#[test]
fn without_the_metaserver_reads_and_writes_go_on() {
    let mut made = TestCluster::start(&Plan::default());
    let first = client(&made);
    until_whole(&first);
    let servers = made.cluster.processes().expect("a list").split_off(1);
    let mut load = Load::new();
    load.join(&first, "first", 2);
    until_progress(&load, 100);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    let second = client(&made);
    load.join(&second, "second", 2);
    until_progress(&load, 400);
    made.cluster.start_meta().expect("the binary starts");
    until_whole(&second);
    let after = made.cluster.processes().expect("a list").split_off(1);
    assert_eq!(servers, after, "the metaserver did not adopt the servers that it had started");
    let tally = load.finish(&second).expect("no promise is broken");
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "a request failed: {tally:?}");
}

#[test]
fn a_restarted_metaserver_is_noticed_at_once() {
    const ENDED: &str = "link to the metaserver ended: ";
    let mut made = TestCluster::start(&Plan::default());
    let client = client(&made);
    until_whole(&client);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    made.cluster.start_meta().expect("the binary starts");
    until_whole(&client);
    for server in made.cluster.config().servers() {
        let log = server.state.join("server.log");
        let told = wait::until("the end of the link to the old metaserver", WHOLE, || {
            let log = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
            let told = log.lines().find_map(|it| Some(it.split_once(ENDED)?.1.to_owned()));
            told.ok_or(log)
        });
        // Silence would be noticed too, after seconds in which everybody is suspected.
        assert_eq!(told, "the peer restarted", "server {}", server.id.0);
    }
}
