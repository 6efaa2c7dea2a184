//! The metaserver's state is lost while the servers live, and is rebuilt from what they say.
//!
//! Goal: living servers bear a metaserver that knows nothing; the command rebuilds its state only
//! while every member is there, and else names who is not and writes nothing; clients notice
//! nothing, and afterwards a failure is recovered from as ever. A metaserver that starts with the
//! lost state again is not obeyed.
//! Method: as in `power`; the metaserver is killed and its state directory taken away, under load.

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tandem::client::block_on;
use tandem::protocol::meta::Status;
use tandem::protocol::meta::rebuild::JUMP;
use tandem::protocol::types::ServerId;
use tandem_local::{Load, Plan, Role, status};

use super::loopback::{WHOLE, busiest, client, until_progress, until_whole};
use super::{TestCluster, wait};

fn meta_state(made: &TestCluster) -> PathBuf {
    made.cluster.directory().join("state/meta")
}

/// Where the metaserver's state is after it was lost.
fn lost_state(made: &TestCluster) -> PathBuf {
    made.cluster.directory().join("state/meta-lost")
}

/// Kills the metaserver and takes its state away.
fn lose_meta(made: &mut TestCluster) {
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    std::fs::rename(meta_state(made), lost_state(made)).expect("its state");
}

/// Runs the command and reads what it says.
fn rebuild(made: &TestCluster, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["-o", "json"], arguments].concat();
    let Output { status, stdout, stderr } =
        made.cluster.rebuild(&arguments).output().expect("the binary starts");
    let said = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    println!("{said}\n{}", String::from_utf8_lossy(&stderr));
    (status.code(), said)
}

/// All that the processes of the cluster logged so far.
fn logs(made: &TestCluster) -> String {
    let files = made.cluster.logs().into_iter().filter_map(|it| std::fs::read_dir(it).ok());
    let logs = files.flatten().flatten().map(|it| it.path());
    let logs = logs.filter(|it| it.extension().is_some_and(|it| it == "log"));
    logs.map(|it| std::fs::read_to_string(it).unwrap_or_default()).collect()
}

/// Waits until as many lines of the logs have all of `words`.
fn until_logged(made: &TestCluster, count: usize, words: &[&str]) {
    wait::until("a line of the log", WHOLE, || {
        let logs = logs(made);
        let found = logs.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        let found = found.count();
        if found >= count { Ok(()) } else { Err(format!("{found} lines with {words:?}")) }
    });
}

fn epochs(status: &Status) -> Vec<u64> {
    let known = status.sets.iter().filter_map(|it| it.configuration.as_ref());
    known.map(|it| it.epoch.0).collect()
}

/// The processes of the servers.
fn servers(made: &TestCluster) -> Vec<tandem_local::Process> {
    let mut all = made.cluster.processes().expect("a list");
    all.retain(|it| it.role != Role::Meta);
    all
}

/// Loses the state under load, starts a metaserver without it, rebuilds, and recovers.
fn comes_back(plan: &Plan) {
    let mut made = TestCluster::start(plan);
    let client = client(&made);
    until_whole(&client);
    let before = servers(&made);
    let mut load = Load::new();
    load.join(&client, "a", 4);
    until_progress(&load, 200);
    lose_meta(&mut made);
    // Nobody gives up what it serves for a metaserver that knows nothing.
    made.cluster.start_meta().expect("the binary starts");
    until_logged(&made, 3, &["served on without a metaserver", "rebuild"]);
    until_logged(&made, 1, &["this metaserver's state is empty", "rebuild"]);
    until_progress(&load, 200);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    let (code, said) = rebuild(&made, &[]);
    assert_eq!((code, &said["rebuilt"]), (Some(0), &Value::Bool(true)), "{said}");
    assert_eq!(said["servers"].as_array().map(Vec::len), Some(3), "{said}");
    let (code, _) = rebuild(&made, &[]);
    assert_eq!(code, Some(5), "what is there is not rebuilt over");
    until_progress(&load, 200);
    made.cluster.start_meta().expect("the binary starts");
    let status = until_whole(&client);
    assert!(epochs(&status).iter().all(|&epoch| epoch > JUMP), "{status:?}");
    assert_eq!(servers(&made), before, "every server lives on");
    until_progress(&load, 200);
    // A failure is one as ever.
    let victim = busiest(&status);
    made.cluster.kill(Role::Server(victim)).expect("a running server");
    if !plan.spawn {
        made.cluster.start_server(victim).expect("the binary starts");
    }
    until_progress(&load, 200);
    let status = until_whole(&client);
    let row = status.servers.iter().find(|it| it.id == victim).expect("it is listed");
    assert!(row.incarnation.0 > JUMP, "{row:?}");
    // Who started since knows that the lost state is an older one.
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    let rebuilt = made.cluster.directory().join("state/meta-rebuilt");
    std::fs::rename(meta_state(&made), &rebuilt).expect("its state");
    std::fs::rename(lost_state(&made), meta_state(&made)).expect("the lost state");
    let before = servers(&made);
    made.cluster.start_meta().expect("the binary starts");
    until_logged(&made, 1, &["this metaserver's state is older"]);
    until_progress(&load, 400);
    assert_eq!(servers(&made), before, "nobody obeys the lost state");
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    std::fs::remove_dir_all(meta_state(&made)).expect("the lost state");
    std::fs::rename(&rebuilt, meta_state(&made)).expect("the rebuilt state");
    made.cluster.start_meta().expect("the binary starts");
    until_progress(&load, 200);
    until_whole(&client);
    let tally = load.finish(&client).expect("no promise is broken");
    assert_eq!((tally.not_done, tally.unknown), (0, 0), "a request failed: {tally:?}");
    let status = block_on(status::ask(&client)).expect("the cluster is up");
    let lossless = |it: &tandem::protocol::types::Configuration| it.loss_epoch.0 == 0;
    assert!(
        status.sets.iter().all(|it| it.configuration.as_ref().is_some_and(lossless)),
        "{status:?}"
    );
}

#[test]
fn a_lost_state_is_rebuilt_with_spawned_servers() {
    comes_back(&Plan { durable: true, ..Plan::default() });
}

#[test]
fn a_lost_state_is_rebuilt_where_nobody_is_spawned_or_durable() {
    comes_back(&Plan { spawn: false, workers: 2, ..Plan::default() });
}

#[test]
fn while_a_server_is_away_nothing_is_written() {
    let plan = Plan { durable: true, spawn: false, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    let mut load = Load::new();
    load.join(&client, "a", 2);
    until_progress(&load, 100);
    lose_meta(&mut made);
    let (away, sets) = (ServerId(2), plan.key_sets);
    made.cluster.kill(Role::Server(away)).expect("a running server");
    let names = |said: &Value, reason: &str| {
        let missing = said["missing"].as_array().cloned().unwrap_or_default();
        assert_eq!(missing.len(), 1, "{said}");
        assert_eq!(missing[0]["reason"], reason, "{said}");
        assert_eq!(missing[0]["server"], u64::from(away.0), "{said}");
        let held_up = missing[0]["key_sets"].as_array().map_or(0, Vec::len);
        assert!(held_up > 0 && held_up < usize::from(sets), "{said}");
    };
    let (code, said) = rebuild(&made, &["--wait", "12s"]);
    assert_eq!(code, Some(3));
    names(&said, "silent");
    // It comes back as another one, which nobody can tell from one that forgot everything.
    made.cluster.start_server(away).expect("the binary starts");
    let (code, said) = rebuild(&made, &[]);
    assert_eq!(code, Some(5));
    names(&said, "started-anew");
    // Nothing was written: a metaserver knows nothing still. The state itself is the remedy.
    std::fs::remove_dir_all(meta_state(&made)).expect("an empty state");
    std::fs::rename(lost_state(&made), meta_state(&made)).expect("the lost state");
    made.cluster.start_meta().expect("the binary starts");
    until_whole(&client);
    load.finish(&client).expect("no promise is broken");
}
