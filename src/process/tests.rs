//! Tests of state directories and of the spawner.
//!
//! Goal: a directory has one holder and its files survive; a server's end is heard exactly once,
//! of children and of adopted ones; no process is taken for another one. Method: real processes
//! (`sleep`, `sh`) in scratch directories, killed by number; every wait is for the condition.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, getpgid, kill_process};

use super::spawner::LOG_BYTES_MAX;
use super::state_dir::{PROCESS, SPAWNED};
use super::*;
use crate::protocol::types::{ClusterId, Epoch, Incarnation, Member, ServerId};

const SERVER: ServerId = ServerId(1);

/// A directory that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("process-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the scratch directory can be made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the scratch directory can be removed");
    }
}

fn spawner(state: &Path, program: &str, arguments: &[&str]) -> Spawner {
    let launch = Launch {
        state: state.to_owned(),
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
    };
    Spawner::new(BTreeMap::from([(SERVER, launch)]))
}

fn sleeper(state: &Path) -> Spawner {
    spawner(state, "/bin/sleep", &["600"])
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).expect("a process number")
}

fn kill(process: u32) {
    kill_process(pid(process), Signal::KILL).expect("the process is there");
}

#[test]
fn a_directory_has_one_holder() {
    let scratch = Scratch::new("holder");
    let dir = scratch.0.join("made/on/the/way");
    let held = StateDir::lock(&dir).expect("nobody has it");
    let error = StateDir::lock(&dir).expect_err("it is taken");
    let own = std::process::id();
    assert!(matches!(error, StateError::InUse { holder: Some(holder), .. } if holder == own));
    assert!(error.to_string().contains("stop that process first"), "{error}");
    drop(held);
    StateDir::lock(&dir).expect("it is free again");
}

#[test]
fn the_files_of_a_directory_survive() {
    let scratch = Scratch::new("files");
    let member = Member { server: ServerId(3), incarnation: Incarnation(12) };
    let cluster = ClusterId(std::array::from_fn(|index| 0xf0 | index as u8));
    let known = KnownCluster { cluster, highest_epoch: Epoch(41) };
    let state = StateDir::lock(&scratch.0).expect("free");
    assert_eq!(state.cluster().expect("no file is fine"), None);
    assert_eq!(state.identity().expect("no file is fine"), None);
    state.store_cluster(KnownCluster { highest_epoch: Epoch(1), ..known }).expect("writes");
    state.store_cluster(known).expect("writes again");
    let identity = OwnIdentity { member, memory: Incarnation(7) };
    state.store_identity(identity).expect("writes");
    drop(state);
    let state = StateDir::lock(&scratch.0).expect("free");
    assert_eq!(state.cluster().expect("reads"), Some(known));
    assert_eq!(state.identity().expect("reads"), Some(identity));
}

#[test]
fn the_reset_seed_is_drawn_once_and_of_its_owner_alone() {
    let (scratch, other) = (Scratch::new("seed"), Scratch::new("other-seed"));
    let state = StateDir::lock(&scratch.0).expect("free");
    let seed = state.reset_seed().expect("drawn");
    drop(state);
    let state = StateDir::lock(&scratch.0).expect("free");
    assert_eq!(state.reset_seed().expect("reads"), seed, "it outlives the process");
    let stranger = StateDir::lock(&other.0).expect("free").reset_seed().expect("drawn");
    assert_ne!(stranger, seed, "no two directories share one");
    let file = scratch.0.join("reset-seed");
    let mode = || fs::metadata(&file).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::write(&file, "seed 12\n").expect("writes");
    let again = state.reset_seed().expect("a damaged one is replaced");
    assert_eq!((state.reset_seed().expect("reads"), mode()), (again, 0o600));
}

#[test]
fn a_damaged_file_is_named() {
    let scratch = Scratch::new("damaged");
    let state = StateDir::lock(&scratch.0).expect("free");
    let uuid = "00112233-4455-6677-8899-aabbccddeeff";
    let good = format!("cluster {uuid}\nhighest_epoch 2\n");
    let file = scratch.0.join("cluster");
    fs::write(&file, &good).expect("writes");
    assert!(state.cluster().expect("intact").is_some());
    let cases = [
        String::new(),
        good.replace("2\n", "x\n"),
        good.replace("ff\n", "\n"),
        good.replace("-4455", "4455"),
        good.replace("00112233", "+0112233"),
        format!("{good}more\n"),
    ];
    for text in cases {
        fs::write(&file, &text).expect("writes");
        let error = state.cluster().expect_err(&text);
        assert!(matches!(&error, StateError::Damaged { path } if *path == file), "{error}");
    }
    fs::write(&file, [0xff, 0xfe]).expect("writes");
    assert!(matches!(state.cluster(), Err(StateError::Damaged { .. })));
}

#[test]
fn a_process_is_read_whatever_its_name() {
    let stat = "7 (a ) S (b) R 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
    assert_eq!(parse_stat(stat), Some(("R", 4242)));
    assert_eq!(parse_stat("7 (short) R 1 2"), None);
    let own = ProcessRecord::of(std::process::id()).expect("reads").expect("alive");
    assert!(own.handle().expect("reads").is_some());
}

#[tokio::test]
async fn a_child_is_started_once_and_its_end_is_heard() {
    let scratch = Scratch::new("child");
    let mut spawner = sleeper(&scratch.0);
    let process = spawner.start(SERVER).expect("starts");
    assert_eq!(spawner.start(SERVER).expect("runs already"), process);
    assert_eq!(getpgid(Some(pid(process))).expect("alive"), pid(process), "its own group");
    kill(process);
    let exited = spawner.exited().await;
    assert_eq!((exited.server, exited.process), (SERVER, process));
    assert_eq!(exited.status.and_then(|status| status.signal()), Some(9));
    assert!(!Path::new(&format!("/proc/{process}")).exists(), "the child is reaped");
    assert_eq!(spawner.adopt(SERVER).expect("reads"), None);
    let second = spawner.start(SERVER).expect("starts again");
    assert_ne!(second, process);
    kill(second);
    assert_eq!(spawner.exited().await.process, second);
}

#[tokio::test]
async fn an_end_that_nobody_waited_for_is_not_lost() {
    let scratch = Scratch::new("early");
    let script = "echo out; echo err >&2; cat; exit 3";
    let mut spawner = spawner(&scratch.0, "/bin/sh", &["-c", script]);
    let process = spawner.start(SERVER).expect("starts");
    let early = tokio::select! {
        biased;
        exited = spawner.exited() => Some(exited),
        () = std::future::ready(()) => None,
    };
    let exited = match early {
        Some(exited) => exited,
        None => spawner.exited().await,
    };
    assert_eq!(exited.process, process);
    assert_eq!(exited.status.and_then(|status| status.code()), Some(3));
    let log = fs::read_to_string(scratch.0.join("server.log")).expect("the log is there");
    assert_eq!(log, "out\nerr\n");
}

#[tokio::test]
async fn a_large_log_is_set_aside_at_a_start() {
    let scratch = Scratch::new("log");
    let (log, before) = (scratch.0.join("server.log"), scratch.0.join("server.log.1"));
    let size = |path: &Path| fs::metadata(path).map(|it| it.len()).ok();
    let mut spawner = spawner(&scratch.0, "/bin/echo", &["word"]);
    for (bytes, expected) in [
        (LOG_BYTES_MAX, (Some(LOG_BYTES_MAX + 5), None)),
        (LOG_BYTES_MAX + 1, (Some(5), Some(LOG_BYTES_MAX + 1))),
        (LOG_BYTES_MAX + 2, (Some(5), Some(LOG_BYTES_MAX + 2))),
    ] {
        // A hole: it takes no room on the disk.
        fs::File::create(&log).and_then(|file| file.set_len(bytes)).expect("writes");
        let process = spawner.start(SERVER).expect("starts");
        assert_eq!(spawner.exited().await.process, process);
        assert_eq!((size(&log), size(&before)), expected, "after {bytes} bytes");
    }
}

#[tokio::test]
async fn a_second_spawner_adopts_and_hears_the_end() {
    let scratch = Scratch::new("adopt");
    let mut first = sleeper(&scratch.0);
    let process = first.start(SERVER).expect("starts");
    let mut second = sleeper(&scratch.0);
    assert_eq!(second.adopt(SERVER).expect("reads"), Some(process));
    assert_eq!(second.start(SERVER).expect("adopted"), process, "never started twice");
    kill(process);
    let exited = second.exited().await;
    assert_eq!(exited, Exited { server: SERVER, process, status: None });
    let mut third = sleeper(&scratch.0);
    assert_eq!(third.adopt(SERVER).expect("reads"), None, "dead, though not reaped yet");
    assert_eq!(first.exited().await.process, process);
}

#[tokio::test]
async fn a_reused_number_is_not_adopted() {
    let scratch = Scratch::new("reused");
    let own = ProcessRecord::of(std::process::id()).expect("reads").expect("alive");
    let mut spawner = sleeper(&scratch.0);
    let strangers = [
        ProcessRecord { started: own.started + 1, ..own.clone() },
        ProcessRecord { boot: "another".to_owned(), ..own.clone() },
        ProcessRecord { process: 0, ..own.clone() },
        ProcessRecord { process: u32::MAX, ..own.clone() },
    ];
    for stranger in strangers {
        stranger.write(&scratch.0.join(SPAWNED)).expect("writes");
        assert_eq!(spawner.adopt(SERVER).expect("reads"), None, "{stranger:?}");
    }
    fs::write(scratch.0.join(PROCESS), [0xff]).expect("writes");
    assert_eq!(spawner.adopt(SERVER).expect("a record that makes no sense is none"), None);
    own.write(&scratch.0.join(SPAWNED)).expect("writes");
    assert_eq!(spawner.adopt(SERVER).expect("reads"), Some(own.process));
}

#[tokio::test]
async fn a_holder_of_the_lock_is_never_doubled() {
    let scratch = Scratch::new("held");
    let held = StateDir::lock(&scratch.0).expect("free");
    let mut by_record = sleeper(&scratch.0);
    assert_eq!(by_record.start(SERVER).expect("adopts"), std::process::id());
    fs::remove_file(scratch.0.join(PROCESS)).expect("removes");
    let error = sleeper(&scratch.0).start(SERVER).expect_err("somebody unknown has it");
    assert!(matches!(error, SpawnError::Held { .. }), "{error}");
    drop(held);
}

#[tokio::test]
async fn what_can_not_be_started_is_told() {
    let scratch = Scratch::new("refused");
    let mut spawner = spawner(&scratch.0, "/does/not/exist", &[]);
    let error = spawner.start(SERVER).expect_err("no such program").to_string();
    assert!(error.contains("server 1") && error.contains("/does/not/exist"), "{error}");
    let error = spawner.start(ServerId(9)).expect_err("not listed");
    assert!(matches!(error, SpawnError::Unlisted { server: ServerId(9) }), "{error}");
}
