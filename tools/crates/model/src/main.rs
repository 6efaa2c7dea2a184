//! `tandem-model`: explores every state of small worlds of Tandem's own machines.
//!
//! The worlds run the production worker, the engine in memory and the simulator's truth and
//! properties; what can happen next is enumerated, not drawn. See `world` for what a world is,
//! `node` and `faults` for what is left out and why nothing is lost by that.

mod checker;
mod clock;
mod hash;
mod mutants;
mod plan;
mod report;
mod world;
mod worlds;

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tandem::protocol::mutants::{Mutant, plant};

use crate::checker::{Bounds, End, Outcome, explore};
use crate::mutants::Reach;
use crate::plan::Plan;

/// States that a search may find where nothing else is said.
const STATES_MAX: usize = 20_000_000;

/// How long a world may take where nothing else is said.
const SECONDS_MAX: u64 = 900;

/// States and seconds within which a mutant has to be found.
const MUTANT_STATES_MAX: usize = 1_000_000;
const MUTANT_SECONDS_MAX: u64 = 300;

/// Explores every state of small worlds of Tandem's own machines: two or three servers, a
/// metaserver that may do whatever a metaserver is allowed to, clients, faults.
///
/// Nothing is drawn by chance, so there is no seed: a run finds the same states every time. A
/// broken property is told with a shortest way to it. Without options the worlds that a
/// continuous integration can afford are explored; `--world all` adds the large ones.
///
/// Exits 0 if every world was exhausted, or stopped by a bound that was asked for, and no property
/// was broken; with `--mutant` or `--mutants` if every planted bug that has a world was found.
#[derive(Debug, Parser)]
#[command(name = "tools/model")]
struct Arguments {
    /// Only this world; 'all' for every one.
    #[arg(long)]
    world: Option<String>,
    /// Tells what worlds there are.
    #[arg(long)]
    list: bool,
    /// Stops a world after so many states.
    #[arg(long)]
    states_max: Option<usize>,
    /// Stops a world after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Lets only so many ticks of the clock pass, whatever a world says.
    #[arg(long)]
    ticks: Option<u8>,
    /// Plants this bug, and looks for it in the world that finds it, or in --world.
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Plants every bug in turn, and tells which world finds it.
    #[arg(long)]
    mutants: bool,
    /// How the end is told: in words, or as JSON whose last line is the summary.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Arguments {
    /// The bounds that are asked for, or else these.
    fn bounds(&self, states_max: usize, seconds_max: u64) -> Bounds {
        Bounds {
            states_max: self.states_max.unwrap_or(states_max),
            time_max: Duration::from_secs(self.seconds.unwrap_or(seconds_max)),
        }
    }

    fn say(&self, text: &str, value: &Value) {
        match self.output {
            Format::Text => println!("{text}"),
            Format::Json => println!("{value}"),
        }
    }

    /// The worlds that are asked for.
    fn worlds(&self) -> Result<Vec<Plan>, String> {
        let mut all = worlds::all();
        for plan in &mut all {
            plan.budget.ticks = self.ticks.or(plan.budget.ticks);
        }
        match self.world.as_deref() {
            None => Ok(all.into_iter().filter(|it| !it.deep).collect()),
            Some("all") => Ok(all),
            Some(name) => {
                let found: Vec<Plan> = all.into_iter().filter(|it| it.name == name).collect();
                if found.is_empty() {
                    return Err(format!("no world is called '{name}': see --list"));
                }
                Ok(found)
            }
        }
    }
}

fn main() -> ExitCode {
    // A panic of a machine is a broken property, told with the way to it.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    let done = if arguments.list {
        list();
        Ok(true)
    } else if arguments.mutants {
        Ok(run_mutants(&arguments))
    } else if let Some(name) = &arguments.mutant {
        run_mutant(&arguments, name)
    } else {
        run_worlds(&arguments)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(words) => {
            eprintln!("tools/model: {words}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for plan in worlds::all() {
        let deep = if plan.deep { " (large)" } else { "" };
        println!("{:<20}{}{deep}", plan.name, plan.about);
    }
}

fn run_worlds(arguments: &Arguments) -> Result<bool, String> {
    let bounds = arguments.bounds(STATES_MAX, SECONDS_MAX);
    let bounded = arguments.seconds.is_some() || arguments.states_max.is_some();
    let (mut states, mut steps, mut exhausted, mut broken) = (0, 0, 0, 0);
    let plans = arguments.worlds()?;
    let count = plans.len();
    if arguments.output == Format::Text {
        println!("{}", report::HEAD);
    }
    for plan in plans {
        let plan = Rc::new(plan);
        let outcome = explore(&plan, bounds);
        states += outcome.states;
        steps += outcome.steps;
        exhausted += usize::from(outcome.end == End::Exhausted);
        broken += usize::from(outcome.end == End::Violated);
        let mut text = report::line(&plan, &outcome);
        if let Some(it) = &outcome.counterexample {
            text = format!("{text}\n{}", report::story(it));
        }
        arguments.say(&text, &report::json(&plan, &outcome));
    }
    let text = format!(
        "model: {count} worlds, {exhausted} exhausted, {states} states, {steps} steps, {broken} \
        broken properties"
    );
    let summary = json!({
        "worlds": count, "exhausted": exhausted, "states": states, "steps": steps, "broken": broken
    });
    arguments.say(&text, &summary);
    Ok(broken == 0 && (bounded || exhausted == count))
}

/// Looks for a planted bug in one world.
fn look_for(arguments: &Arguments, mutant: Mutant, plan: &Plan) -> Outcome {
    let bounds = arguments.bounds(MUTANT_STATES_MAX, MUTANT_SECONDS_MAX);
    plant(Some(mutant));
    let outcome = explore(&Rc::new(Plan { mutant: Some(mutant), ..plan.clone() }), bounds);
    plant(None);
    outcome
}

/// The world that finds a mutant, or why there is none.
fn home(mutant: Mutant) -> Result<Plan, &'static str> {
    match mutants::reach(mutant) {
        Reach::Found(name) => {
            let plan = worlds::all().into_iter().find(|it| it.name == name);
            Ok(plan.expect("a mutant's world is one of the worlds"))
        }
        Reach::Out(reason) => Err(reason),
    }
}

fn run_mutant(arguments: &Arguments, name: &str) -> Result<bool, String> {
    let mutant = Mutant::ALL.iter().copied().find(|it| it.name() == name);
    let Some(mutant) = mutant else { return Err(format!("no mutant is called '{name}'")) };
    let plans = match (&arguments.world, home(mutant)) {
        (None, Ok(home)) => vec![home],
        _ => arguments.worlds()?,
    };
    for plan in plans {
        let outcome = look_for(arguments, mutant, &plan);
        let mut text = report::line(&plan, &outcome);
        if let Some(it) = &outcome.counterexample {
            text = format!("{text}\n{}", report::story(it));
        }
        arguments.say(&text, &report::json(&plan, &outcome));
        if outcome.end == End::Violated {
            return Ok(true);
        }
    }
    Ok(false)
}

fn run_mutants(arguments: &Arguments) -> bool {
    let (mut looked_for, mut found) = (0, 0);
    for &mutant in Mutant::ALL {
        let plan = match home(mutant) {
            Ok(plan) => plan,
            Err(reason) => {
                let (text, value) = report::out_of_reach(mutant, reason);
                arguments.say(&text, &value);
                continue;
            }
        };
        let outcome = look_for(arguments, mutant, &plan);
        looked_for += 1;
        found += usize::from(outcome.end == End::Violated);
        let (text, value) = report::hunt(mutant, &plan, &outcome);
        arguments.say(&text, &value);
    }
    let all = Mutant::ALL.len();
    let summary = json!({ "mutants": all, "looked_for": looked_for, "found": found });
    let argued = all - looked_for;
    let text = format!(
        "mutants: {found} found of {looked_for} that have a world; {argued} are argued, and found \
         by tools/mutants"
    );
    arguments.say(&text, &summary);
    found == looked_for
}
