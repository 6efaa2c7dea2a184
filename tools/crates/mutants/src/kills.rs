//! The file of known kills: for each mutant the check that found it, and where.
//!
//! One line a mutant: `name  check  seed:N tried:N` or `name  check  case:NAME`. It is written by
//! the search and replayed for every change, so that a change of the simulator that moves its
//! seeds is noticed, and answered by a new search.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tandem::mutants::Mutant;

const HEAD: &str = "\
# What found each planted bug: its name, the check that was broken, and where. Written by
# `tools/mutants --search --write`, replayed by `tools/mutants`.
";

/// Where a bug was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// The simulator's run of this seed; how many seeds were tried until then.
    Seed { seed: u64, tried: u64 },
    /// A case written for it.
    Case(String),
}

/// What found a bug.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kill {
    pub check: String,
    pub place: Place,
}

/// The known kills, by mutant.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    by_mutant: BTreeMap<Mutant, Kill>,
}

impl Kills {
    /// Reads the file; none yet is no kill yet.
    pub fn read(path: &Path) -> Result<Kills> {
        if !path.exists() {
            return Ok(Kills::default());
        }
        let text =
            fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut kills = Kills::default();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (mutant, kill) =
                parse(line).with_context(|| format!("{}:{}", path.display(), index + 1))?;
            kills.put(mutant, kill);
        }
        Ok(kills)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = String::from(HEAD);
        for (mutant, Kill { check, place }) in &self.by_mutant {
            let place = match place {
                Place::Seed { seed, tried } => format!("seed:{seed} tried:{tried}"),
                Place::Case(name) => format!("case:{name}"),
            };
            writeln!(text, "{:<26} {check:<20} {place}", mutant.name())?;
        }
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    pub fn of(&self, mutant: Mutant) -> Option<&Kill> {
        self.by_mutant.get(&mutant)
    }

    pub fn put(&mut self, mutant: Mutant, kill: Kill) {
        self.by_mutant.insert(mutant, kill);
    }
}

fn parse(line: &str) -> Result<(Mutant, Kill)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, check, place, rest @ ..] = words.as_slice() else {
        bail!("a kill is a name, a check and a place: run tools/mutants --search --write");
    };
    let mutant = Mutant::ALL.iter().copied().find(|it| it.name() == *name);
    let mutant = mutant.with_context(|| format!("no mutant is called '{name}'"))?;
    let place = match place.split_once(':') {
        Some(("seed", seed)) => {
            let tried = rest.first().and_then(|it| it.strip_prefix("tried:"));
            let tried = tried.context("how many seeds were tried is missing")?.parse()?;
            Place::Seed { seed: seed.parse()?, tried }
        }
        Some(("case", name)) => Place::Case((*name).to_owned()),
        _ => bail!("'{place}' is neither seed:N nor case:NAME"),
    };
    Ok((mutant, Kill { check: (*check).to_owned(), place }))
}
