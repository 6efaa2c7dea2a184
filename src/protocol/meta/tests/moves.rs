//! Goal: a server that is nearly full gives away as many key sets as it takes and no more, without
//! a copy less at any time, and only to servers that stay well below; nothing moves back.
//! Method: fake servers whose bytes in use follow from the key sets that name them.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::MetaNote;
use crate::protocol::message::{ToMeta, ToServer};
use crate::protocol::space::{Level, Space, Thresholds};
use crate::protocol::types::{Epoch, KeySet, ServerId};

/// Bytes of a key set.
const SET_BYTES: u64 = 100;

/// Servers, and how much each can hold.
struct Measured {
    cluster: Cluster,
    capacities: Vec<u64>,
    levels: Vec<Level>,
    /// What the first server has in use, whatever it gives away.
    stuck_at: Option<u64>,
    /// Who was told of which key set that it belongs elsewhere.
    told: Vec<(ServerId, KeySet)>,
    /// The fewest members that a key set had.
    copies_min: usize,
}

impl Measured {
    fn born(key_sets: u16, copies: u16, capacities: &[u64]) -> Measured {
        let servers = capacities.len() as u16;
        let mut measured = Measured {
            cluster: Cluster::born(settings(servers, key_sets, copies)),
            capacities: capacities.to_vec(),
            levels: vec![Level::Ok; capacities.len()],
            stuck_at: None,
            told: Vec::new(),
            copies_min: usize::from(copies),
        };
        measured.step();
        measured
    }

    /// Key sets that name a server.
    fn held(&mut self, server: u16) -> Vec<u16> {
        let status = self.cluster.status();
        let named = |it: &&crate::protocol::meta::SetStatus| {
            let members = it.configuration.iter().flat_map(|it| it.members());
            members.map(|it| it.server).any(|it| it == ServerId(server))
        };
        status.sets.iter().filter(named).map(|it| it.set.0).collect()
    }

    fn level(&self, server: u16) -> Level {
        self.levels[usize::from(server) - 1]
    }

    /// Every server measures itself, and half a heartbeat passes.
    fn step(&mut self) {
        for server in 1..=self.capacities.len() as u16 {
            let used = self.held(server).len() as u64 * SET_BYTES;
            let used = self.stuck_at.filter(|_| server == 1).unwrap_or(used);
            let (index, capacity) =
                (usize::from(server) - 1, self.capacities[usize::from(server) - 1]);
            let level = Thresholds::default().level(used, capacity, self.levels[index]);
            self.levels[index] = level;
            if self.cluster.fake(server).up {
                let space = Space { level, used, capacity, ..Space::default() };
                self.cluster.say(server, ToMeta::Space(space));
            }
        }
        for (link, message) in &self.cluster.sent {
            if let ToServer::Unplaced { sets } = message {
                let server = self.cluster.servers.iter().find(|it| it.1.link == *link);
                let server = *server.expect("it is sent to a server").0;
                self.told.extend(sets.iter().map(|it| (server, it.0)));
            }
        }
        self.cluster.step();
        let status = self.cluster.status();
        let copies = status.sets.iter().filter_map(|it| Some(it.configuration.as_ref()?.copies()));
        self.copies_min = copies.min().unwrap_or(0).min(self.copies_min);
    }

    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn until(&mut self, what: &str, condition: impl Fn(&mut Measured) -> bool) {
        for _ in 0..400 {
            if condition(self) {
                return;
            }
            self.step();
        }
        panic!("waited in vain until {what}: {:#?}", self.cluster.status());
    }

    fn moves(&self) -> usize {
        let moves = self.cluster.notes.iter();
        moves.filter(|it| matches!(it, MetaNote::Moving { .. })).count()
    }

    /// Every key set has its copies, no more, on servers that should have them, and serves.
    fn is_whole(&mut self) -> bool {
        let copies = usize::from(self.cluster.settings.copies);
        self.cluster.status().sets.iter().all(|it| {
            let members = it.configuration.as_ref().map(|it| it.copies());
            it.open && it.redundant && members == Some(copies)
        })
    }
}

#[test]
fn as_many_sets_move_as_it_takes_and_none_comes_back() {
    // Eight sets each; the first server has room for six of them below its threshold.
    let mut measured = Measured::born(12, 2, &[750, 10_000, 10_000]);
    assert_eq!((measured.held(1).len(), measured.level(1)), (8, Level::Hard));
    measured.until("the first server has room", |it| it.level(1) < Level::High);
    measured.until("all is whole", Measured::is_whole);
    assert_eq!((measured.held(1).len(), measured.moves()), (6, 2));
    assert_eq!(measured.copies_min, 2, "the new copy comes before the old one goes");
    let before = measured.cluster.status().sets;
    measured.run(400);
    assert_eq!(measured.cluster.status().sets, before, "nothing moves any more");
}

#[test]
fn a_primary_hands_its_role_over_before_it_goes() {
    let mut measured = Measured::born(4, 1, &[150, 10_000, 10_000, 10_000]);
    assert_eq!(measured.held(1), [0], "as the only copy");
    measured.capacities[0] = 100;
    measured.until("the first server holds nothing", |it| it.held(1).is_empty());
    measured.until("all is whole", Measured::is_whole);
    let handed = |it: &&MetaNote| matches!(it, MetaNote::HandedOver { .. });
    assert_eq!(measured.cluster.notes.iter().filter(handed).count(), 1);
}

#[test]
fn where_nobody_has_room_nothing_moves() {
    // The second would be the next one: a set more is 90 % of its capacity.
    for capacities in [[850, 850, 850], [850, 1_000, 1_000]] {
        let mut measured = Measured::born(12, 2, &capacities);
        measured.run(200);
        assert_eq!((measured.level(1), measured.moves()), (Level::High, 0), "{capacities:?}");
    }
}

#[test]
fn room_below_the_first_threshold_comes_first() {
    // A set more is 88 % of the second's capacity, and 30 % of the third's.
    let mut measured = Measured::born(12, 2, &[850, 1_020, 3_000]);
    measured.until("the first server has room", |it| it.level(1) < Level::High);
    measured.until("all is whole", Measured::is_whole);
    assert_eq!((measured.held(2).len(), measured.held(3).len()), (8, 9));
    let mut tight = Measured::born(12, 2, &[850, 1_020, 850]);
    tight.until("all is whole below", |it| it.level(2) == Level::Soft && it.is_whole());
    assert_eq!(tight.held(2).len(), 9, "where there is no other, that will do");
}

#[test]
fn few_move_until_their_space_is_free() {
    let mut measured = Measured::born(48, 2, &[10_000, 100_000, 100_000]);
    // All sets together would not help.
    measured.stuck_at = Some(9_900);
    measured.until("sets move", |it| it.moves() > 0);
    measured.run(350);
    assert_eq!((measured.moves(), measured.held(1).len()), (4, 28), "who knows where it goes");
    measured.run(200);
    assert_eq!((measured.moves(), measured.held(1).len()), (7, 25), "it goes on, but slowly");
}

#[test]
fn who_is_asked_to_go_goes_at_its_own_request_only() {
    let mut measured = Measured::born(12, 2, &[850, 10_000, 10_000]);
    measured.cluster.fake(1).departs = false;
    measured.run(200);
    assert_eq!((measured.held(1).len(), measured.moves()), (8, 1), "it has not asked");
    measured.cluster.fake(1).departs = true;
    measured.until("it is let go", |it| it.held(1).len() == 7);
    // A word about another epoch is none.
    let mut measured = Measured::born(12, 2, &[850, 10_000, 10_000]);
    measured.cluster.fake(1).departs = false;
    measured.run(100);
    let status = measured.cluster.status().sets;
    let three =
        status.iter().find(|it| it.configuration.as_ref().is_some_and(|it| it.copies() == 3));
    let (set, epoch) =
        three.and_then(|it| Some((it.set, it.configuration.as_ref()?.epoch))).expect("a move");
    measured.cluster.say(1, ToMeta::Depart { sets: vec![(set, Epoch(epoch.0 - 1))] });
    measured.run(50);
    assert_eq!(measured.held(1).len(), 8);
    measured.cluster.say(1, ToMeta::Depart { sets: vec![(set, epoch)] });
    measured.until("it is let go", |it| it.held(1).len() == 7);
}

#[test]
fn nobody_goes_while_one_that_should_hold_the_set_is_silent() {
    let mut measured = Measured::born(12, 2, &[850, 10_000, 10_000]);
    measured.cluster.fake(1).departs = false;
    let has_three = |it: &mut Measured| {
        let status = it.cluster.status();
        status.sets.iter().any(|it| it.configuration.as_ref().is_some_and(|it| it.copies() == 3))
    };
    measured.until("the new copy is there", has_three);
    let status = measured.cluster.status().sets;
    let moved =
        status.iter().find(|it| it.configuration.as_ref().is_some_and(|it| it.copies() == 3));
    let moved = moved.and_then(|it| it.configuration.clone()).expect("a move");
    let silent = moved.secondaries.iter().find(|it| it.server != ServerId(1));
    measured.cluster.fake(silent.expect("the new copy").server.0).up = false;
    measured.run(20);
    measured.cluster.fake(1).departs = true;
    measured.run(100);
    assert_eq!(measured.held(1).len(), 8, "it is the second copy");
}

#[test]
fn who_is_out_is_told_once_and_again_when_it_comes_back() {
    let mut measured = Measured::born(2, 1, &[10_000, 10_000, 10_000]);
    measured.run(40);
    let (third, first) = (ServerId(3), ServerId(1));
    let expected = [(third, KeySet(0)), (third, KeySet(1)), (first, KeySet(1))];
    for _ in 0..2 {
        for told in expected {
            assert_eq!(measured.told.iter().filter(|it| **it == told).count(), 1, "{told:?}");
        }
        assert_eq!(measured.told.len(), 4);
        measured.told.clear();
        measured.cluster.restart_meta();
        measured.run(40);
    }
}

#[test]
fn a_move_to_a_server_that_fills_up_is_given_up() {
    let mut measured = Measured::born(12, 2, &[850, 3_000, 10_000]);
    for server in 1..=3 {
        measured.cluster.fake(server).obeys = false;
    }
    measured.until("a set is to move", |it| it.moves() == 1);
    let moving = measured.cluster.notes.iter().find_map(|it| match it {
        MetaNote::Moving { set, to, .. } => Some((set.0, to.0)),
        _ => None,
    });
    let (set, receiver) = moving.expect("it is noted");
    measured.capacities[usize::from(receiver) - 1] = 800;
    measured.until("the other is full", |it| it.level(receiver) == Level::Hard);
    for server in 1..=3 {
        measured.cluster.fake(server).obeys = true;
    }
    measured.until("others have it", |it| it.level(1) < Level::High && it.is_whole());
    assert!(!measured.held(receiver).contains(&set), "it had no room for it");
}

#[test]
fn nobody_goes_before_the_new_copy_is_a_member() {
    let mut measured = Measured::born(12, 2, &[850, 10_000, 10_000]);
    for server in 1..=3 {
        measured.cluster.fake(server).obeys = false;
    }
    measured.until("a set is to move", |it| it.moves() == 1);
    measured.run(100);
    assert_eq!((measured.held(1).len(), measured.copies_min), (8, 2));
}
