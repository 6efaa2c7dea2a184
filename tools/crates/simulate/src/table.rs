//! The state of every node of a world at one moment, as rows of a table.

use serde_json::{Value, json};
use tandem::protocol::meta::durable::{Recovery, SetRow};
use tandem::protocol::types::{Configuration, Member, ServerId};
use tandem::sim::network::{Phase, Side};
use tandem::sim::{Node, World};

/// One row: who, and what is to be said of it, column by column.
pub struct Row {
    pub columns: Vec<(&'static str, String)>,
}

impl Row {
    /// The row as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.columns.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }
}

/// A part of the state with columns of its own.
pub struct Table {
    pub title: &'static str,
    pub rows: Vec<Row>,
}

impl Table {
    /// The table as lines, its columns as wide as they need to be.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Some(first) = self.rows.first() else { return Vec::new() };
        let widths: Vec<usize> = first
            .columns
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let widest = self.rows.iter().map(|row| row.columns[column].1.len()).max();
                widest.unwrap_or_default().max(name.len())
            })
            .collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(it, &width)| format!("{it:<width$}"));
            format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
        };
        let head = line(first.columns.iter().map(|(name, _)| *name).collect());
        let rows = self
            .rows
            .iter()
            .map(|row| line(row.columns.iter().map(|(_, value)| value.as_str()).collect()));
        std::iter::once(head).chain(rows).collect()
    }
}

/// The whole state: replicas by server, the metaserver's rows, its recoveries, and cuts.
#[must_use]
pub fn tables(world: &World) -> Vec<Table> {
    let servers = world.servers.keys().flat_map(|&server| replicas(world, server)).collect();
    let sets = world.meta.disk.sets().map(|row| set_row(world, row)).collect();
    let open = |it: &&Recovery| it.step != tandem::protocol::meta::durable::Step::Done;
    let recoveries = world.meta.disk.recoveries().filter(open).map(recovery_row).collect();
    let cuts = world
        .network
        .cut_pairs()
        .into_iter()
        .map(|(one, other)| Row { columns: vec![("cut", format!("{one} - {other}"))] });
    vec![
        Table { title: "servers", rows: servers },
        Table { title: "metaserver", rows: sets },
        Table { title: "recoveries", rows: recoveries },
        Table { title: "cuts", rows: cuts.collect() },
    ]
}

fn replicas(world: &World, server: ServerId) -> Vec<Row> {
    let Some(node) = world.servers.get(&server) else { return Vec::new() };
    let reading = node.host.clock.read(world.now());
    let state = |running: bool| match (running, node.host.frozen_until) {
        (false, _) => "down",
        (true, Some(_)) => "frozen",
        (true, None) => "up",
    };
    let row = |member: String, set: String, rest: [String; 7]| {
        let [role, epoch, committed, prepared, lease, queued, links] = rest;
        Row {
            columns: vec![
                ("member", member),
                ("state", state(node.running.is_some()).to_owned()),
                ("set", set),
                ("does", role),
                ("epoch", epoch),
                ("committed", committed),
                ("prepared", prepared),
                ("lease us", lease),
                ("queued", queued),
                ("links", links),
            ],
        }
    };
    let none = || std::array::from_fn(|_| "-".to_owned());
    let Some(running) = &node.running else {
        return vec![row(format!("{server}"), "-".to_owned(), none())];
    };
    let member = running.member.map_or_else(|| format!("{server}"), |it| it.to_string());
    let links = links(world, Node::Server(server));
    let timing = world.settings.timing;
    let mut rows = Vec::new();
    for replica in running.worker.replicas() {
        let Some(report) = replica.report(reading, &timing) else { continue };
        let until = replica.leased_until(timing.lease);
        let lease = until.map_or_else(
            || "-".to_owned(),
            |until| {
                let left = until.0 as i128 - reading.0 as i128;
                (left / 1_000).to_string()
            },
        );
        let rest = [
            format!("{:?}", report.activity),
            report.epoch.to_string(),
            report.committed.0.to_string(),
            report.prepared.0.to_string(),
            lease,
            replica.queued().to_string(),
            links.clone(),
        ];
        rows.push(row(member.clone(), replica.set().to_string(), rest));
    }
    if rows.is_empty() {
        let mut rest: [String; 7] = none();
        rest[6] = links;
        rows.push(row(member, "-".to_owned(), rest));
    }
    rows
}

/// Whom a node is connected to, from its end.
fn links(world: &World, node: Node) -> String {
    let mut peers: Vec<String> = Vec::new();
    for link in world.network.links.values() {
        let ends = [link.end(Side::Dialler), link.end(Side::Acceptor)];
        let mine = ends.iter().find(|end| end.node == node);
        let other = ends.iter().find(|end| end.node != node);
        if let (Some(mine), Some(other)) = (mine, other)
            && mine.phase == Phase::Up
            && !matches!(other.node, Node::Client(_))
        {
            peers.push(other.node.to_string());
        }
    }
    peers.sort_unstable();
    peers.dedup();
    peers.join(",")
}

fn set_row(world: &World, row: &SetRow) -> Row {
    let decided = world.meta.running.as_ref().and_then(|it| it.machine.decided(row.set));
    let told = |it: Option<&Configuration>| it.map_or_else(|| "-".to_owned(), configuration);
    let target: Vec<_> = row.target.iter().map(ToString::to_string).collect();
    Row {
        columns: vec![
            ("set", row.set.to_string()),
            ("state", format!("{:?}", row.state)),
            ("durable", told(row.configuration.as_ref())),
            (
                "decided",
                if decided == row.configuration.as_ref() {
                    "the same".to_owned()
                } else {
                    told(decided)
                },
            ),
            ("target", target.join(",")),
        ],
    }
}

/// A configuration in the usual terse notation.
fn configuration(it: &Configuration) -> String {
    let secondaries: Vec<_> = it.secondaries.iter().map(Member::to_string).collect();
    format!("{{{}, {}, [{}]}}", it.epoch, it.primary, secondaries.join(","))
}

fn recovery_row(it: &Recovery) -> Row {
    let sets = |sets: &[tandem::protocol::types::KeySet]| {
        sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    Row {
        columns: vec![
            ("recovery", it.id.0.to_string()),
            ("failed", it.failed.to_string()),
            ("step", format!("{:?}", it.step)),
            ("primary of", sets(&it.primary_of)),
            ("secondary of", sets(&it.secondary_of)),
        ],
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every server and every key set of a world shows in the tables.
    //! Method: a quiet world shortly after its birth.

    use super::*;
    use tandem::protocol::time::Span;
    use tandem::sim::Settings;
    use tandem::sim::trace::Trace;

    #[test]
    fn everyone_is_in_the_tables() {
        let mut world = World::new(Settings::quiet(3, 2, 2), 1, Trace::default());
        world.start_all();
        world.run(Span::from_millis(3_000));
        let tables = tables(&world);
        let text: Vec<String> = tables.iter().flat_map(Table::lines).collect();
        let text = text.join("\n");
        for name in ["s1", "s2", "s3", "k0", "k1", "Open", "Secondary"] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
        assert_eq!(tables[1].rows.len(), 2);
    }
}
