//! Trace files: the record of a run that broke a property.
//!
//! The first line is a JSON object that says how to have the run again; the lines after it are
//! the last of what happened, for people. A run is a function of the code, the seed, the options
//! and, where it was made smaller, of the faults that were kept: so the file stays small.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tandem::protocol::time::{Span, Time};
use tandem::sim::faults::Fault;
use tandem::sim::{Options, Report, simulate, simulate_with};

/// Lines of text that a file keeps at most.
const LINES_MAX: usize = 20_000;

/// How to have a run again.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub version: String,
    pub seed: u64,
    pub options: Options,
    /// Which faults of the whole run strike, by their place; none = all of them.
    pub kept: Option<Vec<usize>>,
    /// The run's name, and what it broke.
    pub hash: u64,
    pub violation: String,
}

impl Recipe {
    /// The recipe of a run that was just had.
    #[must_use]
    pub fn of(report: &Report, options: Options, kept: Option<Vec<usize>>) -> Recipe {
        Recipe {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: report.seed,
            options,
            kept,
            hash: report.hash,
            violation: report.violation.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// The faults that the run is given; none where it draws its own.
    #[must_use]
    pub fn script(&self) -> Option<Vec<(Time, Fault)>> {
        let kept = self.kept.as_ref()?;
        let whole = simulate(self.seed, Options { text: false, ..self.options }).strikes;
        Some(kept.iter().filter_map(|&place| whole.get(place).copied()).collect())
    }

    /// Has the run again, with its text.
    #[must_use]
    pub fn run(&self) -> Report {
        let options = Options { text: true, hash: true, ..self.options };
        simulate_with(self.seed, options, self.script(), &mut |_| ())
    }

    fn to_json(&self) -> Value {
        let Options { failovers, power_cuts, space, trouble, heal_max, steps_max, .. } =
            self.options;
        json!({
            "version": self.version,
            "seed": self.seed,
            "failovers": failovers,
            "power_cuts": power_cuts,
            "space": space,
            "trouble_ms": trouble.as_millis(),
            "heal_ms_max": heal_max.as_millis(),
            "steps_max": steps_max,
            "kept": self.kept,
            "hash": format!("{:016x}", self.hash),
            "violation": self.violation,
        })
    }

    fn from_json(value: &Value) -> Option<Recipe> {
        let number = |name: &str| value.get(name)?.as_u64();
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let kept = value.get("kept").and_then(Value::as_array).map(|places| {
            places.iter().filter_map(|it| it.as_u64().map(|it| it as usize)).collect()
        });
        Some(Recipe {
            version: text("version")?,
            seed: number("seed")?,
            options: Options {
                failovers: number("failovers")?,
                power_cuts: number("power_cuts").unwrap_or(0),
                space: value.get("space").and_then(Value::as_bool).unwrap_or(false),
                trouble: Span::from_millis(number("trouble_ms")?),
                heal_max: Span::from_millis(number("heal_ms_max")?),
                steps_max: number("steps_max")?,
                hash: true,
                text: true,
            },
            kept,
            hash: u64::from_str_radix(&text("hash")?, 16).ok()?,
            violation: text("violation")?,
        })
    }
}

/// Writes the trace of a run into `folder`.
///
/// # Errors
/// What the file system said.
pub fn write(folder: &Path, recipe: &Recipe, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join(format!("seed-{}.trace", recipe.seed));
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
    let whole = format!("{}\n{}\n", recipe.to_json(), last.join("\n"));
    fs::write(&path, whole).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Reads the recipe of a trace file.
///
/// # Errors
/// The file can not be read, or is none of ours.
pub fn read(path: &Path) -> Result<Recipe> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let first = text.lines().next().unwrap_or_default();
    let recipe = serde_json::from_str(first).ok().as_ref().and_then(Recipe::from_json);
    match recipe {
        Some(recipe) => Ok(recipe),
        None => bail!(
            "{} is no trace of tools/simulate: its first line does not say how to run it",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a trace file brings back what it was written from, and nothing else is taken for one.
    //! Method: write and read one in a folder of its own.

    use super::*;

    #[test]
    fn a_file_brings_the_recipe_back() {
        let folder = std::env::temp_dir().join(format!("tandem-trace-{}", std::process::id()));
        let recipe = Recipe {
            version: "0.0.0".to_owned(),
            seed: 7,
            options: Options { text: true, power_cuts: 3, space: true, ..Options::default() },
            kept: Some(vec![1, 5]),
            hash: 0xabc,
            violation: "it: broke".to_owned(),
        };
        let path = write(&folder, &recipe, "a line\n").expect("a folder of its own");
        assert_eq!(read(&path).expect("just written"), recipe);
        fs::write(&path, "something else\n").expect("the same folder");
        assert!(read(&path).is_err());
        fs::remove_dir_all(&folder).expect("made above");
    }
}
