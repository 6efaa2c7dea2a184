//! `tandem-replay`: has a run of the simulator again and shows it, event by event.
//!
//! The run is not read from the trace but had anew: the trace says of which code, seed, options
//! and faults. What is shown is what machines were handed, what they wanted done, and the faults;
//! and, on demand, the state of every node in tables.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde_json::{Map, Value, json};
use tandem::protocol::time::{Span, Time};
use tandem::sim::{Options, Report, World, simulate_with};

use tandem_simulate::table::{Table, tables};
use tandem_simulate::trace_file;

/// How much is shown before the violation, where nothing else was asked for.
const BEFORE_VIOLATION: Span = Span::from_millis(20);

/// Steps through a run that tools/simulate found to break a property: every input of every
/// machine, every effect, every fault, and the state of each node in tables. At a terminal it
/// goes event by event; otherwise it prints everything that was asked for.
#[derive(Debug, Parser)]
#[command(name = "tools/replay")]
struct Arguments {
    /// A trace file that tools/simulate wrote.
    trace: PathBuf,
    /// Show from this true time on, in milliseconds.
    #[arg(long)]
    from: Option<u64>,
    /// Show up to this true time, in milliseconds.
    #[arg(long)]
    to: Option<u64>,
    /// Show the last so many milliseconds before the violation; 20 unless told otherwise.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    around_violation: Option<u64>,
    /// Show only lines that contain one of these.
    #[arg(long)]
    grep: Vec<String>,
    /// Show the state of every node at this true time, in milliseconds; may be given often.
    #[arg(long)]
    at: Vec<u64>,
    /// Show the state of every node every so many milliseconds of what is shown.
    #[arg(long)]
    every: Option<u64>,
    /// How it is shown: in words, or one JSON object a line, the last of them the summary.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The replay failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the run came out as the trace says.
fn run(arguments: &Arguments) -> Result<bool> {
    let recipe = trace_file::read(&arguments.trace)?;
    let options = Options { hash: true, text: true, ..recipe.options };
    let known = recipe.run();
    let end = known.violation.as_ref().map_or(known.lasted.0, |it| it.at.0);
    let before = arguments.around_violation.map_or(BEFORE_VIOLATION, Span::from_millis);
    let ms = |ms: u64| Time(Span::from_millis(ms).0);
    let from = match (arguments.from, arguments.to) {
        (None, None) => Time(end) - before,
        (from, _) => ms(from.unwrap_or_default()),
    };
    let mut show = Show {
        json: arguments.output == Output::Json,
        stepping: arguments.output == Output::Text && std::io::stdin().is_terminal(),
        from,
        to: arguments.to.map_or(Time(u64::MAX), ms),
        grep: &arguments.grep,
        at: arguments.at.iter().copied().map(ms).collect(),
        every: arguments.every.map(Span::from_millis),
        next_state: from,
        skip: 0,
    };
    let script = recipe.script();
    let report = simulate_with(recipe.seed, options, script, &mut |world| show.look(world));
    let same = report.hash == recipe.hash;
    show.finish(&report, same, &recipe.violation);
    Ok(same)
}

/// What is shown, and how.
struct Show<'a> {
    json: bool,
    stepping: bool,
    from: Time,
    to: Time,
    grep: &'a [String],
    at: Vec<Time>,
    every: Option<Span>,
    next_state: Time,
    /// Events to show without a stop.
    skip: u64,
}

impl Show<'_> {
    /// Shows what the last event brought.
    fn look(&mut self, world: &mut World) {
        let now = world.now();
        let lines = world.trace.take_lines();
        let due = |at: &Time| *at <= now;
        if self.at.iter().any(due) {
            self.at.retain(|at| !due(at));
            self.state(world);
        }
        if now < self.from || now > self.to {
            return;
        }
        if let Some(every) = self.every
            && self.next_state <= now
        {
            self.next_state = now + every;
            self.state(world);
        }
        let wanted =
            |line: &&String| self.grep.is_empty() || self.grep.iter().any(|it| line.contains(it));
        let shown: Vec<_> = lines.iter().filter(wanted).collect();
        for line in &shown {
            if self.json {
                println!("{}", json!({"at_us": now.0 / 1_000, "event": line.trim_start()}));
            } else {
                println!("{line}");
            }
        }
        if self.stepping && !shown.is_empty() {
            self.ask(world);
        }
    }

    /// Waits for a word from the terminal.
    fn ask(&mut self, world: &World) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        loop {
            print!("(Enter: next, number: that many, s: state, r: run on, q: quit) ");
            let mut word = String::new();
            let flushed = std::io::stdout().flush().is_ok();
            if !flushed || std::io::stdin().lock().read_line(&mut word).unwrap_or(0) == 0 {
                self.stepping = false;
                return;
            }
            match word.trim() {
                "" => return,
                "s" => self.state(world),
                "r" => {
                    self.stepping = false;
                    return;
                }
                "q" => {
                    (self.stepping, self.to) = (false, Time(0));
                    return;
                }
                number => {
                    if let Ok(number) = number.parse::<u64>() {
                        self.skip = number.saturating_sub(1);
                        return;
                    }
                }
            }
        }
    }

    fn state(&self, world: &World) {
        let at_us = world.now().0 / 1_000;
        let tables = tables(world);
        if self.json {
            let parts: Map<String, Value> = tables
                .iter()
                .map(|table| {
                    let rows = table.rows.iter().map(|row| row.to_json()).collect();
                    (table.title.to_owned(), Value::Array(rows))
                })
                .collect();
            println!("{}", json!({"at_us": at_us, "state": parts}));
            return;
        }
        println!("--- state at {}.{:03} ms", at_us / 1_000, at_us % 1_000);
        for line in tables.iter().flat_map(Table::lines) {
            println!("{line}");
        }
    }

    fn finish(&self, report: &Report, same: bool, expected: &str) {
        let violation = report.violation.as_ref().map(ToString::to_string);
        if self.json {
            println!(
                "{}",
                json!({
                    "replay": if same { "same" } else { "other" }, "seed": report.seed,
                    "violation": violation, "inputs": report.steps,
                    "hash": format!("{:016x}", report.hash),
                })
            );
            return;
        }
        match violation {
            Some(words) => println!("VIOLATION {words}"),
            None => println!("no property was broken"),
        }
        if !same {
            println!(
                "This is not the run of the trace, which broke: {expected}. The code has changed \
                 since: go back to the commit that the trace is of."
            );
        }
    }
}
