//! Tests of the journal.
//!
//! Goal: after any end of the process, `open` gives back exactly the rows of the last `commit`
//! that returned, or says clearly why it can not. Method: real files in a scratch directory;
//! a killed process is played by a copy of the file taken in the middle of a transaction, damage
//! by writing into the file.

use std::cell::Cell;

use super::*;
use crate::protocol::meta::durable::{ClusterRow, Recovery, ServerRow, SetRow, Step};
use crate::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, KeySet, LossEpoch, Member, Op, RecoveryId,
    ServerId, ViewVersion,
};
use crate::protocol::view::{ServerEntry, SetState};

thread_local! {
    /// Writes and growths of this thread's journals that still find room; none = all do.
    static ROOM: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Takes room for one write.
pub(super) fn spend_room() -> io::Result<()> {
    match ROOM.get() {
        None => Ok(()),
        Some(0) => Err(io::ErrorKind::StorageFull.into()),
        Some(left) => {
            ROOM.set(Some(left - 1));
            Ok(())
        }
    }
}

/// A directory that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("journal-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the scratch directory can be made");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the scratch directory can be removed");
    }
}

fn member(server: u16, incarnation: u64) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(incarnation) }
}

fn cluster(incarnation_last: u64) -> MetaRecord {
    MetaRecord::Cluster(ClusterRow {
        cluster: ClusterId([7; 16]),
        sets: 256,
        copies: 2,
        incarnation_last: Incarnation(incarnation_last),
        recovery_last: RecoveryId(3),
        version: ViewVersion(5),
        born: true,
    })
}

fn server(id: u16, process: u32) -> MetaRecord {
    let workers = vec!["127.0.0.1:7101".parse().expect("an address")];
    let entry = ServerEntry { id: ServerId(id), incarnation: Incarnation(9), workers };
    let (dead, fenced, leaving, inherits) = (false, false, false, Vec::new());
    MetaRecord::Server(ServerRow { entry, dead, fenced, leaving, process, inherits })
}

fn set(number: u16, epoch: u64) -> MetaRecord {
    let configuration = Configuration {
        loss_epoch: LossEpoch(1),
        epoch: Epoch(epoch),
        primary: member(1, 4),
        secondaries: vec![member(2, 5)],
    };
    MetaRecord::Set(SetRow {
        set: KeySet(number),
        configuration: Some(configuration),
        state: SetState::Available,
        target: vec![ServerId(1), ServerId(2)],
        refused: vec![(member(1, 4), 17)],
        ex_member: Some((member(3, 6), Op(99))),
    })
}

fn recovery(id: u64, step: Step) -> MetaRecord {
    MetaRecord::Recovery(Recovery {
        id: RecoveryId(id),
        failed: member(3, 6),
        primary_of: vec![KeySet(1)],
        secondary_of: vec![KeySet(2)],
        step,
        took_ms: [Some(210), None, None, None],
        dropped: 0,
    })
}

fn records(dir: &Path) -> Vec<MetaRecord> {
    Journal::open(dir).expect("an intact journal opens").1
}

#[test]
fn a_new_journal_is_empty_and_opens_again() {
    let scratch = Scratch::new("new");
    let dir = scratch.0.join("made/on/the/way");
    assert_eq!(records(&dir), []);
    assert_eq!(records(&dir), []);
}

#[test]
fn reopening_gives_the_latest_of_each_row() {
    let scratch = Scratch::new("reopen");
    let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
    let first = [set(258, 1), set(2, 1), server(2, 10), server(1, 11), cluster(4)];
    journal.commit(&first).expect("commits");
    journal.commit(&[recovery(1, Step::Done), recovery(2, Step::Invalidate)]).expect("commits");
    let forgotten = MetaRecord::RecoveryForgotten(RecoveryId(1));
    let both = [set(2, 5), set(2, 6), forgotten.clone(), recovery(2, Step::Resume)];
    journal.commit(&both).expect("commits");
    journal.commit(&[forgotten]).expect("forgetting twice is harmless");
    drop(journal);
    let expected = [
        cluster(4),
        server(1, 11),
        server(2, 10),
        set(2, 6),
        set(258, 1),
        recovery(2, Step::Resume),
    ];
    assert_eq!(records(&scratch.0), expected);
}

#[test]
fn an_unfinished_batch_leaves_nothing() {
    let (scratch, image) = (Scratch::new("unfinished"), Scratch::new("image"));
    let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
    journal.commit(&[cluster(1), set(1, 1)]).expect("commits");
    let database = journal.database.as_ref().expect("it was opened");
    let transaction = database.begin_write().expect("begins");
    let batch: Vec<MetaRecord> = (1..=256).map(|number| set(number, 2)).collect();
    fill(&transaction, &batch).expect("fills");
    fs::copy(journal.path(), image.0.join(FILE)).expect("the image of a killed process");
    drop(transaction);
    drop(journal);
    assert_eq!(records(&scratch.0), [cluster(1), set(1, 1)]);
    assert_eq!(records(&image.0), [cluster(1), set(1, 1)]);
}

#[test]
fn a_kill_after_the_commit_loses_nothing() {
    let (scratch, image) = (Scratch::new("kill"), Scratch::new("killed"));
    let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
    let mut batch = vec![cluster(1)];
    batch.extend((1..=256).map(|number| set(number, 2)));
    journal.commit(&batch).expect("commits");
    fs::copy(journal.path(), image.0.join(FILE)).expect("the image of a killed process");
    assert_eq!(records(&image.0), batch);
}

#[test]
fn a_first_start_that_was_cut_off_is_started_anew() {
    let scratch = Scratch::new("cut-off");
    fs::write(scratch.0.join(FILE_NEW), b"half a file").expect("writes");
    assert_eq!(records(&scratch.0), []);
}

#[test]
fn a_second_metaserver_is_refused() {
    let scratch = Scratch::new("second");
    let first = Journal::open(&scratch.0).expect("opens");
    let error = Journal::open(&scratch.0).expect_err("the first one is still there");
    assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop that metaserver first"), "{error}");
    drop(first);
    assert_eq!(records(&scratch.0), []);
}

#[test]
fn damage_is_told_with_file_and_remedy() {
    let scratch = Scratch::new("damage");
    let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
    journal.commit(&[cluster(1), set(1, 1)]).expect("commits");
    drop(journal);
    let path = scratch.0.join(FILE);
    let intact = fs::read(&path).expect("reads");
    // One bit in every copy of a row, which is found by the cluster's UUID in it.
    let mut flipped = intact.clone();
    let needle = [7_u8; 16];
    for place in 0..flipped.len() - needle.len() {
        if flipped[place..].starts_with(&needle) {
            flipped[place] ^= 1;
        }
    }
    assert_ne!(flipped, intact);
    let garbage = b"not a database at all".repeat(400);
    let half = intact[..intact.len() / 2].to_vec();
    for damaged in [Vec::new(), garbage, half, flipped] {
        fs::write(&path, &damaged).expect("writes");
        let error = Journal::open(&scratch.0).expect_err("damage must not pass for a state");
        assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(FILE) && text.contains("put back an intact copy"), "{text}");
        assert_eq!(fs::read(&path).expect("reads").is_empty(), damaged.is_empty());
    }
    fs::write(&path, &intact).expect("writes");
    assert_eq!(records(&scratch.0), [cluster(1), set(1, 1)]);
}

#[test]
fn rows_of_another_format_or_place_are_refused() {
    let scratch = Scratch::new("foreign");
    let encoded = |format: u8, record: &MetaRecord| {
        postcard::to_extend(record, vec![format]).expect("encodes")
    };
    let mut long = encoded(FORMAT, &set(1, 1));
    long.push(0);
    let forgotten = encoded(FORMAT, &MetaRecord::RecoveryForgotten(RecoveryId(1)));
    let cases = [
        ((3, 1), encoded(FORMAT + 1, &set(1, 1)), "has format 3"),
        ((3, 2), encoded(FORMAT, &set(1, 1)), "row 2 of kind 3 holds another row"),
        ((3, 1), long, "goes on after its record"),
        ((3, 1), vec![FORMAT, 200], "does not decode"),
        ((3, 1), Vec::new(), "is empty"),
        ((4, 1), forgotten, "holds no row"),
    ];
    for (key, value, message) in cases {
        let (journal, _) = Journal::open(&scratch.0).expect("opens");
        let database = journal.database.as_ref().expect("it was opened");
        let transaction = database.begin_write().expect("begins");
        transaction.delete_table(ROWS).expect("empties");
        let mut rows = transaction.open_table(ROWS).expect("opens");
        rows.insert(key, value.as_slice()).expect("inserts");
        drop(rows);
        transaction.commit().expect("commits");
        drop(journal);
        let error = Journal::open(&scratch.0).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        fs::remove_file(scratch.0.join(FILE)).expect("the next case starts anew");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let first: Vec<MetaRecord> = (0..200).map(|number| set(number, 1)).collect();
    let second: Vec<MetaRecord> = (0..2_000).map(|number| set(number, 2)).collect();
    let mut reached_end = false;
    for room in 0.. {
        let scratch = Scratch::new(&format!("full-{room}"));
        let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
        journal.commit(&first).expect("commits");
        ROOM.set(Some(room));
        let refused = journal.commit(&second);
        if refused.is_ok() {
            ROOM.set(None);
            reached_end = true;
        } else {
            let error = refused.expect_err("just so");
            assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
            assert_eq!(journal.records(), first);
            // Trying on a disk that stays full changes nothing.
            ROOM.set(Some(0));
            assert!(journal.commit(&second).is_err());
            ROOM.set(None);
            journal.commit(&second).expect("there is room");
        }
        assert_eq!(journal.records(), second);
        drop(journal);
        assert_eq!(records(&scratch.0), second);
        if reached_end {
            assert!(room > 10, "only {room} writes were refused");
            return;
        }
    }
}

#[test]
fn room_is_kept_for_a_full_disk() {
    let scratch = Scratch::new("reserve");
    let (mut journal, _) = Journal::open(&scratch.0).expect("opens");
    assert!(journal.release_reserve().expect("it can be removed"));
    assert!(!journal.release_reserve().expect("it is gone"));
    journal.commit(&[cluster(1)]).expect("commits");
    assert!(journal.release_reserve().expect("the commit took it anew"));
}
