//! Backups of real clusters, through the command line as people use it.
//!
//! Goal: a backup taken under writes holds each key set as it was at one revision; restored into a
//! cluster of other key sets and servers it is the same, byte for byte; a damaged or unfinished
//! one is refused and changes nothing.
//! Method: writers that change two keys of one key set, always the first before the second; the
//! digest that `verify-backup` tells; bytes that are flipped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::Value;
use tandem::client::{Client, Operation, block_on};
use tandem::protocol::placement;
use tandem_local::Plan;

use super::TestCluster;
use super::loopback::{client, until_whole};

const KEY_SETS: u16 = 16;

/// Runs `tandem --role client -o json`; its exit code and what it says.
fn run(made: &TestCluster, words: &[&str]) -> (i32, Value, String) {
    let mut command = made.cluster.client("ops");
    command.args(["-o", "json", "--timeout", "20s"]).args(words);
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = serde_json::from_str(&text).unwrap_or(Value::Null);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), said, errors)
}

fn done(made: &TestCluster, words: &[&str]) -> Value {
    let (code, said, errors) = run(made, words);
    assert_eq!(code, 0, "{words:?}: {errors}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

/// Two keys of each key set, the first of which is always written first.
fn pairs() -> Vec<[String; 2]> {
    let in_set = |set: u16| {
        let keys = (0..).map(|number| format!("pair {number}"));
        let mut keys = keys.filter(|key| placement::key_set(key.as_bytes(), KEY_SETS).0 == set);
        [keys.next(), keys.next()].map(|key| key.expect("numbers do not end"))
    };
    (0..KEY_SETS).map(in_set).collect()
}

fn fill(client: &Client) {
    let keys = (0..3_000_u32).map(|number| Operation::Put {
        key: format!("key {number}").into(),
        value: vec![number as u8; (number % 700) as usize].into(),
    });
    for answer in block_on(client.session().batch(keys.collect())) {
        answer.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Counts every pair up, over and over, and says how often.
fn count_up(client: &Client, stop: &AtomicBool, rounds: &AtomicU64) {
    let session = client.session();
    let pairs = pairs();
    while !stop.load(Ordering::Relaxed) {
        for place in 0..2 {
            let step =
                |pair: &[String; 2]| Operation::Incr { key: pair[place].clone().into(), by: 1 };
            for answer in block_on(session.batch(pairs.iter().map(step).collect())) {
                answer.unwrap_or_else(|error| panic!("{error}"));
            }
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

fn number(client: &Client, key: &str) -> u64 {
    let read = block_on(client.session().get(key.to_owned())).expect("the cluster serves");
    let value = read.item.expect("the pair was written").value;
    String::from_utf8_lossy(&value).parse().expect("a number")
}

#[test]
fn what_is_backed_up_under_writes_is_restored_elsewhere() {
    let made = TestCluster::start(&Plan { key_sets: KEY_SETS, ..Plan::default() });
    let client_here = client(&made);
    until_whole(&client_here);
    fill(&client_here);
    let (first, second) = (made.folder.join("backup"), made.folder.join("again"));
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| count_up(&client_here, &stop, &rounds));
        super::wait::until("writes", super::loopback::WHOLE, || {
            let rounds = rounds.load(Ordering::Relaxed);
            if rounds > 3 { Ok(()) } else { Err(rounds.to_string()) }
        });
        let before = rounds.load(Ordering::Relaxed);
        done(&made, &["admin", "backup", text(&first)]);
        let during = rounds.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        assert!(during > 0, "nothing was written during the backup");
    });
    let told = done(&made, &["admin", "verify-backup", text(&first)]);
    assert_eq!(told["keys"], 3_000 + 2 * u64::from(KEY_SETS));

    let plan = Plan { key_sets: 7, servers: 2, name: "other".to_owned(), ..Plan::default() };
    let other = TestCluster::start(&plan);
    let client_there = client(&other);
    until_whole(&client_there);
    done(&other, &["admin", "restore", text(&first)]);
    for [before, after] in pairs() {
        let (before, after) = (number(&client_there, &before), number(&client_there, &after));
        assert!(before == after || before == after + 1, "torn: {before} and {after}");
    }
    done(&other, &["admin", "backup", text(&second)]);
    let again = done(&other, &["admin", "verify-backup", text(&second)]);
    assert_eq!((&again["digest"], &again["bytes"]), (&told["digest"], &told["bytes"]));
    assert_eq!(again["key_sets"], 7);
}

fn flip(path: &PathBuf) {
    let mut bytes = std::fs::read(path).expect("a file of the backup");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).expect("a file of the backup");
}

#[test]
fn what_is_no_whole_backup_is_refused() {
    let made = TestCluster::start(&Plan { key_sets: 4, ..Plan::default() });
    let client = client(&made);
    until_whole(&client);
    fill(&client);
    let folder = made.folder.join("backup");
    done(&made, &["admin", "backup", text(&folder)]);
    let (code, _, errors) = run(&made, &["admin", "backup", text(&folder)]);
    assert!(code == 2 && errors.contains("not empty"), "{code}: {errors}");
    let (code, _, errors) = run(&made, &["admin", "restore", text(&folder)]);
    assert!(code == 5 && errors.contains("--over"), "{code}: {errors}");
    done(&made, &["admin", "restore", "--over", text(&folder)]);
    let file = folder.join("set-00002.tandem");
    flip(&file);
    for words in [&["admin", "verify-backup"][..], &["admin", "restore", "--over"][..]] {
        let (code, _, errors) = run(&made, &[words, &[text(&folder)]].concat());
        assert!(code == 5 && errors.contains("set-00002.tandem"), "{code}: {errors}");
    }
    flip(&file);
    done(&made, &["admin", "verify-backup", text(&folder)]);
    std::fs::rename(folder.join("manifest.json"), folder.join("other")).expect("it is there");
    let (code, _, errors) = run(&made, &["admin", "verify-backup", text(&folder)]);
    assert!(code == 5 && errors.contains("no finished backup"), "{code}: {errors}");
}
