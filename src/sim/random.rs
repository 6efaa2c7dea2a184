//! The random driver: a whole world, its faults and its clients from one seed.
//!
//! ```text
//!   birth -> trouble (faults by time, and faults aimed at steps of the protocol)
//!         -> healing (everything mended and started) -> whole again? -> history in order?
//! ```
//!
//! Each seed draws its own probabilities, so that runs differ in kind and not in detail only.
//! A server is killed only while every key set keeps another living member: within that budget
//! nothing acknowledged may be lost.

use std::fmt;

use super::coverage::{Coverage, Moment};
use super::faults::Fault;
use super::invariants::{Invariant, Violation, healed, linearizable};
use super::network::NetworkSettings;
use super::rng::Rng;
use super::trace::Trace;
use super::truth::Truth;
use super::workload::{Workload, keys_for};
use super::world::World;
use super::{Node, Settings};
use crate::protocol::meta::durable::Step;
use crate::protocol::time::Span;
use crate::protocol::timing::DRIFT_PPM;
use crate::protocol::types::ServerId;

/// What a run is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of the trouble, in virtual time.
    pub trouble: Span,
    /// Everything is whole again this long after the healing.
    pub heal_max: Span,
    /// More inputs than this are a run that gets nowhere.
    pub steps_max: u64,
    /// Keep the text of the trace.
    pub text: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            trouble: Span::from_millis(20_000),
            heal_max: Span::from_millis(60_000),
            steps_max: 3_000_000,
            text: false,
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub violation: Option<Violation>,
    /// Names the run: equal seeds give equal hashes.
    pub hash: u64,
    pub steps: u64,
    pub failovers: u64,
    pub operations: u64,
    pub coverage: Coverage,
    /// The last of what happened, if the text was asked for.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, hash, steps, failovers, operations, .. } = self;
        write!(
            f,
            "seed {seed}: {failovers} failovers, {operations} operations, {} faults, {steps} \
             steps, trace {hash:016x}",
            self.coverage.faults()
        )?;
        if let Some(violation) = &self.violation {
            write!(f, "\n  VIOLATION {violation}")?;
            write!(f, "\n  again: TANDEM_SEED={seed} TANDEM_TRACE=1 cargo test one_seed")?;
        }
        Ok(())
    }
}

/// Runs the world of a seed.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Report {
    let mut rng = Rng::new(seed);
    let settings = draw_settings(&mut rng);
    let trace = if options.text { Trace::with_text() } else { Trace::default() };
    let now = World::new(settings, rng.next_u64(), trace);
    let mut driver =
        Driver { world: now, swarm: Swarm::draw(&mut rng), rng, coverage: Coverage::default() };
    driver.world.steps_max = options.steps_max;
    driver.begin();
    driver.trouble(options.trouble);
    driver.heal(options.heal_max);
    driver.report(seed)
}

fn draw_settings(rng: &mut Rng) -> Settings {
    let copies = rng.between(2, 3) as u16;
    let servers = rng.between(u64::from(copies) + 1, 5) as u16;
    let delay_min = Span::from_micros(rng.between(20, 200));
    let network = NetworkSettings {
        delay_min,
        delay_max: delay_min + Span::from_micros(rng.between(10, 2_000)),
        tail_ppm: [0, 1_000, 20_000][rng.below(3) as usize],
        tail_max: Span::from_millis(rng.between(5, 150)),
        drop_ppm: [0, 10_000, 200_000][rng.below(3) as usize],
        double_ppm: [0, 50_000][rng.below(2) as usize],
        idle: Span::from_millis([300, 1_000, 3_000][rng.below(3) as usize]),
        reconnect_max: Span::from_millis(200),
    };
    Settings {
        spawn: rng.chance(500_000),
        durable: rng.chance(400_000),
        min_write_copies: 1,
        network,
        disk_min: Span::from_micros(50),
        disk_max: Span::from_micros([100, 5_000, 50_000][rng.below(3) as usize]),
        store_max: Span::from_micros([0, 200, 5_000][rng.below(3) as usize]),
        skew_ppm_max: [0, DRIFT_PPM][rng.below(2) as usize],
        tick_late: Span::from_micros([0, 1_000, 10_000][rng.below(3) as usize]),
        ..Settings::quiet(servers, copies, rng.between(1, 4) as u16)
    }
}

/// The probabilities of one seed.
#[derive(Clone, Debug)]
struct Swarm {
    /// Longest pause between faults by time.
    gap_max: Span,
    /// That many moments in a million draw a fault.
    aim_ppm: u64,
    freeze_max: Span,
    cut_max: Span,
    down_max: Span,
    /// Shares of kill, crash, freeze, cut, cut both, isolate, meta kill, meta freeze.
    shares: [u64; 8],
}

impl Swarm {
    fn draw(rng: &mut Rng) -> Swarm {
        let mut shares = [0; 8];
        for share in &mut shares {
            *share = [0, 1, 4][rng.below(3) as usize];
        }
        shares[0] = shares[0].max(1);
        Swarm {
            gap_max: Span::from_millis(rng.between(500, 6_000)),
            aim_ppm: [0, 5_000, 50_000][rng.below(3) as usize],
            freeze_max: Span::from_millis([100, 1_000, 5_000][rng.below(3) as usize]),
            cut_max: Span::from_millis([200, 2_000, 8_000][rng.below(3) as usize]),
            down_max: Span::from_millis([50, 1_000, 4_000][rng.below(3) as usize]),
            shares,
        }
    }
}

struct Driver {
    world: World,
    swarm: Swarm,
    rng: Rng,
    coverage: Coverage,
}

impl Driver {
    /// Starts everything, and waits for the first full redundancy.
    fn begin(&mut self) {
        if self.world.settings.spawn {
            self.world.start(Node::Meta);
        } else {
            self.world.start_all();
        }
        let patience = Span::from_millis(30_000);
        if !self.world.run_until(patience, |world| healed::obstacle(world).is_none()) {
            self.blame(healed::obstacle(&self.world));
        }
        let keys = keys_for(self.world.settings.key_sets, 2);
        let servers = self.world.settings.servers;
        let workload = Workload {
            keys,
            key_sets: self.world.settings.key_sets,
            think_min: Span::from_millis(1),
            think_max: Span::from_millis(self.rng.between(2, 60)),
            patience: Span::from_millis(self.rng.between(200, 8_000)),
            outstanding_max: self.rng.between(1, 4) as usize,
            left: u64::MAX,
            reads_ppm: self.rng.between(200_000, 700_000),
            scans_ppm: 30_000,
            wishing: false,
        };
        for _ in 0..self.rng.between(1, 3) {
            self.world.add_client(None, Some(workload.clone()));
        }
        for server in 1..=servers {
            self.world.add_client(Some(ServerId(server)), Some(workload.clone()));
        }
    }

    fn blame(&mut self, obstacle: Option<String>) {
        if let (None, Some(words)) = (&self.world.violation, obstacle) {
            let at = self.world.now();
            self.world.violation = Some(Violation { at, invariant: "healed", words });
        }
    }

    fn trouble(&mut self, span: Span) {
        let end = self.world.now() + span;
        let mut next = self.world.now();
        while self.world.now() < end && self.world.violation.is_none() {
            if self.world.now() >= next {
                self.fault(None);
                next = self.world.now() + self.rng.span(Span::ZERO, self.swarm.gap_max);
            }
            if !self.world.step() {
                break;
            }
            for moment in std::mem::take(&mut self.world.moments) {
                self.coverage.moment(moment.name);
                if moment.name == "lost" {
                    self.blame(Some("a key set is lost within the budget of faults".to_owned()));
                }
                if self.rng.chance(self.swarm.aim_ppm) {
                    self.fault(Some(&moment));
                }
            }
        }
    }

    /// The step of the recovery that is under way, if any.
    fn step(&self) -> Option<Step> {
        let steps = self.world.meta.disk.recoveries().map(|recovery| recovery.step);
        steps.filter(|step| *step != Step::Done).min()
    }

    /// Lets a fault strike, at a node of the moment if one is given.
    fn fault(&mut self, moment: Option<&Moment>) {
        let servers: Vec<_> = self.world.servers.keys().copied().map(Node::Server).collect();
        let aimed = moment.and_then(|moment| self.rng.pick(&moment.nodes).copied());
        let Some(any) = self.rng.pick(&servers).copied() else { return };
        let node = aimed.unwrap_or(any);
        let everyone: Vec<_> = servers.iter().copied().chain([Node::Meta]).collect();
        let others: Vec<_> = everyone.into_iter().filter(|&it| it != node).collect();
        let other = self.rng.pick(&others).copied().unwrap_or(Node::Meta);
        let Some(fault) = self.draw(node, any, other) else { return };
        let allowed = match fault {
            Fault::Kill(Node::Server(server))
            | Fault::KillSoon(Node::Server(server), _)
            | Fault::Wipe(server) => self.may_kill(server),
            _ => true,
        };
        if !allowed {
            return;
        }
        self.coverage.fault(fault.kind(), self.step());
        let soon = self.rng.span(Span::ZERO, Span::from_millis(3));
        let soon = if self.rng.chance(500_000) { Span::ZERO } else { soon };
        match fault {
            // At once, so that the budget of the next one counts it.
            Fault::Kill(_) | Fault::KillSoon(..) | Fault::Wipe(_) => self.world.strike(fault),
            Fault::Start(_)
            | Fault::Freeze(..)
            | Fault::Cut(..)
            | Fault::CutBoth(..)
            | Fault::Isolate(_)
            | Fault::Mend(..)
            | Fault::MendAll => self.world.plan(soon, fault),
        }
        self.plan_end(soon, fault);
    }

    fn draw(&mut self, node: Node, any: Node, other: Node) -> Option<Fault> {
        let server = if node == Node::Meta { any } else { node };
        let shares = self.swarm.shares;
        let mut draw = self.rng.below(shares.iter().sum());
        let kind = shares.iter().position(|&share| {
            let here = draw < share;
            draw = draw.saturating_sub(share);
            here
        })?;
        let frozen = self.rng.span(Span::from_millis(10), self.swarm.freeze_max);
        let effects = self.rng.below(12) as u32;
        Some(match (kind, server) {
            (0, Node::Server(server)) if self.world.settings.durable && effects < 6 => {
                Fault::Wipe(server)
            }
            (0, _) => Fault::Kill(server),
            (1, _) => Fault::KillSoon(server, effects),
            (2, _) => Fault::Freeze(server, frozen),
            (3, _) => Fault::Cut(node, other),
            (4, _) => Fault::CutBoth(node, other),
            (5, _) => Fault::Isolate(server),
            (6, _) if effects < 6 => Fault::Kill(Node::Meta),
            (6, _) => Fault::KillSoon(Node::Meta, effects),
            (_, _) => Fault::Freeze(Node::Meta, frozen),
        })
    }

    /// Enters the end of a fault.
    fn plan_end(&mut self, soon: Span, fault: Fault) {
        let down = soon + self.rng.span(Span::from_millis(5), self.swarm.down_max);
        let cut = soon + self.rng.span(Span::from_millis(5), self.swarm.cut_max);
        match fault {
            Fault::Kill(node) => self.plan_start(down, node),
            Fault::Wipe(server) => self.plan_start(down, Node::Server(server)),
            // When it dies is not known: the start comes again and again, and is harmless.
            Fault::KillSoon(node, _) => {
                for times in 1..=4 {
                    self.world.plan(down.scaled(times, 1), Fault::Start(node));
                }
            }
            Fault::Cut(from, to) | Fault::CutBoth(from, to) => {
                self.world.plan(cut, Fault::Mend(from, to));
            }
            Fault::Isolate(_) => self.world.plan(cut, Fault::MendAll),
            Fault::Start(_) | Fault::Freeze(..) | Fault::Mend(..) | Fault::MendAll => {}
        }
    }

    /// Starts a killed node again, where the metaserver does not do so itself.
    fn plan_start(&mut self, down: Span, node: Node) {
        if node == Node::Meta || !self.world.settings.spawn {
            self.world.plan(down, Fault::Start(node));
        }
    }

    /// Whether every key set keeps a member that lives and can be trusted to stay one: not cut
    /// off, not frozen, and not on its way out.
    fn may_kill(&self, victim: ServerId) -> bool {
        let world = &self.world;
        let healthy = |server: ServerId| {
            let node = Node::Server(server);
            let frozen = world.servers.get(&server).is_none_or(|it| it.host.frozen_until.is_some());
            let doomed = world.running(server).is_none_or(|it| it.fate.fuse.is_some());
            server != victim && !frozen && !doomed && !world.network.touches(node)
        };
        let born = world.meta.disk.cluster().is_some_and(|row| row.born);
        let rows = world.meta.disk.sets().chain(world.meta.disk.pending_sets());
        born && rows.filter_map(|row| row.configuration.as_ref()).all(|configuration| {
            let mut members = configuration.members();
            members.any(|member| healthy(member.server) && world.truth.is_alive(member))
        })
    }

    /// Ends all faults, and waits until everything is whole and clients are served.
    fn heal(&mut self, span: Span) {
        if self.world.violation.is_some() {
            return;
        }
        self.world.mend_all();
        let end = self.world.now() + span;
        let settle = Span::from_millis(10_000);
        self.world.run(settle);
        let nodes: Vec<_> = self.world.servers.keys().copied().map(Node::Server).collect();
        self.world.start(Node::Meta);
        for node in nodes {
            if !self.world.settings.spawn {
                self.world.start(node);
            }
        }
        let left = end.since(self.world.now());
        if !self.world.run_until(left, |world| healed::obstacle(world).is_none()) {
            self.blame(healed::obstacle(&self.world));
        }
        self.ask_everywhere(end.since(self.world.now()));
        if self.world.violation.is_none() {
            self.judge_history();
        }
    }

    /// A last read and write of every key, by a client that was never in trouble.
    fn ask_everywhere(&mut self, span: Span) {
        let client = self.world.add_client(None, None);
        let keys = keys_for(self.world.settings.key_sets, 2);
        let patience = span.scaled(2, 1);
        let mut asked = Vec::new();
        for key in keys {
            let get = crate::protocol::message::Operation::Get { key: key.clone() };
            asked.push(self.world.submit(client, get, patience));
            let value = self.world.next_operation().to_string().into_bytes().into();
            let put = crate::protocol::message::Operation::Put { key, value };
            asked.push(self.world.submit(client, put, patience));
        }
        let answered = |world: &World| {
            let outcomes = world.clients.get(&client).map(|it| &it.running.outcomes);
            outcomes.is_some_and(|outcomes| asked.iter().all(|it| outcomes.contains_key(it)))
        };
        if !self.world.run_until(span, answered) {
            self.blame(Some("a client is not answered although all is healed".to_owned()));
        }
    }

    fn judge_history(&mut self) {
        let world = &self.world;
        let truth: &Truth = &world.truth;
        if let Err(words) = world.invariants.linearizable.finish(truth) {
            let invariant = linearizable::Linearizable::NAME;
            let at = world.now();
            self.world.violation = Some(Violation { at, invariant, words });
        }
    }

    fn report(self, seed: u64) -> Report {
        let moments = ["promoted", "removed"];
        Report {
            seed,
            hash: self.world.trace.hash(),
            steps: self.world.trace.steps(),
            failovers: moments.iter().map(|name| self.coverage.moments(name)).sum(),
            operations: self.world.invariants.linearizable.count() as u64,
            coverage: self.coverage,
            text: self.world.trace.text(),
            violation: self.world.violation,
        }
    }
}
