//! A server whose disk is full: what grows is refused by its name, all else goes on, and it is
//! well again by itself as soon as there is room.
//!
//! Goal: a foreign file that takes the disk's space, as far as the last threshold and to the last
//! byte, costs no acknowledged write, no member and no epoch, wherever the full disk is met: at a
//! new file of the log, at a checkpoint, in the midst of a copy.
//! Method: two real servers, one of them on a small tmpfs that the test mounts in a namespace of
//! its own; a load with its ledger beside values that fill the disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use tandem::client::{Client, Error, Session, block_on};
use tandem::protocol::message::{MetaAnswer, MetaRequest, Refusal};
use tandem::protocol::session::NotDone;
use tandem::protocol::space::{Level, Space};
use tandem::protocol::types::{Incarnation, ServerId};
use tandem_local::{CLIENT, Load, Plan, Role, status};

use super::loopback::{WHOLE, client, until_progress, until_whole};
use super::network::isolated;
use super::{TestCluster, wait};

/// The server on the small disk.
const SMALL: ServerId = ServerId(2);

/// Bytes of a value, and how many keys have one.
const VALUE_BYTES: usize = 64 << 10;
const KEYS: u32 = 400;

/// How long an operation may take where nothing stands against it.
const SOON: Duration = Duration::from_secs(5);

pub fn run(program: &str, arguments: &str) {
    let run = Command::new(program).args(arguments.split(' ')).output();
    let run = run.unwrap_or_else(|error| panic!("{program} can not be run: {error}"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {arguments}: {said}");
}

/// The small disk, and the foreign file on it.
pub struct Disk {
    at: PathBuf,
    foreign: File,
    taken: u64,
}

impl Disk {
    pub fn mount(at: &Path, size: &str) -> Disk {
        std::fs::create_dir_all(at).expect("the cluster's folder can be written");
        run("mount", &format!("-t tmpfs -o size={size} tmpfs {}", at.display()));
        Disk { at: at.to_owned(), foreign: Disk::file(at), taken: 0 }
    }

    fn file(at: &Path) -> File {
        File::create(at.join("foreign")).expect("a file can be made on the small disk")
    }

    fn resize(&self, size: &str) {
        run("mount", &format!("-o remount,size={size} {}", self.at.display()));
    }

    /// Lets the foreign file take space until `share` percent of the disk are used.
    pub fn take(&mut self, share: u64) {
        let piece = vec![1; 256 << 10];
        loop {
            let found = rustix::fs::statvfs(&self.at).expect("the small disk is there");
            if (found.f_blocks - found.f_bfree) * 100 >= found.f_blocks * share {
                return;
            }
            match self.foreign.write_at(&piece, self.taken) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => self.taken += bytes as u64,
            }
        }
    }

    /// Gives so many bytes back.
    pub fn give(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_sub(bytes);
        self.foreign.set_len(self.taken).expect("a file can be cut");
    }
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("large-{number:04}"))
}

/// A value that no compression makes smaller.
fn value(seed: u32, bytes: usize) -> Bytes {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes).collect()
}

fn space(client: &Client) -> Option<Space> {
    match block_on(client.ask(MetaRequest::Space, SOON)) {
        Ok(MetaAnswer::Space(spaces)) => {
            spaces.into_iter().find(|it| it.0 == SMALL).map(|(_, space)| space)
        }
        _ => None,
    }
}

fn until_level(client: &Client, wanted: impl Fn(Level) -> bool) {
    wait::until("another level of space", WHOLE, || match space(client) {
        Some(space) if wanted(space.level) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Whether a new key is refused because the small server is full.
fn is_refused(session: &Session, name: &str) -> bool {
    match block_on(session.put(Bytes::from(name.to_owned()), Bytes::from_static(b"value"))) {
        Ok(_) => false,
        Err(Error::NotDone { why: NotDone::Refused(Refusal::Full { server }), .. }) => {
            assert_eq!(server, SMALL);
            true
        }
        Err(other) => panic!("{other}"),
    }
}

fn epochs(client: &Client) -> Vec<u64> {
    let status = until_whole(client);
    let epoch =
        |it: &tandem::protocol::meta::SetStatus| it.configuration.as_ref().map(|it| it.epoch.0);
    status.sets.iter().filter_map(epoch).collect()
}

/// Who serves, and in which process: the same as long as nobody starts again.
fn incarnations(client: &Client) -> Vec<(u32, Incarnation)> {
    let status = until_whole(client);
    status.servers.iter().map(|it| (it.process, it.incarnation)).collect()
}

/// A cluster of two whose second server is on `size` of disk, with a value at each large key.
fn filled(size: &str) -> (TestCluster, Disk, Client, Session) {
    run("ip", "link set lo up");
    let plan = Plan { durable: true, spawn: false, servers: 2, ..Plan::default() };
    let mut made = TestCluster::create(&plan);
    let disk = Disk::mount(&made.cluster.config().servers()[1].state, size);
    made.cluster.start_all().expect("the binary starts");
    let client = client(&made);
    until_whole(&client);
    let session = client.session().with_timeout(SOON);
    for number in 0..KEYS {
        let stored = block_on(session.put(key(number), value(number, VALUE_BYTES)));
        stored.unwrap_or_else(|error| panic!("while there is room: {error}"));
    }
    (made, disk, client, session)
}

fn log_of_small(made: &TestCluster) -> String {
    let path = made.cluster.directory().join("logs/server-2.log");
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn beyond_the_last_threshold_only_what_grows_is_refused() {
    isolated(|| {
        let (made, mut disk, client, session) = filled("320m");
        let before = epochs(&client);
        assert!(!is_refused(&session, "while there is room"));
        // A checkpoint may end meanwhile and free what it replaced: that is taken too.
        wait::until("the last threshold", WHOLE, || {
            disk.take(96);
            match space(&client) {
                Some(space) if space.level == Level::Hard => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        wait::until("a refusal", WHOLE, || {
            let refused = (0..16).all(|it| is_refused(&session, &format!("new-{it}")));
            refused.then_some(()).ok_or_else(|| "it is stored".to_owned())
        });
        let longer = value(1, VALUE_BYTES + 1);
        assert!(block_on(session.put(key(1), longer)).is_err(), "it grows");
        block_on(session.put(key(1), value(2, VALUE_BYTES))).expect("it does not grow");
        block_on(session.put(key(2), value(2, 10))).expect("it shrinks");
        let deleted = block_on(session.delete(key(3))).expect("deletes go on");
        assert!(deleted.existed);
        let read = block_on(session.get(key(2))).expect("reads go on");
        assert_eq!(read.item.map(|it| it.value), Some(value(2, 10)));
        let put = made.cluster.client(CLIENT).args(["put", "new", "value"]).output();
        let put = put.expect("the binary runs");
        let said = String::from_utf8_lossy(&put.stderr);
        assert_eq!(put.status.code(), Some(5), "{said}");
        assert!(said.contains("server 2 is full"), "{said}");
        let shown = made.cluster.client(CLIENT).arg("status").output().expect("the binary runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("disk, FULL"), "{shown}");
        disk.give(u64::MAX);
        wait::until("room, without anybody's help", WHOLE, || {
            let refused = is_refused(&session, "there is room again");
            (!refused).then_some(()).ok_or_else(|| "it is refused".to_owned())
        });
        assert_eq!(epochs(&client), before, "a full server is not a failed one");
    });
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_costs_nothing() {
    isolated(|| {
        let (mut made, mut disk, client, session) = filled("320m");
        let before = epochs(&client);
        let mut load = Load::new();
        load.join(&client, "a", 2);
        until_progress(&load, 100);
        disk.take(100);
        // Values of the same length go on until the log's space is used up.
        let impatient = client.session().with_timeout(Duration::from_secs(1));
        let mut number = 0;
        let mut overwrite = || {
            number = (number + 1) % KEYS;
            block_on(impatient.put(key(number), value(KEYS, VALUE_BYTES))).is_ok()
        };
        wait::until("a log without room for its next file", WHOLE, || {
            let _ = overwrite();
            let stalls = log_of_small(&made).contains("the disk is full: writes wait for room");
            stalls.then_some(()).ok_or_else(|| "writes go on".to_owned())
        });
        let read = block_on(session.get(key(KEYS - 1))).expect("reads go on");
        assert_eq!(read.item.map(|it| it.value.len()), Some(VALUE_BYTES));
        // A little room: for the log, and not for a checkpoint.
        wait::until("a checkpoint that is put off", WHOLE, || {
            if !overwrite() {
                disk.give(11 << 20);
            }
            let put_off = log_of_small(&made).contains("a checkpoint is put off");
            put_off.then_some(()).ok_or_else(|| format!("{} bytes are foreign", disk.taken))
        });
        assert_eq!(epochs(&client), before, "a full server is not a failed one");
        // A start finds the room that was kept for it.
        disk.take(100);
        made.cluster.kill(Role::Server(SMALL)).expect("a running server");
        made.cluster.start_server(SMALL).expect("the binary starts");
        until_whole(&client);
        disk.give(u64::MAX);
        wait::until("room, without anybody's help", WHOLE, || {
            let stored = block_on(session.put(key(KEYS), value(KEYS, VALUE_BYTES)));
            stored.map_err(|error| error.to_string())
        });
        until_progress(&load, 100);
        // All of it is on the disk: of a sole survivor, and of a whole cluster that comes back.
        for server in [1, 2] {
            made.cluster.kill(Role::Server(ServerId(server))).expect("a running server");
        }
        made.cluster.start_server(ServerId(1)).expect("the binary starts");
        made.cluster.start_server(SMALL).expect("the binary starts");
        until_whole(&client);
        for number in 0..KEYS {
            let read = block_on(session.get(key(number))).expect("a read");
            let found = read.item.map(|it| it.value).unwrap_or_default();
            let known = [value(number, VALUE_BYTES), value(KEYS, VALUE_BYTES)];
            assert!(known.contains(&found), "key {number} has {} bytes", found.len());
        }
        load.finish(&client).expect("no promise is broken");
    });
}

#[test]
fn a_copy_onto_a_disk_that_fills_up_goes_on_when_there_is_room() {
    isolated(|| {
        let (mut made, disk, client, session) = filled("320m");
        made.cluster.kill(Role::Server(SMALL)).expect("a running server");
        std::fs::remove_dir_all(disk.at.join("worker-0")).expect("the small disk can be written");
        // Less than what is to be copied and the log of it.
        disk.resize("28m");
        made.cluster.start_server(SMALL).expect("the binary starts");
        until_level(&client, |level| level == Level::Hard);
        let read = block_on(session.get(key(0))).expect("reads go on");
        assert_eq!(read.item.map(|it| it.value), Some(value(0, VALUE_BYTES)));
        assert!(!status::is_whole(&block_on(status::ask(&client)).expect("a status")));
        disk.resize("320m");
        until_whole(&client);
        made.cluster.kill(Role::Server(ServerId(1))).expect("a running server");
        for number in 0..KEYS {
            let read = wait::until("the copy, as the only one", WHOLE, || {
                block_on(session.get(key(number))).map_err(|error| error.to_string())
            });
            assert_eq!(read.item.map(|it| it.value), Some(value(number, VALUE_BYTES)));
        }
    });
}

#[test]
fn deletes_alone_make_room_again() {
    let of_servers = vec![(SMALL.0, "disk_capacity = \"64MiB\"".to_owned())];
    let plan = Plan { durable: true, spawn: false, servers: 2, of_servers, ..Plan::default() };
    let made = TestCluster::start(&plan);
    let client = client(&made);
    let before = incarnations(&client);
    let session = client.session().with_timeout(SOON);
    let full = (0..4_000).find(|&number| {
        match block_on(session.put(key(number), value(number, VALUE_BYTES))) {
            Ok(_) => false,
            Err(Error::NotDone { why: NotDone::Refused(Refusal::Full { server }), .. }) => {
                assert_eq!(server, SMALL);
                true
            }
            Err(other) => panic!("{other}"),
        }
    });
    let stored = full.expect("a server with a capacity fills up");
    // A little is left, with the log and its reserve.
    let kept = 40;
    for number in kept..stored {
        let deleted = block_on(session.delete(key(number))).expect("deletes go on");
        assert!(deleted.existed);
    }
    wait::until("room, without anybody's help", WHOLE, || {
        let refused = (0..16).any(|it| is_refused(&session, &format!("new-{it}")));
        (!refused).then_some(()).ok_or_else(|| format!("{:?}", space(&client)))
    });
    until_level(&client, |level| level < Level::Soft);
    // Epochs may go on: a disk on which others work may take longer for a sync than is borne.
    assert_eq!(incarnations(&client), before, "nobody had to start again");
    for number in 0..kept {
        let read = block_on(session.get(key(number))).expect("a read");
        assert_eq!(read.item.map(|it| it.value), Some(value(number, VALUE_BYTES)));
    }
}
