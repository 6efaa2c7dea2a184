//! Goal: rows are made only where every member of the newest configuration of every key set, and
//! its proposed learner, answers with its copy; all else is named, once.
//! Method: what two to four servers say, written down, with one thing changed.

use super::*;
use crate::protocol::message::Activity;
use crate::protocol::meta::durable::SetRow;
use crate::protocol::types::{LossEpoch, ViewVersion};
use crate::protocol::view::ServerEntry;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const SET: KeySet = KeySet(0);

fn member(server: u16) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(10 + u64::from(server)) }
}

fn entry(server: u16) -> ServerEntry {
    let Member { server: id, incarnation } = member(server);
    let port = 7_000 + server;
    ServerEntry { id, incarnation, workers: vec![([127, 0, 0, 1], port).into()] }
}

fn configuration(epoch: u64, primary: u16, secondaries: &[u16]) -> Configuration {
    Configuration {
        loss_epoch: LossEpoch(1),
        epoch: Epoch(epoch),
        primary: member(primary),
        secondaries: secondaries.iter().map(|&it| member(it)).collect(),
    }
}

fn set_entry(configuration: Option<Configuration>) -> SetEntry {
    SetEntry { set: SET, configuration, state: SetState::Available }
}

/// A server that holds a copy and knows this configuration of the only key set.
fn word(server: u16, known: Configuration) -> Testimony {
    let replica = ReplicaTestimony {
        set: SET,
        activity: Some(Activity::Secondary),
        whole: true,
        proposed: None,
    };
    Testimony {
        round: 1,
        cluster: CLUSTER,
        version: ViewVersion(40 + u64::from(server)),
        process: 900 + u32::from(server),
        servers: (1..=4).map(entry).collect(),
        dead: Vec::new(),
        sets: vec![set_entry(Some(known))],
        replicas: vec![replica],
    }
}

/// Servers 1 and 2 hold the key set in epoch 5; server 3 holds nothing.
fn all_well() -> BTreeMap<u16, Testimony> {
    let known = || configuration(5, 1, &[2]);
    let mut words: BTreeMap<_, _> = (1..=3).map(|it| (it, word(it, known()))).collect();
    let spare = words.get_mut(&3).expect("it is there");
    spare.replicas[0] = ReplicaTestimony { activity: None, whole: false, ..spare.replicas[0] };
    words
}

fn heard(words: BTreeMap<u16, Testimony>) -> Rebuild {
    let mut rebuild = Rebuild::new(RebuildSettings {
        servers: (1..=3).map(ServerId).collect(),
        copies: 2,
        min_write_copies: 1,
    });
    for (server, word) in words {
        rebuild.on_testimony(member(server), WorkerId(0), word).expect("it makes sense");
    }
    rebuild
}

fn judge(words: BTreeMap<u16, Testimony>) -> Result<Rebuilt, Vec<Gap>> {
    heard(words).judge()
}

fn set_row(rebuilt: &Rebuilt) -> &SetRow {
    let mut rows = rebuilt.records.iter().filter_map(|record| match record {
        MetaRecord::Set(row) => Some(row),
        _ => None,
    });
    rows.next().expect("a row of the only key set")
}

fn stranger(server: u16) -> Registration {
    Registration {
        server: ServerId(server),
        workers: entry(server).workers,
        cluster: Some(CLUSTER),
        highest_epoch: Epoch(1),
        inherits: Some(member(server).incarnation),
        process: 77,
    }
}

#[test]
fn all_well_makes_rows_far_above_everything_heard() {
    let rebuilt = judge(all_well()).expect("all is well");
    let MetaRecord::Cluster(cluster) = &rebuilt.records[0] else { panic!("{rebuilt:?}") };
    assert_eq!((cluster.cluster, cluster.sets, cluster.copies), (CLUSTER, 1, 2));
    assert!(cluster.born);
    assert_eq!(cluster.incarnation_last, Incarnation(14 + JUMP), "server 4 is heard of");
    assert_eq!(cluster.version, ViewVersion(43 + JUMP));
    let MetaRecord::Server(server) = &rebuilt.records[1] else { panic!("{rebuilt:?}") };
    assert_eq!((server.entry.clone(), server.process, server.dead), (entry(1), 901, false));
    let row = set_row(&rebuilt);
    assert_eq!(row.configuration, Some(configuration(5 + JUMP, 1, &[2])));
    assert_eq!((row.state, &row.target), (SetState::Available, &vec![ServerId(1), ServerId(2)]));
    assert_eq!(rebuilt.records.len(), 1 + 3 + 1);
}

#[test]
fn nothing_is_made_while_a_server_is_missing() {
    let mut words = all_well();
    words.remove(&2);
    let gap = Gap::Silent { server: ServerId(2), sets: vec![SET] };
    assert_eq!(judge(words), Err(vec![gap.clone()]));
    assert!(gap.may_pass() && gap.to_string().contains("server 2 did not answer"), "{gap}");
    // The same where it holds nothing: only it may know of a later configuration.
    let mut words = all_well();
    words.remove(&3);
    assert_eq!(judge(words), Err(vec![Gap::Silent { server: ServerId(3), sets: Vec::new() }]));
    // And where one of its two workers said nothing.
    let mut words = all_well();
    let second = ([127, 0, 0, 1], 8_000).into();
    words.get_mut(&2).expect("it is there").servers[1].workers.push(second);
    assert_eq!(judge(words), Err(vec![Gap::Silent { server: ServerId(2), sets: vec![SET] }]));
}

#[test]
fn a_server_that_no_configuration_names_but_the_newest_is_asked_for_too() {
    let mut words = all_well();
    words.get_mut(&1).expect("it is there").sets[0] = set_entry(Some(configuration(6, 1, &[4])));
    let rebuild = heard(words);
    assert_eq!(rebuild.expected(), (1..=4).map(ServerId).collect::<Vec<_>>());
    assert_eq!(rebuild.silent(), [ServerId(4)]);
    let gap = Gap::Silent { server: ServerId(4), sets: vec![SET] };
    assert_eq!(rebuild.judge(), Err(vec![gap]));
}

#[test]
fn a_member_without_its_memory_does_not_count() {
    let mut words = all_well();
    words.get_mut(&2).expect("it is there").replicas[0].whole = false;
    assert_eq!(judge(words), Err(vec![Gap::NoCopy { member: member(2), sets: vec![SET] }]));
    // A process that was started since has no standing, whatever is on its disk.
    let mut rebuild = heard(all_well());
    rebuild.on_stranger(stranger(2));
    assert!(rebuild.silent().is_empty());
    let gap = Gap::StartedAnew { member: member(2), sets: vec![SET] };
    assert_eq!(rebuild.judge(), Err(vec![gap]));
    // One that holds nothing and was started since is in nobody's way.
    let mut rebuild = heard(all_well());
    rebuild.on_stranger(stranger(3));
    assert_eq!(rebuild.judge().map(|it| it.servers), Ok(vec![member(1), member(2)]));
}

#[test]
fn another_incarnation_or_one_called_dead_is_not_the_member() {
    let later = Member { server: ServerId(2), incarnation: Incarnation(99) };
    let mut words = all_well();
    let mut second = words.remove(&2).expect("it is there");
    second.servers[1].incarnation = later.incarnation;
    let mut rebuild = heard(words);
    rebuild.on_testimony(later, WorkerId(0), second).expect("it makes sense");
    let gap = Gap::Replaced { member: member(2), by: later, sets: vec![SET] };
    assert_eq!(rebuild.judge(), Err(vec![gap]));
    let mut words = all_well();
    words.get_mut(&3).expect("it is there").dead.push(member(2));
    assert_eq!(judge(words), Err(vec![Gap::CalledDead { member: member(2), sets: vec![SET] }]));
}

#[test]
fn a_proposed_learner_counts_as_a_member() {
    let proposing = || {
        let mut words = all_well();
        words.get_mut(&1).expect("it is there").replicas[0].proposed = Some(member(4));
        words
    };
    let gap = Gap::Silent { server: ServerId(4), sets: vec![SET] };
    assert_eq!(judge(proposing()), Err(vec![gap]));
    let mut words = proposing();
    words.insert(4, word(4, configuration(5, 1, &[2])));
    let rebuilt = judge(words).expect("the learner is there");
    assert_eq!(set_row(&rebuilt).configuration, Some(configuration(5 + JUMP, 1, &[2])));
    // Only the primary of the newest configuration proposes.
    let mut words = all_well();
    words.get_mut(&2).expect("it is there").replicas[0].proposed = Some(member(4));
    assert!(judge(words).is_ok());
}

#[test]
fn the_newest_configuration_counts_whoever_knows_it() {
    // Only server 3, which is no member, heard that server 2 became primary alone.
    let newest = configuration(9, 2, &[]);
    let mut words = all_well();
    words.get_mut(&3).expect("it is there").sets[0] = set_entry(Some(newest));
    let rebuilt = judge(words.clone()).expect("its only member is there");
    assert_eq!(set_row(&rebuilt).configuration, Some(configuration(9 + JUMP, 2, &[])));
    assert_eq!(set_row(&rebuilt).target, [ServerId(2)]);
    words.get_mut(&2).expect("it is there").replicas[0].whole = false;
    assert_eq!(judge(words), Err(vec![Gap::NoCopy { member: member(2), sets: vec![SET] }]));
}

#[test]
fn servers_agree_on_cluster_key_sets_and_copies() {
    let other = ClusterId([8; 16]);
    let mut words = all_well();
    words.get_mut(&3).expect("it is there").cluster = other;
    let both = vec![(CLUSTER, vec![ServerId(1), ServerId(2)]), (other, vec![ServerId(3)])];
    assert_eq!(judge(words), Err(vec![Gap::Clusters { clusters: both }]));
    let mut rebuild = heard(all_well());
    rebuild.on_stranger(Registration { cluster: Some(other), ..stranger(3) });
    let gaps = rebuild.judge().expect_err("two clusters");
    assert!(matches!(gaps[..], [Gap::Clusters { .. }]), "{gaps:?}");
    let mut words = all_well();
    let more = SetEntry { set: KeySet(1), ..set_entry(None) };
    words.get_mut(&3).expect("it is there").sets.push(more);
    let gaps = judge(words).expect_err("they differ");
    assert!(matches!(gaps[..], [Gap::KeySets { .. }]), "{gaps:?}");
    let copies = |it: u16| {
        let mut rebuild = heard(all_well());
        rebuild.settings.copies = it;
        rebuild.judge()
    };
    assert_eq!(copies(1), Err(vec![Gap::Copies { said: 1, fewest: 2 }]));
    assert!(copies(3).is_ok(), "a copy may be missing");
}

#[test]
fn unborn_and_unknown_key_sets_are_not_made_up() {
    let mut words = all_well();
    words.values_mut().for_each(|it| it.sets[0] = set_entry(None));
    let nothing = Gap::Nothing { silent: Vec::new(), anew: Vec::new() };
    assert_eq!(judge(words), Err(vec![nothing]));
    // Where all were started since, their disks may hold everything.
    let mut rebuild = heard(BTreeMap::new());
    (1..=3).for_each(|it| rebuild.on_stranger(stranger(it)));
    let gaps = rebuild.judge().expect_err("nobody has a standing");
    let anew = (1..=3).map(ServerId).collect();
    assert_eq!(gaps, [Gap::Nothing { silent: Vec::new(), anew }]);
    assert!(!gaps[0].may_pass() && !gaps[0].to_string().contains("aside"), "{}", gaps[0]);
    let mut words = all_well();
    let unknown = SetEntry { set: KeySet(1), ..set_entry(None) };
    words.values_mut().for_each(|it| it.sets.push(unknown.clone()));
    assert_eq!(judge(words), Err(vec![Gap::Unknown { sets: vec![KeySet(1)] }]));
}

#[test]
fn a_lost_key_set_stays_lost_and_needs_nobody() {
    let mut lost = set_entry(Some(configuration(5, 4, &[])));
    lost.state = SetState::Lost;
    let mut words = all_well();
    words.values_mut().for_each(|it| it.sets[0] = lost.clone());
    // The newest view counts: others have not heard of the loss.
    words.get_mut(&1).expect("it is there").sets[0].state = SetState::Available;
    let rebuilt = judge(words).expect("its members are proven dead");
    assert_eq!(set_row(&rebuilt).state, SetState::Lost);
    assert_eq!(set_row(&rebuilt).configuration, Some(configuration(5 + JUMP, 4, &[])));
    assert_eq!(rebuilt.lost, [SET]);
}

#[test]
fn who_leaves_is_missing_and_what_changes_is_asked_again() {
    let first = heard(all_well());
    let mut again = first.again();
    assert_eq!(again.silent().len(), 3, "a new round begins with nobody");
    let (me, old) = (member(1), word(1, configuration(5, 1, &[2])));
    again.on_testimony(me, WorkerId(0), old).expect("an answer of the first round");
    assert_eq!(again.silent().len(), 3);
    let said = |words: BTreeMap<u16, Testimony>| {
        let mut again = first.again();
        for (server, word) in words {
            let word = Testimony { round: 2, ..word };
            again.on_testimony(member(server), WorkerId(0), word).expect("it makes sense");
        }
        again
    };
    assert!(said(all_well()).repeats(&first));
    let mut words = all_well();
    words.get_mut(&2).expect("it is there").sets[0] = set_entry(Some(configuration(6, 2, &[])));
    assert!(!said(words).repeats(&first));
    let mut gone = said(all_well());
    gone.on_gone(member(2), WorkerId(0));
    assert_eq!(gone.silent(), [ServerId(2)]);
}

#[test]
fn what_can_not_be_is_a_breach() {
    let breach = |change: fn(&mut Testimony)| {
        let mut it = word(1, configuration(5, 1, &[2]));
        change(&mut it);
        let mut rebuild = heard(BTreeMap::new());
        rebuild.on_testimony(member(1), WorkerId(0), it)
    };
    assert!(breach(|_| {}).is_ok());
    assert!(breach(|it| it.servers.clear()).is_err());
    assert!(breach(|it| it.sets[0].set = KeySet(3)).is_err());
    assert!(breach(|it| it.version = ViewVersion(u64::MAX)).is_err());
    let twice = |it: &mut Testimony| it.sets[0] = set_entry(Some(configuration(5, 1, &[1])));
    assert!(breach(twice).is_err());
    let high = |it: &mut Testimony| it.sets[0] = set_entry(Some(configuration(u64::MAX, 1, &[])));
    assert!(breach(high).is_err());
    let mut rebuild = heard(BTreeMap::new());
    let it = word(1, configuration(5, 1, &[2]));
    assert!(rebuild.on_testimony(member(1), WorkerId(1), it).is_err(), "it has one worker");
}

#[test]
fn below_the_write_floor_is_said() {
    let mut words = all_well();
    words.values_mut().for_each(|it| it.sets[0] = set_entry(Some(configuration(6, 1, &[]))));
    let mut rebuild = heard(words);
    rebuild.settings.min_write_copies = 2;
    let rebuilt = rebuild.judge().expect("its only member is there");
    assert_eq!(rebuilt.below_floor, [SET]);
    assert_eq!(set_row(&rebuilt).ex_member, None);
}

#[test]
fn key_sets_are_named_in_runs() {
    let words =
        |sets: &[u16]| sets_in_words(&sets.iter().map(|&it| KeySet(it)).collect::<Vec<_>>());
    assert_eq!(words(&[4]), "key set 4");
    assert_eq!(words(&[0, 1, 2, 3, 7, 9, 10]), "key sets 0 to 3, 7, 9, 10");
}
