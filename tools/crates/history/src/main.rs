//! `tandem-check-history`: judges a history of what clients saw.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tandem_history::generate::{Settings, generate};
use tandem_history::recorder::journal_of;
use tandem_history::{Checker, Conclusion, History, Options, Verdicts, check_with, line};

/// Judges whether one order of all operations explains what clients saw.
///
/// FILE has one JSON object a line, for each operation of each client:
///
///   process    a number: a client with at most one operation in flight;
///              it does nothing more after an unknown outcome
///   op         "get", "put", "delete", "cas" or "incr"
///   key        a string
///   arg        put: the value, a string; incr: a number;
///              cas: {"expect": E, "value": V or null}, where E is
///              "absent", {"value": V} or {"revision": [LOSS, OP]}
///   result     get: the value or null; put: true; delete: false if absent;
///              cas: false if the comparison failed; incr: the new number
///   revision   [LOSS, OP] of the value read or written, null if there is none
///   position   [LOSS, EPOCH, OP] at which the answer was computed
///   invoke_ns  stamped before sending
///   return_ns  stamped after receiving by the same clock; null if unknown
///   outcome    "ok"; "fail" only where the server said that it was not done
///              and never will be; "unknown"
///
/// A FILE.journal, left by a tester that crashed, is read as well.
///
/// Exit code: 0 linearizable, 1 not linearizable, 2 wrong usage or a bad file,
/// 3 undecided: of some keys no checker found either an order or a fault.
#[derive(Debug, Parser)]
#[command(name = "tools/check-history", verbatim_doc_comment)]
struct Arguments {
    /// The history.
    #[arg(required_unless_present = "generate")]
    file: Option<PathBuf>,
    /// Which checker judges.
    ///
    /// witness: replays the order that positions name; all kinds of operations, fast.
    /// zones: by time alone; keys that are only put and read, each value put once; fast.
    /// wgl: searches for an order; everything, slow where many operations overlap.
    #[arg(long, value_enum, default_value = "all", verbatim_doc_comment)]
    checker: Which,
    /// The cluster's number of key sets: the witness then demands one order of positions of each
    /// key set, not only of each key.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: Option<u16>,
    /// After how many steps the search gives a key up.
    #[arg(long, value_name = "N", default_value_t = tandem_history::check::STEPS_MAX)]
    steps: u64,
    /// How the verdict is told: in words, or as one JSON object on the last line.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// Instead of judging, writes a good history of N operations to standard output.
    #[arg(long, value_name = "N", conflicts_with_all = ["file", "checker", "steps"])]
    generate: Option<usize>,
    /// With --generate: over how many keys.
    #[arg(long, value_name = "K", default_value_t = 1_000, requires = "generate")]
    keys: usize,
    /// With --generate: by how many clients at a time.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "generate")]
    clients: usize,
    /// With --generate: the same seed gives the same history.
    #[arg(long, value_name = "S", default_value_t = 1, requires = "generate")]
    seed: u64,
    /// With --generate: one read in the second half returns an older value.
    #[arg(long, requires = "generate")]
    stale_read: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Which {
    All,
    Witness,
    Zones,
    Wgl,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let judged = match (&arguments.file, arguments.generate) {
        (Some(file), None) => judge(&arguments, file),
        (_, operations) => write_generated(&arguments, operations.unwrap_or_default()),
    };
    match judged {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tools/check-history: {error:#}");
            if arguments.output == Output::Json {
                println!("{}", json!({ "verdict": "bad file", "error": format!("{error:#}") }));
            }
            ExitCode::from(2)
        }
    }
}

fn judge(arguments: &Arguments, path: &Path) -> Result<ExitCode> {
    let history = load(path)?;
    if history.operations.is_empty() {
        return Err(anyhow!(
            "{} has no operations, so that there is nothing to judge",
            path.display()
        ));
    }
    let checkers = match arguments.checker {
        Which::All => Checker::ALL.to_vec(),
        Which::Witness => vec![Checker::Witness],
        Which::Zones => vec![Checker::Zones],
        Which::Wgl => vec![Checker::Wgl],
    };
    let total = history.operations.len() * checkers.len();
    let Arguments { key_sets, steps, .. } = *arguments;
    let options = Options { checkers, key_sets, steps_max: steps };
    let bar = bar(total as u64, "{prefix:8} {bar:40} {human_pos} of {human_len} operations");
    let verdicts = check_with(&history, &options, |checker, operations| {
        bar.set_prefix(checker.name());
        bar.inc(operations as u64);
    });
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    writeln!(out, "{verdicts}")?;
    let conclusion = verdicts.conclusion();
    if arguments.output == Output::Json {
        writeln!(out, "{}", summary(&verdicts))?;
    }
    Ok(ExitCode::from(match conclusion {
        Conclusion::Linearizable => 0,
        Conclusion::Violated => 1,
        Conclusion::Undecided => 3,
    }))
}

fn load(path: &Path) -> Result<History> {
    let shown = path.display();
    let file = File::open(path).with_context(|| {
        let journal = journal_of(path);
        match journal.exists() {
            true => format!("opening {shown}; its tester did not end, try {}", journal.display()),
            false => format!("opening {shown}"),
        }
    })?;
    let bytes = file.metadata().with_context(|| format!("looking at {shown}"))?.len();
    let bar = bar(bytes, "reading  {bar:40} {bytes} of {total_bytes}");
    let history = History::read(BufReader::new(file), |read| bar.set_position(read));
    bar.finish_and_clear();
    history.with_context(|| format!("reading {shown}"))
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(length).with_style(style)
}

/// The last line for scripts.
fn summary(verdicts: &Verdicts) -> Value {
    let checkers: Vec<Value> = verdicts
        .verdicts
        .iter()
        .map(|verdict| {
            let tally = verdict.tally();
            let violations: Vec<Value> = verdict
                .violations()
                .map(|it| json!({ "key": it.key, "words": it.words, "lines": it.operations }))
                .collect();
            json!({
                "checker": verdict.checker.name(), "accepted": tally.accepted,
                "violated": tally.violated, "undecided": tally.undecided,
                "not_judged": tally.not_judged, "violations": violations,
            })
        })
        .collect();
    let verdict = match verdicts.conclusion() {
        Conclusion::Linearizable => "linearizable",
        Conclusion::Violated => "not linearizable",
        Conclusion::Undecided => "undecided",
    };
    json!({
        "verdict": verdict, "operations": verdicts.operations, "unknown": verdicts.unknown,
        "keys": verdicts.keys.len(), "open_keys": verdicts.open_keys().len(),
        "checkers": checkers,
    })
}

fn write_generated(arguments: &Arguments, operations: usize) -> Result<ExitCode> {
    let Arguments { seed, keys, clients, stale_read, key_sets, .. } = *arguments;
    let usual = Settings::default();
    let key_sets = key_sets.unwrap_or(usual.key_sets);
    let history =
        generate(&Settings { seed, operations, keys, clients, key_sets, stale_read, ..usual });
    let mut out = BufWriter::new(io::stdout().lock());
    for operation in &history.operations {
        writeln!(out, "{}", line::write_whole(operation))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
