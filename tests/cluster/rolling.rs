//! A rolling restart under load: every server in turn, then the metaserver.
//!
//! Goal: not one request fails or has an unknown outcome, and every acknowledged write is there.
//! Method: a durable cluster whose processes are asked to end one by one (SIGTERM), and start again
//! with what they hold; clients that write and read all the time, under a ledger.

use tandem::client::{Client, block_on};
use tandem::protocol::meta::ServerState;
use tandem::protocol::types::{Incarnation, ServerId};
use tandem_local::{Load, Plan, Role, status};

use super::loopback::{WHOLE, client, until_progress, until_whole};
use super::{TestCluster, wait};

fn incarnation(client: &Client, server: ServerId) -> Result<Incarnation, String> {
    let status = block_on(status::ask(client)).map_err(|error| format!("{error:#}"))?;
    let found = status.servers.iter().find(|it| it.id == server).ok_or("it is not listed")?;
    if found.state == ServerState::Up { Ok(found.incarnation) } else { Err(format!("{found:?}")) }
}

fn rolls(plan: &Plan) {
    let mut made = TestCluster::start(plan);
    let client = client(&made);
    until_whole(&client);
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 200);
    for server in (1..=plan.servers).map(ServerId) {
        let before = incarnation(&client, server).expect("the cluster is whole");
        made.cluster.terminate(Role::Server(server), WHOLE).expect("it stops in order");
        if !plan.spawn {
            let status = made.cluster.exit_of(Role::Server(server));
            assert!(status.is_some_and(|it| it.success()), "it ended with {status:?}");
            made.cluster.start_server(server).expect("the binary starts");
        }
        wait::until("the server's next incarnation", WHOLE, || {
            match incarnation(&client, server) {
                Ok(after) if after > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        until_whole(&client);
        until_progress(&load, 100);
    }
    made.cluster.terminate(Role::Meta, WHOLE).expect("it stops in order");
    until_progress(&load, 100);
    made.cluster.start_meta().expect("the binary starts");
    until_whole(&client);
    until_progress(&load, 100);
    let failure = load.first_failure();
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "{tally:?}; the first: {failure:?}");
}

#[test]
fn a_rolling_restart_fails_no_request() {
    rolls(&Plan { durable: true, spawn: false, ..Plan::default() });
}

#[test]
fn a_rolling_restart_of_spawned_servers_fails_no_request() {
    rolls(&Plan { durable: true, workers: 2, ..Plan::default() });
}
