//! The table of mutants: who was killed, by which check, and what it took.

use serde_json::json;
use tandem::mutants::Mutant;

use crate::kills::{Kill, Place};

/// What became of one mutant.
#[derive(Clone, Debug)]
pub struct Row {
    pub mutant: Mutant,
    pub kill: Option<Kill>,
    /// The check's own words.
    pub words: String,
    /// Seeds that were tried in vain, where none killed it.
    pub tried: u64,
    /// The sound protocol broke a property in the very run that should tell them apart.
    pub alarm: Option<String>,
}

impl Row {
    pub fn survivor(mutant: Mutant, tried: u64) -> Row {
        Row { mutant, kill: None, words: String::new(), tried, alarm: None }
    }

    pub fn is_killed(&self) -> bool {
        self.kill.is_some() && self.alarm.is_none()
    }

    fn place(&self) -> String {
        match self.kill.as_ref().map(|it| &it.place) {
            Some(Place::Seed { seed, tried }) => format!("seed {seed}, {tried} tried"),
            Some(Place::Case(name)) => format!("case {name}"),
            None if self.tried > 0 => format!("{} seeds in vain", self.tried),
            None => "known to nothing".to_owned(),
        }
    }
}

/// Prints the table, and the summary for scripts on the last line if it is asked for.
pub fn print(rows: &[Row], json: bool) {
    println!("{:<26} {:<20} {:<28} what it breaks", "mutant", "killed by", "where");
    for row in rows {
        let check = match (&row.alarm, &row.kill) {
            (Some(_), _) => "FALSE ALARM",
            (None, Some(kill)) => &kill.check,
            (None, None) => "SURVIVES",
        };
        let (name, breaks) = (row.mutant.name(), row.mutant.breaks());
        println!("{name:<26} {check:<20} {:<28} {breaks}", row.place());
        if let Some(alarm) = &row.alarm {
            println!("    the sound protocol: {alarm}");
        }
    }
    let killed = rows.iter().filter(|it| it.is_killed()).count();
    println!("{killed} of {} mutants killed", rows.len());
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "mutant": row.mutant.name(),
                    "breaks": row.mutant.breaks(),
                    "killed": row.is_killed(),
                    "check": row.kill.as_ref().map(|it| it.check.clone()),
                    "where": row.place(),
                    "words": row.words,
                    "alarm": row.alarm,
                })
            })
            .collect();
        println!("{}", json!({ "mutants": rows.len(), "killed": killed, "rows": rows }));
    }
}
