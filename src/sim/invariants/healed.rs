//! Once faults have ended, everything is served and fully redundant again, within a bound.
//!
//! This is judged on a whole world: every key set has as many members as it should, all alive,
//! all acting in the same configuration, and a primary that would answer a read at this moment;
//! the metaserver has a link to every server, no link is half dead, and every recovery has come to
//! its end.

use crate::protocol::meta::durable::Step;
use crate::protocol::types::{KeySet, Member, ServerId};
use crate::protocol::view::SetState;
use crate::sim::Node;
use crate::sim::world::World;

/// What keeps the world from being served and redundant; none if nothing does.
#[must_use]
pub fn obstacle(world: &World) -> Option<String> {
    unserved(world).or_else(|| thin(world)).or_else(|| unfinished(world))
}

/// A server that the metaserver can not hear, a link that only one end counts on, or a recovery
/// that is under way: what follows from that is yet to come.
fn unfinished(world: &World) -> Option<String> {
    let running = world.servers.values().filter(|it| it.running.is_some());
    let mut unheard = running.filter(|it| !world.is_attached(it.id));
    if let Some(server) = unheard.next() {
        return Some(format!("{} has no link to the metaserver", server.id));
    }
    if let Some(link) = world.half_open() {
        return Some(format!("one end of link {} has not heard that it is down", link.0));
    }
    let mut open = world.meta.disk.recoveries().filter(|it| it.step != Step::Done);
    open.next().map(|it| format!("recovery {} of {} is at {:?}", it.id.0, it.failed, it.step))
}

/// A key set without a living primary.
#[must_use]
pub fn unserved(world: &World) -> Option<String> {
    if world.meta.running.is_none() {
        return Some("the metaserver is down".to_owned());
    }
    for set in 0..world.settings.key_sets {
        let set = KeySet(set);
        let Some(row) = world.meta.disk.set(set) else { return Some(format!("{set} is unborn")) };
        let Some(configuration) = &row.configuration else {
            return Some(format!("{set} has no configuration"));
        };
        if row.state == SetState::Lost {
            return Some(format!("{set} is lost"));
        }
        if !world.truth.is_alive(configuration.primary) {
            return Some(format!("{set}: its primary {} is dead", configuration.primary));
        }
        if !serves(world, set, configuration.primary) {
            return Some(format!("{set}: its primary {} does not serve", configuration.primary));
        }
    }
    None
}

/// Whether `primary` would answer a read of `set` at this moment.
fn serves(world: &World, set: KeySet, primary: Member) -> bool {
    let Some(node) = world.servers.get(&primary.server) else { return false };
    let reading = node.host.clock.read(world.now());
    let running = node.running.as_ref().filter(|it| it.member == Some(primary));
    let replica = running.and_then(|it| it.worker.replica(set));
    replica.is_some_and(|it| it.serves_reads(reading, &world.settings.timing))
}

/// A key set with fewer living members than it should have.
#[must_use]
pub fn thin(world: &World) -> Option<String> {
    let alive = world.servers.keys().filter(|&&id| world.alive_at(Node::Server(id)).is_some());
    let copies = usize::from(world.settings.copies).min(alive.count());
    for row in world.meta.disk.sets() {
        let set = row.set;
        let Some(configuration) = &row.configuration else { continue };
        let dead = configuration.members().find(|&member| !world.truth.is_alive(member));
        if let Some(dead) = dead {
            return Some(format!("{set}: its member {dead} is dead"));
        }
        if configuration.copies() < copies {
            return Some(format!("{set} has {} copies of {copies}", configuration.copies()));
        }
        let measured = world.siege.as_ref().is_some_and(|siege| !siege.levels.is_empty());
        if measured && configuration.copies() > copies {
            return Some(format!("{set} has {} copies of {copies}", configuration.copies()));
        }
        if !world.members_agree(set, configuration) {
            return Some(format!("{set}: its members do not all act in {}", configuration.epoch));
        }
        let is_missing = |server: &&ServerId| {
            let runs = world.alive_at(Node::Server(**server)).is_some();
            runs && configuration.members().all(|member| member.server != **server)
        };
        if let Some(server) = row.target.iter().find(is_missing) {
            return Some(format!("{set}: {server} should hold it, and does not"));
        }
        if row.target.first() != Some(&configuration.primary.server) {
            return Some(format!("{set}: {} is not its preferred primary", configuration.primary));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Goal: a world that is not whole is called so.
    //! Method: a world in which nothing was started.

    use super::*;
    use crate::sim::Settings;
    use crate::sim::trace::Trace;

    #[test]
    fn a_world_that_never_started_is_not_healed() {
        let mut world = World::new(Settings::quiet(3, 2, 4), 1, Trace::default());
        assert!(obstacle(&world).is_some());
        world.start(Node::Meta);
        assert!(obstacle(&world).is_some());
    }
}
