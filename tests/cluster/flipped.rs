//! A bit of a file goes bad while its server is down.
//!
//! Goal: whichever file of a durable server it is in, nothing wrong is ever served, and the server
//! ends up with all its copies again: its own, or new ones from its peer.
//! Method: two servers with frequent checkpoints. Round by round the first one is killed, one bit
//! of one of its files is turned, and it is started again, as often as it ends. Every key is in a
//! key set of which this server is primary by rights, so that all of them are read from its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tandem::client::{Client, Session, block_on};
use tandem::protocol::placement;
use tandem::protocol::types::{KeySet, ServerId};
use tandem_local::{Plan, Role, status};

use super::loopback::{WHOLE, client, until_whole};
use super::{TestCluster, wait};

const VICTIM: ServerId = ServerId(1);
const KEY_SETS: u16 = 4;

/// Keys, and bytes of a value: several times what the log between two checkpoints holds.
const KEYS: usize = 120;
const VALUE_BYTES: usize = 1_000;

/// Keys written in a round: enough for some checkpoints.
const KEYS_A_ROUND: usize = 60;

/// Of a log file: its header comes before.
const LOG_HEADER_BYTES: usize = 40;

/// Where a bit is turned.
#[derive(Clone, Copy, Debug)]
enum Place {
    Begin,
    Middle,
    End,
}

/// What became of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum Ending {
    /// The damage did no harm, or is still asleep.
    Itself,
    /// It was found at the start, and everything was copied anew.
    CopiedAnew,
    /// It was found on reading; the process ended, and everything was copied anew.
    Condemned,
}

struct Round {
    made: TestCluster,
    client: Client,
    session: Session,
    keys: Vec<String>,
    known: BTreeMap<String, String>,
    written: usize,
}

impl Round {
    fn new() -> Round {
        let plan = Plan {
            servers: 2,
            key_sets: KEY_SETS,
            durable: true,
            spawn: false,
            settings: vec!["checkpoint_log = \"16KiB\"".to_owned()],
            ..Plan::default()
        };
        let made = TestCluster::start(&plan);
        let client = client(&made);
        until_whole(&client);
        let is_own = |key: &String| {
            let set = placement::key_set(key.as_bytes(), KEY_SETS);
            placement::target(set, &[VICTIM, ServerId(2)], 2)[0] == VICTIM
        };
        let keys = (0..).map(|number| format!("key-{number}")).filter(is_own).take(KEYS).collect();
        let session = client.session();
        Round { made, client, session, keys, known: BTreeMap::new(), written: 0 }
    }

    fn folder(&self) -> PathBuf {
        self.made.cluster.directory().join("state/server-1")
    }

    /// Writes the next keys in turn.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.written += 1;
            let key = self.keys[self.written % KEYS].clone();
            let value: String =
                (0..).map(|part| format!("{key}:{}:{part};", self.written)).take(90).collect();
            let value = value[..VALUE_BYTES.min(value.len())].to_owned();
            block_on(self.session.put(key.clone(), value.clone())).expect("a write is done");
            self.known.insert(key, value);
        }
    }

    /// Reads every key: it is what was written last.
    fn read_all(&mut self) {
        for (key, value) in self.known.clone() {
            let mut answer = None;
            while answer.is_none() {
                self.revive();
                answer = block_on(self.session.get(key.clone())).ok();
            }
            let item = answer.expect("it was answered").item;
            let found = item.map(|it| String::from_utf8_lossy(&it.value).into_owned());
            assert_eq!(found.as_ref(), Some(&value), "{key} is not what was written");
        }
    }

    /// Kills the victim, which may just be ending by itself: of damage that nobody had met.
    fn kill(&mut self) {
        wait::until("the victim's end", WHOLE, || {
            self.revive();
            let killed = self.made.cluster.kill(Role::Server(VICTIM));
            killed.map_err(|error| format!("{error:#}"))
        });
    }

    /// Starts the victim again if it has ended.
    fn revive(&mut self) {
        if self.made.cluster.has_ended(Role::Server(VICTIM)) {
            self.made.cluster.start_server(VICTIM).expect("the binary starts");
        }
    }

    /// Waits until all copies are there and the victim is primary again where it was.
    fn until_home(&mut self) {
        let Round { made, client, keys, .. } = self;
        let sets: Vec<KeySet> =
            keys.iter().map(|key| placement::key_set(key.as_bytes(), KEY_SETS)).collect();
        wait::until("the victim's return", WHOLE, || {
            if made.cluster.has_ended(Role::Server(VICTIM)) {
                made.cluster.start_server(VICTIM).expect("the binary starts");
            }
            let status = block_on(status::ask(client)).map_err(|error| format!("{error:#}"))?;
            let home = |it: &&tandem::protocol::meta::SetStatus| {
                it.configuration.as_ref().is_some_and(|it| it.primary.server == VICTIM)
            };
            let all = status.sets.iter().filter(|it| sets.contains(&it.set)).all(|it| home(&it));
            if all && status::is_whole(&status) { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }

    /// Kills the victim, turns a bit of one of its files, and sees what becomes of it.
    fn turn(
        &mut self,
        what: &str,
        find: impl Fn(&Path) -> Option<PathBuf>,
        place: Place,
    ) -> Ending {
        self.kill();
        let folder = self.folder();
        let aside = folder.join("worker-0.aside");
        if aside.exists() {
            std::fs::remove_dir_all(&aside).expect("a folder of the victim");
        }
        let path = find(&folder).unwrap_or_else(|| panic!("{what}: no such file"));
        let at = turn_bit(&path, place);
        let before = self.told();
        self.made.cluster.start_server(VICTIM).expect("the binary starts");
        self.read_all();
        self.until_home();
        self.read_all();
        // Checkpoints and merges find what no read has met.
        self.write(KEYS_A_ROUND);
        self.until_home();
        let told = &self.told()[before.len()..];
        let ending = match (aside.exists(), told.contains("damage was found")) {
            (false, _) => Ending::Itself,
            (true, false) => Ending::CopiedAnew,
            (true, true) => Ending::Condemned,
        };
        let name = path.strip_prefix(&folder).unwrap_or(&path).display();
        println!("{what} ({name}, byte {at}): {ending:?}");
        ending
    }

    fn told(&self) -> String {
        let log = self.made.cluster.directory().join("logs/server-1.log");
        std::fs::read_to_string(log).expect("the victim's log")
    }
}

/// Turns one bit of what was written to a file; answers where.
fn turn_bit(path: &Path, place: Place) -> usize {
    let mut bytes = std::fs::read(path).expect("a file of the victim");
    let end = bytes.iter().rposition(|&it| it != 0).map_or(0, |last| last + 1);
    let begin = if path.extension().is_some_and(|it| it == "log") { LOG_HEADER_BYTES } else { 0 };
    let at = match place {
        Place::Begin => begin + (end - begin) / 8,
        Place::Middle => begin + (end - begin) / 2,
        Place::End => end - 1 - (end - begin) / 8,
    };
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("a file of the victim");
    at
}

/// All files below a folder, by name.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The last file with `part` in its path.
fn last(part: &'static str) -> impl Fn(&Path) -> Option<PathBuf> {
    move |folder| {
        let named = |it: &PathBuf| it.to_str().is_some_and(|it| it.contains(part));
        below(folder).into_iter().rfind(named)
    }
}

fn largest_table(folder: &Path) -> Option<PathBuf> {
    let tables = below(&folder.join("worker-0/store/keyspaces/1/tables"));
    tables.into_iter().max_by_key(|it| std::fs::metadata(it).map_or(0, |it| it.len()))
}

#[test]
fn a_turned_bit_is_never_served() {
    let mut round = Round::new();
    round.write(2 * KEYS);
    // A kill may leave a file that was just made.
    let log = |folder: &Path| {
        let mut files = below(&folder.join("worker-0/log"));
        files.retain(|it| std::fs::metadata(it).is_ok_and(|it| it.len() > LOG_HEADER_BYTES as u64));
        files
    };
    let written = |it: &PathBuf| {
        std::fs::read(it).is_ok_and(|it| it[LOG_HEADER_BYTES..].iter().any(|&byte| byte != 0))
    };
    let newest_log = move |folder: &Path| log(folder).into_iter().rfind(written);
    let older_log = move |folder: &Path| log(folder).into_iter().nth_back(2);
    let newest = round.turn("newest log file", newest_log, Place::Begin);
    assert_eq!(newest, Ending::CopiedAnew, "the log is read at the start");
    // What is older than the last checkpoint is kept for a while, and not read.
    round.turn("older log file", older_log, Place::Middle);
    let tables = [Place::Begin, Place::Middle, Place::End]
        .map(|place| round.turn("largest table", largest_table, place));
    assert!(tables.contains(&Ending::Condemned), "records are found bad on reading: {tables:?}");
    for (what, part) in [
        ("the store's journal", "store/0.jnl"),
        ("the store's version", "store/version"),
        ("the store's manifest", "keyspaces/1/v"),
        ("the store's pointer to it", "keyspaces/1/current"),
        ("the store's own list", "keyspaces/0/tables/"),
        ("the manifest of that list", "keyspaces/0/v"),
    ] {
        round.turn(what, last(part), Place::Middle);
    }
    let identity = round.turn("identity", last("server-1/identity"), Place::Begin);
    assert_eq!(identity, Ending::CopiedAnew, "whose memory it is can not be told");
}
