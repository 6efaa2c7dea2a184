//! A server that is nearly full gives key sets away until it is not, and its space is free then.
//!
//! Goal: of servers of unequal capacity the small one is filled, and comes below its threshold
//! again with nobody's help: all key sets whole, every acknowledged value there, and nothing
//! refused meanwhile but what grows while a server is full. With records in memory and on the disk.
//! Method: real servers with capacities of their own, and values that fill the small one.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tandem::client::{Client, Error, Session, block_on};
use tandem::protocol::message::{MetaAnswer, MetaRequest, Refusal};
use tandem::protocol::meta::Status;
use tandem::protocol::session::NotDone;
use tandem::protocol::space::{Level, Space};
use tandem::protocol::types::{KeySet, ServerId};
use tandem_local::{Plan, status};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

/// The server with the small capacity.
const SMALL: ServerId = ServerId(2);

const VALUE_BYTES: usize = 64 << 10;

/// Until a server has given away what it takes, and has the space.
const MOVED: Duration = Duration::from_secs(120);

fn key(number: u32) -> Bytes {
    Bytes::from(format!("large-{number:04}"))
}

/// A value that no compression makes smaller.
fn value(seed: u32) -> Bytes {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let words = (0..VALUE_BYTES / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

fn spaces(client: &Client) -> Vec<(ServerId, Space)> {
    match block_on(client.ask(MetaRequest::Space, WHOLE)) {
        Ok(MetaAnswer::Space(spaces)) => spaces,
        other => panic!("no spaces: {other:?}"),
    }
}

/// Stores a value, as soon as the small server is not full.
fn store(session: &Session, number: u32) {
    wait::until("room for a value", MOVED, || {
        match block_on(session.put(key(number), value(number))) {
            Ok(_) => Ok(()),
            Err(Error::NotDone { why: NotDone::Refused(Refusal::Full { server }), .. }) => {
                assert_eq!(server, SMALL);
                Err("it is full".to_owned())
            }
            Err(other) => panic!("only what grows is refused: {other}"),
        }
    });
}

fn held(status: &Status, server: ServerId) -> BTreeSet<KeySet> {
    let named = |it: &&tandem::protocol::meta::SetStatus| {
        let mut members = it.configuration.iter().flat_map(|it| it.members());
        members.any(|it| it.server == server)
    };
    status.sets.iter().filter(named).map(|it| it.set).collect()
}

/// Fills four servers with `keys` values, of which the small one has `small` capacity and each
/// other one `large`, and waits until nobody is nearly full.
fn fill(durable: bool, keys: u32, small: &str, large: &str) {
    let of = if durable { "disk_capacity" } else { "memory_capacity" };
    let capacity = |it: u16| if ServerId(it) == SMALL { small } else { large };
    let of_servers = (1..=4).map(|it| (it, format!("{of} = \"{}\"", capacity(it)))).collect();
    let plan = Plan { durable, servers: 4, spawn: false, of_servers, ..Plan::default() };
    let made = TestCluster::start(&plan);
    let client = client(&made);
    let before = held(&until_whole(&client), SMALL);
    let session = client.session();
    for number in 0..keys {
        store(&session, number);
    }
    wait::until("room on the small server, and all copies", MOVED, || {
        let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
        let spaces = spaces(&client);
        let roomy = spaces.len() == 4 && spaces.iter().all(|it| it.1.level < Level::High);
        let two = |it: &tandem::protocol::meta::SetStatus| {
            it.configuration.as_ref().is_some_and(|it| it.copies() == 2)
        };
        let whole = status::is_whole(&status) && status.sets.iter().all(two);
        let fewer = held(&status, SMALL).len() < before.len();
        let report = || format!("{spaces:?}, holds {:?}", held(&status, SMALL));
        if roomy && whole && fewer { Ok(()) } else { Err(report()) }
    });
    for number in 0..keys {
        let read = block_on(session.get(key(number))).expect("a read");
        assert_eq!(read.item.map(|it| it.value), Some(value(number)), "key {number}");
    }
    let log = std::fs::read_to_string(made.cluster.directory().join("logs/meta.log"));
    let log = log.expect("the metaserver's log");
    let moved = log.lines().filter(|it| it.contains("moves, for a server is nearly full")).count();
    let after = held(&until_whole(&client), SMALL);
    assert!(after.is_subset(&before), "nothing comes back: {before:?}, {after:?}");
    assert_eq!(moved, before.len() - after.len(), "as many as it takes, each once");
}

#[test]
fn memory_that_is_nearly_full_is_given_away() {
    fill(false, 400, "12MiB", "64MiB");
}

#[test]
fn a_disk_that_is_nearly_full_is_given_away() {
    fill(true, 1_000, "40MiB", "512MiB");
}
