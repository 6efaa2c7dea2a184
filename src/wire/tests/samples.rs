//! One message of every variant, with its name: what the golden bytes and the round trips use.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::protocol::message::*;
use crate::protocol::meta::durable::{Recovery, Step};
use crate::protocol::meta::{ServerState, ServerStatus, SetStatus, Status};
use crate::protocol::space::{Level, Resource, Space};
use crate::protocol::time::{Span, Time};
use crate::protocol::types::*;
use crate::protocol::view::{Resignation, ServerEntry, SetEntry, SetState, Update, View};
use crate::wire::*;

mod data;

/// A message of any kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Message {
    Hello(Hello),
    HelloAck(HelloAck),
    HelloRefused(HelloRefusal),
    Lane(KeySet),
    Peer(PeerMessage),
    ToMeta(ToMeta),
    ToServer(ToServer),
    Request(Request),
    Answer(Answer),
    MetaRequest(MetaRequest),
    MetaAnswer(MetaAnswer),
}

impl Message {
    pub(super) fn encode(&self, out: &mut BytesMut, id: u64) -> Result<(), WireError> {
        let limits = &Limits::default();
        match self {
            Message::Hello(it) => encode_hello(out, limits, it),
            Message::HelloAck(it) => encode_hello_ack(out, limits, it),
            Message::HelloRefused(it) => encode_hello_refused(out, limits, it),
            Message::Lane(it) => encode_lane(out, limits, it),
            Message::Peer(it) => encode_peer(out, limits, it),
            Message::ToMeta(it) => encode_to_meta(out, limits, it),
            Message::ToServer(it) => encode_to_server(out, limits, it),
            Message::Request(it) => encode_request(out, limits, id, it),
            Message::Answer(it) => encode_answer(out, limits, id, it),
            Message::MetaRequest(it) => encode_meta_request(out, limits, id, it),
            Message::MetaAnswer(it) => encode_meta_answer(out, limits, id, it),
        }
    }

    pub(super) fn decode(frame: &FrameBuf) -> Result<Message, WireError> {
        Ok(match frame.kind {
            Kind::Hello => Message::Hello(decode_hello(frame)?),
            Kind::HelloAck => Message::HelloAck(decode_hello_ack(frame)?),
            Kind::HelloRefused => Message::HelloRefused(decode_hello_refused(frame)?),
            Kind::Lane => Message::Lane(decode_lane(frame)?),
            Kind::Peer => Message::Peer(decode_peer(frame)?),
            Kind::ToMeta => Message::ToMeta(decode_to_meta(frame)?),
            Kind::ToServer => Message::ToServer(decode_to_server(frame)?),
            Kind::Request => Message::Request(decode_request(frame)?),
            Kind::Answer => Message::Answer(decode_answer(frame)?),
            Kind::MetaRequest => Message::MetaRequest(decode_meta_request(frame)?),
            Kind::MetaAnswer => Message::MetaAnswer(decode_meta_answer(frame)?),
        })
    }
}

pub(super) const SET: KeySet = KeySet(300);

const EPOCH: Epoch = Epoch(7);

const POSITION: Position = Position { loss_epoch: LossEpoch(1), epoch: EPOCH, op: Op(1_000) };

const REVISION: Revision = Revision { loss_epoch: LossEpoch(1), op: Op(999) };

const SPACE: Space =
    Space { level: Level::High, of: Resource::Memory, used: 93_000, capacity: 100_000 };

const ASK: LeaseAsk = LeaseAsk { sent: Time(123_456_789), lease: Span(150_000_000) };

fn member(server: u16) -> Member {
    Member { server: ServerId(server), incarnation: Incarnation(40 + u64::from(server)) }
}

fn configuration() -> Configuration {
    let secondaries = vec![member(2), member(3)];
    Configuration { loss_epoch: LossEpoch(1), epoch: EPOCH, primary: member(1), secondaries }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn origin() -> Origin {
    Origin {
        session: SessionId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        number: RequestNumber(12),
        answered_below: RequestNumber(9),
        base: REVISION,
    }
}

fn entry(change: Change, written: Written) -> Rc<Entry> {
    let origin = Some(origin());
    Rc::new(Entry {
        epoch: EPOCH,
        born: Epoch(6),
        op: Op(1_000),
        origin,
        key: bytes("key"),
        change,
        written,
    })
}

fn record() -> Record {
    Record { key: bytes("key"), value: bytes("value"), revision: REVISION }
}

fn cluster() -> ClusterId {
    ClusterId([0xab; 16])
}

fn server_entry() -> ServerEntry {
    let workers = vec![
        std::net::SocketAddr::from(([127, 0, 0, 1], 7_001)),
        std::net::SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7_002)),
    ];
    ServerEntry { id: ServerId(1), incarnation: Incarnation(41), workers }
}

fn set_entry(set: u16, state: SetState) -> SetEntry {
    let configuration = (state != SetState::Unborn).then(configuration);
    SetEntry { set: KeySet(set), configuration, state }
}

fn view() -> View {
    use SetState::{Available, Lost, Unavailable, Unborn};
    let states = [Unborn, Available, Unavailable, Lost];
    let sets = states.into_iter().zip(0..).map(|(state, set)| set_entry(set, state)).collect();
    let (version, servers, dead) = (ViewVersion(99), vec![server_entry()], vec![member(4)]);
    View { cluster: cluster(), version, sets, servers, dead }
}

fn update() -> Update {
    Update {
        version: ViewVersion(100),
        servers: vec![server_entry()],
        sets: vec![set_entry(5, SetState::Available)],
        dead: vec![member(4)],
        resigned: vec![Resignation { set: SET, epoch: EPOCH, member: member(1) }],
    }
}

fn testimony() -> Testimony {
    let View { cluster, version, sets, servers, dead } = view();
    let replica = ReplicaTestimony {
        set: SET,
        activity: Some(Activity::Open),
        whole: true,
        proposed: Some(member(3)),
    };
    let replicas = vec![replica, ReplicaTestimony { activity: None, proposed: None, ..replica }];
    Testimony { round: 5, cluster, version, process: 4_242, servers, dead, sets, replicas }
}

/// All samples, in the order of the kinds and of their variants.
pub(super) fn all() -> Vec<(&'static str, Message)> {
    let mut samples = vec![("lane", Message::Lane(SET))];
    samples.extend(hellos());
    let peers = peers().into_iter().chain(differences());
    samples.extend(peers.map(|(name, it)| (name, Message::Peer(it))));
    samples.extend(to_metas().into_iter().map(|(name, it)| (name, Message::ToMeta(it))));
    samples.extend(to_servers().into_iter().map(|(name, it)| (name, Message::ToServer(it))));
    samples.extend(data::requests().into_iter().map(|(name, it)| (name, Message::Request(it))));
    samples.extend(data::answers().into_iter().map(|(name, it)| (name, Message::Answer(it))));
    samples.extend(meta_requests().into_iter().map(|(name, it)| (name, Message::MetaRequest(it))));
    samples.extend(meta_answers().into_iter().map(|(name, it)| (name, Message::MetaAnswer(it))));
    samples
}

fn hellos() -> Vec<(&'static str, Message)> {
    let hello = |purpose| Hello {
        version_min: 1,
        version_max: 300,
        features: 5,
        cluster: cluster(),
        purpose,
        from: Some(member(1)),
        from_worker: WorkerId(1),
        to: Some(member(2)),
    };
    let bases = vec![(SET, REVISION)];
    let from = Some(member(2));
    let ack = HelloAck { version: 1, features: 5, cluster: cluster(), from, bases };
    let role = "client".to_owned();
    let refused = |name, it| (name, Message::HelloRefused(it));
    vec![
        ("hello.replication", Message::Hello(hello(Purpose::Replication))),
        ("hello.bulk", Message::Hello(hello(Purpose::Bulk))),
        ("hello.control", Message::Hello(hello(Purpose::Control))),
        ("hello.client", Message::Hello(hello(Purpose::Client))),
        ("hello_ack", Message::HelloAck(ack)),
        refused("refused.version", HelloRefusal::Version { min: 1, max: 2 }),
        refused("refused.other_cluster", HelloRefusal::OtherCluster { ours: cluster() }),
        refused("refused.role", HelloRefusal::Role { role, purpose: Purpose::Bulk }),
        refused(
            "refused.wrong_sender",
            HelloRefusal::WrongSender {
                certificate: "tandem://demo/server/2".to_owned(),
                claimed: Some(member(1)),
            },
        ),
        refused(
            "refused.wrong_destination",
            HelloRefusal::WrongDestination { ours: Some(member(1)), meant: None },
        ),
        refused("refused.wrong_purpose", HelloRefusal::WrongPurpose { purpose: Purpose::Control }),
        refused("refused.superseded", HelloRefusal::Superseded { member: member(1) }),
        refused("refused.full", HelloRefusal::Full),
        refused("refused.not_ready", HelloRefusal::NotReady),
    ]
}

fn peers() -> Vec<(&'static str, PeerMessage)> {
    let set = SET;
    let epoch = EPOCH;
    let run = RunId(3);
    let record_of = |written| DedupRecord {
        session: SessionId(77),
        number: RequestNumber(11),
        answered_below: RequestNumber(9),
        position: POSITION,
        written,
    };
    let dedup = DedupSnapshot {
        horizon: Op(10),
        records: vec![record_of(Written::Stored), record_of(Written::Counter(-5))],
    };
    let entries = vec![
        entry(Change::Put(bytes("value")), Written::Stored),
        entry(Change::Delete, Written::Deleted),
        entry(Change::Put(bytes("-9")), Written::Counter(-9)),
    ];
    let configuration = configuration();
    vec![
        (
            "peer.new_epoch",
            PeerMessage::NewEpoch {
                set,
                configuration: configuration.clone(),
                committed: Op(998),
                prepared: Op(1_000),
                ask: ASK,
            },
        ),
        ("peer.prepare", PeerMessage::Prepare { set, epoch, entries, commit: Op(999), ask: ASK }),
        ("peer.ack", PeerMessage::Ack { set, epoch, accepted: Op(1_000), sent: ASK.sent }),
        ("peer.fenced", PeerMessage::Fenced { set, configuration: configuration.clone() }),
        ("peer.resigned", PeerMessage::Resigned { set, epoch, member: member(1) }),
        (
            "peer.run_start",
            PeerMessage::RunStart { set, run, configuration, committed: Op(999), dedup, ask: ASK },
        ),
        (
            "peer.copy_chunk",
            PeerMessage::CopyChunk {
                set,
                run,
                after: Some(bytes("a")),
                through: None,
                read_at: Op(999),
                records: vec![record()],
            },
        ),
        ("peer.chunk_stored", PeerMessage::ChunkStored { set, run, through: Some(bytes("z")) }),
        ("peer.run_lost", PeerMessage::RunLost { set, run }),
        ("peer.beacon", PeerMessage::Beacon { number: 4, ask: ASK, sets: vec![(set, epoch)] }),
        (
            "peer.grant",
            PeerMessage::Grant { number: 4, sent: ASK.sent, sets: vec![(set, epoch, Op(1_000))] },
        ),
    ]
}

/// What a copy by difference consists of.
fn differences() -> Vec<(&'static str, PeerMessage)> {
    let (set, run) = (SET, RunId(3));
    vec![
        ("peer.run_base", PeerMessage::RunBase { set, run, base: Op(900) }),
        (
            "peer.copy_changes",
            PeerMessage::CopyChanges {
                set,
                run,
                after: Op(900),
                ends: Op(950),
                through: Some(bytes("z")),
                read_at: Op(999),
                records: vec![record()],
                deleted: vec![bytes("y")],
            },
        ),
        (
            "peer.run_expiries",
            PeerMessage::RunExpiries {
                set,
                run,
                keys: vec![(bytes("x"), Expiry(1_795_000_000_000))],
            },
        ),
        ("peer.space", PeerMessage::Space { set, level: Level::Hard }),
    ]
}

fn to_metas() -> Vec<(&'static str, ToMeta)> {
    use Activity::{Learner, Open, Paused, Reconciling, Resigned, Secondary};
    let (set, epoch, nonce) = (SET, EPOCH, 8);
    let report = |activity| {
        let (committed, prepared) = (Op(999), Op(1_000));
        SetReport { set, epoch, activity, committed, prepared }
    };
    let activities = [Open, Paused, Reconciling, Resigned, Secondary, Learner { complete: true }];
    let registration = Registration {
        server: ServerId(1),
        workers: server_entry().workers,
        cluster: Some(cluster()),
        highest_epoch: epoch,
        inherits: Some(Incarnation(40)),
        process: 4_242,
    };
    let probe = ProbeReport { set, epoch, hears: true, last_epoch: epoch, last_op: Op(1_000) };
    let id = ChangeId { member: member(1), number: 2 };
    let change = |kind| ToMeta::Change { id, set, epoch, kind };
    let add = ChangeKind::Add { learner: member(3), recovery: RecoveryId(6) };
    vec![
        ("to_meta.register", ToMeta::Register(registration)),
        (
            "to_meta.heartbeat",
            ToMeta::Heartbeat { sequence: 5, sets: activities.into_iter().map(report).collect() },
        ),
        ("to_meta.probe_answer", ToMeta::ProbeAnswer { nonce, reports: vec![probe] }),
        (
            "to_meta.removal_confirmed",
            ToMeta::RemovalConfirmed {
                nonce,
                member: member(2),
                sets: vec![(set, epoch, Op(1_000))],
            },
        ),
        ("to_meta.complaint", ToMeta::Complaint { member: member(2), sets: vec![(set, epoch)] }),
        ("to_meta.change.add", change(add)),
        ("to_meta.change.hand_over", change(ChangeKind::HandOver { to: member(2) })),
        ("to_meta.change.reaffirm", change(ChangeKind::Reaffirm)),
        ("to_meta.resigned", ToMeta::Resigned { set, epoch, member: member(1) }),
        ("to_meta.leaving", ToMeta::Leaving),
        ("to_meta.left", ToMeta::Left),
        ("to_meta.space", ToMeta::Space(SPACE)),
        ("to_meta.depart", ToMeta::Depart { sets: vec![(set, epoch)] }),
        ("to_meta.testimony", ToMeta::Testimony(Box::new(testimony()))),
        ("to_meta.quiet", ToMeta::Quiet),
        ("to_meta.halted", ToMeta::Halted),
    ]
}

fn to_servers() -> Vec<(&'static str, ToServer)> {
    use ChangeRefusal::{
        NotAllowed, RefusedBefore, StaleRecovery, Superseded, WrongEpoch, WrongRole,
    };
    let sets = vec![(SET, EPOCH)];
    let (nonce, recovery, learner, to) = (8, RecoveryId(6), member(3), member(2));
    let id = ChangeId { member: member(1), number: 2 };
    let changed = |outcome| ToServer::Changed { id, set: SET, outcome };
    let refused = ToServer::RegistrationRefused;
    vec![
        (
            "to_server.registered",
            ToServer::Registered { member: member(1), cluster: cluster(), view: view() },
        ),
        ("to_server.unknown_server", refused(RegistrationRefusal::UnknownServer)),
        ("to_server.other_cluster", {
            refused(RegistrationRefusal::OtherCluster { ours: cluster() })
        }),
        ("to_server.metaserver_empty", refused(RegistrationRefusal::MetaserverEmpty)),
        ("to_server.superseded", refused(RegistrationRefusal::Superseded)),
        ("to_server.update", ToServer::Update(update())),
        ("to_server.heartbeat_echo", ToServer::HeartbeatEcho { sequence: 5 }),
        ("to_server.probe", ToServer::Probe { nonce, suspect: member(1), sets: sets.clone() }),
        (
            "to_server.confirm_removal",
            ToServer::ConfirmRemoval { nonce, member: member(2), sets: sets.clone() },
        ),
        ("to_server.copy", ToServer::Copy { recovery, learner, sets: sets.clone() }),
        ("to_server.cancel_copy", ToServer::CancelCopy { learner, sets: vec![SET] }),
        ("to_server.hand_over", ToServer::HandOver { to, sets: sets.clone() }),
        ("to_server.resign", ToServer::Resign { sets: sets.clone() }),
        ("to_server.changed", changed(Ok(configuration()))),
        ("to_server.changed.wrong_epoch", changed(Err(WrongEpoch))),
        ("to_server.changed.wrong_role", changed(Err(WrongRole))),
        ("to_server.changed.superseded", changed(Err(Superseded))),
        ("to_server.changed.stale_recovery", changed(Err(StaleRecovery))),
        ("to_server.changed.refused_before", changed(Err(RefusedBefore))),
        ("to_server.changed.not_allowed", changed(Err(NotAllowed))),
        (
            "to_server.confirm_leave",
            ToServer::ConfirmLeave { nonce, member: member(2), sets: sets.clone() },
        ),
        ("to_server.released", ToServer::Released),
        ("to_server.unplaced", ToServer::Unplaced { sets }),
        ("to_server.metaserver_outdated", refused(RegistrationRefusal::MetaserverOutdated)),
        ("to_server.testify", ToServer::Testify { round: 5 }),
        ("to_server.quiesce", ToServer::Quiesce),
        ("to_server.halt", ToServer::Halt),
    ]
}

fn meta_requests() -> Vec<(&'static str, MetaRequest)> {
    vec![
        ("meta_request.view", MetaRequest::View),
        ("meta_request.status", MetaRequest::Status),
        ("meta_request.revive", MetaRequest::Revive { sets: vec![SET] }),
        ("meta_request.fence", MetaRequest::Fence { member: member(2) }),
        ("meta_request.space", MetaRequest::Space),
        ("meta_request.stop_cluster", MetaRequest::StopCluster { accept_loss: true }),
        ("meta_request.own_space", MetaRequest::OwnSpace),
    ]
}

fn meta_answers() -> Vec<(&'static str, MetaAnswer)> {
    use ServerState::{Dead, Expected, Leaving, Suspected, Up};
    use Step::{CopyPrimary, CopySecondary, Done, Invalidate, Resume};
    use StopPhase::{Ending, Over, Quiescing};
    use StopState::{Ended, Quiet, Unreached};
    let server = |state| ServerStatus {
        id: ServerId(1),
        incarnation: Incarnation(41),
        state,
        primary_of: 3,
        secondary_of: 2,
        learner_of: 1,
        process: 4_242,
    };
    let recovery = |step| Recovery {
        id: RecoveryId(6),
        failed: member(1),
        primary_of: vec![SET],
        secondary_of: vec![KeySet(1)],
        step,
        took_ms: [Some(210), None, None, None],
        dropped: 0,
    };
    let set = SetStatus {
        set: SET,
        configuration: Some(configuration()),
        state: SetState::Available,
        redundant: true,
        open: true,
    };
    let status = Status {
        cluster: cluster(),
        version: ViewVersion(99),
        servers: [Expected, Up, Suspected, Leaving, Dead].into_iter().map(server).collect(),
        sets: vec![set],
        recoveries: [Invalidate, CopyPrimary, CopySecondary, Resume, Done]
            .into_iter()
            .map(recovery)
            .collect(),
    };
    let refused = MetaAnswer::Refused;
    let stopping = |phase| {
        let states = [StopState::Busy, Quiet, Ended, Unreached];
        let servers = states.into_iter().map(|state| (ServerId(1), 4_242, state)).collect();
        MetaAnswer::Stopping(StopReport { phase, servers })
    };
    vec![
        ("meta_answer.view", MetaAnswer::View(view())),
        ("meta_answer.status", MetaAnswer::Status(Box::new(status))),
        ("meta_answer.revived", MetaAnswer::Revived { sets: vec![SET] }),
        ("meta_answer.fenced", MetaAnswer::Fenced),
        ("meta_answer.not_administrator", refused(MetaRefusal::NotAdministrator)),
        ("meta_answer.not_lost", refused(MetaRefusal::NotLost(SET))),
        ("meta_answer.no_servers", refused(MetaRefusal::NoServers)),
        ("meta_answer.unknown_member", refused(MetaRefusal::UnknownMember(member(2)))),
        ("meta_answer.not_metaserver", refused(MetaRefusal::NotMetaserver)),
        ("meta_answer.unborn", refused(MetaRefusal::Unborn)),
        ("meta_answer.busy", refused(MetaRefusal::Busy)),
        ("meta_answer.space", MetaAnswer::Space(vec![(ServerId(1), SPACE)])),
        ("meta_answer.would_lose_all", refused(MetaRefusal::WouldLoseAll)),
        ("meta_answer.refused_stopping", refused(MetaRefusal::Stopping)),
        ("meta_answer.quiescing", stopping(Quiescing)),
        ("meta_answer.ending", stopping(Ending)),
        ("meta_answer.over", stopping(Over)),
        ("meta_answer.disk_full", refused(MetaRefusal::DiskFull)),
        ("meta_answer.own_space", {
            MetaAnswer::OwnSpace(OwnSpace { space: SPACE, directory: "d".into(), waits: true })
        }),
    ]
}
