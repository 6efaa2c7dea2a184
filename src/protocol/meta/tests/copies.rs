//! Goal: missing copies come back, bounded and under their own recovery; late words of an older
//! recovery count for nothing.
//! Method: servers die and return once or twice, change places with a spare, or never obey.

use super::cluster::{Cluster, settings};
use crate::protocol::message::{ChangeKind, ChangeRefusal, MetaRequest, ToServer};
use crate::protocol::meta::durable::Step;
use crate::protocol::time::Span;
use crate::protocol::types::{KeySet, Member, ServerId};

fn all_whole(cluster: &mut Cluster) -> bool {
    cluster.status().sets.iter().all(|set| set.redundant)
}

fn all_done(cluster: &mut Cluster) -> bool {
    cluster.status().recoveries.iter().all(|it| it.step == Step::Done)
}

fn kill(cluster: &mut Cluster, server: u16) -> Member {
    let member = cluster.member(server);
    cluster.fake(server).up = false;
    cluster.ask(MetaRequest::Fence { member });
    member
}

#[test]
fn a_stale_recovery_is_refused() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(200));
    let stale = cluster.recovery().id;
    cluster.start(ServerId(1));
    cluster.until("whole again", all_whole);
    cluster.until("the recovery is over", all_done);
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(200));
    let current = cluster.recovery().id;
    assert_ne!(stale, current);
    for server in 2..=3 {
        cluster.fake(server).obeys = false;
    }
    cluster.start(ServerId(1));
    let learner = cluster.member(1);
    let kind = ChangeKind::Add { learner, recovery: stale };
    assert_eq!(cluster.change(2, 0, 900, kind), Err(ChangeRefusal::StaleRecovery));
    let dead = Member { incarnation: crate::protocol::types::Incarnation(1), ..learner };
    let kind = ChangeKind::Add { learner: dead, recovery: current };
    assert_eq!(cluster.change(2, 0, 901, kind), Err(ChangeRefusal::Superseded));
    let kind = ChangeKind::Add { learner, recovery: current };
    assert!(cluster.change(2, 0, 902, kind).is_ok());
}

#[test]
fn a_second_failure_of_the_same_server_in_its_recovery() {
    let mut cluster = Cluster::born(settings(3, 6, 2));
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(200));
    // Its sets get copies one by one; it dies when it is back in some of them.
    for server in 2..=3 {
        cluster.fake(server).obeys = false;
    }
    cluster.start(ServerId(1));
    let recovery = cluster.recovery();
    let learner = cluster.member(1);
    let kind = ChangeKind::Add { learner, recovery: recovery.id };
    assert!(cluster.change(2, 0, 900, kind).is_ok());
    cluster.start(ServerId(1));
    cluster.run(Span::from_millis(500));
    assert!(!cluster.configuration(0).contains(learner));
    for server in 2..=3 {
        cluster.fake(server).obeys = true;
    }
    cluster.until("whole again", all_whole);
    cluster.until("all recoveries are over", all_done);
    assert_eq!(cluster.status().recoveries.len(), 2);
    assert_eq!(cluster.configuration(0).primary, cluster.member(1));
}

#[test]
fn copies_to_one_learner_are_bounded() {
    let mut cluster = Cluster::born(settings(2, 200, 2));
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(500));
    cluster.fake(2).obeys = false;
    cluster.start(ServerId(1));
    let mut ordered: Vec<KeySet> = Vec::new();
    for _ in 0..20 {
        for (_, message) in &cluster.sent {
            if let ToServer::Copy { sets, .. } = message {
                ordered.extend(sets.iter().map(|(set, _)| *set));
            }
        }
        cluster.step();
    }
    ordered.sort_unstable();
    ordered.dedup();
    assert_eq!(ordered.len(), super::super::copying::COPIES_MAX);
}

#[test]
fn a_spare_takes_the_place_of_who_stays_away() {
    let mut cluster = Cluster::empty(settings(3, 4, 2));
    cluster.start(ServerId(1));
    cluster.start(ServerId(2));
    cluster.until("born on two servers", |it| it.status().sets[0].configuration.is_some());
    cluster.start(ServerId(3));
    cluster.until("served", |it| it.status().sets.iter().all(|set| set.open));
    kill(&mut cluster, 2);
    cluster.run(Span::from_millis(9_000));
    assert!(!cluster.configuration(0).contains(cluster.member(3)));
    cluster.until("the spare has joined", all_whole);
    for set in 0..4 {
        assert!(cluster.configuration(set).contains(cluster.member(3)));
    }
}

#[test]
fn handovers_wait_for_the_copies_and_are_bounded() {
    let mut cluster = Cluster::born(settings(2, 200, 2));
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(500));
    cluster.start(ServerId(1));
    let mut most = 0;
    for _ in 0..400 {
        let copying = cluster.recovery().step < Step::Resume;
        let orders = cluster.sent.iter().map(|(_, message)| match message {
            ToServer::HandOver { sets, .. } => sets.len(),
            _ => 0,
        });
        let ordered: usize = orders.sum();
        assert!(!copying || ordered == 0, "handed over before the copies are there");
        most = most.max(ordered);
        cluster.step();
    }
    assert_eq!(most, super::super::handover::HANDOVERS_MAX);
    assert!(all_done(&mut cluster));
}
