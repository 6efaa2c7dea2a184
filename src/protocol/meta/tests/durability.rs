//! Goal: nothing is announced before it is durable, and a restart of the metaserver in any step
//! loses nothing that was promised.
//! Method: a disk that is slow, and metaservers rebuilt from what the disk holds.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::{MetaInput, Ticket};
use crate::protocol::message::{ChangeKind, ChangeRefusal, MetaRequest, ToServer};
use crate::protocol::meta::durable::{MetaRecord, Step};
use crate::protocol::time::Span;
use crate::protocol::types::{Epoch, KeySet, LinkId, RecoveryId, ServerId};

#[test]
fn nothing_is_announced_before_it_is_durable() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    let dead = cluster.member(1);
    cluster.fake(1).up = false;
    cluster.slow_disk = true;
    cluster.sent.clear();
    let ticket = Ticket { link: LinkId(9_999), request: 1 };
    let request = MetaRequest::Fence { member: dead };
    cluster.input(MetaInput::Request { ticket, request, admin: true });
    assert!(!cluster.writing.is_empty(), "a proof of death is written down");
    let ticket = Ticket { link: LinkId(9_998), request: 1 };
    cluster.input(MetaInput::Request { ticket, request: MetaRequest::View, admin: false });
    for _ in 0..10 {
        cluster.step();
        assert!(cluster.sent.is_empty() && cluster.replies.is_empty());
    }
    assert!(!cluster.servers[&ServerId(2)].view.is_dead(dead));
    cluster.finish_writing();
    assert_eq!(cluster.replies.len(), 2);
    assert!(cluster.servers[&ServerId(2)].view.is_dead(dead));
}

#[test]
fn an_intent_is_durable_before_its_first_question() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    cluster.fake(1).up = false;
    cluster.slow_disk = true;
    cluster.until("an intent is being written", |it| !it.writing.is_empty());
    let intent = |records: &[MetaRecord]| {
        records
            .iter()
            .any(|it| matches!(it, MetaRecord::Recovery(row) if row.primary_of == [KeySet(0)]))
    };
    assert!(intent(&cluster.writing[0].1));
    assert!(!cluster.sent.iter().any(|(_, it)| matches!(it, ToServer::Probe { .. })));
}

#[test]
fn a_restarted_metaserver_knows_the_view_at_once() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    let before = cluster.meta.view();
    assert!(before.sets.iter().all(|it| it.configuration.is_some()), "{before:?}");
    cluster.restart_meta();
    assert_eq!(cluster.meta.view(), before);
}

#[test]
fn a_refusal_is_final_across_a_restart() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    let to = cluster.member(3);
    let kind = ChangeKind::HandOver { to };
    assert_eq!(cluster.change(1, 0, 5, kind), Err(ChangeRefusal::NotAllowed));
    assert_eq!(cluster.change(1, 0, 5, kind), Err(ChangeRefusal::RefusedBefore));
    cluster.restart_meta();
    let kind = ChangeKind::HandOver { to: cluster.member(2) };
    assert_eq!(cluster.change(1, 0, 4, kind), Err(ChangeRefusal::RefusedBefore));
    assert_eq!(cluster.change(1, 0, 5, kind), Err(ChangeRefusal::RefusedBefore));
    assert_eq!(cluster.change(1, 0, 6, kind).map(|it| it.epoch), Ok(Epoch(2)));
    // In a new epoch, after another restart, the same number is judged anew.
    cluster.restart_meta();
    let back = ChangeKind::HandOver { to: cluster.member(1) };
    assert_eq!(cluster.change(2, 0, 1, back).map(|it| it.epoch), Ok(Epoch(3)));
}

#[test]
fn views_do_not_go_back_in_version() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    let before = cluster.status().version;
    cluster.restart_meta();
    assert_eq!(cluster.status().version, before);
}

/// Server 1 dies and returns; the metaserver is restarted once the recovery stands at `step`.
fn restarted_in(step: Step) {
    let mut cluster = Cluster::born(settings(3, 6, 2));
    let failed = cluster.member(1);
    let hold = |cluster: &mut Cluster, held: bool| {
        for server in 2..=3 {
            let fake = cluster.fake(server);
            fake.obeys = !held;
            fake.hears = if held { [ServerId(1)].into() } else { [].into() };
        }
    };
    cluster.fake(1).up = false;
    let invalidate = step == Step::Invalidate;
    hold(&mut cluster, invalidate);
    if !invalidate {
        for server in 2..=3 {
            cluster.fake(server).misses.insert(ServerId(1));
            cluster.fake(server).obeys = false;
        }
        cluster.until("invalidated", |it| it.stands_at() > Some(Step::Invalidate));
        cluster.start(ServerId(1));
    }
    if step == Step::CopySecondary {
        // Only the sets that 1 was primary of get their copies.
        let sets = cluster.recovery().primary_of;
        let recovery = cluster.recovery().id;
        for set in sets {
            let configuration = cluster.configuration(set.0);
            let learner = cluster.member(1);
            let kind = ChangeKind::Add { learner, recovery };
            let primary = configuration.primary.server.0;
            assert!(cluster.change(primary, set.0, 1_000, kind).is_ok());
        }
    }
    if step == Step::Resume {
        let recovery = cluster.recovery();
        for set in recovery.primary_of.iter().chain(&recovery.secondary_of) {
            let configuration = cluster.configuration(set.0);
            let kind = ChangeKind::Add { learner: cluster.member(1), recovery: recovery.id };
            let primary = configuration.primary.server.0;
            assert!(cluster.change(primary, set.0, 1_000, kind).is_ok());
        }
    }
    cluster.until("the step is reached", |it| it.stands_at() == Some(step));
    cluster.restart_meta();
    assert_eq!((cluster.recovery().step, cluster.recovery().failed), (step, failed));
    hold(&mut cluster, false);
    for server in 2..=3 {
        cluster.fake(server).misses.insert(ServerId(1));
    }
    if invalidate {
        cluster.until("invalidated", |it| it.stands_at() > Some(Step::Invalidate));
        cluster.start(ServerId(1));
    }
    cluster.until("the recovery is done", |it| it.stands_at() == Some(Step::Done));
    assert_eq!(cluster.status().recoveries.len(), 1);
    assert!(cluster.status().sets.iter().all(|set| set.redundant));
    let member = cluster.member(1);
    assert_eq!(cluster.configuration(0).primary, member);
    assert_eq!(cluster.configuration(3).primary, member);
    assert!(cluster.recovery().took_ms.iter().all(Option::is_some));
}

#[test]
fn a_restart_in_invalidate_resumes() {
    restarted_in(Step::Invalidate);
}

#[test]
fn a_restart_in_copy_primary_resumes() {
    restarted_in(Step::CopyPrimary);
}

#[test]
fn a_restart_in_copy_secondary_resumes() {
    restarted_in(Step::CopySecondary);
}

#[test]
fn a_restart_in_resume_resumes() {
    restarted_in(Step::Resume);
}

#[test]
fn after_a_restart_nobody_is_suspected_before_a_grace() {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    cluster.restart_meta();
    cluster.step();
    // Heard once, and silent ever after.
    for server in 1..=3 {
        cluster.fake(server).up = false;
    }
    let timing = cluster.settings.timing;
    cluster.run(timing.suspect + timing.heartbeat + timing.heartbeat);
    assert!(cluster.status().recoveries.is_empty());
    cluster.until("they are suspected", |it| it.status().recoveries.len() == 3);
    assert_eq!(cluster.recovery().id, RecoveryId(3));
    cluster.run(Span::from_millis(1_000));
    assert_eq!(cluster.configuration(0).epoch, Epoch(1));
}
