//! Goal: a server that is nearly full is given nothing new, a full one nothing at all, until it has
//! room again by its own word; and the status tells.
//! Method: a spare that is nearly full while a member stays away; a full server that comes back.

use super::cluster::{Cluster, settings};
use crate::protocol::message::{MetaAnswer, MetaRequest, ToMeta};
use crate::protocol::space::{Level, Space};
use crate::protocol::time::Span;
use crate::protocol::types::ServerId;

fn says(cluster: &mut Cluster, server: u16, level: Level) {
    cluster.say(server, ToMeta::Space(Space { level, ..Space::default() }));
}

fn all_whole(cluster: &mut Cluster) -> bool {
    cluster.status().sets.iter().all(|set| set.redundant)
}

fn kill(cluster: &mut Cluster, server: u16) {
    let member = cluster.member(server);
    cluster.fake(server).up = false;
    cluster.ask(MetaRequest::Fence { member });
}

#[test]
fn nothing_new_is_placed_on_a_server_that_is_nearly_full() {
    let mut cluster = Cluster::empty(settings(3, 4, 2));
    cluster.start(ServerId(1));
    cluster.start(ServerId(2));
    cluster.until("born on two servers", |it| it.status().sets[0].configuration.is_some());
    cluster.start(ServerId(3));
    cluster.until("served", |it| it.status().sets.iter().all(|set| set.open));
    says(&mut cluster, 3, Level::High);
    kill(&mut cluster, 2);
    cluster.run(Span::from_millis(20_000));
    for set in 0..4 {
        assert!(!cluster.configuration(set).contains(cluster.member(3)), "it is nearly full");
    }
    says(&mut cluster, 3, Level::Soft);
    cluster.until("the spare has joined", all_whole);
}

#[test]
fn a_full_server_is_sent_no_copies_until_it_has_room() {
    let mut cluster = Cluster::born(settings(2, 4, 2));
    kill(&mut cluster, 1);
    cluster.run(Span::from_millis(500));
    // What is ordered before the server has said anything goes unheard.
    cluster.fake(2).obeys = false;
    cluster.start(ServerId(1));
    says(&mut cluster, 1, Level::Hard);
    cluster.run(Span::from_millis(100));
    cluster.fake(2).obeys = true;
    cluster.run(Span::from_millis(5_000));
    assert!(!all_whole(&mut cluster), "it is full");
    says(&mut cluster, 1, Level::High);
    cluster.until("what is placed on it comes back", all_whole);
}

#[test]
fn the_space_of_a_server_is_what_it_said_last() {
    let mut cluster = Cluster::born(settings(2, 1, 2));
    assert_eq!(cluster.ask(MetaRequest::Space), MetaAnswer::Space(Vec::new()));
    for level in [Level::Hard, Level::Ok] {
        says(&mut cluster, 2, level);
        let expected = vec![(ServerId(2), Space { level, ..Space::default() })];
        assert_eq!(cluster.ask(MetaRequest::Space), MetaAnswer::Space(expected));
    }
}
