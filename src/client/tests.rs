//! Goal: the library's loop joins handles, sessions and transport: results, retries over broken
//! links, shared links, questions to the metaserver, and its own end.
//! Method: a transport that is itself a tiny cluster of one server and answers at once; faults
//! are switched on from the test's thread. No network, and no runtime on the test's side.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::identity::{Identity, META_ID, PartyRole};
use crate::protocol::message::{MetaAnswer, MetaRequest, Refusal, Rejection, Request};
use crate::protocol::types::{
    Configuration, Epoch, Incarnation, KeySet, LinkId, LossEpoch, Member, Op, Origin, Position,
    Record, Revision, ServerId, SessionId, ViewVersion, Written,
};
use crate::protocol::view::{ServerEntry, SetEntry, SetState, View};
use crate::wire;

mod local;

const S1: Member = Member { server: ServerId(1), incarnation: Incarnation(1) };
const SETS: u16 = 4;
const LOSS: LossEpoch = LossEpoch(0);

/// What the tiny cluster knows, and which faults it has.
#[derive(Default)]
struct State {
    records: BTreeMap<Bytes, (Bytes, Revision)>,
    op: u64,
    dials: Vec<PartyRole>,
    /// Requests that came.
    requests: usize,
    /// Which link carried each write, by session.
    carried: Vec<(SessionId, LinkId)>,
    origins: Vec<Origin>,
    /// Executes the next write, breaks its link and answers nothing.
    break_after_write: bool,
    /// Answers no request.
    silent: bool,
}

#[derive(Clone, Default)]
struct Tiny(Arc<Mutex<State>>);

struct TinyTransport {
    cluster: Tiny,
    events: Events,
}

impl Tiny {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Client {
        self.client_with(1).expect("a thread can be started")
    }

    fn client_with(&self, connections: u16) -> std::result::Result<Client, ConnectError> {
        let cluster = self.clone();
        let transport = move |events| Ok(TinyTransport { cluster, events });
        Client::start(&ClientOptions { connections, ..options() }, transport)
    }
}

fn options() -> ClientOptions {
    let party = |role, id: &str| Identity { cluster: "tiny".to_owned(), role, id: id.to_owned() };
    let metaserver = Endpoint { identity: party(PartyRole::Meta, META_ID), address: address(9) };
    ClientOptions {
        cluster: "tiny".to_owned(),
        endpoints: vec![Endpoint::server("tiny", ServerId(1), address(1)), metaserver.clone()],
        metaserver,
        authority: PathBuf::new(),
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        limits: wire::Limits::default(),
        timeout: Duration::from_secs(10),
        outstanding_max: 8,
        connections: 1,
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn view() -> View {
    let mut view = View::unborn(Default::default(), SETS);
    view.version = ViewVersion(1);
    view.servers =
        vec![ServerEntry { id: S1.server, incarnation: S1.incarnation, workers: vec![address(1)] }];
    for set in 0..SETS {
        let configuration = Some(Configuration {
            loss_epoch: LOSS,
            epoch: Epoch(1),
            primary: S1,
            secondaries: Vec::new(),
        });
        view.sets[usize::from(set)] =
            SetEntry { set: KeySet(set), configuration, state: SetState::Available };
    }
    view
}

impl State {
    fn position(&self) -> Position {
        Position { loss_epoch: LOSS, epoch: Epoch(1), op: Op(self.op) }
    }

    fn execute(&mut self, request: &Request) -> Answer {
        if let Some(origin) = request.origin {
            let earlier = self.origins.iter().any(|it| it.number == origin.number);
            self.origins.push(origin);
            if earlier {
                return Answer::Written { position: self.position(), written: Written::Stored };
            }
        }
        let position = self.position();
        match &request.operation {
            Operation::Get { key } => match self.records.get(key).cloned() {
                Some((value, revision)) => Answer::Found { position, revision, value },
                None => Answer::Absent { position },
            },
            Operation::Put { key, value } | Operation::PutFor { key, value, .. } => {
                self.op += 1;
                let position = self.position();
                self.records.insert(key.clone(), (value.clone(), position.revision()));
                Answer::Written { position, written: Written::Stored }
            }
            Operation::Delete { key } => match self.records.remove(key) {
                Some(_) => Answer::Written { position, written: Written::Deleted },
                None => Answer::Absent { position },
            },
            Operation::Cas { key, .. } | Operation::CasFor { key, .. } => {
                let found = self.records.get(key).map(|(_, revision)| *revision);
                Answer::Mismatch { position, found }
            }
            Operation::Incr { by, .. } => {
                Answer::Written { position, written: Written::Counter(*by) }
            }
            Operation::Changes { .. } => {
                Answer::Rejected { position, reason: Rejection::ChangesForgotten }
            }
            Operation::Scan { set, prefix, after, items_max, .. } => {
                let mine = self.records.iter().filter(|(key, _)| {
                    crate::protocol::placement::key_set(key, SETS) == *set
                        && key.starts_with(prefix)
                        && after.as_ref().is_none_or(|after| *key > after)
                });
                let mut records: Vec<Record> = mine
                    .map(|(key, (value, revision))| Record {
                        key: key.clone(),
                        value: value.clone(),
                        revision: *revision,
                    })
                    .collect();
                let more = records.len() > *items_max as usize;
                records.truncate(*items_max as usize);
                Answer::Page { position, records, more }
            }
        }
    }
}

impl Transport for TinyTransport {
    fn dial(&mut self, link: LinkId, endpoint: &Endpoint, _: Option<Member>) {
        self.cluster.state().dials.push(endpoint.identity.role);
        let is_server = endpoint.identity.role == PartyRole::Server;
        let peer = is_server.then_some(S1);
        let bases = vec![(KeySet(0), Revision { loss_epoch: LOSS, op: Op(0) })];
        self.events.push(Event::Up { link, peer, bases });
    }

    fn send(&mut self, link: LinkId, id: u64, request: &Request) {
        let mut state = self.cluster.state();
        state.requests += 1;
        if state.silent {
            return;
        }
        state.carried.extend(request.origin.map(|it| (it.session, link)));
        let answer = state.execute(request);
        if std::mem::take(&mut state.break_after_write) {
            self.events.push(Event::Down { link, reason: "cut".to_owned() });
        } else {
            self.events.push(Event::Answer { link, id, answer });
        }
    }

    fn ask(&mut self, link: LinkId, id: u64, request: &MetaRequest) {
        let answer = match request {
            MetaRequest::View => MetaAnswer::View(view()),
            MetaRequest::Status => MetaAnswer::Status(Box::default()),
            MetaRequest::Space => MetaAnswer::Space(Vec::new()),
            MetaRequest::Revive { .. }
            | MetaRequest::Fence { .. }
            | MetaRequest::StopCluster { .. }
            | MetaRequest::OwnSpace => {
                self.events.push(Event::Down { link, reason: "cut".to_owned() });
                return;
            }
        };
        self.events.push(Event::MetaAnswer { link, id, answer });
    }

    async fn shutdown(&mut self) {}
}

#[test]
fn operations_give_typed_answers_with_positions() {
    let client = Tiny::default().client();
    let session = client.session();
    let written = block_on(session.put("a", "1")).expect("the cluster is healthy");
    assert_eq!(written.revision().op, Op(1));
    let read = block_on(session.get("a")).expect("the cluster is healthy");
    let item = Item { value: Bytes::from("1"), revision: written.revision() };
    assert_eq!((read.position, read.item), (written.position, Some(item)));
    let found = block_on(session.cas("a", Expect::Absent, None)).expect("it was looked at");
    let revision = Some(written.revision());
    assert_eq!(found, CasAnswer::Mismatch { position: written.position, found: revision });
    assert_eq!(block_on(session.incr("n", 3)).expect("the cluster is healthy").value, 3);
    assert!(block_on(session.delete("a")).expect("the cluster is healthy").existed);
    assert!(!block_on(session.delete("a")).expect("the cluster is healthy").existed);
    assert_eq!(block_on(session.get("a")).expect("the cluster is healthy").item, None);
}

#[test]
fn a_write_whose_link_breaks_is_sent_again_as_the_same_write() {
    let tiny = Tiny::default();
    tiny.state().break_after_write = true;
    let client = tiny.client();
    block_on(client.session().put("a", "1")).expect("it is sent again");
    let state = tiny.state();
    assert_eq!((state.op, state.origins.len()), (1, 2));
    assert_eq!(state.origins[0].number, state.origins[1].number);
    assert_eq!(state.origins[0].base, state.origins[1].base);
}

#[test]
fn sessions_share_one_link_and_have_ids_of_their_own() {
    let tiny = Tiny::default();
    let client = tiny.client();
    let sessions = [client.session(), client.session(), tiny.client().session()];
    for session in &sessions {
        block_on(session.put("a", "1")).expect("the cluster is healthy");
    }
    let state = tiny.state();
    let mut ids: Vec<SessionId> = state.origins.iter().map(|it| it.session).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // Each of the two clients dials the server, and the metaserver if it began there.
    assert!(state.dials.len() <= 4, "{:?}", state.dials);
}

impl State {
    fn server_dials(&self) -> usize {
        self.dials.iter().filter(|it| **it == PartyRole::Server).count()
    }
}

/// Lets each of `sessions` write, one after the other; which link carried each write.
fn links_of(tiny: &Tiny, sessions: &[Session]) -> Vec<LinkId> {
    tiny.state().carried.clear();
    for session in sessions {
        block_on(session.put("a", "1")).expect("the cluster is healthy");
    }
    tiny.state().carried.iter().map(|(_, link)| *link).collect()
}

#[test]
fn sessions_spread_over_as_many_connections_as_the_options_say() {
    for (connections, dials) in [(1, 1), (2, 2), (3, 3), (9, 6)] {
        let tiny = Tiny::default();
        let client = tiny.client_with(connections).expect("a client of that many");
        let sessions: Vec<Session> = (0..6).map(|_| client.session()).collect();
        let links = links_of(&tiny, &sessions);
        for (number, link) in links.iter().enumerate() {
            let same = links[number % usize::from(connections)];
            assert_eq!(*link, same, "session {number} of {connections} connections: {links:?}");
        }
        assert_eq!(tiny.state().server_dials(), dials, "{connections} connections");
        assert_eq!(links_of(&tiny, &sessions), links, "a session keeps its connection");
    }
}

#[test]
fn a_broken_connection_disturbs_its_own_sessions_only() {
    let tiny = Tiny::default();
    let client = tiny.client_with(2).expect("a client of two connections");
    let sessions: Vec<Session> = (0..4).map(|_| client.session()).collect();
    let before = links_of(&tiny, &sessions);
    tiny.state().break_after_write = true;
    block_on(sessions[0].put("a", "1")).expect("it is sent again");
    let after = links_of(&tiny, &sessions);
    assert_ne!(before[0], after[0], "its own is dialled again");
    assert_eq!((before[1], before[3]), (after[1], after[3]), "the other goes on");
    assert_eq!(after[0], after[2], "and is shared as before");
    assert_eq!(tiny.state().server_dials(), 3);
}

#[test]
fn absurd_numbers_of_connections_are_refused() {
    for asked in [0, CONNECTIONS_MAX + 1] {
        let error = Tiny::default().client_with(asked).err().expect("it is refused");
        assert_eq!(error, ConnectError::Connections { asked });
        assert!(error.to_string().contains("1 to 1024"), "{error}");
    }
    Tiny::default().client_with(CONNECTIONS_MAX).expect("the most that is allowed");
}

#[test]
fn a_scan_merges_the_key_sets_in_the_order_of_keys() {
    let client = Tiny::default().client();
    let session = client.session();
    let keys: Vec<String> = (0..50).map(|number| format!("p/{number:02}")).collect();
    for key in keys.iter().rev().chain([&"q".to_owned()]) {
        block_on(session.put(key.clone(), "v")).expect("the cluster is healthy");
    }
    let options = ScanOptions { page_items_max: 3, ..ScanOptions::default() };
    let mut scan = session.scan("p/", options);
    let mut found = Vec::new();
    while let Some(record) = block_on(scan.next()).expect("the cluster is healthy") {
        found.push(String::from_utf8_lossy(&record.key).into_owned());
    }
    assert_eq!(found, keys);
}

#[test]
fn a_batch_larger_than_the_session_s_limit_is_done_in_order() {
    let client = Tiny::default().client();
    let operations =
        (0..100).map(|number| Operation::Incr { key: Bytes::from("n"), by: number }).collect();
    let results = block_on(client.session().batch(operations));
    assert_eq!(results.len(), 100);
    assert!(results.iter().all(Result::is_ok), "none is refused for being too many");
}

/// Waits for all that is in flight.
fn ended(pipeline: &mut Pipeline) -> BTreeMap<u64, Result<Answer>> {
    let (mut all, mut batch) = (BTreeMap::new(), Vec::new());
    while pipeline.in_flight() > 0 {
        block_on(pipeline.next_batch(&mut batch));
        for (tag, result) in batch.drain(..) {
            assert!(all.insert(tag, result).is_none(), "an operation ends once");
        }
    }
    all
}

fn put(number: u64) -> Operation {
    Operation::Put { key: format!("{number}").into(), value: format!("v{number}").into() }
}

#[test]
fn a_pipeline_s_operations_all_end_under_their_tags() {
    let client = Tiny::default().client();
    let session = client.session();
    let mut pipeline = session.pipeline();
    for round in 0..100 {
        for number in 0..8 {
            pipeline.submit(put(8 * round + number), number);
        }
        assert_eq!(pipeline.in_flight(), 8);
        let all = ended(&mut pipeline);
        assert!(all.keys().copied().eq(0..8), "{all:?}");
        assert!(all.values().all(|it| matches!(it, Ok(Answer::Written { .. }))), "{all:?}");
    }
    for number in 0..8 {
        let key = format!("{}", 100 * number).into();
        pipeline.submit(Operation::Get { key }, 1_000 + 100 * number);
    }
    for (tag, result) in ended(&mut pipeline) {
        let Ok(Answer::Found { value, .. }) = result else { panic!("{tag}: {result:?}") };
        assert_eq!(value, format!("v{}", tag - 1_000));
    }
    block_on(pipeline.next_batch(&mut Vec::new()));
}

#[test]
fn a_pipeline_beyond_the_session_s_limit_is_refused_the_rest() {
    let tiny = Tiny::default();
    tiny.state().silent = true;
    let client = tiny.client();
    let session = client.session().with_timeout(Duration::from_millis(50));
    let mut pipeline = session.pipeline();
    (0..20).for_each(|number| pipeline.submit(put(number), number));
    let all = ended(&mut pipeline);
    let outstanding_max = 8;
    for (tag, result) in all {
        let error = result.expect_err("nobody answers");
        if tag < outstanding_max {
            assert!(!error.is_surely_not_done(), "{tag}: {error}");
        } else {
            let why = NotDone::TooMany { outstanding_max: 8 };
            assert_eq!(error, Error::NotDone { what: format!("put \"{tag}\""), why });
        }
    }
}

#[test]
fn a_closed_client_ends_a_pipeline_s_operations_as_closed() {
    let tiny = Tiny::default();
    tiny.state().silent = true;
    let client = tiny.client();
    let mut pipeline = client.session().pipeline();
    pipeline.submit(put(1), 1);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(pipeline.poll_done(&mut context, &mut Vec::new()).is_pending());
    block_on(client.view(Duration::from_secs(10))).expect("the view is handed out");
    let waits = std::thread::spawn(move || {
        let all = ended(&mut pipeline);
        (all, pipeline)
    });
    block_on(client.close());
    let (all, mut pipeline) = waits.join().expect("the thread lives");
    let closed = |number: u64| Error::Closed { what: format!("put \"{number}\""), sent: true };
    assert_eq!(all, BTreeMap::from([(1, Err(closed(1)))]));
    pipeline.submit(put(2), 2);
    pipeline.submit(Operation::Get { key: Bytes::from("3") }, 3);
    let all = ended(&mut pipeline);
    assert_eq!(all[&2], Err(closed(2)));
    assert!(all[&3].as_ref().is_err_and(Error::is_surely_not_done));
}

#[test]
fn a_pipeline_may_be_dropped_with_operations_in_flight() {
    let tiny = Tiny::default();
    let client = tiny.client();
    let session = client.session();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for number in 0..4 {
        let mut pipeline = session.pipeline();
        pipeline.submit(put(number), 0);
        let _ = pipeline.poll_done(&mut context, &mut Vec::new());
        pipeline.submit(put(100 + number), 1);
    }
    let read = block_on(session.get("3")).expect("the session goes on");
    assert!(read.item.is_some(), "what has left is done");
    let read = block_on(session.get("103")).expect("the session goes on");
    assert!(read.item.is_none(), "what has not left is not");
}

#[test]
fn time_that_is_up_tells_reads_from_writes() {
    let tiny = Tiny::default();
    tiny.state().silent = true;
    let client = tiny.client();
    let session = client.session().with_timeout(Duration::from_millis(50));
    let read = block_on(session.get("a")).expect_err("nobody answers");
    assert!(read.is_surely_not_done(), "{read}");
    let write = block_on(session.put("a", "1")).expect_err("nobody answers");
    assert!(!write.is_surely_not_done(), "{write}");
    assert!(write.to_string().starts_with("put \"a\" may or may not have been done"));
}

#[test]
fn questions_that_change_the_cluster_are_asked_once() {
    let client = Tiny::default().client();
    let timeout = Duration::from_secs(10);
    let status = block_on(client.ask(MetaRequest::Status, timeout));
    assert!(matches!(status, Ok(MetaAnswer::Status(_))));
    let fence = block_on(client.ask(MetaRequest::Fence { member: S1 }, timeout));
    assert_eq!(fence, Err(AskError::Unknown { reason: "cut".to_owned() }));
}

#[test]
fn a_closed_client_ends_what_is_in_flight() {
    let tiny = Tiny::default();
    tiny.state().silent = true;
    let client = tiny.client();
    let session = client.session();
    let write = std::thread::spawn({
        let session = session.clone();
        move || block_on(session.put("a", "1"))
    });
    block_on(client.view(Duration::from_secs(10))).expect("the view is handed out");
    block_on(client.close());
    let error = write.join().expect("the thread lives").expect_err("the client is closed");
    assert_eq!(error, Error::Closed { what: "put \"a\"".to_owned(), sent: true });
    let error = block_on(session.get("a")).expect_err("the client is closed");
    assert!(error.is_surely_not_done());
}

#[test]
fn failures_say_what_and_what_to_do() {
    let why = NotDone::Refused(Refusal::Lost);
    let error = Error::NotDone { what: "get \"a\"".to_owned(), why };
    assert!(error.to_string().contains("get \"a\" was not done"));
    assert!(error.to_string().contains("admin revive"));
}
