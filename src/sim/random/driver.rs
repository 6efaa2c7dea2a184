//! The driver: when a fault strikes, which one and whom.
//!
//! Faults come in three ways. Memory is lost, or a server asked to stop, as soon as redundancy is
//! whole again; so time is spent on failures and not on idling. Faults of all kinds come by time.
//! And faults of all kinds are aimed at moments of the protocol, at one of the nodes that the
//! moment happens at.

use std::collections::BTreeSet;

use super::options::{Options, Swarm};
use super::power::Power;
use super::space::Filling;
use crate::protocol::time::{Span, Time};
use crate::protocol::types::ServerId;
use crate::sim::coverage::Moment;
use crate::sim::faults::{Fault, KINDS, Kind};
use crate::sim::invariants::Violation;
use crate::sim::rng::Rng;
use crate::sim::world::World;
use crate::sim::{ClientId, Node};

/// How often the driver looks whether it is time for something.
const LOOK: Span = Span::from_millis(4);

/// How long the last fault of a script has to show what it does.
const AFTERMATH: Span = Span::from_millis(2_000);

/// A world and who torments it.
pub(super) struct Driver<'a> {
    pub world: World,
    pub swarm: Swarm,
    pub rng: Rng,
    pub options: Options,
    /// Of a run in which it is cut.
    pub(super) power: Option<Power>,
    /// Of a run in which servers fill up.
    pub(super) filling: Option<Filling>,
    /// Faults by time instead of drawn ones: those of an earlier run, or some of them.
    pub script: Option<std::vec::IntoIter<(Time, Fault)>>,
    pub(super) struck_last: Time,
    pub observe: &'a mut dyn FnMut(&mut World),
    pub failovers: u64,
    /// Failovers and power cuts for which clients were given operations.
    pub(super) paid: u64,
    pub(super) clients: Vec<ClientId>,
    /// When nodes that went are started again.
    pub(super) starts: Vec<(Node, Time)>,
    /// Servers that are yet to be stopped, one after another.
    pub(super) rolling: Vec<ServerId>,
}

impl Driver<'_> {
    /// Lets one event happen, and takes note of what it brought.
    fn step(&mut self) -> bool {
        if let Some(script) = &mut self.script {
            let next = self.world.next_time();
            while let Some(&(at, fault)) = script.as_slice().first()
                && next.is_none_or(|next| next > at)
            {
                script.next();
                self.world.pass_to(at);
                self.world.strike(fault);
                self.struck_last = at;
            }
        }
        let more = self.world.step();
        (self.observe)(&mut self.world);
        more
    }

    pub(super) fn blame(&mut self, invariant: &'static str, words: String) {
        if self.world.violation.is_none() {
            let at = self.world.now();
            self.world.violation = Some(Violation { at, invariant, words });
        }
    }

    /// Lets `span` pass.
    pub(super) fn wait_for(&mut self, span: Span) {
        let end = self.world.now() + span;
        self.wait(span + span, |world| (world.now() < end).then(|| "time stands still".to_owned()));
    }

    /// Lets time pass until nothing stands in the way of `done`, for at most `span`.
    pub(super) fn wait(&mut self, span: Span, done: impl Fn(&World) -> Option<String>) {
        let end = self.world.now() + span;
        let mut look = self.world.now();
        loop {
            if self.world.violation.is_some() {
                return;
            }
            if self.world.now() >= look {
                look = self.world.now() + LOOK;
                self.start_the_fallen(Span::from_millis(20));
                let Some(obstacle) = done(&self.world) else { return };
                if self.world.now() >= end {
                    return self.blame("healed", obstacle);
                }
            }
            if !self.step() {
                // With nobody alive nothing is due, and time does not go on to anybody's start.
                let Some((node, _)) = self.starts.pop() else {
                    return self.blame("healed", "nothing happens any more".to_owned());
                };
                self.world.strike(Fault::Start(node));
            }
            self.take_moments(false);
        }
    }

    /// The trouble: faults and failovers, as many as wanted.
    pub(super) fn trouble(&mut self) {
        let end = self.world.now() + self.options.trouble;
        let mut look = self.world.now();
        let (mut next_loss, mut next_other) = (look, look);
        while !self.has_enough()
            && self.world.now() < end
            && self.world.violation.is_none()
            && !self.is_script_over()
        {
            let now = self.world.now();
            if now >= look {
                look = now + LOOK;
                self.start_the_fallen(self.swarm.down_max);
                self.cut_power_in_time();
                self.fill_in_time();
                if self.script.is_none() {
                    if now >= next_loss && self.world.is_whole() {
                        self.world.digest_copies();
                        if self.power.as_mut().is_none_or(Power::leaves_a_loss) {
                            self.lose_memory();
                        }
                        next_loss = now + self.rng.span(Span::ZERO, self.swarm.rest_max);
                    }
                    if now >= next_other {
                        self.fault(None);
                        next_other = now + self.rng.span(Span::ZERO, self.swarm.gap_max);
                    }
                }
            }
            if !self.step() {
                break;
            }
            self.take_moments(true);
        }
    }

    /// Whether there were as many failovers, or power cuts, as were wanted.
    fn has_enough(&self) -> bool {
        match &self.power {
            Some(power) => power.is_over(),
            None => self.failovers >= self.options.failovers,
        }
    }

    /// Whether all faults of a script have struck, and shown what they do.
    fn is_script_over(&self) -> bool {
        self.script.as_ref().is_some_and(|script| script.as_slice().is_empty())
            && self.world.now().since(self.struck_last) > AFTERMATH
    }

    fn take_moments(&mut self, aim: bool) {
        for moment in std::mem::take(&mut self.world.moments) {
            if let Some(siege) = &mut self.world.siege {
                siege.coverage.moment(moment.name);
            }
            match moment.name {
                "lost" => {
                    let words = "a key set is lost within the budget of faults";
                    self.blame("kept", words.to_owned());
                }
                "promoted" | "removed" => self.failovers += 1,
                _ => {}
            }
            // Acknowledgements are many.
            let share = if moment.name == "acknowledged" { 10 } else { 1 };
            if aim && self.script.is_none() && self.rng.chance(self.swarm.aim_ppm / share) {
                self.fault(Some(&moment));
            }
            if aim && self.script.is_none() {
                self.cut_power_at_moment();
            }
        }
        let earned = self.failovers + self.power.as_ref().map_or(0, |power| power.cuts);
        if self.paid < earned {
            self.pay(earned - self.paid);
            self.paid = earned;
        }
    }

    /// Starts servers, and the metaserver, a while after they went.
    fn start_the_fallen(&mut self, down_max: Span) {
        let world = &self.world;
        let all_run =
            world.meta.running.is_some() && world.servers.values().all(|it| it.running.is_some());
        if self.script.is_some() || (all_run && self.starts.is_empty()) {
            return;
        }
        let now = self.world.now();
        let nodes: Vec<Node> = self.world.servers.keys().copied().map(Node::Server).collect();
        for node in nodes.into_iter().chain([Node::Meta]) {
            let known = self.starts.iter().position(|(it, _)| *it == node);
            if self.world.alive_at(node).is_some() {
                if let Some(known) = known {
                    self.starts.swap_remove(known);
                }
                continue;
            }
            // The metaserver starts its servers itself, where it does; but not those that left.
            let patience = match node {
                Node::Server(_) if self.world.settings.spawn => Span::from_millis(1_500),
                _ => Span::ZERO,
            };
            match known.map(|known| self.starts[known].1) {
                None => {
                    let at = now + patience + self.rng.span(Span::from_millis(2), down_max);
                    self.starts.push((node, at));
                }
                Some(at) if at <= now => self.world.strike(Fault::Start(node)),
                Some(_) => {}
            }
        }
    }

    /// Redundancy is whole: some memory may go.
    fn lose_memory(&mut self) {
        if let Some(server) = self.rolling.pop() {
            return self.world.strike(Fault::Stop(server));
        }
        let servers: Vec<_> = self.world.servers.keys().copied().collect();
        let Some(server) = self.victim() else { return };
        let kinds = [Kind::Kill, Kind::Wipe, Kind::Crash, Kind::Stop];
        let shares = kinds.map(|kind| self.share(kind));
        match kinds[self.rng.weighted(&shares)] {
            Kind::Wipe if self.world.settings.durable => self.world.strike(Fault::Wipe(server)),
            Kind::Crash => {
                let effects = self.rng.below(12) as u32;
                self.world.strike(Fault::KillSoon(Node::Server(server), effects));
            }
            // One server, or all of them one after another.
            Kind::Stop => {
                self.rolling = if self.rng.chance(500_000) { servers } else { vec![server] };
            }
            _ => self.world.strike(Fault::Kill(Node::Server(server))),
        }
    }

    /// Any server; each role among them as likely as every other, so that the rare ones have
    /// their share.
    fn victim(&mut self) -> Option<ServerId> {
        let servers: Vec<_> = self.world.servers.keys().copied().collect();
        let roles = |&server: &ServerId| self.world.roles(Node::Server(server));
        let present: BTreeSet<_> = servers.iter().flat_map(roles).collect();
        let present: Vec<_> = present.into_iter().collect();
        let Some(&role) = self.rng.pick(&present) else {
            return self.rng.pick(&servers).copied();
        };
        let roles = |&server: &ServerId| self.world.roles(Node::Server(server));
        let fitting: Vec<_> = servers.into_iter().filter(|it| roles(it).contains(&role)).collect();
        self.rng.pick(&fitting).copied()
    }

    fn share(&self, kind: Kind) -> u64 {
        let index = KINDS.iter().position(|it| *it == kind);
        index.map_or(0, |index| self.swarm.shares[index])
    }

    /// Lets a fault strike, at a node of the moment if one is given.
    fn fault(&mut self, moment: Option<&Moment>) {
        let servers: Vec<_> = self.world.servers.keys().copied().collect();
        let Some(any) = self.victim() else { return };
        let aimed = moment.and_then(|moment| self.rng.pick(&moment.nodes).copied());
        let meta = self.rng.chance(self.swarm.meta_ppm);
        let node = match aimed {
            Some(node) => node,
            None if meta => Node::Meta,
            None => Node::Server(any),
        };
        let everyone = servers.iter().copied().map(Node::Server).chain([Node::Meta]);
        let others: Vec<_> = everyone.filter(|&it| it != node).collect();
        let other = self.rng.pick(&others).copied().unwrap_or(Node::Meta);
        let fault = self.draw(node, any, other);
        // In the middle of the step that it is aimed at, or a little later.
        if self.rng.chance(600_000) {
            self.world.strike(fault);
        } else {
            let soon = self.rng.span(Span::ZERO, Span::from_millis(3));
            self.world.plan(soon, fault);
        }
        let cut = Span::from_millis(4) + self.rng.span(Span::from_millis(5), self.swarm.cut_max);
        match fault {
            Fault::Cut(from, to) | Fault::CutBoth(from, to) => {
                self.world.plan(cut, Fault::Mend(from, to));
            }
            Fault::Isolate(_) => self.world.plan(cut, Fault::MendAll),
            _ => {}
        }
    }

    fn draw(&mut self, node: Node, any: ServerId, other: Node) -> Fault {
        let kind = KINDS[self.rng.weighted(&self.swarm.shares)];
        let server = match node {
            Node::Server(server) => server,
            Node::Meta | Node::Client(_) => any,
        };
        let frozen = self.rng.span(Span::from_millis(5), self.swarm.freeze_max);
        let effects = self.rng.below(12) as u32;
        match kind {
            Kind::Wipe if self.world.settings.durable => Fault::Wipe(server),
            Kind::Kill | Kind::Wipe => Fault::Kill(node),
            Kind::Crash => Fault::KillSoon(node, effects),
            Kind::Freeze => Fault::Freeze(node, frozen),
            Kind::CutOneWay if self.rng.chance(500_000) => Fault::Cut(node, other),
            Kind::CutOneWay => Fault::Cut(other, node),
            Kind::CutBothWays => Fault::CutBoth(node, other),
            Kind::Flap => {
                let span = self.rng.span(Span::from_millis(1), Span::from_millis(60));
                Fault::Flap(node, other, span, 1 + effects)
            }
            Kind::Isolate => Fault::Isolate(node),
            Kind::Stop => Fault::Stop(server),
            Kind::Stall => Fault::Stall(server, frozen),
        }
    }
}
