//! Goal: a server serves on under a metaserver that knows less, and says what it knows.
//! Method: an open primary, whose metaserver is played by hand.

use crate::protocol::effect::WorkerEffect;
use crate::protocol::limits::Limits;
use crate::protocol::message::{
    Activity, Registration, RegistrationRefusal, Testimony, ToMeta, ToServer,
};
use crate::protocol::types::{Epoch, WorkerId};
use crate::protocol::worker::stage::{SET, Stage, configuration, member, open_primary};
use crate::protocol::worker::{Start, Worker, WorkerInput, WorkerSettings};

fn testimony(stage: &mut Stage, round: u64) -> Option<Testimony> {
    stage.effects.clear();
    stage.input(WorkerInput::FromMeta(ToServer::Testify { round }));
    stage.effects.iter().find_map(|effect| match effect {
        WorkerEffect::SendMeta { message: ToMeta::Testimony(it) } => Some(Testimony::clone(it)),
        _ => None,
    })
}

#[test]
fn a_metaserver_that_knows_less_ends_no_server() {
    let mut stage = open_primary(Limits::default());
    let deposed =
        |it: &Stage| it.effects.iter().any(|effect| matches!(effect, WorkerEffect::Deposed { .. }));
    let refuse = |it| WorkerInput::FromMeta(ToServer::RegistrationRefused(it));
    stage.input(refuse(RegistrationRefusal::MetaserverEmpty));
    stage.input(refuse(RegistrationRefusal::MetaserverOutdated));
    assert!(!deposed(&stage) && stage.is_open());
    let request = stage.put("still");
    let ack = stage.ack(1, 1);
    stage.peer(10, ack);
    assert!(stage.answer(request).is_some(), "it serves");
    stage.input(refuse(RegistrationRefusal::Superseded));
    assert!(deposed(&stage));
}

#[test]
fn a_primary_says_what_it_knows_and_what_it_asked_for() {
    let mut stage = open_primary(Limits::default());
    let said = testimony(&mut stage, 3).expect("it is registered");
    assert_eq!((said.round, said.cluster), (3, stage.worker.view().cluster));
    assert_eq!(said.sets[0].configuration, Some(configuration(1, 1, &[2])));
    let replica = said.replicas[0];
    assert_eq!((replica.set, replica.activity), (SET, Some(Activity::Open)));
    assert!(replica.whole && replica.proposed.is_none());
    // What its replica heard from a new primary, the view has not heard.
    stage.accept(2, 20);
    let first = stage.new_epoch(configuration(4, 2, &[1]), 0, 0);
    stage.peer(20, first);
    let said = testimony(&mut stage, 4).expect("it is registered");
    let known = said.sets[0].configuration.as_ref().map(|it| (it.epoch, it.primary));
    assert_eq!(known, Some((Epoch(4), member(2))));
    assert_eq!(said.replicas[0].activity, Some(Activity::Secondary));
}

#[test]
fn a_process_without_an_identity_says_nothing() {
    let mut stage = open_primary(Limits::default());
    let registration = Registration {
        server: member(1).server,
        workers: Vec::new(),
        cluster: None,
        highest_epoch: Epoch(0),
        inherits: None,
        process: 7,
    };
    let settings = WorkerSettings {
        worker: WorkerId(0),
        workers: 1,
        timing: Default::default(),
        limits: Limits::default(),
        start: Start::Register(registration),
        inheritance: Vec::new(),
    };
    stage.worker = Worker::new(settings, stage.now);
    assert_eq!(testimony(&mut stage, 1), None);
}
