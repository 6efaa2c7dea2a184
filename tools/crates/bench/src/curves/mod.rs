//! How throughput and memory change as the work grows, along one axis at a time.
//!
//! Every point is a cluster of its own, filled and measured; what is not on the axis has the
//! same value at all points.

mod picture;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tandem::config::KEY_SETS;
use tandem_local::Plan;

use crate::load::{Choice, Pace, Work};
use crate::memory::resident;
use crate::scene::{Peers, Scene, Shape, System};
use crate::{Ground, Output};

/// What a point has unless it is on the axis.
const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const SHAPE: Shape = Shape { sessions: 50, outstanding: 16 };

/// Values stored and in flight stay below these, however large each is.
const STORED_BYTES_MAX: usize = 256 << 20;
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// Starting and filling one point.
const AROUND: Duration = Duration::from_secs(60);

/// At the least so many keys a second are stored.
const FILL_PER_S_MIN: u64 = 5_000;

/// Measures throughput and memory against keys, value size, key sets, connections, servers and
/// replicas, one at a time, on this machine: a table, and a picture of curves.
///
/// Unless it is on the axis: 100,000 keys, values of 100 bytes, 64 key sets, 50 sessions with 16
/// operations in flight each that share one client, three servers, two copies. Along the axis of
/// connections every session has a connection to each server of its own, and one operation in
/// flight.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only these axes.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Axis::ALL)]
    only: Vec<Axis>,
    /// The most keys along the axis of keys; 10000000 needs about 6 GB.
    #[arg(long, default_value_t = 1_000_000)]
    keys_max: u64,
    /// The length of one measurement.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    length: Duration,
    /// What comes before each and does not count.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Where the picture (SVG) goes; unless said, beside the folder of the processes' files.
    #[arg(long)]
    picture: Option<PathBuf>,
}

/// What grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Axis {
    Keys,
    ValueBytes,
    KeySets,
    Connections,
    Servers,
    Replicas,
}

impl Axis {
    const ALL: [Axis; 6] = [
        Axis::Keys,
        Axis::ValueBytes,
        Axis::KeySets,
        Axis::Connections,
        Axis::Servers,
        Axis::Replicas,
    ];

    fn words(self) -> &'static str {
        match self {
            Axis::Keys => "keys",
            Axis::ValueBytes => "bytes of a value",
            Axis::KeySets => "key sets",
            Axis::Connections => "connections to each server",
            Axis::Servers => "servers",
            Axis::Replicas => "replicas",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Axis::Keys => "keys",
            Axis::ValueBytes => "value_bytes",
            Axis::KeySets => "key_sets",
            Axis::Connections => "connections",
            Axis::Servers => "servers",
            Axis::Replicas => "replicas",
        }
    }

    fn places(self, options: &Options) -> Vec<u64> {
        let all: &[u64] = match self {
            Axis::Keys => &[10_000, 100_000, 1_000_000, 10_000_000],
            Axis::ValueBytes => &[16, 128, 1_024, 8_192, 65_536, 1_048_576],
            Axis::KeySets => &[8, 32, 128, 512, 1_024],
            Axis::Connections => &[1, 10, 100, 1_000],
            Axis::Servers => &[3, 5, 7, 9],
            Axis::Replicas => &[1, 2, 3],
        };
        let fits = |&&it: &&u64| self != Axis::Keys || it <= options.keys_max;
        all.iter().filter(fits).copied().collect()
    }
}

/// One point of a curve.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub at: u64,
    pub gets: f64,
    pub puts: f64,
    /// Resident in all servers, full.
    pub bytes: u64,
}

/// What one point consists of.
struct Setting {
    plan: Plan,
    keys: u64,
    value_bytes: usize,
    shape: Shape,
    system: System,
}

impl Setting {
    fn of(axis: Axis, at: u64) -> Setting {
        let mut setting = Setting {
            plan: Plan { name: "bench".to_owned(), key_sets: KEY_SETS, ..Plan::default() },
            keys: KEYS,
            value_bytes: VALUE_BYTES,
            shape: SHAPE,
            system: System::Tandem,
        };
        let small = u16::try_from(at).unwrap_or(u16::MAX);
        let size = usize::try_from(at).unwrap_or(usize::MAX);
        match axis {
            Axis::Keys => setting.keys = at,
            Axis::ValueBytes => {
                setting.value_bytes = size;
                setting.keys = KEYS.min((STORED_BYTES_MAX / size) as u64);
                let in_flight = (IN_FLIGHT_BYTES_MAX / size).clamp(1, 800);
                let sessions = SHAPE.sessions.min(in_flight);
                setting.shape = Shape { sessions, outstanding: in_flight.div_ceil(sessions) };
            }
            Axis::KeySets => setting.plan.key_sets = small,
            Axis::Connections => {
                setting.shape = Shape { sessions: size, outstanding: 1 };
                setting.system = System::TandemOwn;
            }
            Axis::Servers => setting.plan.servers = small,
            Axis::Replicas => setting.plan.replicas = small,
        }
        setting
    }
}

impl Options {
    /// How long it may take at the very most.
    pub fn time_max(&self) -> Duration {
        let points: Vec<u64> = self.only.iter().flat_map(|it| it.places(self)).collect();
        let each = AROUND + (self.warm_up + self.length) * 2 + Duration::from_secs(30);
        let keys = Duration::from_secs(2 * self.keys_max / FILL_PER_S_MIN);
        each * points.len() as u32 + keys
    }
}

/// Measures all axes and tells them.
///
/// # Errors
/// A cluster does not come up, or an operation failed.
pub fn run(ground: &Ground, options: &Options) -> Result<()> {
    let mut curves = Vec::new();
    for &axis in &options.only {
        if ground.output == Output::Text {
            println!("\n{:>22} {:>12} {:>12} {:>12}", axis.words(), "get/s", "put/s", "MiB in all");
        }
        let mut points = Vec::new();
        for at in axis.places(options) {
            let point = measure(ground, options, axis, at)
                .with_context(|| format!("at {at} {}", axis.words()))?;
            match ground.output {
                Output::Text => println!("{}", line(&point)),
                Output::Json => println!("{}", object(axis, &point)),
            }
            points.push(point);
        }
        curves.push((axis.words(), points));
    }
    let beside = ground.place.folder.with_extension("svg");
    let path = options.picture.clone().unwrap_or(beside);
    std::fs::write(&path, picture::draw(&curves))
        .with_context(|| format!("writing {}", path.display()))?;
    if ground.output == Output::Text {
        println!("\nThe picture: {}", path.display());
    }
    Ok(())
}

fn measure(ground: &Ground, options: &Options, axis: Axis, at: u64) -> Result<Point> {
    let Setting { plan, keys, value_bytes, shape, system } = Setting::of(axis, at);
    let mut scene = Scene::start(ground, &plan, keys, value_bytes, Peers::None)?;
    scene.fill()?;
    let pace = Pace {
        outstanding: shape.outstanding,
        rate: None,
        warm_up: options.warm_up,
        length: options.length,
    };
    let per_second = |work| -> Result<f64> {
        Ok(scene.measure(system, shape, (work, Choice::Uniform), pace, 1)?.per_second())
    };
    let puts = per_second(Work::Put)?;
    let gets = per_second(Work::Get)?;
    let servers = scene.server_processes()?;
    let bytes = resident(&servers)?;
    scene.stage.cluster.stop()?;
    Ok(Point { at, gets, puts, bytes })
}

fn line(point: &Point) -> String {
    let Point { at, gets, puts, bytes } = point;
    format!("{at:>22} {gets:>12.0} {puts:>12.0} {:>12}", bytes >> 20)
}

fn object(axis: Axis, point: &Point) -> Value {
    json!({
        "op": "curve",
        "axis": axis.name(),
        "at": point.at,
        "get_per_second": point.gets.round(),
        "put_per_second": point.puts.round(),
        "resident_bytes": point.bytes,
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a point differs from the others in its axis alone, and stays within bounds.
    //! Method: look at settings.

    use super::*;

    #[test]
    fn large_values_are_few() {
        let setting = Setting::of(Axis::ValueBytes, 1 << 20);
        assert_eq!((setting.keys, setting.value_bytes), (256, 1 << 20));
        assert_eq!(setting.shape, Shape { sessions: 16, outstanding: 1 });
        let setting = Setting::of(Axis::ValueBytes, 16);
        assert_eq!((setting.keys, setting.shape), (KEYS, SHAPE));
    }

    #[test]
    fn an_axis_changes_what_it_is_named_for() {
        assert_eq!(Setting::of(Axis::Servers, 9).plan.servers, 9);
        assert_eq!(Setting::of(Axis::Replicas, 3).plan.replicas, 3);
        assert_eq!(Setting::of(Axis::KeySets, 1_024).plan.key_sets, 1_024);
        assert_eq!(Setting::of(Axis::Keys, 10).keys, 10);
        assert_eq!(Setting::of(Axis::Connections, 10).system, System::TandemOwn);
    }
}
