//! Goal: the stop of a whole cluster leaves everything that is durable as it is, starts nobody
//! again, and ends when all have, or says who has not.
//! Method: servers that say what servers say meanwhile, and end in their own time.

use super::cluster::{Cluster, settings};
use crate::protocol::effect::{MetaInput, MetaNote, Ticket};
use crate::protocol::message::{
    ChangeId, ChangeKind, MetaAnswer, MetaRefusal, MetaRequest, Registration, StopPhase,
    StopReport, StopState, ToMeta, ToServer,
};
use crate::protocol::meta::MetaSettings;
use crate::protocol::meta::durable::MetaRecord;
use crate::protocol::time::Span;
use crate::protocol::types::{Incarnation, KeySet, LinkId, Member, ServerId, WorkerId};

const STOP: MetaRequest = MetaRequest::StopCluster { accept_loss: false };

fn durable(servers: u16) -> MetaSettings {
    MetaSettings { durable: true, ..settings(servers, 6, 2) }
}

fn report(cluster: &mut Cluster) -> StopReport {
    match cluster.ask(STOP) {
        MetaAnswer::Stopping(report) => report,
        other => panic!("{other:?} is no report of a stop"),
    }
}

fn state(cluster: &mut Cluster, server: u16) -> StopState {
    let servers = report(cluster).servers;
    servers.iter().find(|it| it.0 == ServerId(server)).expect("it is listed").2
}

fn was_told(cluster: &Cluster, server: u16, message: &ToServer) -> bool {
    let link = cluster.servers[&ServerId(server)].link;
    cluster.sent.iter().any(|(to, sent)| *to == link && sent == message)
}

/// The server says that it ends, and does.
fn end(cluster: &mut Cluster, server: u16) {
    cluster.say(server, ToMeta::Halted);
    let link = cluster.fake(server).link;
    cluster.fake(server).up = false;
    cluster.input(MetaInput::ServerDown { link });
}

/// Of what became durable since there were so many records, nothing is about a key set.
fn only_deaths(cluster: &Cluster, before: usize) {
    for record in &cluster.disk[before..] {
        assert!(matches!(record, MetaRecord::Cluster(_) | MetaRecord::Server(_)), "{record:?}");
    }
}

fn begin(cluster: &mut Cluster) {
    cluster.sent.clear();
    assert_eq!(report(cluster).phase, StopPhase::Quiescing);
}

#[test]
fn a_stop_leaves_all_that_is_durable_as_it_is() {
    let mut cluster = Cluster::born(durable(3));
    let before = cluster.disk.len();
    begin(&mut cluster);
    for server in 1..=3 {
        assert!(was_told(&cluster, server, &ToServer::Quiesce));
    }
    // What would be answered, probed, promoted or removed at any other time.
    let configuration = cluster.configuration(0);
    let (primary, secondary) = (configuration.primary, configuration.secondaries[0]);
    let (set, epoch) = (KeySet(0), configuration.epoch);
    let id = ChangeId { member: primary, number: 99 };
    let kind = ChangeKind::HandOver { to: secondary };
    cluster.say(primary.server.0, ToMeta::Change { id, set, epoch, kind });
    cluster.say(primary.server.0, ToMeta::Resigned { set, epoch, member: primary });
    cluster.say(primary.server.0, ToMeta::Leaving);
    cluster.say(secondary.server.0, ToMeta::Left);
    cluster.say(1, ToMeta::Quiet);
    cluster.say(2, ToMeta::Quiet);
    assert_eq!(state(&mut cluster, 2), StopState::Quiet);
    assert_eq!(state(&mut cluster, 3), StopState::Busy);
    cluster.sent.clear();
    cluster.say(3, ToMeta::Quiet);
    assert_eq!(report(&mut cluster).phase, StopPhase::Ending);
    for server in 1..=3 {
        assert!(was_told(&cluster, server, &ToServer::Halt));
        end(&mut cluster, server);
    }
    assert_eq!(report(&mut cluster).phase, StopPhase::Over);
    assert_eq!(cluster.ended, None, "whoever asked has to hear of it");
    cluster.run(Span::from_millis(10_000));
    assert_eq!(cluster.ended, Some(Vec::new()));
    only_deaths(&cluster, before);
    // The roles of all are kept for their heirs.
    let servers = cluster.disk[before..].iter().filter_map(|record| match record {
        MetaRecord::Server(row) => Some((row.entry.id, row.dead, row.fenced)),
        _ => None,
    });
    let dead = |id| (ServerId(id), true, false);
    assert_eq!(servers.collect::<Vec<_>>(), [dead(1), dead(2), dead(3)]);
    let lost = |note: &MetaNote| matches!(note, MetaNote::Lost { .. });
    assert!(!cluster.notes.iter().any(lost), "{:?}", cluster.notes);
}

#[test]
fn what_is_under_way_for_too_long_is_not_waited_for() {
    let mut cluster = Cluster::born(durable(2));
    begin(&mut cluster);
    cluster.say(1, ToMeta::Quiet);
    cluster.run(Span::from_millis(4_900));
    assert_eq!(report(&mut cluster).phase, StopPhase::Quiescing);
    cluster.run(Span::from_millis(200));
    assert_eq!(report(&mut cluster).phase, StopPhase::Ending);
}

#[test]
fn who_does_not_end_is_named() {
    let mut cluster = Cluster::born(durable(2));
    begin(&mut cluster);
    cluster.say(1, ToMeta::Quiet);
    cluster.say(2, ToMeta::Quiet);
    end(&mut cluster, 1);
    cluster.run(Span::from_millis(29_000));
    assert_eq!(report(&mut cluster).phase, StopPhase::Ending);
    cluster.run(Span::from_millis(3_000));
    assert_eq!(cluster.ended, Some(vec![ServerId(2)]));
}

#[test]
fn who_has_no_link_is_waited_for_a_while_and_named() {
    let mut cluster = Cluster::born(durable(3));
    let gone = cluster.fake(3).link;
    cluster.fake(3).up = false;
    cluster.input(MetaInput::ServerDown { link: gone });
    cluster.run(Span::from_millis(1_000));
    begin(&mut cluster);
    assert_eq!(state(&mut cluster, 3), StopState::Unreached);
    for server in [1, 2] {
        cluster.say(server, ToMeta::Quiet);
        end(&mut cluster, server);
    }
    // A link that broke is dialled anew: then it is told, and ends.
    assert_eq!(report(&mut cluster).phase, StopPhase::Ending);
    let (link, member) = (cluster.new_link(), cluster.member(3));
    cluster.fake(3).link = link;
    cluster.input(MetaInput::ServerUp { link, member, worker: WorkerId(0) });
    assert!(was_told(&cluster, 3, &ToServer::Halt));
    cluster.input(MetaInput::ServerDown { link });
    cluster.run(Span::from_millis(3_000));
    assert_eq!(cluster.ended, Some(vec![ServerId(3)]), "nobody knows whether it runs");
}

#[test]
fn spawned_servers_are_over_when_the_kernel_says_so_and_start_no_more() {
    let servers = vec![(ServerId(1), true), (ServerId(2), true)];
    let mut cluster = Cluster::born(MetaSettings { servers, ..durable(2) });
    for server in [1, 2] {
        let process = cluster.process(server);
        cluster.input(MetaInput::ProcessStarted { server: ServerId(server), process });
    }
    let (before, spawned) = (cluster.disk.len(), cluster.spawned.len());
    begin(&mut cluster);
    cluster.say(1, ToMeta::Quiet);
    cluster.say(2, ToMeta::Quiet);
    end(&mut cluster, 1);
    end(&mut cluster, 2);
    cluster.run(Span::from_millis(2_000));
    assert_eq!(report(&mut cluster).phase, StopPhase::Ending, "their processes run still");
    for server in [1, 2] {
        let process = cluster.process(server);
        cluster.input(MetaInput::ProcessExited { server: ServerId(server), process });
    }
    cluster.run(Span::from_millis(6_000));
    assert_eq!(cluster.ended, Some(Vec::new()));
    only_deaths(&cluster, before);
    assert_eq!(cluster.spawned.len(), spawned);
}

#[test]
fn who_starts_meanwhile_is_told_as_well_and_not_registered() {
    let mut cluster = Cluster::born(durable(2));
    begin(&mut cluster);
    let (link, server) = (cluster.new_link(), ServerId(2));
    let member = Member { server, incarnation: Incarnation(0) };
    cluster.input(MetaInput::ServerUp { link, member, worker: WorkerId(0) });
    let registration = cluster.registration(server, 777);
    cluster.input(MetaInput::FromServer { link, message: ToMeta::Register(registration) });
    let to_it: Vec<_> = cluster.sent.iter().filter(|(to, _)| *to == link).collect();
    assert_eq!(to_it, [&(link, ToServer::Quiesce)]);
}

#[test]
fn only_with_consent_or_durable_servers_and_only_an_administrator_stops_a_cluster() {
    let mut cluster = Cluster::born(settings(2, 2, 2));
    assert_eq!(cluster.ask(STOP), MetaAnswer::Refused(MetaRefusal::WouldLoseAll));
    let ticket = Ticket { link: LinkId(9_999), request: 2 };
    let request = MetaRequest::StopCluster { accept_loss: true };
    let asked = MetaInput::Request { ticket, request: request.clone(), admin: false };
    cluster.input(asked);
    assert_eq!(cluster.replies.pop(), Some(MetaAnswer::Refused(MetaRefusal::NotAdministrator)));
    assert!(!was_told(&cluster, 1, &ToServer::Quiesce));
    assert!(matches!(cluster.ask(request), MetaAnswer::Stopping(_)));
    assert!(was_told(&cluster, 1, &ToServer::Quiesce));
    let fenced = cluster.ask(MetaRequest::Fence { member: cluster.member(1) });
    assert_eq!(fenced, MetaAnswer::Refused(MetaRefusal::Stopping));
}

#[test]
fn who_is_back_first_after_a_whole_stop_is_not_made_the_only_copy() {
    let mut cluster = Cluster::born(durable(3));
    begin(&mut cluster);
    for server in 1..=3 {
        cluster.say(server, ToMeta::Quiet);
    }
    for server in 1..=3 {
        end(&mut cluster, server);
    }
    cluster.run(Span::from_millis(2_000));
    assert_eq!(cluster.ended, Some(Vec::new()));
    cluster.restart_meta();
    let inherits = Some(cluster.member(1).incarnation);
    let registration = cluster.registration(ServerId(1), 900);
    cluster.start_as(ServerId(1), Registration { inherits, ..registration });
    cluster.fake(1).misses = [2, 3].map(ServerId).into();
    let copies = |cluster: &mut Cluster| -> Vec<usize> {
        (0..6).map(|set| cluster.configuration(set).copies()).collect()
    };
    cluster.run(Span::from_millis(4_500));
    assert_eq!(copies(&mut cluster), [2; 6]);
    // Who does not come is done without in the end.
    cluster.run(Span::from_millis(3_500));
    assert!(copies(&mut cluster).contains(&1));
}
