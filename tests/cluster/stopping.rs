//! A whole cluster that is stopped in order, by one command, and started again.
//!
//! Goal: every process ends by itself and with success; on the way down nothing is promoted,
//! removed or lost, so that all come back as heirs of themselves: everything acknowledged is there,
//! no copy is made anew, and an epoch has grown once for each heir. A cluster that would lose
//! everything is not stopped without consent.
//! Method: real processes under load; the command as people use it; logs and statuses compared.

use std::collections::BTreeMap;

use serde_json::Value;
use tandem::client::{Client, Operation, block_on};
use tandem::protocol::meta::{SetStatus, Status};
use tandem::protocol::types::{KeySet, ServerId};
use tandem_local::{ADMIN, CLIENT, Load, Plan, Role, status};

use super::loopback::{WHOLE, client, until_progress, until_whole};
use super::{TestCluster, wait};

const KEYS: u32 = 2_000;

/// Runs `admin stop-cluster` with `-o json`; its exit code, its document and its words.
fn stop(made: &TestCluster, words: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = made.cluster.client(ADMIN);
    command.args(["-o", "json", "admin", "stop-cluster"]).args(words);
    let output = command.output().expect("the binary runs");
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said, errors)
}

fn fill(client: &Client) {
    let put = |number: u32| Operation::Put {
        key: format!("key {number}").into(),
        value: format!("value {number}").into(),
    };
    for answer in block_on(client.session().batch((0..KEYS).map(put).collect())) {
        answer.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn is_filled(client: &Client) {
    let mut scan = client.session().scan("key ", Default::default());
    let mut found = 0;
    while let Some(record) = block_on(scan.next()).unwrap_or_else(|error| panic!("{error}")) {
        let number = String::from_utf8_lossy(&record.key).replace("key ", "");
        assert_eq!(String::from_utf8_lossy(&record.value), format!("value {number}"));
        found += 1;
    }
    assert_eq!(found, KEYS);
}

/// By key set: epoch, primary and secondaries.
type Held = BTreeMap<KeySet, (u64, ServerId, Vec<ServerId>)>;

fn held(status: &Status) -> Held {
    let of_set = |it: &SetStatus| {
        let configuration = it.configuration.as_ref()?;
        assert_eq!(configuration.loss_epoch.0, 0, "{configuration:?}");
        let secondaries = configuration.secondaries.iter().map(|it| it.server).collect();
        Some((it.set, (configuration.epoch.0, configuration.primary.server, secondaries)))
    };
    status.sets.iter().filter_map(of_set).collect()
}

/// What all processes logged so far.
fn logs(made: &TestCluster) -> String {
    let folders = made.cluster.logs().into_iter();
    let files = folders.flat_map(|it| std::fs::read_dir(it).into_iter().flatten().flatten());
    let logs = files.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "log"));
    logs.filter_map(|it| std::fs::read_to_string(it).ok()).collect()
}

fn count(made: &TestCluster, words: &[&str]) -> usize {
    logs(made).lines().filter(|line| words.iter().any(|word| line.contains(word))).count()
}

/// Changes of configuration that are none of an heir's, and copies.
const CHANGES: [&str; 5] = ["copy ends", "promoted", "removed", "LOST", "handed over"];

fn ends_and_comes_back(plan: &Plan) {
    let mut made = TestCluster::start(plan);
    let client = client(&made);
    until_whole(&client);
    fill(&client);
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 200);
    let (before, changes) = (held(&until_whole(&client)), count(&made, &CHANGES));
    let (code, said, errors) = stop(&made, &[]);
    assert_eq!(code, Some(0), "{said} {errors}");
    assert_eq!(said["stopped"], true, "{said}");
    let servers = said["servers"].as_array().expect("a list").clone();
    assert!(servers.iter().all(|it| it["state"] == "ended") && servers.len() == 3, "{said}");
    assert_eq!(made.cluster.processes().expect("a list"), [], "a process is left");
    let own = if plan.spawn { 0 } else { 3 };
    let roles = (1..=own).map(|id| Role::Server(ServerId(id))).chain([Role::Meta]);
    for role in roles {
        wait::until("the end of a child", WHOLE, || {
            let status = made.cluster.exit_of(role).ok_or_else(|| format!("{role:?} runs"))?;
            assert!(status.success(), "{role:?} ended with {status}");
            Ok(())
        });
    }
    let ended = count(&made, &["status=\"exit status: 0\""]);
    assert_eq!(ended, if plan.spawn { 3 } else { 0 }, "the metaserver saw other ends");
    assert_eq!(count(&made, &CHANGES), changes, "something was changed on the way down");
    made.cluster.start_all().expect("the binary starts");
    until_progress(&load, 100);
    let after = held(&until_whole(&client));
    assert_eq!(count(&made, &CHANGES), changes, "something was changed on the way up");
    // Each of the two members of a key set has had one heir.
    let moved: Held = before
        .into_iter()
        .map(|(set, (epoch, first, all))| (set, (epoch + 2, first, all)))
        .collect();
    assert_eq!(after, moved);
    is_filled(&client);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!(tally.unknown, 0, "a client has to guess: {tally:?}");
}

#[test]
fn a_stopped_cluster_of_spawned_servers_comes_back_as_it_was() {
    ends_and_comes_back(&Plan { durable: true, ..Plan::default() });
}

#[test]
fn a_stopped_cluster_without_spawned_servers_comes_back_as_it_was() {
    ends_and_comes_back(&Plan { durable: true, spawn: false, workers: 2, ..Plan::default() });
}

#[test]
fn what_would_be_lost_is_not_stopped_without_consent() {
    let made = TestCluster::start(&Plan::default());
    let client = client(&made);
    until_whole(&client);
    block_on(client.session().put("key", "value")).expect("it serves");
    let (code, _, errors) = stop(&made, &[]);
    assert!(code == Some(5) && errors.contains("--accept-loss"), "{code:?}: {errors}");
    let mut command = made.cluster.client(CLIENT);
    let denied = command.args(["admin", "stop-cluster", "--accept-loss"]).output();
    let denied = denied.expect("the binary runs");
    let errors = String::from_utf8_lossy(&denied.stderr);
    assert!(denied.status.code() == Some(5) && errors.contains("administrator"), "{errors}");
    assert!(status::is_whole(&block_on(status::ask(&client)).expect("it serves")));
    let read = block_on(client.session().get("key")).expect("it serves");
    assert!(read.item.is_some());
    let mut command = made.cluster.client(ADMIN);
    let stopped = command.args(["admin", "stop-cluster", "--accept-loss"]).output();
    let stopped = stopped.expect("the binary runs");
    let words = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (said, progress) = (words(&stopped.stdout), words(&stopped.stderr));
    assert_eq!(stopped.status.code(), Some(0), "{said} {progress}");
    assert_eq!(said, "all is down: 3 servers and the metaserver\n");
    assert!(progress.contains("3 of 3 servers have ended; the metaserver ends"), "{progress}");
    assert_eq!(made.cluster.processes().expect("a list"), [], "a process is left");
}
