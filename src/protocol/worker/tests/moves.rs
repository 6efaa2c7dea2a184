//! Goal: a server that a key set is not placed on asks to be let go where it is secondary, drops
//! its records where it is none of the members, and does neither anywhere else.
//! Method: one worker that is told so in every role, by an old word and by a new one.

use super::*;
use crate::protocol::inheritance::Standing;

fn told(stage: &mut Stage, epoch: u64) {
    stage.effects.clear();
    let sets = vec![(SET, Epoch(epoch))];
    stage.input(WorkerInput::FromMeta(ToServer::Unplaced { sets }));
}

fn departs(stage: &Stage) -> bool {
    let departs =
        |it: &WorkerEffect| matches!(it, WorkerEffect::SendMeta { message: ToMeta::Depart { .. } });
    stage.effects.iter().any(departs)
}

fn clears(stage: &Stage) -> bool {
    stage.effects.iter().any(|it| matches!(it, WorkerEffect::Clear { .. }))
}

/// Server 1 as secondary of server 9, with one committed write.
fn secondary() -> Stage {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 9, &[1]), &[]);
    stage.accept(9, 20);
    let first = stage.new_epoch(configuration(1, 9, &[1]), 0, 0);
    stage.peer(20, first);
    let write = stage.prepare(1, vec![entry(1, 1)], 1);
    stage.peer(20, write);
    stage.settle();
    stage
}

#[test]
fn a_secondary_asks_to_be_let_go_and_follows_until_it_is() {
    let mut stage = secondary();
    told(&mut stage, 0);
    assert!(!departs(&stage), "a word about an older epoch");
    told(&mut stage, 1);
    assert!(departs(&stage) && !clears(&stage));
    let write = stage.prepare(1, vec![entry(1, 2)], 1);
    stage.peer(20, write);
    stage.settle();
    assert_eq!(stage.acks().last(), Some(&(Epoch(1), Op(2))));
}

#[test]
fn an_outsider_drops_its_records_once() {
    let mut stage = secondary();
    stage.effects.clear();
    stage.learn(configuration(2, 9, &[3]), &[]);
    assert!(!clears(&stage), "it may be asked to come back, and then has a base");
    told(&mut stage, 1);
    assert!(!clears(&stage), "a word about an older epoch");
    told(&mut stage, 2);
    assert!(clears(&stage) && !departs(&stage));
    let remembered = stage.effects.iter().find_map(|it| match it {
        WorkerEffect::Remember { standing, .. } => Some(standing.clone()),
        _ => None,
    });
    let Some(Standing { whole_from: None, .. }) = remembered else {
        panic!("an heir knows that it is no copy: {remembered:?}");
    };
    told(&mut stage, 2);
    assert!(!clears(&stage), "there is nothing any more");
    // The next copy is a whole one.
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(1),
        configuration: configuration(2, 9, &[3]),
        committed: Op(5),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    stage.settle();
    assert!(!stage.sent().any(|it| matches!(it, PeerMessage::RunBase { .. })));
    told(&mut stage, 2);
    assert!(!clears(&stage) && !departs(&stage), "a copy is under way");
}

#[test]
fn a_primary_stays() {
    let mut stage = open_primary(Limits::default());
    told(&mut stage, 1);
    assert!(!departs(&stage) && !clears(&stage));
}
