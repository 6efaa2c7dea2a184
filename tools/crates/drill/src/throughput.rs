//! Reads and writes a second of one client process whose sessions share its connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use tandem::client::{Answer, Client, Operation};
use tandem::clock;
use tandem::protocol::time::{Span, Time};
use tandem_local::{Place, Plan, Stage};
use tokio::task::LocalSet;

use crate::report::Report;

/// Keys of one slot of a session's pipeline.
const KEYS_OF_SLOT: usize = 16;

#[derive(Args, Debug)]
pub struct Options {
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    sessions: u16,
    /// Operations that each session keeps in flight.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pipeline: u16,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// How long writes are measured, and then reads.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Clients (a thread and connections each) that the sessions share.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    key_sets: u16,
}

impl Options {
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// Runs the drill.
///
/// # Errors
/// A request failed.
pub fn run(place: &Place, options: &Options) -> Result<Report> {
    let plan = Plan { key_sets: options.key_sets, ..Plan::default() };
    let stage = Stage::start(place, &plan)?;
    let clients: Vec<Client> =
        (0..options.clients).map(|_| stage.connect()).collect::<Result<_>>()?;
    let mut report = Report::default();
    report.figure("sessions", options.sessions);
    report.figure("pipeline", options.pipeline);
    report.figure("value_bytes", options.value);
    let value = bytes::Bytes::from(vec![b'v'; options.value]);
    measure(&mut report, "put", &clients, options, move |key| Operation::Put {
        key: key.into(),
        value: value.clone(),
    })?;
    measure(&mut report, "get", &clients, options, |key| Operation::Get { key: key.into() })?;
    Ok(report)
}

/// What the slots of all sessions found.
struct Found {
    waits: Histogram<u64>,
    value_bytes: usize,
    failure: Option<String>,
}

fn measure(
    report: &mut Report,
    name: &str,
    clients: &[Client],
    options: &Options,
    operation: impl Fn(String) -> Operation + Clone + 'static,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("a runtime")?;
    let waits = Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")?;
    let found = Rc::new(RefCell::new(Found { waits, value_bytes: options.value, failure: None }));
    let begun = clock::now();
    let end = begun + Span::from(options.length());
    LocalSet::new().block_on(&runtime, async {
        let mut slots = Vec::new();
        for session in 0..options.sessions {
            let opened = clients[usize::from(session) % clients.len()].session();
            for slot in 0..options.pipeline {
                let (handle, found) = (opened.clone(), found.clone());
                let (prefix, operation) = (format!("{session}-{slot}"), operation.clone());
                slots.push(tokio::task::spawn_local(async move {
                    for turn in 0.. {
                        let key = format!("{prefix}-{}", turn % KEYS_OF_SLOT);
                        let sent = clock::now();
                        let outcome = handle.begin(operation(key)).await;
                        if !found.borrow_mut().on_answer(sent, outcome) || sent >= end {
                            return;
                        }
                    }
                }));
            }
        }
        for slot in slots {
            slot.await.context("a slot of the pipeline panicked")?;
        }
        anyhow::Ok(())
    })?;
    let seconds = clock::now().since(begun).0 as f64 / 1e9;
    let found = found.borrow();
    let (count, waits) = (found.waits.len(), &found.waits);
    println!(
        "  {name}: {:.0} operations a second; p50 {} us, p99 {} us, longest {} us",
        count as f64 / seconds,
        waits.value_at_quantile(0.5),
        waits.value_at_quantile(0.99),
        waits.max()
    );
    report.figure(&format!("{name}_per_s"), (count as f64 / seconds).round());
    report.figure(&format!("{name}_p50_us"), waits.value_at_quantile(0.5));
    report.figure(&format!("{name}_p99_us"), waits.value_at_quantile(0.99));
    report.figure(&format!("{name}_longest_us"), waits.max());
    let failure = found.failure.clone();
    report.demand(failure.is_none(), format!("a {name} failed: {}", failure.unwrap_or_default()));
    Ok(())
}

impl Found {
    /// Counts an answer to what was sent at `sent`; false if it is not the right one.
    fn on_answer(&mut self, sent: Time, outcome: tandem::client::Result<Answer>) -> bool {
        let failure = match outcome {
            Ok(Answer::Written { .. }) => None,
            Ok(Answer::Found { value, .. }) if value.len() == self.value_bytes => None,
            Ok(other) => Some(format!("a wrong answer: {other:?}")),
            Err(error) => Some(error.to_string()),
        };
        match failure {
            None => {
                self.waits.saturating_record((clock::now().since(sent).0 / 1_000).max(1));
                true
            }
            Some(words) => {
                self.failure.get_or_insert(words);
                false
            }
        }
    }
}
