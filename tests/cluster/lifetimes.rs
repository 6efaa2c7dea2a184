//! Values with a lifetime.
//!
//! Goal: a value expires by itself, whatever happens to its server meanwhile: the primary is
//! killed, the whole cluster is, or the copies are made anew; one that was replaced or has no
//! lifetime stays; a lock by `cas` is free again when its holder is silent.
//! Method: real processes, durable; lifetimes that are over before and after the failures.

use std::time::Duration;

use tandem::client::{CasAnswer, Client, Expect, block_on};
use tandem::protocol::types::ServerId;
use tandem_local::{Plan, Role};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

/// Far longer than this test.
const LONG: Duration = Duration::from_secs(3_600);
/// Over after the kills, most likely; nothing depends on it.
const SOON: Duration = Duration::from_millis(1_500);
const KEYS: u32 = 200;

fn is_there(client: &Client, key: &str) -> bool {
    let read = block_on(client.session().get(key.to_owned()));
    read.unwrap_or_else(|error| panic!("{error}")).item.is_some()
}

fn count(client: &Client, prefix: &str) -> u32 {
    let mut scan = client.session().scan(prefix.to_owned(), Default::default());
    let mut count = 0;
    while block_on(scan.next()).unwrap_or_else(|error| panic!("{error}")).is_some() {
        count += 1;
    }
    count
}

fn fill(client: &Client) {
    let session = client.session();
    block_on(async {
        for number in 0..KEYS {
            session.put_for(format!("soon {number}"), "x", SOON).await?;
            session.put_for(format!("long {number}"), "x", LONG).await?;
            session.put_for(format!("kept {number}"), "x", SOON).await?;
            session.put(format!("kept {number}"), "y").await?;
        }
        session.put_for("counter", "5", SOON).await?;
        session.incr("counter", 1).await
    })
    .unwrap_or_else(|error| panic!("{error}"));
}

fn until_gone(client: &Client) {
    wait::until("the end of what expires", WHOLE, || {
        let left = count(client, "soon ");
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    });
    wait::until("the end of the counter", WHOLE, || {
        if is_there(client, "counter") { Err(String::from("it is there")) } else { Ok(()) }
    });
    assert_eq!((count(client, "long "), count(client, "kept ")), (KEYS, KEYS));
}

#[test]
fn values_expire_whatever_happens_to_their_servers() {
    let plan = Plan { durable: true, spawn: false, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    fill(&client);
    made.cluster.kill(Role::Server(ServerId(1))).expect("a running server");
    until_gone(&client);
    made.cluster.start_server(ServerId(1)).expect("the binary starts");
    until_whole(&client);

    fill(&client);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    for server in 1..=3 {
        made.cluster.kill(Role::Server(ServerId(server))).expect("a running server");
    }
    made.cluster.start_all().expect("the binary starts");
    until_whole(&client);
    until_gone(&client);

    // What was copied to a server knows its time there.
    fill(&client);
    made.cluster.kill(Role::Server(ServerId(2))).expect("a running server");
    let state = made.cluster.directory().join("state/server-2/worker-0");
    std::fs::remove_dir_all(state).expect("its state");
    made.cluster.start_server(ServerId(2)).expect("the binary starts");
    until_whole(&client);
    for other in [1, 3].map(ServerId) {
        made.cluster.terminate(Role::Server(other), WHOLE).expect("it stops in order");
    }
    until_gone(&client);
}

#[test]
fn a_silent_holder_loses_its_lock() {
    let made = TestCluster::start(&Plan::default());
    let client = client(&made);
    until_whole(&client);
    let session = client.session();
    let lock = |who: &'static str, lifetime| session.cas_for("lock", Expect::Absent, who, lifetime);
    let taken = block_on(lock("first", SOON)).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(taken, CasAnswer::Swapped { .. }));
    wait::until("the lock", WHOLE, || match block_on(lock("second", LONG)) {
        Ok(CasAnswer::Swapped { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let third = block_on(lock("third", SOON)).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(third, CasAnswer::Mismatch { .. }));
}
