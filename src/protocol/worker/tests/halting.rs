//! Goal: in a stop of the whole cluster a worker answers what it admitted, admits nothing more, and
//! ends only when all that it has is durable.
//! Method: an open primary whose secondary acknowledges late.

use super::super::stage::{Stage, open_primary};
use crate::protocol::effect::{WorkerEffect, WorkerInput};
use crate::protocol::limits::Limits;
use crate::protocol::message::{Answer, Refusal, ToMeta, ToServer};
use crate::protocol::time::Span;

fn order(stage: &mut Stage, message: ToServer) {
    stage.input(WorkerInput::FromMeta(message));
}

fn says(stage: &Stage, wanted: &ToMeta) -> bool {
    let said =
        |it: &WorkerEffect| matches!(it, WorkerEffect::SendMeta { message } if message == wanted);
    stage.effects.iter().any(said)
}

/// Lets the next housekeeping come.
fn pass(stage: &mut Stage) {
    stage.now += Span::from_millis(30);
    stage.settle();
}

#[test]
fn what_was_admitted_is_answered_and_nothing_else_is_admitted() {
    let mut stage = open_primary(Limits::default());
    let admitted = stage.put("under way");
    order(&mut stage, ToServer::Quiesce);
    let late = stage.put("too late");
    assert_eq!(stage.answer(late), Some(&Answer::Refused(Refusal::Busy)));
    pass(&mut stage);
    assert_eq!(stage.answer(admitted), None);
    assert!(!says(&stage, &ToMeta::Quiet), "a write waits for its commit");
    let ack = stage.ack(1, 1);
    stage.peer(10, ack);
    pass(&mut stage);
    assert!(matches!(stage.answer(admitted), Some(Answer::Written { .. })));
    assert!(says(&stage, &ToMeta::Quiet));
}

#[test]
fn what_waits_in_the_queue_is_refused() {
    let mut stage = open_primary(Limits::default());
    // The lease runs out: requests queue.
    stage.now += Span::from_millis(1_000);
    let queued = stage.request(crate::protocol::message::Operation::Get { key: "k".into() });
    assert_eq!(stage.answer(queued), None);
    order(&mut stage, ToServer::Quiesce);
    assert_eq!(stage.answer(queued), Some(&Answer::Refused(Refusal::Busy)));
    assert!(says(&stage, &ToMeta::Quiet));
}

#[test]
fn a_new_metaserver_hears_it_again() {
    let mut stage = open_primary(Limits::default());
    order(&mut stage, ToServer::Quiesce);
    stage.effects.clear();
    pass(&mut stage);
    assert!(!says(&stage, &ToMeta::Quiet), "it was said");
    order(&mut stage, ToServer::Quiesce);
    assert!(says(&stage, &ToMeta::Quiet));
}

#[test]
fn it_ends_when_all_is_durable() {
    let mut stage = open_primary(Limits::default());
    stage.put("under way");
    order(&mut stage, ToServer::Halt);
    assert!(stage.effects.contains(&WorkerEffect::Settle));
    assert!(!stage.effects.contains(&WorkerEffect::MayExit));
    order(&mut stage, ToServer::Halt);
    let asked = stage.effects.iter().filter(|it| **it == WorkerEffect::Settle).count();
    assert_eq!(asked, 1);
    stage.input(WorkerInput::Settled);
    assert!(says(&stage, &ToMeta::Halted));
    assert!(stage.effects.contains(&WorkerEffect::MayExit));
    stage.effects.clear();
    let ack = stage.ack(1, 1);
    stage.peer(10, ack);
    pass(&mut stage);
    assert_eq!(stage.effects, [], "it is over, and whoever asks is told so by the end of its link");
}
