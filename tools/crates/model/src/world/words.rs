//! Actions in words, for whoever reads a counterexample.

use tandem::protocol::message::{PeerMessage, ToServer};
use tandem::protocol::types::{Configuration, Member};

use super::World;
use super::act::{Action, Way};
use super::link::Side;

/// A configuration, as people write it: epoch, primary, secondaries.
#[must_use]
pub fn configuration(it: &Configuration) -> String {
    format!("{{{}, {}, {:?}}}", it.epoch, it.primary, names(&it.secondaries))
}

fn names(members: &[Member]) -> Vec<String> {
    members.iter().map(ToString::to_string).collect()
}

fn message(it: &PeerMessage) -> String {
    match it {
        PeerMessage::NewEpoch { configuration: it, committed, prepared, .. } => {
            let it = configuration(it);
            format!("first message of {it}, committed {committed}, prepared {prepared}")
        }
        PeerMessage::Prepare { epoch, entries, commit, .. } => {
            let ops: Vec<String> = entries.iter().map(|entry| entry.op.to_string()).collect();
            format!("prepare {ops:?} in {epoch}, commit point {commit}")
        }
        PeerMessage::Ack { epoch, accepted, .. } => format!("ack up to {accepted} in {epoch}"),
        PeerMessage::Fenced { configuration: it, .. } => format!("fenced by {}", configuration(it)),
        PeerMessage::Resigned { epoch, member, .. } => format!("{member} resigned in {epoch}"),
        PeerMessage::RunStart { run, committed, .. } => format!("{run} starts at {committed}"),
        PeerMessage::CopyChunk { run, read_at, records, .. } => {
            format!("chunk of {run} with {} records as of {read_at}", records.len())
        }
        PeerMessage::CopyChanges { run, read_at, records, deleted, .. } => {
            let changes = records.len() + deleted.len();
            format!("{changes} changes for {run} as of {read_at}")
        }
        PeerMessage::RunExpiries { run, keys, .. } => {
            format!("{} expiries for {run}", keys.len())
        }
        PeerMessage::RunBase { run, base, .. } => format!("base of {run} is {base}"),
        PeerMessage::ChunkStored { run, .. } => format!("chunk of {run} stored"),
        PeerMessage::RunLost { run, .. } => format!("{run} is lost"),
        PeerMessage::Space { level, .. } => format!("space: {level:?}"),
        PeerMessage::Beacon { sets, .. } => {
            format!("beacon for {}", epochs(sets.iter().map(|it| it.1)))
        }
        PeerMessage::Grant { sets, .. } => {
            format!("grant for {}", epochs(sets.iter().map(|it| it.1)))
        }
    }
}

fn epochs(epochs: impl Iterator<Item = tandem::protocol::types::Epoch>) -> String {
    epochs.map(|it| it.to_string()).collect::<Vec<_>>().join(", ")
}

fn order(it: &ToServer) -> String {
    match it {
        ToServer::Update(update) => {
            let mut parts = Vec::new();
            let sets = update.sets.iter().filter_map(|it| it.configuration.as_ref());
            parts.extend(sets.map(configuration));
            parts.extend(update.dead.iter().map(|it| format!("{it} is dead")));
            let word = |it: &tandem::protocol::view::Resignation| {
                format!("{} resigned in {}", it.member, it.epoch)
            };
            parts.extend(update.resigned.iter().map(word));
            if update.sets.is_empty() {
                parts.extend(update.servers.iter().map(|it| format!("{} is there", it.member())));
            }
            parts.join("; ")
        }
        ToServer::Changed { id, outcome, .. } => match outcome {
            Ok(it) => format!("request {} granted: {}", id.number, configuration(it)),
            Err(refusal) => format!("request {} refused: {refusal:?}", id.number),
        },
        ToServer::Copy { learner, .. } => format!("copy to {learner}"),
        ToServer::CancelCopy { learner, .. } => format!("stop copying to {learner}"),
        ToServer::HandOver { to, .. } => format!("hand over to {to}"),
        ToServer::Resign { .. } => "resign".to_owned(),
        other => format!("{other:?}"),
    }
}

impl World {
    /// What an action is, in this state.
    #[must_use]
    pub fn describe(&self, action: &Action) -> String {
        let s = |server: usize| format!("s{}", server + 1);
        match action {
            Action::Tick => "a tick passes".to_owned(),
            Action::Wake(server) => format!("{} looks at its clock", s(*server)),
            Action::Arrive { link, to, way } => self.describe_arrival(*link, *to, *way),
            Action::Notice { link, side } => {
                let link = self.links.iter().find(|it| it.id == *link);
                let names = link.map(|it| (s(it.server(*side)), s(it.server(side.other()))));
                let (one, other) = names.unwrap_or_default();
                format!("{one} notices that its link with {other} is gone")
            }
            Action::Connect { server, peer } => format!("{} reaches {peer}", s(*server)),
            Action::Hear(server) => {
                let next = self.places[*server].control.front();
                let what = next.map(|it| order(it)).unwrap_or_default();
                format!("{} hears the metaserver: {what}", s(*server))
            }
            Action::Install { primary, secondaries } => {
                let epoch = self.authority.configuration.epoch.next();
                let secondaries = names(secondaries);
                format!("the metaserver installs {{{epoch}, {primary}, {secondaries:?}}}")
            }
            Action::Decide(asked) | Action::Refuse(asked) => {
                let verb = if matches!(action, Action::Refuse(_)) { "refuses" } else { "decides" };
                let (member, number) = (asked.id.member, asked.id.number);
                let kind = asked.kind;
                format!("the metaserver {verb} request {number} of {member}: {kind:?}")
            }
            Action::Resigned(word) => {
                format!("the metaserver hears that {} resigned in {}", word.member, word.epoch)
            }
            Action::OrderCopy(it) => format!("the metaserver orders a copy to {it}"),
            Action::OrderCancel(it) => format!("the metaserver takes back the copy to {it}"),
            Action::OrderHandOver(it) => format!("the metaserver orders a handover to {it}"),
            Action::OrderResign => "the metaserver tells the primary to resign".to_owned(),
            Action::Prove(member) => format!("{member} is proven dead"),
            Action::Try { client, server } => {
                format!("client {} sends its write to {}", client + 1, s(*server))
            }
            Action::Read(server) => format!("a slow read begins at {}", s(*server)),
            Action::Stored(server) => format!("the store of {} has read", s(*server)),
            Action::Written => "the metaserver's disk is done".to_owned(),
            Action::MetaHears(server) => format!("the metaserver hears {}", s(*server)),
            Action::Beat(server) => format!("a heartbeat of {} arrives", s(*server)),
            Action::Reach(server) => format!("{} reaches the metaserver", s(*server)),
            Action::Break { link, side } => {
                let link = self.links.iter().find(|it| it.id == *link);
                let names = link.map(|it| (s(it.server(*side)), s(it.server(side.other()))));
                let (one, other) = names.unwrap_or_default();
                format!("the link between {one} and {other} breaks, {one} notices")
            }
            Action::BreakControl(server) => format!("the control link of {} breaks", s(*server)),
            Action::RestartMeta => "the metaserver starts again".to_owned(),
            Action::Crash(server) => format!("{} crashes and loses its memory", s(*server)),
            Action::Restart(server) => format!("{} starts again, with nothing", s(*server)),
            Action::Return(server) => format!("{} starts again, with its disk", s(*server)),
        }
    }

    fn describe_arrival(
        &self,
        link: tandem::protocol::types::LinkId,
        to: Side,
        way: Way,
    ) -> String {
        let Some(link) = self.links.iter().find(|it| it.id == link) else { return String::new() };
        let inbound = link.to(to);
        let next = match way {
            Way::Stream => inbound.stream.front(),
            Way::Bulk => inbound.bulk.front(),
            Way::Datagram => inbound.datagram.as_ref(),
        };
        let what = next.map(|it| message(it)).unwrap_or_default();
        let (from, to) = (link.server(to.other()) + 1, link.server(to) + 1);
        format!("s{to} gets from s{from}: {what}")
    }
}
