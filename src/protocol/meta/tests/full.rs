//! Goal: a metaserver whose disk is full takes no step, says only what is durable, refuses what
//! would change anything, and goes on by itself when there is room.
//! Method: a disk that takes nothing, with a server that dies meanwhile.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::MetaInput;
use crate::protocol::message::{MetaAnswer, MetaRefusal, MetaRequest, ToMeta};
use crate::protocol::meta::{MetaSettings, ServerState};
use crate::protocol::time::Span;
use crate::protocol::types::ServerId;

fn fill_up(cluster: &mut Cluster) {
    cluster.slow_disk = true;
    // The first thing that is to become durable finds no room.
    cluster.say(1, ToMeta::Left);
    assert!(!cluster.writing.is_empty(), "a death is written down");
    cluster.fake(1).up = false;
    let durable = cluster.disk.clone();
    cluster.input(MetaInput::DiskFull { durable });
}

#[test]
fn on_a_full_disk_nothing_is_decided_and_what_is_durable_is_told() {
    let mut cluster = Cluster::born(MetaSettings { durable: true, ..settings(3, 6, 2) });
    let before = cluster.status();
    fill_up(&mut cluster);
    let waiting = cluster.writing.len();
    cluster.sent.clear();
    cluster.run(Span::from_millis(5_000));
    assert_eq!(cluster.writing.len(), waiting, "a step was taken that can not be durable");
    let status = cluster.status();
    assert_ne!(status.servers[0].state, ServerState::Dead, "that is not durable");
    let configurations = |it: &crate::protocol::meta::Status| -> Vec<_> {
        it.sets.iter().map(|set| set.configuration.clone()).collect()
    };
    assert_eq!(configurations(&status), configurations(&before));
    let others = status.sets.iter().filter(|set| {
        set.configuration.as_ref().is_some_and(|it| it.primary.server != ServerId(1))
    });
    assert!(others.clone().count() > 0 && others.clone().all(|set| set.open), "{status:?}");
    let member = cluster.member(2);
    let fenced = cluster.ask(MetaRequest::Fence { member });
    assert_eq!(fenced, MetaAnswer::Refused(MetaRefusal::DiskFull));
    assert!(matches!(cluster.ask(MetaRequest::View), MetaAnswer::View(_)));
}

#[test]
fn with_room_again_the_recovery_happens_by_itself() {
    let mut cluster = Cluster::born(settings(3, 6, 2));
    fill_up(&mut cluster);
    cluster.run(Span::from_millis(5_000));
    cluster.slow_disk = false;
    cluster.finish_writing();
    cluster.input(MetaInput::DiskRoomy);
    assert_eq!(cluster.status().servers[0].state, ServerState::Dead);
    cluster.until("the others serve everything", |it| {
        let dead = it.member(1);
        it.status().sets.iter().all(|set| {
            let named = set.configuration.as_ref().is_none_or(|it| it.contains(dead));
            set.open && !named
        })
    });
}
