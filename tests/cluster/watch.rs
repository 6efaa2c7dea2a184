//! `status --watch`: pictures of the cluster, one after the other, until somebody interrupts it.
//!
//! Goal: programs get one object a line, also while the metaserver is away, and Ctrl-C ends the
//! command as a success.
//! Method: the real command on a real cluster, read line by line; every line is awaited.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tandem_local::{CLIENT, Plan, Role};

use super::TestCluster;
use super::loopback::{client, until_whole};

/// Lines that may pass before the one that is waited for: each takes two seconds at most.
const LINES_MAX: usize = 100;

#[test]
fn the_status_is_watched_until_an_interrupt() {
    let mut made = TestCluster::start(&Plan::default());
    until_whole(&client(&made));
    let mut watch = made
        .cluster
        .client(CLIENT)
        .args(["status", "--watch", "50ms", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let out = watch.stdout.take().expect("it was piped");
    let mut lines = BufReader::new(out).lines().map(|line| {
        let line = line.expect("text");
        let object: serde_json::Value = serde_json::from_str(&line).expect("one object a line");
        assert!(object["at"].is_string(), "{line}");
        object
    });
    let mut until = |what: &str, wanted: fn(&serde_json::Value) -> bool| {
        lines.by_ref().take(LINES_MAX).find(wanted).unwrap_or_else(|| panic!("{what}"));
    };
    until("a whole cluster", |it| it["ready"] == true);
    until("another picture", |it| it["ready"] == true);
    made.cluster.kill(Role::Meta).expect("a running metaserver");
    until("words about the metaserver's absence", |it| it["error"].is_string());
    made.cluster.start_meta().expect("the binary starts");
    until("a whole cluster again", |it| it["ready"] == true);
    let pid = Pid::from_raw(i32::try_from(watch.id()).expect("a process number"));
    kill_process(pid.expect("a process number"), Signal::INT).expect("it runs");
    assert!(watch.wait().expect("a child").success(), "Ctrl-C is the way to end it");
}
