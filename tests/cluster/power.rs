//! The whole cluster dies at once and comes back, where servers keep what they hold.
//!
//! Goal: after `kill -9` of every process under load, with spawned servers and without, all that
//! was acknowledged is there again, no key set is lost, and no copy was made anew: the members
//! are the same servers; also with many checkpoints. A server that forgets its log is no heir, and
//! is copied anew.
//! Method: as in `loopback`, with durable servers; a load that keeps account of every answer.

use tandem::client::block_on;
use tandem::protocol::types::ServerId;
use tandem_local::{Load, Plan, Role, status};

use super::TestCluster;
use super::loopback::{client, until_progress, until_whole};

fn all_come_back(plan: &Plan) {
    let mut made = TestCluster::start(plan);
    for round in 0..2 {
        let client = client(&made);
        let mut load = Load::new();
        until_whole(&client);
        load.join(&client, &format!("round-{round}"), 4);
        until_progress(&load, 200);
        made.cluster.kill_all().expect("running processes");
        made.cluster.start_all().expect("the binary starts");
        until_progress(&load, 100);
        until_whole(&client);
        // What was in flight may be unknown; what was acknowledged is read back.
        load.finish(&client).expect("no promise is broken");
        let status = block_on(status::ask(&client)).expect("the cluster is up");
        assert!(status::is_whole(&status), "{status:?}");
        assert!(
            status
                .sets
                .iter()
                .all(|it| it.configuration.as_ref().is_some_and(|it| it.loss_epoch.0 == 0)),
            "{status:?}"
        );
    }
}

#[test]
fn all_come_back_with_spawned_servers() {
    all_come_back(&Plan { durable: true, ..Plan::default() });
}

#[test]
fn all_come_back_where_nobody_is_spawned() {
    let settings = vec!["checkpoint_log = \"16KiB\"".to_owned()];
    all_come_back(&Plan { durable: true, spawn: false, workers: 2, settings, ..Plan::default() });
}

#[test]
fn a_server_without_its_log_is_copied_anew() {
    let mut made = TestCluster::start(&Plan { durable: true, spawn: false, ..Plan::default() });
    let client = client(&made);
    let mut load = Load::new();
    until_whole(&client);
    load.join(&client, "a", 4);
    until_progress(&load, 200);
    made.cluster.kill(Role::Server(ServerId(1))).expect("a running server");
    let log = made.cluster.directory().join("state/server-1/worker-0/log");
    let mut files: Vec<_> = std::fs::read_dir(&log).expect("its log").flatten().collect();
    files.retain(|entry| entry.path().extension().is_some_and(|it| it == "log"));
    files.sort_by_key(|entry| entry.path());
    let last = files.last().expect("a log has files").path();
    // A bit of the first frame goes bad.
    let mut bytes = std::fs::read(&last).expect("a file of the log");
    bytes[60] ^= 1;
    std::fs::write(&last, bytes).expect("a file of the log");
    made.cluster.start_server(ServerId(1)).expect("the binary starts");
    until_progress(&load, 200);
    until_whole(&client);
    let aside = made.cluster.directory().join("state/server-1/worker-0.aside");
    assert!(aside.exists(), "what is damaged is put aside");
    load.finish(&client).expect("no promise is broken");
}
