//! `tandem-mutants`: plants each protocol bug in turn, and demands that a check finds it.
//!
//! ```text
//!   kills.txt --> replay: the seed or the case that found the bug finds it again, and finds
//!                         nothing where no bug is planted
//!   search    --> directed cases, then seed after seed, until a property is broken
//! ```
//!
//! A suite that no planted bug can pass is evidence; one that merely passes is not.

mod cases;
mod hunt;
mod kills;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tandem::mutants::Mutant;

use crate::hunt::{Hunt, replay, search};
use crate::kills::Kills;
use crate::report::Row;

/// Plants protocol bugs in the production machines, one at a time, and demands that a check of
/// the suite finds each.
///
/// Without options the known kills are replayed: quick, for every change. With --search every bug
/// is looked for anew, from the first seed on: for nights.
#[derive(Clone, Debug, Parser)]
#[command(name = "tools/mutants")]
struct Arguments {
    /// The file of known kills.
    #[arg(long, hide = true)]
    kills: PathBuf,
    /// Only these, by name; all of them unless told otherwise.
    #[arg(long, value_delimiter = ',')]
    mutant: Vec<String>,
    /// Look for each bug anew instead of replaying what found it.
    #[arg(long)]
    search: bool,
    /// The first seed of the search.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give up on a bug after that many seconds of search.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Search in runs with that many power cuts each instead of the usual ones.
    #[arg(long, default_value_t = 0, requires = "search", conflicts_with = "write")]
    power_cuts: u64,
    /// Write what the search found into the file of known kills.
    #[arg(long, requires = "search")]
    write: bool,
    /// Bugs looked for at a time; as many as there are cores unless told otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// List the bugs with the rule that each breaks, and stop.
    #[arg(long)]
    list: bool,
    /// How the end is told: as a table, or as one JSON object on the last line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for mutant in Mutant::ALL {
            println!("{:<26} {}", mutant.name(), mutant.breaks());
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The mutants were not judged: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let mutants = chosen(&arguments.mutant)?;
    let known = Kills::read(&arguments.kills)?;
    let rows = judge(arguments, &mutants, &known);
    if arguments.write {
        write(&arguments.kills, known, &rows)?;
    }
    report::print(&rows, arguments.output == Output::Json);
    Ok(rows.iter().all(Row::is_killed))
}

fn chosen(names: &[String]) -> Result<Vec<Mutant>> {
    if names.is_empty() {
        return Ok(Mutant::ALL.to_vec());
    }
    let by_name = |name: &String| {
        let found = Mutant::ALL.iter().copied().find(|it| it.name() == name);
        found.with_context(|| format!("no mutant is called '{name}': --list names them"))
    };
    names.iter().map(by_name).collect()
}

/// Judges every mutant, some at a time.
fn judge(arguments: &Arguments, mutants: &[Mutant], known: &Kills) -> Vec<Row> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let bar = ProgressBar::new(mutants.len() as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} mutants, {elapsed}");
    bar.set_style(style.expect("the template is well-formed"));
    let waiting = Mutex::new(mutants.iter().copied().enumerate());
    let rows = Mutex::new(Vec::new());
    // The machines' own assertions kill mutants too; their words are in the table.
    std::panic::set_hook(Box::new(|_| ()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no judge panics").next();
                    let Some((place, mutant)) = next else { return };
                    let row = if arguments.search {
                        let Arguments { seed: first, seconds, power_cuts, .. } = *arguments;
                        let hunt = Hunt { first, seconds, power_cuts };
                        search(mutant, hunt)
                    } else {
                        replay(mutant, known.of(mutant))
                    };
                    rows.lock().expect("no judge panics").push((place, row));
                    bar.inc(1);
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    bar.finish_and_clear();
    let mut rows = rows.into_inner().expect("no judge panicked");
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn write(path: &Path, mut known: Kills, rows: &[Row]) -> Result<()> {
    for row in rows {
        if let Some(kill) = &row.kill {
            known.put(row.mutant, kill.clone());
        }
    }
    known.write(path)
}
