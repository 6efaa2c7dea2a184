//! Goal: a value with a lifetime is deleted by a replicated write once the primary's wall clock is
//! past it, not before, and not where it was replaced; a learner is told what expires.
//! Method: a primary on a stage; wall clocks by hand.

use super::*;
use crate::protocol::types::Change;

const WALL: u64 = 1_795_000_000_000;

fn put_for(stage: &mut Stage, key: &'static str, lifetime_ms: u64) -> u64 {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"v"));
    stage.request(Operation::PutFor { key, value, lifetime_ms })
}

/// The deletes that were sent to the secondary, by key.
fn deleted(stage: &Stage) -> Vec<Bytes> {
    let entries = stage.sent().filter_map(|message| match message {
        PeerMessage::Prepare { entries, .. } => Some(entries),
        _ => None,
    });
    let deletes = entries.flatten().filter(|it| it.change == Change::Delete);
    deletes.map(|it| it.key.clone()).collect()
}

fn wall_clock(stage: &mut Stage, later_ms: u64) {
    let ahead_ms = WALL + later_ms;
    stage.input(WorkerInput::WallClock { ahead_ms });
    stage.now += Span::from_millis(60);
    stage.settle();
}

#[test]
fn a_value_is_deleted_once_its_time_is_over() {
    let mut stage = open_primary(Limits { expiries_bytes_max: 64, ..Limits::default() });
    let early = put_for(&mut stage, "a", 1_000);
    assert_eq!(stage.answer(early), Some(&Answer::Refused(Refusal::Busy)), "no wall clock yet");
    wall_clock(&mut stage, 0);
    put_for(&mut stage, "a", 10_000);
    put_for(&mut stage, "k", 10_000);
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"for good"));
    stage.request(Operation::Put { key, value });
    let ack = stage.ack(1, 3);
    stage.peer(10, ack);
    wall_clock(&mut stage, 9_000);
    assert_eq!(deleted(&stage), Vec::<Bytes>::new());
    wall_clock(&mut stage, 12_000);
    assert_eq!(deleted(&stage), ["a"]);
    // It is on its way, and not written twice.
    wall_clock(&mut stage, 13_000);
    assert_eq!(deleted(&stage), ["a"]);
    let ack = stage.ack(1, 4);
    stage.peer(10, ack);
    wall_clock(&mut stage, 14_000);
    assert_eq!(deleted(&stage), ["a"]);
}

#[test]
fn so_many_keys_may_expire_and_a_life_of_nothing_is_refused() {
    let mut stage = open_primary(Limits { expiries_bytes_max: 17, ..Limits::default() });
    wall_clock(&mut stage, 0);
    let lifeless = put_for(&mut stage, "a", 0);
    assert_eq!(stage.answer(lifeless), Some(&Answer::Refused(Refusal::Malformed)));
    put_for(&mut stage, "a", 10_000);
    let ack = stage.ack(1, 1);
    stage.peer(10, ack);
    let second = put_for(&mut stage, "b", 10_000);
    let full = Refusal::TooManyExpire { bytes_max: 17 };
    assert_eq!(stage.answer(second), Some(&Answer::Refused(full)));
    let again = put_for(&mut stage, "a", 20_000);
    assert_eq!(stage.answer(again), None, "the same key may have another time");
}

#[test]
fn a_learner_is_told_what_expires() {
    let mut stage = open_primary(Limits::default());
    wall_clock(&mut stage, 0);
    put_for(&mut stage, "a", 10_000);
    let ack = stage.ack(1, 1);
    stage.peer(10, ack);
    let (recovery, sets) = (Default::default(), vec![(SET, Epoch(1))]);
    let copy = ToServer::Copy { recovery, learner: member(3), sets };
    stage.input(WorkerInput::FromMeta(copy));
    stage.up(3, 30);
    let told = stage.sent().find_map(|message| match message {
        PeerMessage::RunExpiries { keys, .. } => Some(keys.clone()),
        _ => None,
    });
    let keys: Vec<Bytes> = told.unwrap_or_default().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a"]);
}
