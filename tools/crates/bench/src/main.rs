//! `tandem-bench`: measures a Tandem cluster, alone and beside Redis and the bare network.
//!
//! One load loop (`load`) drives every system (`systems`) alike. Whatever happens, the processes
//! that a run starts end with it.

mod bulk;
mod compare;
mod curves;
mod failover;
mod handover;
mod load;
mod memory;
mod rejoin;
mod run;
mod scan;
mod scene;
mod series;
mod systems;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tandem_local::{Place, supervise};

use crate::systems::children::Children;

/// The same as the server's. It serves the client library and whatever drives the other systems.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a Tandem cluster on this machine, alone and beside Redis and the bare network.
///
/// Every figure depends on the machine and on what else runs on it; ratios of figures that were
/// measured in turn say more than the figures themselves.
#[derive(Debug, Parser)]
#[command(name = "tools/bench")]
struct Arguments {
    /// The built `tandem`.
    #[arg(long, hide = true, default_value = "tandem")]
    binary: PathBuf,
    /// Where the processes' files go.
    #[arg(long, hide = true, default_value = "bench")]
    folder: PathBuf,
    /// How results are told: as a table, or as JSON on standard output, one object a line.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    task: Task,
}

/// How results are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run one workload on a cluster of its own.
    Run(run::Options),
    /// Measure Tandem, Redis, etcd and a bare QUIC echo under the same load, in turn.
    Compare(compare::Options),
    /// Kill servers under load and measure the pause that clients see.
    Failover(failover::Options),
    /// Stop servers in order and measure the pause of each key set.
    Handover(handover::Options),
    /// Copy a lost server's key sets anew and measure how fast, and what reads notice.
    Bulk(bulk::Options),
    /// Measure the memory of a key over its own bytes, beside Redis.
    Memory(memory::Options),
    /// Kill a server, let it miss writes, and measure what it is sent when it is back.
    Rejoin(rejoin::Options),
    /// Measure throughput and memory as keys, values, key sets, clients, servers and copies grow.
    Curves(curves::Options),
    /// The other side of the bare echo.
    #[command(hide = true)]
    Echo {
        config: PathBuf,
        /// Only count what comes.
        #[arg(long)]
        sink: bool,
    },
}

/// What a task works with.
#[derive(Clone, Debug)]
pub struct Ground {
    pub place: Place,
    pub children: Children,
    pub output: Output,
}

fn main() -> ExitCode {
    let Arguments { binary, folder, output, task } = Arguments::parse();
    let name = match &task {
        Task::Run(_) => "run",
        Task::Compare(_) => "compare",
        Task::Failover(_) => "failover",
        Task::Handover(_) => "handover",
        Task::Bulk(_) => "bulk",
        Task::Memory(_) => "memory",
        Task::Rejoin(_) => "rejoin",
        Task::Curves(_) => "curves",
        Task::Echo { config, sink } => return told(systems::echo::serve(config, *sink), "echo"),
    };
    let Ok(folder) = std::path::absolute(folder.join(name)) else {
        eprintln!("tools/bench: there is no current directory");
        return ExitCode::FAILURE;
    };
    let place = Place { binary, folder };
    let ground = Ground { place, children: Children::default(), output };
    let held = ground.clone();
    let clear = move || held.children.end().and(held.place.clear());
    let ended = match task {
        Task::Run(options) => {
            supervise(options.time_max(), clear, move || run::run(&ground, &options))
        }
        Task::Compare(options) => {
            supervise(options.time_max(), clear, move || compare::run(&ground, &options))
        }
        Task::Failover(options) => {
            supervise(options.time_max(), clear, move || failover::run(&ground, &options))
        }
        Task::Handover(options) => {
            supervise(options.time_max(), clear, move || handover::run(&ground, &options))
        }
        Task::Bulk(options) => {
            supervise(options.time_max(), clear, move || bulk::run(&ground, &options))
        }
        Task::Memory(options) => {
            supervise(options.time_max(), clear, move || memory::run(&ground, &options))
        }
        Task::Rejoin(options) => {
            supervise(options.time_max(), clear, move || rejoin::run(&ground, &options))
        }
        Task::Curves(options) => {
            supervise(options.time_max(), clear, move || curves::run(&ground, &options))
        }
        Task::Echo { .. } => Ok(()),
    };
    told(ended, name)
}

fn told(ended: anyhow::Result<()>, name: &str) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tools/bench {name} failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The middle, the mean of the two middle ones of an even number.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle)) {
        (0, Some(upper)) => f64::midpoint(figures[middle - 1], *upper),
        (_, Some(middle)) => *middle,
        (_, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the median is the middle.
    //! Method: small examples.

    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
