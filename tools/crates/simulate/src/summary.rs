//! The sum of all runs: figures, coverage, and what does not hold.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tandem::clock;
use tandem::protocol::time::Time;
use tandem::sim::Report;
use tandem::sim::coverage::{self, Coverage, MOMENTS};

/// What all runs came to.
pub struct Summary {
    began: Time,
    first: u64,
    jobs: usize,
    seeds: u64,
    twice: u64,
    pub failovers: u64,
    pub power_cuts: u64,
    operations: u64,
    steps: u64,
    epochs: u64,
    virtual_ms: u64,
    coverage: Coverage,
    broken: Vec<(u64, String, Option<PathBuf>)>,
    gaps: Vec<String>,
}

impl Summary {
    pub fn new(first: u64, jobs: usize) -> Summary {
        Summary {
            began: clock::now(),
            first,
            jobs,
            seeds: 0,
            twice: 0,
            failovers: 0,
            power_cuts: 0,
            operations: 0,
            steps: 0,
            epochs: 0,
            virtual_ms: 0,
            coverage: Coverage::default(),
            broken: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Adds a run; `strayed` if it was had twice and came out differently.
    pub fn add(&mut self, report: &Report, twice: bool, strayed: bool, trace: Option<PathBuf>) {
        self.seeds += 1;
        self.twice += u64::from(twice);
        self.failovers += report.failovers;
        self.power_cuts += report.power_cuts;
        self.operations += report.operations;
        self.steps += report.steps;
        self.epochs += report.epochs;
        self.virtual_ms += report.lasted.as_millis();
        self.coverage.add(&report.coverage);
        if let Some(violation) = &report.violation {
            self.broken.push((report.seed, violation.to_string(), trace));
        }
        if strayed {
            let words = "deterministic: two runs of the seed differ".to_owned();
            self.broken.push((report.seed, words, None));
        }
    }

    /// Demands that all was tried that often; zero demands nothing.
    pub fn demand(&mut self, least: u64) {
        if least > 0 {
            self.gaps = self.coverage.gaps(least);
        }
    }

    /// Seeds that broke a property.
    pub fn broken(&self) -> usize {
        self.broken.len()
    }

    pub fn holds(&self) -> bool {
        self.broken.is_empty() && self.gaps.is_empty()
    }

    pub fn print(&self, json: bool) {
        let elapsed_ms = clock::now().since(self.began).as_millis().max(1);
        let a_minute = |count: u64| count * 60_000 / elapsed_ms;
        let per_failover = |count: u64| count as f64 / self.failovers.max(1) as f64;
        println!("{}", self.coverage);
        println!(
            "{} seeds, {} of them twice; {} failovers, {} operations ({:.1} a failover), {} \
             faults, {} epochs, {} inputs ({:.0} a failover), {:.1} hours of virtual time",
            self.seeds,
            self.twice,
            self.failovers,
            self.operations,
            per_failover(self.operations),
            self.coverage.faults(),
            self.epochs,
            self.steps,
            per_failover(self.steps),
            self.virtual_ms as f64 / 3_600_000.0,
        );
        if self.power_cuts > 0 {
            println!("{} power cuts, {} a minute", self.power_cuts, a_minute(self.power_cuts));
        }
        println!(
            "{:.1} s with {} jobs: a minute {} failovers, {} operations, {} inputs, {} seeds",
            elapsed_ms as f64 / 1_000.0,
            self.jobs,
            a_minute(self.failovers),
            a_minute(self.operations),
            a_minute(self.steps),
            a_minute(self.seeds),
        );
        for (seed, words, _) in &self.broken {
            println!("BROKEN: seed {seed}: {words}");
        }
        for gap in &self.gaps {
            println!("NOT COVERED: {gap}");
        }
        let verdict = if self.holds() { "no property was broken" } else { "not all holds" };
        println!("{verdict}");
        if json {
            println!("{}", self.to_json(elapsed_ms, a_minute(self.failovers)));
        }
    }

    fn to_json(&self, elapsed_ms: u64, failovers_a_minute: u64) -> Value {
        let cells: Vec<Value> = coverage::cells()
            .map(|cell| {
                json!({
                    "fault": cell.0.name(), "victim": cell.1.name(),
                    "step": coverage::step_name(cell.2),
                    "count": self.coverage.count(cell),
                    "infeasible": coverage::infeasible(cell),
                })
            })
            .collect();
        let moments: Map<String, Value> = MOMENTS
            .iter()
            .map(|name| ((*name).to_owned(), self.coverage.moments(name).into()))
            .collect();
        let broken: Vec<Value> = self
            .broken
            .iter()
            .map(|(seed, words, trace)| json!({"seed": seed, "words": words, "trace": trace}))
            .collect();
        json!({
            "simulation": if self.holds() { "holds" } else { "broken" },
            "seed_first": self.first, "seeds": self.seeds, "twice": self.twice,
            "jobs": self.jobs, "elapsed_ms": elapsed_ms,
            "power_cuts": self.power_cuts,
            "failovers": self.failovers, "failovers_a_minute": failovers_a_minute,
            "operations": self.operations, "inputs": self.steps, "epochs": self.epochs,
            "faults": self.coverage.faults(), "virtual_ms": self.virtual_ms,
            "broken": broken, "gaps": self.gaps, "cells": cells, "moments": moments,
        })
    }
}
