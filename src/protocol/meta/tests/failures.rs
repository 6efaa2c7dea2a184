//! Goal: suspicion asks, proof acts; promotion and removal follow rules 7 and 8.
//! Method: three fake servers fall silent, die, or miss each other, and the configurations that
//! result are read from the status.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::{MetaInput, MetaNote};
use crate::protocol::message::{MetaAnswer, MetaRequest, ToMeta, ToServer};
use crate::protocol::meta::durable::Step;
use crate::protocol::meta::{MetaSettings, ServerState};
use crate::protocol::time::Span;
use crate::protocol::types::{Epoch, KeySet, Op, ServerId, WorkerId};
use crate::protocol::view::SetState;

/// Three servers, three sets, two copies: set 0 is on servers 1 and 2.
fn cluster() -> Cluster {
    let mut cluster = Cluster::born(settings(3, 3, 2));
    let configuration = cluster.configuration(0);
    assert_eq!(configuration.primary, cluster.member(1));
    assert_eq!(configuration.secondaries, vec![cluster.member(2)]);
    cluster
}

#[test]
fn promotion_waits_while_a_member_hears_the_primary() {
    let mut cluster = cluster();
    cluster.fake(1).up = false;
    cluster.fake(2).hears.insert(ServerId(1));
    cluster.run(Span::from_millis(3_000));
    assert_eq!(cluster.configuration(0).epoch, Epoch(1));
    assert_eq!(cluster.status().servers[0].state, ServerState::Suspected);
    cluster.fake(2).hears.clear();
    cluster.until("2 is primary", |it| it.configuration(0).primary == it.member(2));
    assert!(cluster.configuration(0).secondaries.is_empty());
}

#[test]
fn no_promotion_while_heartbeats_name_the_primary_as_serving() {
    let mut cluster = cluster();
    // The server is suspected for the silence of a worker that it registered and that never
    // spoke; its other worker's sets are served all the time.
    let mut registration = cluster.registration(ServerId(1), 77);
    let second = registration.workers[0];
    registration.workers.push(second);
    cluster.start_as(ServerId(1), registration);
    cluster.until("1 is back in set 0", |it| it.configuration(0).primary == it.member(1));
    let epoch = cluster.configuration(0).epoch;
    cluster.until("1 is suspected", |it| it.status().servers[0].state == ServerState::Suspected);
    cluster.run(Span::from_millis(2_000));
    assert_eq!(cluster.configuration(0).epoch, epoch);
}

#[test]
fn the_longest_log_is_preferred() {
    let mut cluster = Cluster::born(settings(3, 1, 3));
    cluster.fake(3).last_op = Op(5);
    cluster.fake(2).last_op = Op(4);
    cluster.fake(1).up = false;
    cluster.until("3 is primary", |it| it.configuration(0).primary == it.member(3));
    assert_eq!(cluster.configuration(0).epoch, Epoch(2));
    assert_eq!(cluster.configuration(0).secondaries, vec![cluster.member(2)]);
}

#[test]
fn a_false_suspicion_is_dropped() {
    let mut cluster = cluster();
    cluster.fake(1).up = false;
    for server in 2..=3 {
        cluster.fake(server).hears.insert(ServerId(1));
    }
    cluster.until("an intent is written", |it| !it.status().recoveries.is_empty());
    cluster.fake(1).up = true;
    cluster.until("it is over", |it| it.recovery().step == Step::Done);
    assert_eq!(cluster.recovery().dropped, 2);
    for set in 0..3 {
        assert_eq!(cluster.configuration(set).epoch, Epoch(1));
    }
}

#[test]
fn a_proof_of_death_promotes_at_once() {
    let mut cluster = cluster();
    let dead = cluster.member(1);
    cluster.fake(1).up = false;
    cluster.fake(2).hears.insert(ServerId(1));
    assert_eq!(cluster.ask(MetaRequest::Fence { member: dead }), MetaAnswer::Fenced);
    cluster.run(Span::from_millis(100));
    assert_eq!(cluster.configuration(0).primary, cluster.member(2));
    // As a secondary it is removed without a question.
    assert!(!cluster.configuration(2).contains(dead));
    assert!(cluster.fake(2).view.is_dead(dead));
}

#[test]
fn a_resigned_primary_stays_as_secondary() {
    let mut cluster = cluster();
    let member = cluster.member(1);
    cluster.say(1, ToMeta::Resigned { set: KeySet(0), epoch: Epoch(1), member });
    cluster.run(Span::from_millis(200));
    let configuration = cluster.configuration(0);
    assert_eq!(configuration.primary, cluster.member(2));
    assert_eq!(configuration.secondaries, vec![member]);
}

#[test]
fn a_resignation_of_another_epoch_moves_nothing() {
    let mut cluster = cluster();
    let member = cluster.member(1);
    for (epoch, member) in [(Epoch(0), member), (Epoch(2), member), (Epoch(1), cluster.member(2))] {
        cluster.say(1, ToMeta::Resigned { set: KeySet(0), epoch, member });
    }
    cluster.run(Span::from_millis(1_000));
    assert_eq!(cluster.configuration(0).epoch, Epoch(1));
}

#[test]
fn a_primary_that_never_serves_is_replaced() {
    let mut cluster = cluster();
    cluster.fake(1).serves = false;
    cluster.until("2 is primary", |it| it.configuration(0).primary == it.member(2));
    assert!(cluster.configuration(0).contains(cluster.member(1)));
}

#[test]
fn removal_needs_the_primarys_word() {
    let mut cluster = cluster();
    cluster.fake(2).up = false;
    cluster.run(Span::from_millis(3_000));
    assert!(cluster.configuration(0).contains(cluster.member(2)));
    cluster.fake(1).misses.insert(ServerId(2));
    cluster.until("2 is removed", |it| !it.configuration(0).contains(it.member(2)));
    assert_eq!(cluster.configuration(0).primary, cluster.member(1));
}

#[test]
fn a_late_or_strange_confirmation_is_ignored() {
    let mut cluster = cluster();
    cluster.fake(2).up = false;
    let question = |cluster: &Cluster| {
        cluster.sent.iter().rev().find_map(|(_, message)| match message {
            ToServer::ConfirmRemoval { nonce, sets, .. } if sets[0].0 == KeySet(0) => Some(*nonce),
            _ => None,
        })
    };
    cluster.until("the primary is asked", |it| question(it).is_some());
    let nonce = question(&cluster).expect("just seen");
    let member = cluster.member(2);
    let confirm = |nonce, epoch| ToMeta::RemovalConfirmed {
        nonce,
        member,
        sets: vec![(KeySet(0), epoch, Op(0))],
    };
    cluster.say(1, confirm(nonce + 1_000, Epoch(1)));
    cluster.say(1, confirm(nonce, Epoch(2)));
    cluster.say(3, confirm(nonce, Epoch(1)));
    assert!(cluster.configuration(0).contains(member));
    // Older than the bound.
    cluster.run(cluster.settings.timing.retry + cluster.settings.timing.heartbeat);
    cluster.say(1, confirm(nonce, Epoch(1)));
    assert!(cluster.configuration(0).contains(member));
    // Fresh, but over another link.
    let fresh = question(&cluster);
    cluster.until("the primary is asked again", |it| question(it).is_some() || fresh.is_some());
    let fresh = fresh.or(question(&cluster)).expect("just seen");
    let (old, primary) = (cluster.fake(1).link, cluster.member(1));
    let link = cluster.new_link();
    cluster.input(MetaInput::ServerUp { link, member: primary, worker: WorkerId(0) });
    cluster.input(MetaInput::FromServer { link, message: confirm(fresh, Epoch(1)) });
    assert!(cluster.configuration(0).contains(member));
    assert_ne!(old, link);
}

#[test]
fn a_complaint_is_only_a_reason_to_ask() {
    let mut cluster = cluster();
    let member = cluster.member(2);
    let complaint = ToMeta::Complaint { member, sets: vec![(KeySet(0), Epoch(1))] };
    cluster.say(1, complaint.clone());
    cluster.run(Span::from_millis(500));
    assert!(cluster.configuration(0).contains(member));
    cluster.fake(1).misses.insert(ServerId(2));
    cluster.fake(1).obeys = false;
    cluster.say(1, complaint);
    cluster.until("2 is removed", |it| !it.configuration(0).contains(member));
    // Both live: the removed one is wanted back, and asking for it costs no epochs.
    let epoch = cluster.configuration(0).epoch;
    cluster.run(Span::from_millis(5_000));
    assert_eq!(cluster.configuration(0).epoch, epoch);
}

#[test]
fn when_all_servers_fall_silent_nothing_changes() {
    let mut cluster = cluster();
    for server in 1..=3 {
        cluster.fake(server).up = false;
    }
    cluster.run(Span::from_millis(5_000));
    for set in 0..3 {
        assert_eq!(cluster.configuration(set).epoch, Epoch(1));
    }
    assert!(cluster.status().sets.iter().all(|set| set.state == SetState::Unavailable));
    for server in 1..=3 {
        cluster.fake(server).up = true;
    }
    cluster.until("all are served", |it| it.status().sets.iter().all(|set| set.open));
    assert_eq!(cluster.configuration(0).epoch, Epoch(1));
}

#[test]
fn a_server_that_never_heartbeats_is_suspected() {
    let mut cluster = Cluster::empty(settings(2, 2, 2));
    cluster.start(ServerId(1));
    cluster.start(ServerId(2));
    cluster.fake(2).up = false;
    cluster.until("2 is suspected", |it| it.status().servers[1].state == ServerState::Suspected);
}

#[test]
fn a_stall_of_the_metaserver_is_held_against_nobody() {
    let mut cluster = cluster();
    cluster.now += Span::from_millis(5_000);
    cluster.input(MetaInput::Tick);
    assert!(cluster.status().servers.iter().all(|it| it.state == ServerState::Up));
    assert!(!cluster.notes.iter().any(|note| matches!(note, MetaNote::Suspected { .. })));
}

#[test]
fn a_set_whose_members_are_all_dead_is_lost_until_it_is_revived() {
    let mut cluster = cluster();
    for server in 1..=2 {
        cluster.fake(server).up = false;
        let member = cluster.member(server);
        cluster.ask(MetaRequest::Fence { member });
    }
    cluster.run(Span::from_millis(1_000));
    assert_eq!(cluster.status().sets[0].state, SetState::Lost);
    assert_eq!(cluster.configuration(1).members().count(), 1);
    assert!(matches!(
        cluster.ask(MetaRequest::Revive { sets: vec![KeySet(1)] }),
        MetaAnswer::Refused(_)
    ));
    let revived = cluster.ask(MetaRequest::Revive { sets: Vec::new() });
    assert_eq!(revived, MetaAnswer::Revived { sets: vec![KeySet(0)] });
    let configuration = cluster.configuration(0);
    assert_eq!(configuration.loss_epoch.0, 1);
    assert_eq!(configuration.primary, cluster.member(3));
    assert_eq!(configuration.epoch, Epoch(2));
}

#[test]
fn below_the_floor_an_ex_member_that_holds_everything_saves_the_set() {
    let mut cluster = Cluster::born(MetaSettings { min_write_copies: 2, ..settings(2, 1, 2) });
    cluster.fake(1).last_op = Op(9);
    cluster.fake(1).misses.insert(ServerId(2));
    cluster.fake(1).obeys = false;
    let member = cluster.member(2);
    cluster.say(1, ToMeta::Complaint { member, sets: vec![(KeySet(0), Epoch(1))] });
    cluster.until("2 is removed", |it| !it.configuration(0).contains(member));
    let survivor = cluster.member(1);
    cluster.fake(1).up = false;
    cluster.fake(2).last_op = Op(8);
    cluster.ask(MetaRequest::Fence { member: survivor });
    cluster.run(Span::from_millis(1_000));
    assert_eq!(cluster.configuration(0).primary, survivor);
    cluster.fake(2).last_op = Op(9);
    cluster.until("2 is primary", |it| it.configuration(0).primary == member);
}
