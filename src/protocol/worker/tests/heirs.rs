//! Goal: an heir loses nothing that its predecessor acknowledged, and forgets nobody whom it bound
//! itself to; and nothing is acknowledged that an heir would not know of.
//! Method: a worker that starts with an inheritance, its metaserver and peers played by hand.

use super::*;
use crate::protocol::inheritance::{Inheritance, Standing};
use crate::protocol::lease::Tie;
use crate::protocol::message::{DedupSnapshot, Registration};

const HEIR: Member = Member { server: ServerId(1), incarnation: Incarnation(9) };

/// Op 1 is in the store, ops 2 and 3 are prepared; server 2 was the primary.
fn inheritance(whole_from: Option<Op>) -> Inheritance {
    let promise = Timing::default().promise(Timing::default().lease);
    let tie = Tie { primary: member(2), epoch: Epoch(1), promise };
    Inheritance {
        set: SET,
        standing: Standing {
            configuration: Some(configuration(1, 2, &[1, 3])),
            ties: vec![tie],
            whole_from,
        },
        committed: Op(1),
        committed_epoch: Epoch(1),
        dedup: DedupSnapshot::default(),
        window: vec![entry(1, 2), entry(1, 3)],
        expiries: Vec::new(),
    }
}

/// Server 1 comes back with its log, and registers; the metaserver answers with `newest`.
fn come_back(inheritance: Inheritance, newest: Configuration) -> Stage {
    let now = Time(1_000_000_000);
    let registration = Registration {
        server: HEIR.server,
        workers: Vec::new(),
        cluster: Some(ClusterId([1; 16])),
        highest_epoch: Epoch(1),
        inherits: Some(Incarnation(1)),
        process: 1,
    };
    let settings = WorkerSettings {
        worker: WorkerId(0),
        workers: 1,
        timing: Timing::default(),
        limits: Limits::default(),
        start: Start::Register(registration),
        inheritance: vec![inheritance],
    };
    let worker = Worker::new(settings, now);
    let mut stage = Stage { worker, now, effects: Vec::new(), requests: 0, forgetful: false };
    stage.input(WorkerInput::MetaUp);
    let mut view = View::unborn(ClusterId([1; 16]), 1);
    view.sets[0].configuration = Some(newest);
    view.sets[0].state = SetState::Available;
    let cluster = view.cluster;
    let answer = ToServer::Registered { member: HEIR, cluster, view };
    stage.input(WorkerInput::FromMeta(answer));
    stage
}

/// Epoch 2, with the heir as primary or as secondary.
fn newest(heir_leads: bool) -> Configuration {
    let (primary, secondary) = if heir_leads { (HEIR, member(3)) } else { (member(3), HEIR) };
    let secondaries = vec![secondary];
    Configuration { loss_epoch: LossEpoch(0), epoch: Epoch(2), primary, secondaries }
}

fn points(stage: &Stage) -> (Op, Op) {
    let log = stage.worker.replica(SET).expect("the worker's only set").log();
    (log.committed(), log.prepared())
}

#[test]
fn an_heir_opens_with_its_whole_log_when_its_predecessors_promise_is_over() {
    let mut stage = come_back(inheritance(Some(Op(0))), newest(true));
    assert_eq!(points(&stage), (Op(1), Op(3)));
    stage.up(3, 10);
    let ack = stage.ack(2, 3);
    stage.peer(10, ack);
    stage.settle();
    assert_eq!(points(&stage), (Op(3), Op(3)), "all of it is committed again");
    assert!(!stage.is_open(), "it may have acknowledged server 2 the moment before it died");
    stage.now += Timing::default().grace;
    let ack = stage.ack(2, 3);
    stage.peer(10, ack);
    stage.settle();
    assert!(stage.is_open());
    let request = stage.put("after the return");
    let ack = stage.ack(2, 4);
    stage.peer(10, ack);
    let answer = stage.answer(request);
    assert!(matches!(answer, Some(Answer::Written { .. })), "{answer:?}");
}

#[test]
fn an_heir_follows_where_its_predecessor_did() {
    let mut stage = come_back(inheritance(Some(Op(0))), newest(false));
    stage.accept(3, 20);
    let first = stage.new_epoch(newest(false), 1, 3);
    stage.peer(20, first);
    stage.settle();
    assert_eq!(points(&stage), (Op(1), Op(3)));
    assert_eq!(stage.acks(), [(Epoch(2), Op(1))], "only what was accepted in this epoch");
}

#[test]
fn an_heir_takes_no_copy_run_where_its_predecessor_was_a_member() {
    let mut stage = come_back(inheritance(Some(Op(0))), newest(false));
    stage.accept(2, 20);
    let ask = stage.ask();
    stage.peer(
        20,
        PeerMessage::RunStart {
            set: SET,
            run: RunId(1),
            configuration: configuration(1, 2, &[1, 3]),
            committed: Op(0),
            dedup: DedupSnapshot::default(),
            ask,
        },
    );
    assert_eq!(points(&stage), (Op(1), Op(3)), "nothing is wiped");
    assert!(stage.sent().any(|it| matches!(it, PeerMessage::Fenced { .. })));
}

#[test]
fn half_a_copy_makes_no_member() {
    for whole_from in [None, Some(Op(4))] {
        let mut stage = come_back(inheritance(whole_from), newest(true));
        stage.up(3, 10);
        let ack = stage.ack(2, 3);
        stage.peer(10, ack);
        stage.now += Timing::default().grace;
        stage.settle();
        assert!(!stage.is_open(), "its copy from {whole_from:?} on ends at op 3");
    }
}

#[test]
fn nothing_is_acknowledged_that_an_heir_would_not_know() {
    let mut stage = Stage::new(Limits::default());
    stage.input(WorkerInput::MetaUp);
    stage.forgetful = true;
    stage.accept(2, 20);
    let first = stage.new_epoch(configuration(1, 2, &[1]), 0, 0);
    stage.peer(20, first);
    stage.settle();
    assert_eq!(stage.acks(), [], "the disk does not know of server 2 yet");
    let number = stage.effects.iter().rev().find_map(|effect| match effect {
        WorkerEffect::Remember { number, .. } => Some(*number),
        _ => None,
    });
    let number = number.expect("the engine is asked to remember");
    stage.input(WorkerInput::Remembered { set: SET, number });
    stage.settle();
    assert_eq!(stage.acks(), [(Epoch(1), Op(0))]);
}
