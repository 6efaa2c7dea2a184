//! Goal: planned stops cost no copy that nobody else holds, and processes are started once.
//! Method: servers say that they leave and ask to be removed; a spawner's inputs by hand.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::MetaInput;
use crate::protocol::message::{MetaRequest, ToMeta};
use crate::protocol::meta::{MetaSettings, ServerState};
use crate::protocol::time::Span;
use crate::protocol::types::ServerId;

fn holds_nothing(cluster: &mut Cluster, server: u16) -> bool {
    let member = cluster.member(server);
    let sets = cluster.status().sets;
    sets.iter().all(|set| set.configuration.as_ref().is_none_or(|it| !it.contains(member)))
}

#[test]
fn a_leaving_server_hands_over_and_is_removed() {
    let mut cluster = Cluster::born(settings(3, 6, 2));
    cluster.say(1, ToMeta::Leaving);
    cluster.until("1 holds nothing", |it| holds_nothing(it, 1));
    assert_eq!(cluster.status().servers[0].state, ServerState::Leaving);
    cluster.say(1, ToMeta::Left);
    assert_eq!(cluster.status().servers[0].state, ServerState::Dead);
    cluster.fake(1).up = false;
    cluster.start(ServerId(1));
    cluster.until("whole again", |it| it.status().sets.iter().all(|set| set.redundant));
}

#[test]
fn the_last_copy_does_not_leave_before_another_holds_it() {
    let mut cluster = Cluster::born(settings(3, 1, 2));
    let dead = cluster.member(2);
    cluster.fake(2).up = false;
    cluster.ask(MetaRequest::Fence { member: dead });
    cluster.run(Span::from_millis(200));
    assert_eq!(cluster.configuration(0).copies(), 1);
    cluster.fake(1).obeys = false;
    cluster.say(1, ToMeta::Leaving);
    cluster.run(Span::from_millis(1_000));
    assert!(!holds_nothing(&mut cluster, 1));
    cluster.fake(1).obeys = true;
    cluster.until("1 holds nothing", |it| holds_nothing(it, 1));
    assert_eq!(cluster.configuration(0).primary, cluster.member(3));
}

#[test]
fn a_secondary_may_not_leave_to_servers_that_leave_too() {
    let mut cluster = Cluster::born(settings(2, 1, 2));
    cluster.say(1, ToMeta::Leaving);
    cluster.say(2, ToMeta::Leaving);
    cluster.run(Span::from_millis(2_000));
    assert_eq!(cluster.configuration(0).copies(), 2);
}

#[test]
fn a_secondary_may_not_leave_to_a_primary_that_gives_no_sign_of_life() {
    let mut cluster = Cluster::born(settings(2, 1, 2));
    let primary = cluster.configuration(0).primary.server.0;
    // It is dead, and nobody suspects it yet.
    cluster.fake(primary).up = false;
    let other = 3 - primary;
    cluster.say(other, ToMeta::Leaving);
    cluster.run(Span::from_millis(150));
    assert!(!holds_nothing(&mut cluster, other), "it has the last copy");
}

fn spawning() -> MetaSettings {
    MetaSettings { servers: vec![(ServerId(1), true), (ServerId(2), false)], ..settings(2, 2, 2) }
}

#[test]
fn a_process_is_spawned_once_and_again_after_its_exit() {
    let mut cluster = Cluster::empty(spawning());
    cluster.run(Span::from_millis(3_000));
    assert_eq!(cluster.spawned, vec![ServerId(1)]);
    cluster.start(ServerId(1));
    cluster.start(ServerId(2));
    let process = cluster.process(1);
    cluster.input(MetaInput::ProcessStarted { server: ServerId(1), process });
    cluster.run(Span::from_millis(6_000));
    // Silence starts nothing.
    cluster.fake(1).up = false;
    cluster.run(Span::from_millis(6_000));
    assert_eq!(cluster.spawned.len(), 1);
    cluster.input(MetaInput::ProcessExited { server: ServerId(1), process: process + 7 });
    cluster.step();
    assert_eq!(cluster.spawned.len(), 1, "another process's exit proves nothing");
    cluster.input(MetaInput::ProcessExited { server: ServerId(1), process });
    assert_eq!(cluster.spawned.len(), 2);
    assert_eq!(cluster.status().servers[0].state, ServerState::Dead);
}

#[test]
fn a_process_that_dies_young_waits_longer_each_time() {
    let mut cluster = Cluster::empty(spawning());
    cluster.step();
    // The first young death is made good at once.
    cluster.input(MetaInput::ProcessExited { server: ServerId(1), process: 0 });
    let waits = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    for (spawned, wait) in (2..).zip(waits) {
        assert_eq!(cluster.spawned.len(), spawned);
        cluster.input(MetaInput::ProcessExited { server: ServerId(1), process: 0 });
        cluster.run(Span::from_millis(wait - 100));
        assert_eq!(cluster.spawned.len(), spawned);
        cluster.run(Span::from_millis(200));
    }
}

#[test]
fn a_word_of_a_process_that_is_gone_is_not_heard() {
    let mut cluster = Cluster::empty(spawning());
    cluster.step();
    cluster.input(MetaInput::ProcessStarted { server: ServerId(1), process: 40 });
    cluster.input(MetaInput::ProcessExited { server: ServerId(1), process: 40 });
    let registration = cluster.registration(ServerId(1), 40);
    cluster.start_as(ServerId(1), registration);
    assert_eq!(cluster.status().servers[0].state, ServerState::Expected);
}

#[test]
fn running_processes_are_adopted_after_a_restart() {
    let mut cluster = Cluster::born(spawning());
    let process = cluster.process(1);
    cluster.spawned.clear();
    // A registered server that is not proven dead is not started, known process or not.
    cluster.restart_meta();
    cluster.run(Span::from_millis(3_000));
    assert!(cluster.spawned.is_empty());
    cluster.restart_meta();
    cluster.input(MetaInput::ProcessStarted { server: ServerId(1), process });
    cluster.run(Span::from_millis(3_000));
    assert!(cluster.spawned.is_empty());
    // A process that died while the metaserver was away is proven gone, and replaced.
    cluster.fake(1).up = false;
    cluster.restart_meta();
    cluster.input(MetaInput::ProcessExited { server: ServerId(1), process });
    cluster.run(Span::from_millis(3_000));
    assert_eq!(cluster.spawned, vec![ServerId(1)]);
}
