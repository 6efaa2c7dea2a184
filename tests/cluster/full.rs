//! A metaserver whose own disk is full.
//!
//! Goal: with no room left a dead server is replaced all the same, from room that was taken ahead;
//! where there is none at all, healthy key sets go on, nothing is decided that is not durable, the
//! log and `status` say what is wrong, and the recovery happens by itself once there is room.
//! Method: the metaserver's state on a small tmpfs, in a namespace of the test's own, that a
//! foreign file fills; real servers under load, of which one is killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::Value;
use tandem::client::{Client, block_on};
use tandem::protocol::meta::Status;
use tandem::protocol::placement;
use tandem::protocol::types::ServerId;
use tandem_local::{ADMIN, CLIENT, Load, Plan, Role, status};

use super::loopback::{WHOLE, busiest, client, until_progress, until_whole};
use super::network::isolated;
use super::space::Disk;
use super::{TestCluster, wait};

const KEY_SETS: u16 = 64;

/// A durable cluster whose metaserver's state is on a small disk.
fn start() -> (TestCluster, Disk, Client) {
    super::space::run("ip", "link set lo up");
    let plan = Plan { durable: true, spawn: false, key_sets: KEY_SETS, ..Plan::default() };
    let mut made = TestCluster::create(&plan);
    let disk = Disk::mount(&made.cluster.config().meta().state, "16m");
    made.cluster.start_all().expect("the binary starts");
    let client = client(&made);
    until_whole(&client);
    (made, disk, client)
}

/// Makes the journal of a metaserver that does not run as small as it can be.
fn compact(state: &Path) {
    let mut journal = redb::Database::open(state.join("meta.redb")).expect("nobody has it");
    while journal.compact().expect("there is room yet") {}
}

/// Takes the room from the journal that it had taken ahead, as a file system may that copies on
/// write: what of it is not in use becomes a hole.
fn dig_holes(state: &Path) {
    const PAGE: usize = 4096;
    let path = state.join("meta.redb");
    let file = File::options().write(true).open(&path).expect("the journal is there");
    let bytes = std::fs::read(&path).expect("it can be read");
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (page, content) in bytes.chunks_exact(PAGE).enumerate() {
        if content.iter().all(|&byte| byte == 0) {
            let offset = (page * PAGE) as u64;
            fallocate(&file, flags, offset, PAGE as u64).expect("tmpfs has holes");
        }
    }
}

/// Fills the disk, to a foreign file that keeps nothing free.
fn fill(made: &TestCluster, disk: &mut Disk) {
    disk.take(100);
    let state = &made.cluster.config().meta().state;
    let probe = File::create(state.join("probe")).and_then(|it| it.write_all_at(&[1], 0));
    assert!(probe.is_err(), "the disk is not full");
}

fn shown(made: &TestCluster) -> Value {
    let run = made.cluster.client(CLIENT).args(["-o", "json", "status"]).output();
    let run = run.expect("the binary runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("a document")
}

fn log_of_meta(made: &TestCluster) -> String {
    let path = made.cluster.directory().join("logs/meta.log");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A key of a key set that `server` holds nothing of.
fn healthy_key(status: &Status, server: ServerId) -> String {
    let count = u16::try_from(status.sets.len()).expect("64 key sets");
    let healthy = |key: &String| {
        let set = usize::from(placement::key_set(key.as_bytes(), count).0);
        let configuration = status.sets[set].configuration.as_ref();
        configuration.is_some_and(|it| it.members().all(|member| member.server != server))
    };
    (0..).map(|it: u32| it.to_string()).find(healthy).expect("three servers, two copies")
}

fn epochs(client: &Client) -> Vec<u64> {
    let status = block_on(status::ask(client)).expect("it answers from what is durable");
    let sets = status.sets.iter();
    sets.filter_map(|it| it.configuration.as_ref().map(|it| it.epoch.0)).collect()
}

#[test]
fn a_full_disk_of_the_metaserver_stops_no_recovery() {
    isolated(|| {
        let (mut made, mut disk, client) = start();
        let victim = busiest(&until_whole(&client));
        let mut load = Load::new();
        load.join(&client, "a", 4);
        until_progress(&load, 50);
        fill(&made, &mut disk);
        made.cluster.kill(Role::Server(victim)).expect("a running server");
        wait::until("the removal of the dead server", WHOLE, || {
            let status = block_on(status::ask(&client)).map_err(|error| format!("{error:#}"))?;
            let names = status.sets.iter().filter(|it| {
                let configuration = it.configuration.as_ref();
                configuration.is_some_and(|it| it.members().any(|it| it.server == victim))
            });
            let left = names.count();
            if left == 0 { Ok(()) } else { Err(format!("{left} key sets name it")) }
        });
        made.cluster.start_server(victim).expect("the binary starts");
        until_whole(&client);
        assert_eq!(shown(&made)["metaserver"]["space"]["level"], "hard");
        // A start finds the room that was kept for it, and the decisions that were taken.
        made.cluster.kill(Role::Meta).expect("a running metaserver");
        made.cluster.start_meta().expect("the binary starts");
        until_whole(&client);
        let tally = load.finish(&client).expect("no promise is broken");
        assert_eq!(tally.failed(), 0, "a request failed: {tally:?}");
    });
}

#[test]
fn without_any_room_healthy_sets_go_on_and_the_rest_waits() {
    isolated(|| {
        let (mut made, mut disk, client) = start();
        let status = until_whole(&client);
        let victim = busiest(&status);
        let mut load = Load::new();
        load.join(&client, "a", 4);
        until_progress(&load, 50);
        let state = made.cluster.config().meta().state.clone();
        made.cluster.kill(Role::Meta).expect("a running metaserver");
        compact(&state);
        made.cluster.start_meta().expect("the binary starts");
        until_whole(&client);
        std::fs::remove_file(state.join("meta.reserve")).expect("room is kept");
        dig_holes(&state);
        fill(&made, &mut disk);
        let before = epochs(&client);
        made.cluster.kill(Role::Server(victim)).expect("a running server");
        wait::until("a decision that finds no room", WHOLE, || {
            let log = log_of_meta(&made);
            let waits = log.contains("is full: make room on it; nothing changes until then");
            waits.then_some(()).ok_or_else(|| log.lines().last().unwrap_or_default().to_owned())
        });
        let session = client.session();
        let key = healthy_key(&status, victim);
        for number in 0..200 {
            block_on(session.put(key.clone(), number.to_string())).expect("writes go on");
            let read = block_on(session.get(key.clone())).expect("reads go on");
            assert!(read.item.is_some_and(|it| it.value == number.to_string()));
        }
        let said = shown(&made);
        assert_eq!(said["metaserver"]["waits_for_room"], true, "{said}");
        assert_eq!(said["metaserver"]["directory"], state.display().to_string(), "{said}");
        let table = made.cluster.client(CLIENT).arg("status").output().expect("the binary runs");
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(table.contains("its disk is FULL") && table.contains("/state/meta"), "{table}");
        let fence = made.cluster.client(ADMIN).args(["admin", "fence", "s1.1"]).output();
        let fence = fence.expect("the binary runs");
        assert_eq!(fence.status.code(), Some(5), "{}", String::from_utf8_lossy(&fence.stderr));
        assert_eq!(epochs(&client), before, "something was said that is not durable");
        disk.give(u64::MAX);
        until_progress(&load, 50);
        made.cluster.start_server(victim).expect("the binary starts");
        until_whole(&client);
        assert_eq!(shown(&made)["metaserver"]["waits_for_room"], false);
        assert!(log_of_meta(&made).contains("has room again"));
        load.finish(&client).expect("no promise is broken");
    });
}
