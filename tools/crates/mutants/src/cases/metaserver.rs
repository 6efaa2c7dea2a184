//! Cases of the metaserver: whom it names, and on whose word. A quiet simulated cluster.

use tandem::protocol::Machine;
use tandem::protocol::effect::MetaInput;
use tandem::protocol::message::{ChangeId, ChangeKind, Operation, Purpose, ToMeta};
use tandem::protocol::time::Span;
use tandem::protocol::types::{
    Configuration, Epoch, KeySet, LinkId, Member, Op, RecoveryId, ServerId, Value,
};
use tandem::sim::network::Side;
use tandem::sim::trace::Trace;
use tandem::sim::workload::keys_for;
use tandem::sim::{Node, Settings, World};

use super::demand;

const SET: KeySet = KeySet(0);

/// A request number that no replica gives by itself in a run this short.
const NUMBER: u64 = 1_000_000;

/// Three servers, two copies of one key set, whole.
fn born(settings: Settings) -> Result<World, String> {
    let mut world = World::new(settings, 1, Trace::default());
    world.start_all();
    until(&mut world, "the birth", |world| configuration(world).is_some())?;
    world.run(Span::from_millis(500));
    Ok(world)
}

fn quiet() -> Settings {
    Settings::quiet(3, 2, 1)
}

fn until(world: &mut World, what: &str, done: impl FnMut(&World) -> bool) -> Result<(), String> {
    let came = world.run_until(Span::from_millis(20_000), done);
    if came { Ok(()) } else { Err(format!("waited in vain for {what}: {:?}", world.violation)) }
}

fn configuration(world: &World) -> Option<&Configuration> {
    world.meta.disk.set(SET)?.configuration.as_ref()
}

fn named(world: &World) -> Result<Configuration, String> {
    configuration(world).cloned().ok_or_else(|| "the set is not created".to_owned())
}

fn node(member: Member) -> Node {
    Node::Server(member.server)
}

/// The control link of a server.
fn control_link(world: &World, server: ServerId) -> Result<LinkId, String> {
    let links = world.network.links.iter().rev();
    let mut own = links.filter(|(_, link)| {
        link.purpose == Purpose::Control && link.end(Side::Dialler).node == Node::Server(server)
    });
    own.next().map(|(&link, _)| link).ok_or_else(|| format!("{server} has no control link"))
}

/// Asks the metaserver for a change in the primary's name; answers the epoch that it decided on.
fn ask(world: &mut World, number: u64, kind: ChangeKind) -> Result<Epoch, String> {
    let Configuration { epoch, primary, .. } = named(world)?;
    let id = ChangeId { member: primary, number };
    say(world, primary, ToMeta::Change { id, set: SET, epoch, kind })
}

/// Hands the metaserver a word of `member`; answers the epoch that it decided on.
fn say(world: &mut World, member: Member, message: ToMeta) -> Result<Epoch, String> {
    let link = control_link(world, member.server)?;
    let now = world.meta.host.clock.read(world.now());
    let meta = world.meta.running.as_mut().ok_or("the metaserver is down")?;
    meta.machine.handle(now, MetaInput::FromServer { link, message }, &mut Vec::new());
    let decided = meta.machine.decided(SET).map(|it| it.epoch);
    decided.ok_or_else(|| "the set is lost".to_owned())
}

/// A primary's word that its secondary does not answer comes when no question is open any more,
/// and all is well.
pub fn late_confirmation() -> Result<(), String> {
    let mut world = born(quiet())?;
    let Configuration { epoch, primary, secondaries, .. } = named(&world)?;
    let sets = vec![(SET, epoch, Op(0))];
    let word = ToMeta::RemovalConfirmed { nonce: 0, member: secondaries[0], sets };
    let after = say(&mut world, primary, word)?;
    demand(after == epoch, "a healthy secondary was removed on a late word")
}

/// A request was refused; the same request comes again when it could be granted.
pub fn refused_and_asked_again() -> Result<(), String> {
    let mut world = born(quiet())?;
    let Configuration { epoch, secondaries, .. } = named(&world)?;
    let to = secondaries[0];
    world.cut(node(to), Node::Meta);
    until(&mut world, "the suspicion", |world| {
        world.moments.iter().any(|it| it.name == "suspected")
    })?;
    let kind = ChangeKind::HandOver { to };
    let first = ask(&mut world, NUMBER, kind)?;
    demand(first == epoch, "a handover to a suspected server was granted")?;
    world.mend(node(to), Node::Meta);
    world.run(Span::from_millis(300));
    let again = ask(&mut world, NUMBER, kind)?;
    demand(again == epoch, "what was refused was granted later")
}

/// A server came back with another memory; a request from before names its old incarnation.
pub fn learner_with_a_successor() -> Result<(), String> {
    let mut world = born(quiet())?;
    let secondary = named(&world)?.secondaries[0];
    world.kill(node(secondary));
    until(&mut world, "the removal", |world| {
        configuration(world).is_some_and(|it| it.copies() == 1)
    })?;
    let recovery = world.meta.disk.recoveries().map(|it| it.id).max().unwrap_or_default();
    world.cut(node(named(&world)?.primary), node(secondary));
    world.start(node(secondary));
    until(&mut world, "the return", |world| {
        world.truth.members.values().any(|it| it.server == secondary.server && *it != secondary)
    })?;
    let epoch = named(&world)?.epoch;
    let after = ask(&mut world, NUMBER, ChangeKind::Add { learner: secondary, recovery })?;
    demand(after == epoch, "an incarnation with a successor was added")
}

/// A learner is proposed in the name of a recovery that is long over.
pub fn learner_of_another_recovery() -> Result<(), String> {
    let mut world = born(quiet())?;
    let members = named(&world)?;
    let outside = (1..=3).map(ServerId).find(|&id| members.members().all(|it| it.server != id));
    let learner = world.truth.members.values().copied().find(|it| Some(it.server) == outside);
    let learner = learner.ok_or("every server is a member")?;
    let kind = ChangeKind::Add { learner, recovery: RecoveryId(0) };
    let after = ask(&mut world, NUMBER, kind)?;
    demand(after == members.epoch, "a learner that nobody wanted was added")
}

/// The only member dies in the middle of a copy.
pub fn only_a_learner_is_left() -> Result<(), String> {
    let mut settings = quiet();
    settings.limits.chunk_items_max = 1;
    let mut world = born(settings)?;
    let client = world.add_client(None, None);
    for key in keys_for(1, 300) {
        let value = Value::from(world.next_operation().to_string().into_bytes());
        world.submit(client, Operation::Put { key, value }, Span::from_millis(10_000));
    }
    until(&mut world, "the writes", |world| world.clients[&client].running.outcomes.len() == 300)?;
    let Configuration { primary, secondaries, .. } = named(&world)?;
    world.kill(node(secondaries[0]));
    world.moments.clear();
    world.start(node(secondaries[0]));
    until(&mut world, "the first chunk", |world| {
        world.moments.iter().any(|it| it.name == "chunk stored")
    })?;
    // The metaserver has heard of the learner by then.
    world.run(world.settings.timing.heartbeat.scaled(3, 2));
    world.kill(node(primary));
    world.start(node(primary));
    world.run(Span::from_millis(3_000));
    match &world.violation {
        Some(violation) => Err(violation.words.clone()),
        None => Ok(()),
    }
}

/// The metaserver dies and comes back; everyone else is well all the time.
pub fn quiet_restart() -> Result<(), String> {
    let mut settings = quiet();
    settings.network.idle = Span::from_millis(200);
    settings.network.reconnect_max = Span::from_millis(50);
    let mut world = born(settings)?;
    let before = named(&world)?;
    world.kill(Node::Meta);
    world.run(Span::from_millis(100));
    world.moments.clear();
    world.start(Node::Meta);
    world.run(Span::from_millis(2_000));
    let suspected = world.moments.iter().any(|it| it.name == "suspected");
    demand(!suspected && named(&world)? == before, "a healthy server was suspected at once")
}
