//! A server that was away for a while is sent what it missed, and not everything.
//!
//! Goal: after a restart the copies that it gets back hold what all others do, deletes included,
//! for a small part of the bytes that all of it would be; and a server that forgot its log is sent
//! everything.
//! Method: real processes, durable; what was copied is read from the primaries' logs. In the end
//! the server that came back is made the only one, and everything is read from it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tandem::client::{Client, Operation, block_on};
use tandem::protocol::types::ServerId;
use tandem_local::{Plan, Role, status};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

const KEYS: u32 = 6_000;
const AWAY: ServerId = ServerId(1);

type Held = BTreeMap<Bytes, Bytes>;

/// Carries out writes and keeps account of them.
fn write(client: &Client, held: &mut Held, operations: Vec<Operation>) {
    for operation in &operations {
        match operation {
            Operation::Put { key, value } => held.insert(key.clone(), value.clone()),
            Operation::Delete { key } => held.remove(key),
            other => panic!("{other:?} is no write of this test"),
        };
    }
    for answer in block_on(client.session().batch(operations)) {
        answer.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn put(number: u32, text: &str) -> Operation {
    let value = format!("{text} {number} {}", "x".repeat(200));
    Operation::Put { key: format!("key {number}").into(), value: value.into() }
}

fn read_all(client: &Client) -> Held {
    let mut scan = client.session().scan("", Default::default());
    let mut held = Held::new();
    while let Some(record) = block_on(scan.next()).unwrap_or_else(|error| panic!("{error}")) {
        held.insert(record.key, record.value);
    }
    held
}

/// Of the copies to the server that were complete: how many by difference, how many whole, and the
/// bytes of all.
fn copied(made: &TestCluster) -> (u32, u32, u64) {
    let mut sum = (0, 0, 0);
    let logs = std::fs::read_dir(made.cluster.directory().join("logs"));
    for log in logs.expect("the servers log").flatten() {
        let text = std::fs::read_to_string(log.path()).unwrap_or_default();
        let to = format!("learner=s{}.", AWAY.0);
        let ends = text.lines().filter(|it| it.contains("copy ends") && it.contains(&to));
        for line in ends.filter(|it| it.contains("complete=true")) {
            let number = |name: &str| {
                let word = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
                word.parse::<u64>().ok()
            };
            // The learner itself tells of its runs too, without figures.
            let (keys, bytes) = (number("keys="), number("bytes="));
            let by_difference = number("since=").is_some();
            if by_difference {
                sum.0 += 1;
            } else if keys > Some(0) {
                sum.1 += 1;
            }
            sum.2 += bytes.unwrap_or(0);
        }
    }
    sum
}

/// Takes the server away, writes what it misses, brings it back, and tells what was copied.
fn away(made: &mut TestCluster, client: &Client, held: &mut Held, forget: bool) -> (u32, u32, u64) {
    let before = copied(made);
    made.cluster.kill(Role::Server(AWAY)).expect("a running server");
    let missed = (0..40).map(|it| put(it * 7, "missed"));
    let gone = (0..20).map(|it| Operation::Delete { key: format!("key {}", it * 11 + 5).into() });
    write(client, held, missed.chain(gone).collect());
    // Only a server that was removed is copied; one that is merely late is an heir.
    wait::until("the removal of the dead server", WHOLE, || {
        let status = block_on(status::ask(client)).map_err(|error| format!("{error:#}"))?;
        let named = |it: &tandem::protocol::types::Configuration| {
            it.members().any(|member| member.server == AWAY)
        };
        let left = status.sets.iter().filter(|it| it.configuration.as_ref().is_some_and(named));
        let left = left.count();
        if left == 0 { Ok(()) } else { Err(format!("{left} key sets name it")) }
    });
    if forget {
        let state = made.cluster.directory().join(format!("state/server-{}", AWAY.0));
        std::fs::remove_dir_all(state.join("worker-0")).expect("its state");
    }
    made.cluster.start_server(AWAY).expect("the binary starts");
    until_whole(client);
    let after = copied(made);
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[test]
fn who_was_away_gets_only_what_it_missed() {
    let plan = Plan { durable: true, spawn: false, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    let mut held = Held::new();
    for part in 0..KEYS / 500 {
        let keys = part * 500..(part + 1) * 500;
        write(&client, &mut held, keys.map(|it| put(it, "first")).collect());
    }
    let all: u64 = held.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
    let (differing, whole, bytes) = away(&mut made, &client, &mut held, false);
    assert!(differing > 0 && whole == 0, "{differing} by difference, {whole} whole");
    // The commits of the last batch are not in its log: those records are sent too.
    assert!(bytes * 10 < all, "{bytes} bytes copied, {all} held");
    assert_eq!(read_all(&client), held);
    // The only server left reads the same.
    for other in [2, 3].map(ServerId) {
        made.cluster.terminate(Role::Server(other), WHOLE).expect("it stops in order");
    }
    assert_eq!(read_all(&client), held);
}

#[test]
fn who_forgot_everything_gets_everything() {
    let plan = Plan { durable: true, spawn: false, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    let mut held = Held::new();
    write(&client, &mut held, (0..500).map(|it| put(it, "first")).collect());
    let (differing, whole, _) = away(&mut made, &client, &mut held, true);
    assert!(differing == 0 && whole > 0, "{differing} by difference, {whole} whole");
    assert_eq!(read_all(&client), held);
}
