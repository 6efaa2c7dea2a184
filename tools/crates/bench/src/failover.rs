//! How long a failure is felt: servers killed under load, one after the other.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tandem::protocol::time::Span;
use tandem_local::stage::WHOLE;
use tandem_local::{Kill, Load, Place, Stage, kill};

use crate::Ground;
use crate::series::Series;
use crate::told::Told;

/// Kills each way unless said otherwise.
const KILLS: u16 = 50;

/// Between two kills where the metaserver starts the servers: it makes one that dies again and
/// again within seconds of its start wait longer each time.
const GROWN_UP: Duration = Duration::from_secs(2);

/// Kills servers under load (kill -9) and measures what clients notice, with the default settings.
///
/// Each round waits until nothing is missing, kills another server, and measures from that
/// moment to the first acknowledged write on key sets that lost their primary, and to an
/// acknowledged write on all of those probed. This is done twice over: where the metaserver
/// started the servers, so that the kernel tells it of a death, and where only silence does.
/// Every read of the load is judged: a lost write or a stale read ends the run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    series: Series,
    /// Clients of the load, each with a writer and a reader.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
}

impl Options {
    /// So many kills each way under the usual load.
    #[must_use]
    pub fn of(kills: u16, key_sets: u16) -> Options {
        Options { series: Series::of(kills, key_sets), clients: 8 }
    }

    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        Duration::from_secs(120) + (WHOLE * 2 + GROWN_UP) * u32::from(self.kills())
    }

    fn kills(&self) -> u16 {
        self.series.rounds(KILLS)
    }
}

/// How the metaserver learns of a death.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Notice {
    ByTheKernel,
    BySilence,
}

impl Notice {
    fn words(self) -> &'static str {
        match self {
            Notice::ByTheKernel => "death seen by the kernel",
            Notice::BySilence => "death told by silence",
        }
    }
}

/// Runs both ways and tells their figures.
///
/// # Errors
/// A promise was broken, or the cluster does not recover.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    for notice in [Notice::ByTheKernel, Notice::BySilence] {
        let kills = series(ground, options, notice)?;
        Row::of(&kills, notice, options).told().tell(ground.output);
    }
    Ok(())
}

fn series(ground: &Ground, options: &Options, notice: Notice) -> Result<Vec<Kill>> {
    let spawn = notice == Notice::ByTheKernel;
    let plan = options.series.plan(spawn);
    let Place { binary, folder } = ground.place.clone();
    let mut stage = Stage::start(&Place { binary, folder }, &plan)?;
    let load: Load = stage.load(usize::from(options.clients))?;
    let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len}")?;
    let bar =
        ProgressBar::new(options.kills().into()).with_style(style).with_message(notice.words());
    let mut kills = Vec::new();
    for round in 0..options.kills() {
        kills.push(kill(&mut stage, &load, round, spawn)?);
        bar.inc(1);
        if spawn {
            std::thread::sleep(GROWN_UP);
        }
    }
    bar.finish_and_clear();
    load.finish(&stage.client)?;
    stage.cluster.stop()?;
    Ok(kills)
}

/// What a series came to, in milliseconds.
struct Row {
    load: String,
    first: Spread,
    all: Spread,
    invalidate: Spread,
    whole: Spread,
}

/// The middle and the worst.
struct Spread {
    median: f64,
    worst: f64,
}

impl Spread {
    fn of(spans: impl Iterator<Item = Span>) -> Spread {
        let mut sorted: Vec<Span> = spans.collect();
        sorted.sort_unstable();
        let ms = |span: Option<&Span>| span.map_or(0.0, |it| (it.0 as f64 / 1e5).round() / 10.0);
        let middle = sorted.len().saturating_sub(1) / 2;
        Spread { median: ms(sorted.get(middle)), worst: ms(sorted.last()) }
    }
}

impl Row {
    fn of(kills: &[Kill], notice: Notice, options: &Options) -> Row {
        let step = |kill: &Kill| Span::from_millis(kill.recovery.took_ms[0].unwrap_or_default());
        Row {
            load: format!("{} kills, {}, {} clients", kills.len(), notice.words(), options.clients),
            first: Spread::of(kills.iter().map(Kill::first)),
            all: Spread::of(kills.iter().map(Kill::last)),
            invalidate: Spread::of(kills.iter().map(step)),
            whole: Spread::of(kills.iter().map(|it| it.whole)),
        }
    }

    fn told(self) -> Told {
        let spread = |it: &Spread| format!("median {:.1} ms, worst {:.1} ms", it.median, it.worst);
        let lines = [
            ("to the first write on a lost key set", &self.first),
            ("to a write on all probed key sets", &self.all),
            ("of it the metaserver's invalidate", &self.invalidate),
            ("until nothing is missing", &self.whole),
        ];
        let lines = lines.map(|(words, it)| format!("  {words:<38} {}", spread(it)));
        Told {
            op: "failover",
            load: self.load,
            unit: "ms",
            tandem: self.first.median,
            peer: None,
            limit: None,
            share_of_limit: None,
            beside: vec![
                ("tandem_worst", json!(self.first.worst)),
                ("all_sets_median", json!(self.all.median)),
                ("all_sets_worst", json!(self.all.worst)),
                ("invalidate_median", json!(self.invalidate.median)),
                ("whole_median", json!(self.whole.median)),
                ("whole_worst", json!(self.whole.worst)),
            ],
            words: lines.join("\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the median and the worst are what they say.
    //! Method: spans out of order.

    use super::*;

    #[test]
    fn the_worst_is_the_longest() {
        let spread = Spread::of([5, 1, 3].into_iter().map(Span::from_millis));
        assert_eq!((spread.median, spread.worst), (3.0, 5.0));
        let nothing = Spread::of(std::iter::empty());
        assert_eq!((nothing.median, nothing.worst), (0.0, 0.0));
    }
}
