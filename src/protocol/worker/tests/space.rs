//! Goal: where a server that has to hold a write is full, nothing that grows is admitted, and all
//! else is; a follower says so in time, and nobody is removed for being full.
//! Method: one worker, whose peers and store are played by hand; the store is empty, so that what
//! there is lies in the window.

use super::*;
use crate::protocol::space::{Level, Space};

fn full(server: u16) -> Option<Answer> {
    Some(Answer::Refused(Refusal::Full { server: ServerId(server) }))
}

fn measured(level: Level) -> WorkerInput {
    WorkerInput::Space { space: Space { level, ..Space::default() } }
}

fn says(stage: &mut Stage, level: Level) {
    stage.peer(10, PeerMessage::Space { set: SET, level });
}

/// What is not refused waits for its commit here, and has no answer.
fn admits(stage: &mut Stage, operation: Operation) -> bool {
    let request = stage.request(operation);
    match stage.answer(request) {
        None => true,
        Some(Answer::Refused(Refusal::Full { .. })) => false,
        other => panic!("{other:?}"),
    }
}

fn put(key: &'static str, value: &'static str) -> Operation {
    Operation::Put { key: Bytes::from(key), value: Bytes::from(value) }
}

fn what_grows_is_refused(stage: &mut Stage) {
    let key = || Bytes::from_static(b"k");
    let cas = |value: Option<&'static str>| {
        let expect = Expect::Value(Bytes::from_static(b"four"));
        Operation::Cas { key: key(), expect, value: value.map(Bytes::from) }
    };
    for grows in [
        put("k", "longer"),
        put("new", ""),
        cas(Some("longer")),
        Operation::Incr { key: Bytes::from_static(b"new"), by: 1 },
    ] {
        assert!(!admits(stage, grows.clone()), "{grows:?}");
    }
    for does_not in [
        put("k", "4444"),
        put("k", "four"),
        cas(Some("less")),
        put("number", "9"),
        Operation::Incr { key: Bytes::from_static(b"number"), by: 1 },
        Operation::Delete { key: key() },
    ] {
        assert!(admits(stage, does_not.clone()), "{does_not:?}");
    }
}

#[test]
fn a_full_primary_refuses_what_grows_and_nothing_else() {
    let mut stage = open_primary(Limits::default());
    assert!(admits(&mut stage, put("k", "four")) && admits(&mut stage, put("number", "8")));
    stage.input(measured(Level::High));
    assert!(admits(&mut stage, put("another", "while there is room")));
    stage.input(measured(Level::Hard));
    let refused = stage.put("much longer than four");
    assert_eq!(stage.answer(refused).cloned(), full(1));
    what_grows_is_refused(&mut stage);
    let read = stage.request(Operation::Get { key: Bytes::from_static(b"none") });
    assert!(matches!(stage.answer(read), Some(Answer::Absent { .. })), "reads go on");
    stage.input(measured(Level::High));
    assert!(admits(&mut stage, put("another", "there is room again, and nobody had to say so")));
}

#[test]
fn a_full_secondary_counts_and_is_not_held_to_be_dead() {
    let mut stage = open_primary(Limits::default());
    assert!(admits(&mut stage, put("k", "four")) && admits(&mut stage, put("number", "8")));
    says(&mut stage, Level::Hard);
    let refused = stage.put("much longer than four");
    assert_eq!(stage.answer(refused).cloned(), full(2));
    what_grows_is_refused(&mut stage);
    // It has writes that it does not acknowledge, and grants its leases.
    for _ in 0..40 {
        stage.now += Span::from_millis(50);
        let sets = vec![(SET, Epoch(1), Op(0))];
        stage.peer(10, PeerMessage::Grant { number: 1, sent: stage.now, sets });
        stage.settle();
    }
    let question = || {
        let sets = vec![(SET, Epoch(1))];
        WorkerInput::FromMeta(ToServer::ConfirmRemoval { nonce: 1, member: member(2), sets })
    };
    let confirms = |stage: &Stage| {
        let confirmed = |it: &WorkerEffect| {
            matches!(it, WorkerEffect::SendMeta { message: ToMeta::RemovalConfirmed { .. } })
        };
        stage.effects.iter().any(confirmed)
    };
    stage.input(question());
    assert!(!confirms(&stage), "it is full, not failed");
    says(&mut stage, Level::Soft);
    assert!(admits(&mut stage, put("another", "there is room again")));
    for _ in 0..40 {
        stage.now += Span::from_millis(50);
        let sets = vec![(SET, Epoch(1), Op(0))];
        stage.peer(10, PeerMessage::Grant { number: 1, sent: stage.now, sets });
        stage.settle();
    }
    stage.input(question());
    assert!(confirms(&stage), "with room it has no excuse");
}

#[test]
fn a_proposed_learner_counts_and_another_does_not() {
    let mut stage = open_primary(Limits::default());
    stage.learn(configuration(2, 1, &[]), &[]);
    let (recovery, sets) = (crate::protocol::types::RecoveryId(1), vec![(SET, Epoch(2))]);
    stage.input(WorkerInput::FromMeta(ToServer::Copy { recovery, learner: member(3), sets }));
    stage.up(3, 30);
    let run = stage.sent().find_map(|message| match message {
        PeerMessage::RunStart { run, .. } => Some(*run),
        _ => None,
    });
    let run = run.expect("the copy begins");
    let level = |level| PeerMessage::Space { set: SET, level };
    stage.peer(30, level(Level::Hard));
    stage.put("nobody waits for a learner");
    assert!(stage.answer(1).is_some_and(|it| matches!(it, Answer::Written { .. })));
    let ack = stage.ack(2, 1);
    stage.peer(30, ack);
    let reads = |stage: &Stage| {
        stage.effects.iter().filter(|it| matches!(it, WorkerEffect::ReadRange { .. })).count()
    };
    assert_eq!(reads(&stage), 0, "a full learner is sent no chunk");
    stage.peer(30, level(Level::High));
    assert_eq!(reads(&stage), 1, "the copy goes on by itself");
    let token = stage.effects.iter().find_map(|it| match it {
        WorkerEffect::ReadRange { token, .. } => Some(*token),
        _ => None,
    });
    let token = token.expect("a read");
    let records = Vec::new();
    stage.input(WorkerInput::RangeDone { set: SET, token, records, more: false });
    stage.peer(30, PeerMessage::ChunkStored { set: SET, run, through: None });
    let replica = stage.worker.replica(SET).expect("its only key set");
    let said = replica.testimony(stage.now, &Timing::default());
    assert_eq!((replica.proposed(), said.proposed), (Some(member(3)), Some(member(3))));
    stage.peer(30, level(Level::Hard));
    let refused = stage.request(put("new", "value"));
    assert_eq!(stage.answer(refused).cloned(), full(3));
}

fn levels(stage: &Stage) -> Vec<Level> {
    let level = |message: &PeerMessage| match message {
        PeerMessage::Space { level, .. } => Some(*level),
        _ => None,
    };
    stage.sent().filter_map(level).collect()
}

#[test]
fn a_follower_tells_its_level_once_an_epoch_and_when_it_changes() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1]), &[]);
    stage.accept(9, 20);
    let first = stage.new_epoch(configuration(1, 9, &[1]), 0, 0);
    stage.peer(20, first);
    stage.settle();
    assert!(levels(&stage).is_empty(), "nothing is measured");
    stage.input(measured(Level::Hard));
    let write = stage.prepare(1, vec![entry(1, 1)], 0);
    stage.peer(20, write);
    stage.settle();
    let sent: Vec<_> = stage.sent().skip(1).collect();
    let [PeerMessage::Space { level: Level::Hard, .. }, PeerMessage::Ack { .. }] = sent[..] else {
        panic!("the level goes before the acknowledgement: {sent:?}");
    };
    stage.input(measured(Level::Hard));
    stage.settle();
    assert_eq!(levels(&stage), [Level::Hard], "told once");
    let next = stage.new_epoch(configuration(2, 9, &[1]), 0, 1);
    stage.peer(20, next);
    stage.settle();
    stage.input(measured(Level::Ok));
    stage.settle();
    assert_eq!(levels(&stage), [Level::Hard, Level::Hard, Level::Ok]);
}
