//! Cases of one member: what it promises, keeps and answers. Its peers are played by hand.

use bytes::Bytes;
use tandem::protocol::effect::{WorkerEffect, WorkerInput};
use tandem::protocol::limits::Limits;
use tandem::protocol::message::{
    Answer, ChangeKind, Expect, LeaseAsk, Operation, PeerMessage, Refusal, ToMeta, ToServer,
};
use tandem::protocol::space::Level;
use tandem::protocol::time::Span;
use tandem::protocol::timing::Timing;
use tandem::protocol::types::{Epoch, Op, RecoveryId, RunId};
use tandem::protocol::worker::stage::{SET, Stage, configuration, entry, member, open_primary};

use super::demand;

/// Server 1 follows server 2, on its link 20, in epoch 1.
fn follower_of_2(secondaries: &[u16]) -> Stage {
    let mut stage = Stage::new(Limits::default());
    stage.accept(2, 20);
    let first = stage.new_epoch(configuration(1, 2, secondaries), 0, 0);
    stage.peer(20, first);
    stage.settle();
    stage
}

fn prepared(stage: &Stage) -> Op {
    stage.worker.replica(SET).map_or(Op(0), |it| it.log().prepared())
}

/// The last moment at which the primary may still serve, by a clock that runs as slowly as it
/// may, comes after the end of the lease on the fastest clock.
pub fn fast_clock() -> Result<(), String> {
    let mut stage = follower_of_2(&[1]);
    stage.learn(configuration(2, 1, &[]), &[]);
    stage.now += Timing::grace_floor(Timing::default().lease);
    stage.now = stage.now - Span(1);
    stage.settle();
    demand(!stage.is_open(), "opened while a slower clock still reads a lease")
}

/// The older of two primaries holds the longer promise.
pub fn two_earlier_primaries() -> Result<(), String> {
    let mut stage = Stage::new(Limits::default());
    stage.accept(2, 20);
    let ask = LeaseAsk { sent: stage.now, lease: Span::from_millis(1_000) };
    let (committed, prepared) = (Op(0), Op(0));
    let configuration_1 = configuration(1, 2, &[1, 3]);
    stage.peer(
        20,
        PeerMessage::NewEpoch {
            set: SET,
            configuration: configuration_1,
            committed,
            prepared,
            ask,
        },
    );
    stage.settle();
    stage.accept(3, 30);
    let first = stage.new_epoch(configuration(2, 3, &[1]), 0, 0);
    stage.peer(30, first);
    stage.settle();
    stage.learn(configuration(3, 1, &[]), &[]);
    stage.now += Timing::default().grace + Span(1);
    stage.settle();
    demand(!stage.is_open(), "opened while the first primary may still serve")
}

/// A secondary that got further than its new primary comes back to it.
pub fn longer_than_its_primary() -> Result<(), String> {
    let mut stage = follower_of_2(&[1, 3]);
    let writes = stage.prepare(1, vec![entry(1, 1), entry(1, 2)], 0);
    stage.peer(20, writes);
    stage.settle();
    stage.accept(3, 30);
    let first = stage.new_epoch(configuration(2, 3, &[1]), 0, 1);
    stage.peer(30, first);
    demand(prepared(&stage) == Op(1), "kept a write that its primary never had")
}

/// The first message of an epoch comes again, after writes of that epoch.
pub fn first_message_again() -> Result<(), String> {
    let mut stage = follower_of_2(&[1]);
    let writes = stage.prepare(1, vec![entry(1, 1), entry(1, 2)], 0);
    stage.peer(20, writes);
    stage.settle();
    let first = stage.new_epoch(configuration(1, 2, &[1]), 0, 0);
    stage.peer(20, first);
    stage.settle();
    demand(prepared(&stage) == Op(2), "dropped writes that it had acknowledged")
}

/// An old primary goes on writing to a member of a newer epoch.
pub fn writes_of_an_older_epoch() -> Result<(), String> {
    let mut stage = follower_of_2(&[1, 3]);
    stage.accept(3, 30);
    let first = stage.new_epoch(configuration(2, 3, &[1]), 0, 0);
    stage.peer(30, first);
    stage.settle();
    let write = stage.prepare(1, vec![entry(1, 1)], 0);
    stage.peer(20, write);
    stage.settle();
    demand(prepared(&stage) == Op(0), "took a write of an older epoch")
}

/// A condition fails on a write that is not committed, and may never be.
pub fn condition_on_the_window() -> Result<(), String> {
    let mut stage = open_primary(Limits::default());
    stage.put("not acknowledged by the secondary");
    let cas = Operation::Cas {
        key: Bytes::from_static(b"k"),
        expect: Expect::Absent,
        value: Some(Bytes::from_static(b"new")),
    };
    let request = stage.request(cas);
    demand(stage.answer(request).is_none(), "answered for a write that is not committed")
}

/// A run was given up and another one started; a chunk of the first is still on its way.
pub fn chunk_of_another_run() -> Result<(), String> {
    let mut stage = Stage::new(Limits::default());
    stage.learn(configuration(1, 2, &[3]), &[]);
    stage.accept(2, 20);
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(2),
        configuration: configuration(1, 2, &[3]),
        committed: Op(5),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    let (after, through, read_at, records) = (None, None, Op(3), Vec::new());
    let chunk =
        PeerMessage::CopyChunk { set: SET, run: RunId(1), after, through, read_at, records };
    stage.peer(20, chunk);
    let stored = stage.effects.iter().any(|it| matches!(it, WorkerEffect::StoreChunk { .. }));
    demand(!stored, "stored a chunk of a run that was given up")
}

/// A primary of an older epoch, in which this member's predecessor was a member, starts a copy run
/// to it.
pub fn copy_run_to_a_member() -> Result<(), String> {
    let mut stage = Stage::new(Limits::default());
    stage.accept(3, 30);
    let first = stage.new_epoch(configuration(2, 3, &[1]), 0, 0);
    stage.peer(30, first);
    let writes = stage.prepare(2, vec![entry(2, 1), entry(2, 2)], 0);
    stage.peer(30, writes);
    stage.settle();
    stage.accept(2, 20);
    let start = PeerMessage::RunStart {
        set: SET,
        run: RunId(1),
        configuration: configuration(1, 2, &[3]),
        committed: Op(0),
        dedup: Default::default(),
        ask: stage.ask(),
    };
    stage.peer(20, start);
    demand(prepared(&stage) == Op(2), "a member's copy was wiped by a copy run")
}

/// A primary loses its role to another and has it back, and hears of the latter only; a secondary
/// had dropped a write for the other, and its acknowledgement of that write comes late.
pub fn acknowledgement_of_an_older_epoch() -> Result<(), String> {
    let mut stage = Stage::new(Limits::default());
    stage.input(WorkerInput::MetaUp);
    stage.learn(configuration(1, 1, &[2, 3]), &[]);
    for (peer, link) in [(2, 20), (3, 30)] {
        stage.up(peer, link);
        let ack = stage.ack(1, 0);
        stage.peer(link, ack);
    }
    let request = stage.put("x");
    let late = stage.ack(1, 1);
    stage.learn(configuration(3, 1, &[2, 3]), &[]);
    let ack = stage.ack(3, 1);
    stage.peer(20, ack);
    stage.peer(30, late);
    stage.settle();
    demand(stage.answer(request).is_none(), "acknowledged what a secondary had dropped")
}

/// A primary loses its role to another and has it back, and hears of the latter only; its learner
/// gave up its copy for the other.
pub fn run_of_before_the_other_primary() -> Result<(), String> {
    let mut stage = open_primary(Limits::default());
    let (recovery, learner) = (RecoveryId(1), member(3));
    let order = ToServer::Copy { recovery, learner, sets: vec![(SET, Epoch(1))] };
    stage.input(WorkerInput::FromMeta(order));
    stage.input(WorkerInput::MetaDown);
    stage.up(3, 30);
    let ack = stage.ack(1, 0);
    stage.peer(30, ack);
    let read = stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::ReadRange { set, token, .. } => Some((*set, *token)),
        _ => None,
    });
    let Some((set, token)) = read else { return Err("the set is not copied".to_owned()) };
    stage.input(WorkerInput::RangeDone { set, token, records: Vec::new(), more: false });
    let run = stage.sent().find_map(|message| match message {
        PeerMessage::CopyChunk { run, .. } => Some(*run),
        _ => None,
    });
    let Some(run) = run else { return Err("no chunk is sent".to_owned()) };
    stage.peer(30, PeerMessage::ChunkStored { set, run, through: None });
    stage.learn(configuration(3, 1, &[2]), &[]);
    stage.input(WorkerInput::MetaUp);
    let ack = stage.ack(3, 0);
    stage.peer(10, ack);
    stage.settle();
    let proposes = |effect: &WorkerEffect| match effect {
        WorkerEffect::SendMeta { message: ToMeta::Change { kind, .. } } => {
            matches!(kind, ChangeKind::Add { .. })
        }
        _ => false,
    };
    demand(!stage.effects.iter().any(proposes), "proposed a learner that holds nothing")
}

/// A secondary that is full has said so; a new key comes.
pub fn full_secondary() -> Result<(), String> {
    let mut stage = open_primary(Limits::default());
    stage.peer(10, PeerMessage::Space { set: SET, level: Level::Hard });
    let request = stage.put("x");
    let refused = Answer::Refused(Refusal::Full { server: member(2).server });
    demand(stage.answer(request) == Some(&refused), "a full secondary was sent what grows")
}
