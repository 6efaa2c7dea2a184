//! The random driver: a whole world, its faults and its clients from one seed.
//!
//! ```text
//!   birth -> trouble (memory lost as soon as redundancy is whole; faults by time; faults aimed
//!                     at moments of the protocol)
//!         -> healing (everything mended and started) -> whole again? -> history in order?
//! ```
//!
//! The same seed and options give the same run, input by input. The faults that struck can be
//! given back as a script, whole or in part: that is how a failing run is made smaller.

mod budget;
mod driver;
mod options;
mod people;
mod power;
mod space;

use std::fmt;

use super::Node;
use super::coverage::Coverage;
use super::faults::{Fault, Siege};
use super::invariants::{Invariant, Violation, calm, healed, linearizable};
use super::network::NetworkSettings;
use super::rng::Rng;
use super::trace::Trace;
use super::world::World;
use crate::protocol::time::{Span, Time};
use driver::Driver;
pub use options::Options;
use options::{Swarm, draw_settings};
use power::Power;
use space::Filling;

/// How long a healed world is watched for changes that have no reason.
const CALM: Span = Span::from_millis(600);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub violation: Option<Violation>,
    /// Names the run, if that was asked for: equal seeds give equal hashes.
    pub hash: u64,
    /// Inputs that machines were handed.
    pub steps: u64,
    pub power_cuts: u64,
    /// Promotions, and removals of members that were dead or did not answer.
    pub failovers: u64,
    /// Operations of clients whose end is known.
    pub operations: u64,
    /// Virtual time.
    pub lasted: Span,
    /// Configurations that the metaserver installed.
    pub epochs: u64,
    pub coverage: Coverage,
    /// Everything that struck or ended, by true time.
    pub strikes: Vec<(Time, Fault)>,
    /// The last of what happened, if the text was asked for.
    pub text: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, hash, steps, failovers, operations, .. } = self;
        write!(
            f,
            "seed {seed}: {failovers} failovers, {operations} operations, {} faults, {} epochs, \
             {steps} steps in {} ms, trace {hash:016x}",
            self.coverage.faults(),
            self.epochs,
            self.lasted.as_millis(),
        )?;
        if self.power_cuts > 0 {
            write!(f, ", {} power cuts", self.power_cuts)?;
        }
        if let Some(violation) = &self.violation {
            write!(f, "\n  VIOLATION {violation}")?;
        }
        Ok(())
    }
}

/// Runs the world of a seed.
#[must_use]
pub fn simulate(seed: u64, options: Options) -> Report {
    simulate_with(seed, options, None, &mut |_| ())
}

/// Runs the world of a seed with the faults of `script` instead of drawn ones, if there is one;
/// `observe` is shown the world after every event.
pub fn simulate_with(
    seed: u64,
    options: Options,
    script: Option<Vec<(Time, Fault)>>,
    observe: &mut dyn FnMut(&mut World),
) -> Report {
    let mut rng = Rng::new(seed);
    let mut settings = draw_settings(&mut rng);
    settings.durable |= options.power_cuts > 0;
    let mut world = World::new(settings, rng.next_u64(), Trace::new(options.hash, options.text));
    world.siege = Some(Siege::default());
    world.steps_max = options.steps_max;
    let mut driver = Driver {
        world,
        swarm: Swarm::draw(&mut rng),
        rng,
        options,
        power: Power::new(seed, options.power_cuts),
        filling: options.space.then(|| Filling::new(seed)),
        script: script.map(Vec::into_iter),
        struck_last: Time(0),
        observe,
        failovers: 0,
        paid: 0,
        clients: Vec::new(),
        starts: Vec::new(),
        rolling: Vec::new(),
    };
    driver.begin();
    driver.trouble();
    driver.heal();
    driver.report(seed)
}

/// A server that does not run, or was asked to stop and has not come to its end.
fn absent(world: &World) -> Option<String> {
    let leaving = &world.siege.as_ref()?.leaving;
    world.servers.values().find_map(|server| match &server.running {
        None => Some(format!("{} does not run", server.id)),
        Some(running) if leaving.contains(&running.number) => {
            Some(format!("{} was asked to stop and runs still", server.id))
        }
        Some(_) => None,
    })
}

impl Driver<'_> {
    /// Starts everything, and waits for the first full redundancy.
    fn begin(&mut self) {
        if self.world.settings.spawn {
            self.world.start(Node::Meta);
        } else {
            self.world.start_all();
        }
        self.wait(Span::from_millis(30_000), healed::obstacle);
        self.invite();
    }

    /// Ends all faults, and waits until everything is whole and clients are served.
    fn heal(&mut self) {
        if self.world.violation.is_some() {
            return;
        }
        self.script = None;
        self.world.make_peace();
        let quiet = NetworkSettings::quiet();
        let settings = &mut self.world.network.settings;
        (settings.drop_ppm, settings.tail_ppm) = (quiet.drop_ppm, quiet.tail_ppm);
        let obstacle = |world: &World| absent(world).or_else(|| healed::obstacle(world));
        self.wait(self.options.heal_max, obstacle);
        self.stay_calm();
        self.ask_everywhere();
        self.world.digest_copies();
        if self.world.violation.is_none() {
            self.judge_history();
        }
    }

    /// Nothing goes wrong any more: nothing changes any more.
    fn stay_calm(&mut self) {
        let before = calm::epochs(&self.world.truth);
        self.wait_for(CALM);
        let after = calm::epochs(&self.world.truth);
        let siege = self.world.siege.as_ref();
        let faults = siege.map_or(0, |siege| siege.coverage.faults() + siege.power_cuts());
        let judged = calm::unchanged(&before, &after).and_then(|()| calm::bounded(&after, faults));
        if let Err(words) = judged {
            self.blame("calm", words);
        }
        if let Some(words) = healed::obstacle(&self.world) {
            self.blame("healed", words);
        }
    }

    fn judge_history(&mut self) {
        let world = &self.world;
        if let Err(words) = world.invariants.linearizable.finish(&world.truth) {
            self.blame(linearizable::Linearizable::NAME, words);
        }
    }

    fn report(self, seed: u64) -> Report {
        let world = self.world;
        let siege = world.siege.unwrap_or_default();
        let epochs = world.truth.configurations.values().map(|it| it.epoch.0).sum();
        Report {
            seed,
            hash: world.trace.hash(),
            steps: world.trace.steps(),
            power_cuts: siege.power_cuts(),
            failovers: self.failovers,
            operations: world.invariants.linearizable.count() as u64,
            lasted: Span(world.agenda.now().0),
            epochs,
            coverage: siege.coverage,
            strikes: siege.strikes,
            text: world.trace.text(),
            violation: world.violation,
        }
    }
}
