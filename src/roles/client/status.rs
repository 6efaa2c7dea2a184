//! The status of a cluster in words, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::report;
use crate::protocol::message::OwnSpace;
use crate::protocol::meta::durable::{Recovery, Step};
use crate::protocol::meta::{ServerState, SetStatus, Status};
use crate::protocol::space::{Level, Resource, Space};
use crate::protocol::types::ServerId;
use crate::protocol::view::SetState;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Overview {
    pub status: Status,
    /// Of the servers that measure it.
    pub spaces: Vec<(ServerId, Space)>,
    /// Of the metaserver, if it tells.
    pub own: Option<OwnSpace>,
}

impl Overview {
    fn space(&self, server: ServerId) -> Option<&Space> {
        self.spaces.iter().find(|(id, _)| *id == server).map(|(_, space)| space)
    }
}

/// Every key set answers and has all its copies.
pub(super) fn is_ready(status: &Status) -> bool {
    let ready = |it: &SetStatus| it.state == SetState::Available && it.open && it.redundant;
    !status.sets.is_empty() && status.sets.iter().all(ready)
}

/// The key sets in one line.
pub(super) fn summary(status: &Status) -> String {
    let count = |wanted: fn(&SetStatus) -> bool| status.sets.iter().filter(|it| wanted(it)).count();
    let mut line = format!("{} key sets", status.sets.len());
    let parts = [
        (count(|it| it.open), "open"),
        (count(|it| it.redundant), "with all copies"),
        (count(|it| it.state == SetState::Unborn), "not created"),
        (count(|it| it.state == SetState::Unavailable), "UNAVAILABLE"),
        (count(|it| it.state == SetState::Lost), "LOST"),
    ];
    for (index, (count, what)) in parts.into_iter().enumerate() {
        // The healthy counts are always shown, the others where there is something to see.
        if index < 2 || count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    line
}

/// The status for people. With `all_sets` every key set has its line.
pub(super) fn table(overview: &Overview, all_sets: bool) -> String {
    let status = &overview.status;
    let mut text = format!("cluster {}, view {}\n\n", status.cluster, status.version);
    text.push_str(
        "server  incarnation  state      primary  secondary  learner  process  space used\n",
    );
    for it in &status.servers {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<6}  {:<11}  {:<9}  {:>7}  {:>9}  {:>7}  {:>7}  {}",
            it.id.to_string(),
            it.incarnation.to_string(),
            server_state(it.state),
            it.primary_of,
            it.secondary_of,
            it.learner_of,
            it.process,
            overview.space(it.id).map_or("-".to_owned(), space)
        );
    }
    if let Some(own) = &overview.own {
        text.push_str(&own_line(own));
    }
    let _ = write!(text, "\n{}\n", summary(status));
    if all_sets {
        text.push_str("\nset    state        epoch  members, the primary first\n");
        status.sets.iter().for_each(|it| set_line(&mut text, it));
    }
    if !status.recoveries.is_empty() {
        text.push_str(
            "\nrecovery  of      sets  step            invalidate  copy-primary  copy-secondary  \
             resume\n",
        );
        status.recoveries.iter().for_each(|it| recovery_line(&mut text, it));
    }
    text
}

/// The metaserver's disk, where there is something to see.
fn own_line(own: &OwnSpace) -> String {
    let (share, folder) = (own.space.per_mille() / 10, &own.directory);
    match own.space.level {
        _ if own.waits => format!(
            "\nmetaserver: its disk is FULL, and nobody is replaced until there is room in \
             {folder}\n"
        ),
        Level::Ok => String::new(),
        Level::Soft | Level::High | Level::Hard => {
            format!("\nmetaserver: {share}% of its disk is used; make room in {folder}\n")
        }
    }
}

/// How full a server is, in words.
fn space(it: &Space) -> String {
    let (of, share) = (resource(it.of), it.per_mille() / 10);
    let amount = format!("{share}% of {} {of}", bytes(it.capacity));
    match it.level {
        Level::Ok => amount,
        Level::Soft => format!("{amount}, filling up"),
        Level::High => format!("{amount}, NEARLY FULL: no new copies"),
        Level::Hard => format!("{amount}, FULL: nothing that grows is stored"),
    }
}

/// A size in the largest unit of which there are at least ten.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (1..UNITS.len()).rev().find(|&unit| count >> (10 * unit) >= 10).unwrap_or(0);
    format!("{} {}", count >> (10 * unit), UNITS[unit])
}

fn resource(it: Resource) -> &'static str {
    match it {
        Resource::Disk => "disk",
        Resource::Memory => "memory",
    }
}

fn level(it: Level) -> &'static str {
    match it {
        Level::Ok => "ok",
        Level::Soft => "soft",
        Level::High => "high",
        Level::Hard => "hard",
    }
}

fn set_line(text: &mut String, it: &SetStatus) {
    let configuration = it.configuration.as_ref();
    let members = configuration.map(|it| it.members().map(|it| it.to_string()).collect());
    let members: Vec<String> = members.unwrap_or_default();
    let _ = writeln!(
        text,
        "{:<5}  {:<11}  {:>5}  {}{}{}",
        it.set.to_string(),
        set_state(it.state),
        configuration.map_or(0, |it| it.epoch.0),
        members.join(" "),
        if it.redundant { "" } else { "  (copies missing)" },
        if it.open { "" } else { "  (not open)" },
    );
}

fn recovery_line(text: &mut String, it: &Recovery) {
    let took = it.took_ms.map(|ms| ms.map_or("-".to_owned(), |ms| format!("{ms} ms")));
    let _ = writeln!(
        text,
        "{:<8}  {:<6}  {:>4}  {:<14}  {:>10}  {:>12}  {:>14}  {:>6}",
        it.id.to_string(),
        it.failed.to_string(),
        it.primary_of.len() + it.secondary_of.len(),
        step(it.step),
        took[0],
        took[1],
        took[2],
        took[3]
    );
}

/// The status for programs: everything.
pub(super) fn json(overview: &Overview) -> Value {
    let status = &overview.status;
    let servers: Vec<Value> = status
        .servers
        .iter()
        .map(|it| {
            json!({
                "server": it.id.0,
                "incarnation": it.incarnation.0,
                "state": server_state(it.state),
                "primary_of": it.primary_of,
                "secondary_of": it.secondary_of,
                "learner_of": it.learner_of,
                "process": it.process,
                "space": overview.space(it.id).map(space_json),
            })
        })
        .collect();
    let sets: Vec<Value> = status
        .sets
        .iter()
        .map(|it| {
            json!({
                "set": it.set.0,
                "state": set_state(it.state),
                "configuration": it.configuration.as_ref().map(report::configuration),
                "redundant": it.redundant,
                "open": it.open,
            })
        })
        .collect();
    json!({
        "cluster": status.cluster.to_string(),
        "view": status.version.0,
        "ready": is_ready(status),
        "servers": servers,
        "metaserver": overview.own.as_ref().map(|own| json!({
            "space": space_json(&own.space),
            "directory": own.directory,
            "waits_for_room": own.waits,
        })),
        "sets": sets,
        "recoveries": status.recoveries.iter().map(recovery).collect::<Vec<Value>>(),
    })
}

fn space_json(space: &Space) -> Value {
    json!({
        "level": level(space.level),
        "of": resource(space.of),
        "used": space.used,
        "capacity": space.capacity,
    })
}

fn recovery(it: &Recovery) -> Value {
    json!({
        "recovery": it.id.0,
        "failed": report::member(it.failed),
        "primary_of": it.primary_of.iter().map(|set| set.0).collect::<Vec<u16>>(),
        "secondary_of": it.secondary_of.iter().map(|set| set.0).collect::<Vec<u16>>(),
        "step": step(it.step),
        "took_ms": {
            "invalidate": it.took_ms[0],
            "copy_primary": it.took_ms[1],
            "copy_secondary": it.took_ms[2],
            "resume": it.took_ms[3],
        },
        "dropped": it.dropped,
    })
}

fn server_state(state: ServerState) -> &'static str {
    match state {
        ServerState::Expected => "expected",
        ServerState::Up => "up",
        ServerState::Suspected => "suspected",
        ServerState::Leaving => "leaving",
        ServerState::Dead => "dead",
    }
}

fn set_state(state: SetState) -> &'static str {
    match state {
        SetState::Unborn => "unborn",
        SetState::Available => "available",
        SetState::Unavailable => "unavailable",
        SetState::Lost => "lost",
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Invalidate => "invalidate",
        Step::CopyPrimary => "copy-primary",
        Step::CopySecondary => "copy-secondary",
        Step::Resume => "resume",
        Step::Done => "done",
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the status says what a person needs, and "ready" means all of it.
    //! Method: a small status, whole and with one thing wrong at a time.

    use crate::protocol::meta::ServerStatus;
    use crate::protocol::types::{Incarnation, KeySet, Member, RecoveryId, ServerId};

    use super::*;

    fn set(number: u16) -> SetStatus {
        let state = SetState::Available;
        let set = KeySet(number);
        SetStatus { set, configuration: None, state, redundant: true, open: true }
    }

    fn healthy() -> Status {
        Status { sets: vec![set(0), set(1)], ..Status::default() }
    }

    #[test]
    fn ready_means_every_set_open_with_all_copies() {
        assert!(is_ready(&healthy()));
        assert!(!is_ready(&Status::default()), "a cluster without key sets");
        let breaks: [fn(&mut SetStatus); 3] = [
            |it| it.open = false,
            |it| it.redundant = false,
            |it| it.state = SetState::Unavailable,
        ];
        for wound in breaks {
            let mut status = healthy();
            wound(&mut status.sets[1]);
            assert!(!is_ready(&status));
        }
    }

    #[test]
    fn the_table_shows_servers_losses_and_the_time_of_each_step() {
        let mut status = healthy();
        status.sets[1].state = SetState::Lost;
        status.servers.push(ServerStatus {
            id: ServerId(3),
            incarnation: Incarnation(7),
            state: ServerState::Suspected,
            primary_of: 85,
            secondary_of: 86,
            learner_of: 0,
            process: 4242,
        });
        status.recoveries.push(Recovery {
            id: RecoveryId(1),
            failed: Member { server: ServerId(2), incarnation: Incarnation(2) },
            primary_of: vec![KeySet(0)],
            secondary_of: vec![KeySet(1)],
            step: Step::CopySecondary,
            took_ms: [Some(251), Some(300), None, None],
            dropped: 0,
        });
        let full = Space { level: Level::Hard, of: Resource::Disk, used: 96, capacity: 100 };
        let directory = "/state/meta".to_owned();
        let own = Some(OwnSpace { space: full, directory, waits: true });
        let overview = Overview { status, spaces: vec![(ServerId(3), full)], own };
        let table = table(&overview, true);
        for part in [
            "s3 ",
            "suspected",
            "4242",
            "1 LOST",
            "s2.2",
            "251 ms",
            "96% of 100 B disk, FULL",
            "until there is room in /state/meta",
            "copies missing",
        ] {
            let expected = part != "copies missing";
            assert_eq!(table.contains(part), expected, "{part} in\n{table}");
        }
        let json = json(&overview);
        assert_eq!(json["servers"][0]["space"]["level"], "hard");
        assert_eq!(json["metaserver"]["waits_for_room"], true);
        assert_eq!(json["recoveries"][0]["took_ms"]["copy_primary"], 300);
        assert_eq!((&json["ready"], &json["sets"][1]["state"]), (&false.into(), &"lost".into()));
    }
}
