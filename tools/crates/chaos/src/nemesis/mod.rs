//! The nemesis carries out the schedule, within the budget of faults.
//!
//! ```text
//!   step -> (destroys memory? heal, wait until whole, ask the budget) -> strike ... end -> rest
//! ```
//!
//! A cluster that does not become whole within a bound although nothing disturbs it breaks the
//! run: every wait before a kill is a check of liveness.

mod budget;
mod kind;
pub mod power;
mod schedule;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tandem::clock;
use tandem::protocol::time::{Span, Time};
use tandem::protocol::types::ServerId;
use tandem_local::{Role, wait};

use crate::cluster::Stage;
use crate::load::Load;
use crate::nodes::Node;
use crate::observer::Observer;
use crate::relay::{Board, FaultId};
use crate::timeline::{Record, Timeline};

pub use budget::is_whole;
pub use kind::Kind;
pub use power::{Cuts, Power};
pub use schedule::{Action, Cast, Planned, Schedule, Step};

/// How long an undisturbed cluster may take until nothing is missing.
pub const WHOLE: Duration = Duration::from_secs(60);

/// How long a server may take to stop in order.
const STOPPED: Duration = Duration::from_secs(60);

/// The longest sleep before the next look at the time and at `stop`.
const NAP: Span = Span::from_millis(20);

/// Carries out a schedule.
pub struct Nemesis {
    pub stage: Stage,
    pub board: Board,
    pub observer: Observer,
    pub timeline: Timeline,
    /// When time counts from, for the words.
    pub origin: Time,
    pub stop: Arc<AtomicBool>,
}

/// A fault of the step under way.
struct Struck<'a> {
    planned: &'a Planned,
    begin: Time,
    end: Time,
    record: usize,
    imposed: Option<FaultId>,
    /// When a flapping link turns next.
    turn: Option<Time>,
}

impl Nemesis {
    /// Strikes until `end`, and leaves everybody running on a good network.
    ///
    /// # Errors
    /// The cluster does not become whole undisturbed, or a process can not be handled.
    pub fn run(&self, mut schedule: Schedule, end: Time) -> Result<()> {
        while clock::now() < end && !self.stop.load(Ordering::Relaxed) {
            let step = schedule.step();
            self.step(&step, end)?;
            self.sleep_until((clock::now() + step.rest).min(end));
        }
        self.board.heal();
        Ok(())
    }

    /// Cuts the power `rounds` times, and leaves everybody running.
    ///
    /// # Errors
    /// The cluster does not come back, or a process can not be handled.
    pub fn cut_power(&self, load: &Load, rounds: u16, seed: u64, disks_lie: bool) -> Result<Cuts> {
        let (stage, observer) = (self.stage.clone(), self.observer.clone());
        let (timeline, origin) = (self.timeline.clone(), self.origin);
        let stop = self.stop.clone();
        Power { stage, observer, timeline, origin, stop, load, disks_lie }.run(rounds, seed)
    }

    fn step(&self, step: &Step, end: Time) -> Result<()> {
        let victims: Vec<u8> = step.faults.iter().filter_map(Planned::victim).collect();
        let storm = step.faults.iter().any(|it| it.victim().is_none()) && step.faults.len() > 1;
        if !victims.is_empty() {
            self.until_killable(&victims)?;
        }
        if matches!(step.faults.first(), Some(Planned { action: Action::Restart, .. })) {
            return self.restart(&step.faults[0], end);
        }
        let mut waiting: Vec<&Planned> = step.faults.iter().collect();
        waiting.sort_by_key(|it| it.at);
        waiting.reverse();
        let mut struck: Vec<Struck<'_>> = Vec::new();
        let begin = clock::now();
        loop {
            let now = clock::now();
            while let Some(planned) = waiting.pop_if(|it| begin + it.at <= now) {
                struck.push(self.strike(planned, storm)?);
            }
            for fault in &mut struck {
                self.flap(fault, now);
            }
            for over in struck.extract_if(.., |it| it.end <= now) {
                self.end(&over)?;
            }
            let stopped = self.stop.load(Ordering::Relaxed);
            if stopped || (waiting.is_empty() && struck.is_empty()) {
                return struck.iter().try_for_each(|it| self.end(it));
            }
            let next = struck.iter().flat_map(|it| [Some(it.end), it.turn]).flatten();
            let next = next.chain(waiting.last().map(|it| begin + it.at)).min().unwrap_or(now);
            self.sleep_until(next.min(now + NAP));
        }
    }

    /// Waits until the budget allows to kill `victims`.
    fn until_killable(&self, victims: &[u8]) -> Result<()> {
        wait::until("a whole cluster, undisturbed", WHOLE, || {
            let status = self.observer.status()?;
            budget::may_kill(victims, &status, &self.timeline.records(), clock::now())
        })
    }

    fn strike<'a>(&self, planned: &'a Planned, storm: bool) -> Result<Struck<'a>> {
        let (mut edges, mut nodes, mut imposed, mut turn) = (Vec::new(), Vec::new(), None, None);
        let begin = clock::now();
        match &planned.action {
            Action::Impair { edges: all, what, flap } => {
                edges.clone_from(all);
                imposed = Some(self.board.impose(all, *what));
                turn = flap.map(|half| begin + half);
            }
            Action::Kill { server } => {
                nodes.push(Node::Server(*server));
                self.stage.kill(role(Node::Server(*server))?)?;
            }
            Action::KillMeta => {
                nodes.push(Node::Meta);
                self.stage.kill(Role::Meta)?;
            }
            Action::Pause { node } => {
                nodes.push(*node);
                self.stage.pause(role(*node)?)?;
            }
            Action::Restart => bail!("a restart is a step of its own"),
        }
        self.say(planned);
        let record = Record {
            kind: planned.kind,
            label: planned.label.clone(),
            begin,
            end: None,
            edges,
            nodes,
            storm,
        };
        let record = self.timeline.begin(record);
        Ok(Struck { planned, begin, end: begin + planned.lasts, record, imposed, turn })
    }

    fn say(&self, planned: &Planned) {
        let at = clock::now().since(self.origin).as_millis() as f64 / 1_000.0;
        println!("  {at:7.1} s  {:<10} {}", planned.kind.name(), planned.label);
    }

    /// Turns a flapping link when it is time.
    fn flap(&self, fault: &mut Struck<'_>, now: Time) {
        let Action::Impair { edges, what, flap: Some(half) } = &fault.planned.action else {
            return;
        };
        if fault.turn.is_none_or(|turn| turn > now) {
            return;
        }
        fault.turn = Some(now + *half);
        fault.imposed = match fault.imposed {
            Some(imposed) => {
                self.board.lift(imposed);
                None
            }
            None => Some(self.board.impose(edges, *what)),
        };
    }

    fn end(&self, fault: &Struck<'_>) -> Result<()> {
        if let Some(imposed) = fault.imposed {
            self.board.lift(imposed);
        }
        match &fault.planned.action {
            Action::Impair { .. } | Action::Restart => {}
            Action::Kill { server } => self.stage.start(role(Node::Server(*server))?)?,
            Action::KillMeta => self.stage.start(Role::Meta)?,
            Action::Pause { node } => self.stage.resume(role(*node)?)?,
        }
        debug_assert!(fault.begin <= fault.end, "a fault ends after it began");
        self.timeline.end(fault.record, clock::now());
        Ok(())
    }

    /// Stops every server in order and starts it again, one after the other.
    fn restart(&self, planned: &Planned, end: Time) -> Result<()> {
        let servers: Vec<ServerId> = self.stage.config.servers().iter().map(|it| it.id).collect();
        for id in servers {
            if clock::now() >= end || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let node = Node::server(id);
            let number = u8::try_from(id.0).context("arguments allow at most 9 servers")?;
            self.until_killable(&[number])?;
            let label = node.to_string();
            self.say(&Planned { label: label.clone(), ..planned.clone() });
            let record = self.timeline.begin(Record {
                kind: planned.kind,
                label,
                begin: clock::now(),
                end: None,
                edges: Vec::new(),
                nodes: vec![node],
                storm: false,
            });
            self.stage.terminate(Role::Server(id), STOPPED)?;
            self.stage.start(Role::Server(id))?;
            self.timeline.end(record, clock::now());
        }
        Ok(())
    }

    fn sleep_until(&self, until: Time) {
        while !self.stop.load(Ordering::Relaxed) {
            let left = until.0.saturating_sub(clock::now().0);
            if left == 0 {
                return;
            }
            std::thread::sleep(Duration::from(Span(left).min(NAP)));
        }
    }
}

fn role(node: Node) -> Result<Role> {
    match node {
        Node::Meta => Ok(Role::Meta),
        Node::Server(number) => Ok(Role::Server(ServerId(u16::from(number)))),
        Node::Client(_) | Node::Observer => bail!("{node} is no process of the cluster"),
    }
}
