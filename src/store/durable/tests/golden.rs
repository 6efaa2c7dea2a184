//! Goal: what is on a disk is read by every later version: the bytes of no record of the log and of
//! no row of a checkpoint ever change, and rows without their later parts are read.
//! Method: one sample of each variant against `golden.txt`, a line `name hex` each. After a variant
//! was *added*, `TANDEM_GOLDEN=write cargo test -p tandem --lib durable` writes the file anew; a
//! difference in an existing line breaks the servers that are there. That no variant is missing is
//! asked of the decoder: the number after the last sampled one must be unknown to it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::rc::Rc;

use bytes::Bytes;

use super::super::record::LogRecord;
use super::super::{decode_row, encode_row};
use crate::protocol::inheritance::{Inheritance, Standing};
use crate::protocol::lease::Tie;
use crate::protocol::message::{DedupRecord, DedupSnapshot};
use crate::protocol::time::Span;
use crate::protocol::types::*;
use crate::store::durable::layers::Tombstones;

const GOLDEN: &str = include_str!("golden.txt");
const SET: KeySet = KeySet(300);
const REVISION: Revision = Revision { loss_epoch: LossEpoch(1), op: Op(1_000) };

fn entry(op: u64, change: Change) -> Rc<Entry> {
    let origin = Origin {
        session: SessionId(77),
        number: RequestNumber(11),
        answered_below: RequestNumber(9),
        base: REVISION,
    };
    Rc::new(Entry {
        epoch: Epoch(7),
        born: Epoch(6),
        op: Op(op),
        origin: Some(origin),
        key: Bytes::from("key"),
        change,
        written: Written::Stored,
    })
}

fn dedup() -> DedupSnapshot {
    let record = DedupRecord {
        session: SessionId(77),
        number: RequestNumber(11),
        answered_below: RequestNumber(9),
        position: Position { loss_epoch: LossEpoch(1), epoch: Epoch(7), op: Op(999) },
        written: Written::Counter(-3),
    };
    DedupSnapshot { horizon: Op(5), records: vec![record] }
}

fn standing() -> Standing {
    let member = |server: u16| Member {
        server: ServerId(server),
        incarnation: Incarnation(40 + u64::from(server)),
    };
    let configuration = Configuration {
        loss_epoch: LossEpoch(1),
        epoch: Epoch(7),
        primary: member(1),
        secondaries: vec![member(2)],
    };
    let tie = Tie { primary: member(1), epoch: Epoch(7), promise: Span(310_000_000) };
    let (configuration, ties) = (Some(configuration), vec![tie]);
    Standing { configuration, ties, whole_from: Some(Op(990)) }
}

fn records() -> Vec<(&'static str, LogRecord)> {
    let set = SET;
    let record =
        || Record { key: Bytes::from("key"), value: Bytes::from("value"), revision: REVISION };
    let entries = vec![
        entry(1_001, Change::Put(Bytes::from("value"))),
        entry(1_002, Change::Delete),
        entry(1_003, Change::Expiring(Bytes::from("value"), Expiry(1_795_000_000_000))),
    ];
    let (key, at) = (Bytes::from("key"), Op(1_000));
    vec![
        ("identity", LogRecord::Identity(Incarnation(41))),
        ("append", LogRecord::Append { set, entries }),
        ("cut", LogRecord::Cut { set, through: Op(1_002) }),
        (
            "commit",
            LogRecord::Commit { set, revision: REVISION, epoch: Epoch(7), keep_tombstone: true },
        ),
        (
            "chunk",
            LogRecord::Chunk {
                set,
                after: Some(Bytes::from("a")),
                through: None,
                read_at: REVISION,
                records: vec![record()],
            },
        ),
        ("drop_tombstones", LogRecord::DropTombstones { set }),
        ("clear", LogRecord::Clear { set, at, dedup: dedup() }),
        ("remember", LogRecord::Remember { set, standing: standing() }),
        ("rebase", LogRecord::Rebase { set, at, dedup: dedup() }),
        (
            "changes",
            LogRecord::Changes {
                set,
                read_at: REVISION,
                records: vec![record()],
                deleted: vec![key.clone()],
            },
        ),
        ("expire", LogRecord::Expire { set, keys: vec![(key, Expiry(1_795_000_000_000))] }),
    ]
}

fn row() -> (Inheritance, Tombstones) {
    let inheritance = Inheritance {
        set: SET,
        standing: standing(),
        committed: Op(1_000),
        committed_epoch: Epoch(7),
        dedup: dedup(),
        window: vec![entry(1_001, Change::Put(Bytes::from("value")))],
        expiries: vec![(Bytes::from("key"), Expiry(1_795_000_000_000))],
    };
    (inheritance, Tombstones::from([(Box::from(&b"gone"[..]), REVISION)]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take all that is written");
        hex
    })
}

#[test]
fn no_record_changes_its_bytes() {
    let mut text = String::new();
    for (name, record) in records() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(LogRecord::decode(&bytes).expect("it was just encoded"), [record]);
        writeln!(text, "record.{name} {}", hex(&bytes)).expect("strings take all that is written");
    }
    let (inheritance, tombstones) = row();
    let bytes = encode_row(&inheritance, &tombstones);
    writeln!(text, "row {}", hex(&bytes)).expect("strings take all that is written");
    if std::env::var_os("TANDEM_GOLDEN").is_some_and(|value| value == "write") {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/durable/tests/golden.txt");
        std::fs::write(file, &text).expect("the source tree can be written");
        return;
    }
    assert_eq!(text, GOLDEN, "what is on disks changed");
}

#[test]
fn every_kind_of_record_has_a_sample() {
    let first = |record: &LogRecord| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes[0]
    };
    let sampled: BTreeSet<u8> = records().iter().map(|(_, record)| first(record)).collect();
    let count = u8::try_from(sampled.len()).expect("there are a few");
    assert!(sampled.iter().copied().eq(0..count), "a variant has no sample: {sampled:?}");
    let next = [&[count][..], &[0; 64]].concat();
    assert!(LogRecord::decode(&next).is_err(), "a variant after the last sampled one decodes");
}

#[test]
fn rows_from_before_there_were_expiries_are_read() {
    let (inheritance, tombstones) = row();
    let read = decode_row(&encode_row(&inheritance, &tombstones)).expect("it was just encoded");
    assert_eq!(read, (inheritance.clone(), tombstones.clone()));
    let old = postcard::to_stdvec(&(&inheritance, &tombstones)).expect("it always encodes");
    let read = decode_row(&old).expect("an older row");
    assert_eq!(read, (Inheritance { expiries: Vec::new(), ..inheritance }, tombstones));
}
