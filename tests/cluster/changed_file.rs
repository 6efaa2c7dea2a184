//! `key_sets`, a server's number of workers or the engine is changed after the cluster was made.
//!
//! Goal: no process starts with what can not be, each says what is right, and nothing is lost:
//! with the right file again, everything acknowledged is there.
//! Method: clusters whose file says less, then more, than they were made with; each role is
//! started with it, and ends by itself.

use tandem::client::{Session, block_on};
use tandem::protocol::types::ServerId;
use tandem_local::{Plan, Role};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

const KEYS: u32 = 100;

/// Has the file say `count`, whatever it says.
fn write_count(made: &TestCluster, count: u16) {
    let path = made.cluster.config().path();
    let text = std::fs::read_to_string(path).expect("the cluster's file");
    let changed: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with("key_sets") {
                format!("key_sets = {count}")
            } else {
                line.to_owned()
            }
        })
        .collect();
    std::fs::write(path, changed.join("\n") + "\n").expect("the file can be written");
}

/// The process of `role` ends by itself, with failure; its last words.
fn last_words(made: &mut TestCluster, role: Role) -> String {
    let log = match role {
        Role::Server(server) => format!("server-{}.log", server.0),
        _ => "meta.log".to_owned(),
    };
    wait::until("the end of a process with the wrong number", WHOLE, || {
        made.cluster.has_ended(role).then_some(()).ok_or_else(|| "it runs".to_owned())
    });
    let status = made.cluster.exit_of(role).expect("it has ended");
    let path = made.cluster.directory().join("logs").join(log);
    let text = std::fs::read_to_string(path).expect("its log");
    let last = text.lines().last().expect("last words");
    assert_eq!(status.code(), Some(3), "{last}");
    last.to_owned()
}

/// It ends, and names `count` and the remedy.
fn refuses(made: &mut TestCluster, role: Role, count: u16) {
    let last = last_words(made, role);
    assert!(last.contains(&format!("says key_sets = {count}")), "{last}");
    assert!(last.contains("the cluster was made with"), "{last}");
}

fn fill(session: &Session) {
    for number in 0..KEYS {
        block_on(session.put(format!("key-{number}"), "value")).expect("a write is done");
    }
}

fn is_filled(session: &Session) {
    for number in 0..KEYS {
        let read = block_on(session.get(format!("key-{number}"))).expect("a read");
        assert!(read.item.is_some(), "key {number} is gone");
    }
}

fn is_kept(durable: bool) {
    let plan = Plan { durable, spawn: false, servers: 2, ..Plan::default() };
    assert_eq!(plan.key_sets, 16);
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    let session = client.session();
    fill(&session);
    for count in [5, 40] {
        write_count(&made, count);
        // One that comes back to a cluster that runs.
        made.cluster.kill(Role::Server(ServerId(2))).expect("a running server");
        made.cluster.start_server(ServerId(2)).expect("the binary starts");
        refuses(&mut made, Role::Server(ServerId(2)), count);
        made.cluster.kill(Role::Meta).expect("a running metaserver");
        made.cluster.start_meta().expect("the binary starts");
        refuses(&mut made, Role::Meta, count);
        write_count(&made, 16);
        made.cluster.start_meta().expect("the binary starts");
        made.cluster.start_server(ServerId(2)).expect("the binary starts");
        until_whole(&client);
    }
    if durable {
        // All at once, so that nobody has a peer to copy from.
        made.cluster.kill_all().expect("running processes");
        write_count(&made, 5);
        for server in [1, 2].map(ServerId) {
            made.cluster.start_server(server).expect("the binary starts");
            refuses(&mut made, Role::Server(server), 5);
        }
        write_count(&made, 16);
        made.cluster.start_all().expect("the binary starts");
        until_whole(&client);
    }
    is_filled(&session);
}

#[test]
fn no_server_on_disks_starts_with_another_number() {
    is_kept(true);
}

#[test]
fn no_server_in_memory_starts_with_another_number() {
    is_kept(false);
}

#[test]
fn no_server_on_disks_starts_with_other_workers_or_in_memory() {
    let plan = Plan { durable: true, spawn: false, servers: 2, workers: 2, ..Plan::default() };
    let mut made = TestCluster::start(&plan);
    let client = client(&made);
    until_whole(&client);
    let session = client.session();
    fill(&session);
    made.cluster.kill_all().expect("running processes");
    let path = made.cluster.config().path().to_owned();
    let right = std::fs::read_to_string(&path).expect("the cluster's file");
    let one_worker = |line: &str| match line.split_once(", ") {
        Some((first, _)) if line.starts_with("workers") => format!("{first}]"),
        _ => line.to_owned(),
    };
    let one_worker: String = right.lines().map(|line| one_worker(line) + "\n").collect();
    let in_memory = right.replace("\"durable\"", "\"memory\"");
    let wrong = [(one_worker, "lists 1 in `workers`"), (in_memory, "says engine = \"memory\"")];
    for (text, named) in wrong {
        assert_ne!(text, right);
        std::fs::write(&path, text).expect("the file can be written");
        for server in [1, 2].map(ServerId) {
            made.cluster.start_server(server).expect("the binary starts");
            let last = last_words(&mut made, Role::Server(server));
            assert!(last.contains(named) && last.contains("copied anew"), "{last}");
        }
    }
    std::fs::write(&path, right).expect("the file can be written");
    made.cluster.start_all().expect("the binary starts");
    until_whole(&client);
    is_filled(&session);
}
