//! Goal: what a hostile reading of the replica found stays mended; one test a finding.
//! Method: one worker, whose peers, metaserver and store are played by hand.

mod halting;
mod heirs;
mod lifetimes;
mod moves;
mod space;
mod testify;

use bytes::Bytes;

use super::stage::{SET, Stage, configuration, entry, member, open_primary};
use super::{Start, Worker, WorkerSettings};
use crate::protocol::effect::{Lane, WorkerEffect, WorkerInput};
use crate::protocol::limits::Limits;
use crate::protocol::message::{
    Answer, Expect, LeaseAsk, Operation, PeerMessage, Refusal, ToMeta, ToServer,
};
use crate::protocol::time::{Span, Time};
use crate::protocol::timing::Timing;
use crate::protocol::types::{
    ClusterId, Configuration, Epoch, Incarnation, LinkId, LossEpoch, Member, Op, RunId, ServerId,
    WorkerId,
};
use crate::protocol::view::{SetState, View};

#[test]
fn a_promoted_secondary_opens_only_after_its_window_is_committed() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1, 3]), &[]);
    stage.accept(9, 20);
    let first = stage.new_epoch(configuration(1, 9, &[1, 3]), 0, 0);
    stage.peer(20, first);
    let write = stage.prepare(1, vec![entry(1, 1)], 0);
    stage.peer(20, write);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(1), Op(1))));
    stage.learn(configuration(2, 1, &[3]), &[9]);
    stage.up(3, 30);
    stage.settle();
    let ack = stage.ack(2, 0);
    stage.peer(30, ack);
    assert!(!stage.is_open(), "op 1 may have been acknowledged, and is not committed here");
    let ack = stage.ack(2, 1);
    stage.peer(30, ack);
    assert!(stage.is_open());
}

#[test]
fn a_learner_keeps_its_feed_over_its_primarys_change_of_epoch() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(5, 9, &[3]), &[]);
    stage.accept(9, 20);
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(1),
        configuration: configuration(5, 9, &[3]),
        committed: Op(99),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    stage.learn(configuration(6, 9, &[]), &[3]);
    let late = stage.prepare(5, vec![entry(5, 100)], 99);
    stage.peer(20, late);
    let first = stage.new_epoch(configuration(6, 9, &[]), 99, 100);
    stage.peer(20, first);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(6), Op(100))));
}

#[test]
fn below_the_write_floor_nothing_commits_beyond_what_was_confirmed() {
    let mut stage = open_primary(Limits { min_write_copies: 2, ..Limits::default() });
    stage.now += Span::from_millis(1_000);
    let first = stage.put("before the question");
    let sets = vec![(SET, Epoch(1))];
    let question = ToServer::ConfirmRemoval { nonce: 1, member: member(2), sets };
    stage.input(WorkerInput::FromMeta(question));
    let confirmed = stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::SendMeta { message: ToMeta::RemovalConfirmed { sets, .. } } => Some(sets[0]),
        _ => None,
    });
    assert_eq!(confirmed, Some((SET, Epoch(1), Op(1))));
    let second = stage.put("after the answer");
    stage.learn(configuration(2, 1, &[]), &[]);
    stage.settle();
    assert!(matches!(stage.answer(first), Some(Answer::Written { .. })));
    assert_eq!(stage.answer(second), None, "the removed member does not hold it");
}

#[test]
fn failed_conditions_that_wait_are_limited() {
    let mut stage = open_primary(Limits { queue_requests_max: 8, ..Limits::default() });
    stage.put("in the window, never acknowledged");
    let mut last = 0;
    for _ in 0..20 {
        let key = Bytes::from_static(b"k");
        let value = Some(Bytes::from_static(b"other"));
        last = stage.request(Operation::Cas { key, expect: Expect::Absent, value });
    }
    assert_eq!(stage.answer(last), Some(&Answer::Refused(Refusal::Busy)));
}

#[test]
fn a_lease_longer_than_any_closes_the_link_and_stops_nothing() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1]), &[]);
    stage.accept(9, 20);
    let ask = LeaseAsk { sent: stage.now, lease: Span(u64::MAX) };
    let (committed, prepared) = (Op(0), Op(0));
    let configuration = configuration(1, 9, &[1]);
    stage.peer(20, PeerMessage::NewEpoch { set: SET, configuration, committed, prepared, ask });
    stage.peer(20, PeerMessage::Beacon { number: 1, ask, sets: vec![(SET, Epoch(1))] });
    stage.settle();
    assert!(stage.acks().is_empty());
    let closed = |it: &&WorkerEffect| matches!(it, WorkerEffect::CloseLink { .. });
    assert_eq!(stage.effects.iter().filter(closed).count(), 2);
}

#[test]
fn a_beacon_of_an_older_epoch_is_answered_with_the_newer_configuration() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(2, 9, &[1]), &[]);
    stage.accept(9, 20);
    let ask = stage.ask();
    stage.peer(20, PeerMessage::Beacon { number: 1, ask, sets: vec![(SET, Epoch(1))] });
    let fenced = |it: &&PeerMessage| matches!(it, PeerMessage::Fenced { .. });
    assert_eq!(stage.sent().filter(fenced).count(), 1);
}

#[test]
fn an_acknowledgement_of_an_earlier_run_counts_for_nothing() {
    let mut stage = open_primary(Limits::default());
    let order = |stage: &mut Stage| {
        let (recovery, sets) = (Default::default(), vec![(SET, Epoch(1))]);
        let copy = ToServer::Copy { recovery, learner: member(3), sets };
        stage.input(WorkerInput::FromMeta(copy));
    };
    order(&mut stage);
    stage.up(3, 30);
    let old = stage.ack(1, 0);
    stage.now += Span::from_millis(100);
    stage.input(WorkerInput::PeerDown { link: LinkId(30) });
    stage.now += Span::from_millis(100);
    stage.up(3, 31);
    stage.settle();
    let scans = |stage: &Stage| {
        let scan = |it: &&WorkerEffect| matches!(it, WorkerEffect::ReadRange { .. });
        stage.effects.iter().filter(scan).count()
    };
    stage.peer(31, old);
    assert_eq!(scans(&stage), 0, "an old acknowledgement began the scan");
    let new = stage.ack(1, 0);
    stage.peer(31, new);
    assert_eq!(scans(&stage), 1);
}

#[test]
fn copy_chunks_travel_on_the_bulk_link_and_nothing_else_does() {
    let mut stage = open_primary(Limits::default());
    let (recovery, sets) = (Default::default(), vec![(SET, Epoch(1))]);
    let copy = ToServer::Copy { recovery, learner: member(3), sets };
    stage.input(WorkerInput::FromMeta(copy));
    stage.up(3, 30);
    let ack = stage.ack(1, 0);
    stage.peer(30, ack);
    let token = stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::ReadRange { token, .. } => Some(*token),
        _ => None,
    });
    let token = token.expect("the scan began");
    let (records, more) = (Vec::new(), false);
    stage.input(WorkerInput::RangeDone { set: SET, token, records, more });
    for effect in &stage.effects {
        if let WorkerEffect::SendPeer { lane, message, .. } = effect {
            let is_chunk = matches!(message, PeerMessage::CopyChunk { .. });
            assert_eq!(is_chunk, matches!(lane, Lane::Bulk(_)));
        }
    }
    assert!(stage.sent().any(|it| matches!(it, PeerMessage::CopyChunk { .. })));
}

#[test]
fn what_comes_late_on_a_link_that_was_given_up_undoes_nothing() {
    let mut stage = Stage::new(Limits::default());
    stage.accept(2, 20);
    let late = stage.new_epoch(configuration(1, 2, &[1]), 0, 0);
    stage.accept(2, 21);
    let first = stage.new_epoch(configuration(1, 2, &[1]), 0, 0);
    stage.peer(21, first);
    let write = stage.prepare(1, vec![entry(1, 1)], 0);
    stage.peer(21, write);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(1), Op(1))));
    stage.peer(20, late);
    let write = stage.prepare(1, vec![entry(1, 2)], 0);
    stage.peer(21, write);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(1), Op(2))), "the newer link goes on");
}

#[test]
fn a_proposed_learners_feed_goes_on_over_a_new_link_and_a_change_of_epoch_at_once() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(5, 9, &[3]), &[]);
    stage.accept(9, 20);
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(1),
        configuration: configuration(5, 9, &[3]),
        committed: Op(99),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    let (after, through, read_at, records) = (None, None, Op(99), Vec::new());
    let chunk =
        PeerMessage::CopyChunk { set: SET, run: RunId(1), after, through, read_at, records };
    stage.peer(20, chunk);
    stage.input(WorkerInput::ChunkStored { set: SET, run: RunId(1), through: None });
    // The primary does not know of epoch 6 yet, and its link is a new one.
    stage.learn(configuration(6, 9, &[3]), &[]);
    stage.accept(9, 21);
    let greeting = stage.new_epoch(configuration(5, 9, &[3]), 99, 100);
    stage.peer(21, greeting);
    let late = stage.prepare(5, vec![entry(5, 100)], 99);
    stage.peer(21, late);
    let first = stage.new_epoch(configuration(6, 9, &[3]), 99, 100);
    stage.peer(21, first);
    let next = stage.prepare(6, vec![entry(6, 101)], 100);
    stage.peer(21, next);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(6), Op(101))));
}

#[test]
fn a_refused_run_ends_the_one_before_it_and_its_feed_is_nobodys() {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(5, 9, &[3]), &[]);
    stage.accept(9, 20);
    let start = |stage: &Stage, run, committed| PeerMessage::RunStart {
        set: SET,
        run: RunId(run),
        configuration: configuration(5, 9, &[3]),
        committed: Op(committed),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    let first = start(&stage, 1, 99);
    stage.peer(20, first);
    // The primary gave that run up and begins another one, not knowing of epoch 6 yet.
    stage.learn(configuration(6, 9, &[]), &[3]);
    let second = start(&stage, 2, 104);
    stage.peer(20, second);
    let feed = stage.prepare(5, vec![entry(5, 105)], 104);
    stage.peer(20, feed);
    let closed = |it: &WorkerEffect| matches!(it, WorkerEffect::CloseLink { .. });
    assert!(!stage.effects.iter().any(closed), "its primary is accused of a gap");
    let lost = PeerMessage::RunLost { set: SET, run: RunId(2) };
    assert!(stage.sent().any(|it| *it == lost), "its primary has to begin again");
}
