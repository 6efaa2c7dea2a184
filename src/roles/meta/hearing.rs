//! The hearing of a rebuild: takes the servers' links, asks, and waits for their answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::clock;
use crate::identity::Identity;
use crate::net::{Acceptor, CloseReason, Connection, FrameHandler, Lane};
use crate::protocol::message::{Hello, HelloAck, ToMeta, ToServer};
use crate::protocol::meta::rebuild::{Gap, Rebuild, Rebuilt};
use crate::protocol::time::Span;
use crate::protocol::types::{Incarnation, LinkId, Member, WorkerId};
use crate::wire::{self, Frame, HelloRefusal, Local};

/// A round lasts at least this long, so that what is under way between servers arrives.
const ROUND: Span = Span::from_millis(1_000);

/// What everyone said so far.
#[derive(Clone)]
pub struct Hearing {
    state: Rc<RefCell<State>>,
    /// Somebody came, went or spoke.
    changed: Rc<Notify>,
}

struct State {
    rebuild: Rebuild,
    links: BTreeMap<LinkId, Connection>,
    links_last: u64,
}

impl Hearing {
    pub fn new(rebuild: Rebuild) -> Hearing {
        let state = State { rebuild, links: BTreeMap::new(), links_last: 0 };
        Hearing { state: Rc::new(RefCell::new(state)), changed: Rc::new(Notify::new()) }
    }

    /// Waits until everyone has said the same twice, or for `wait`, and judges; `show` is told of
    /// every change.
    pub async fn judge(
        &self,
        wait: Duration,
        mut show: impl FnMut(&Rebuild),
    ) -> Result<Rebuilt, Vec<Gap>> {
        let until = clock::now() + Span::from(wait);
        let mut earlier: Option<Rebuild> = None;
        let mut round_ends = clock::now() + ROUND;
        loop {
            let heard = self.state.borrow().rebuild.clone();
            show(&heard);
            let now = clock::now();
            let complete = heard.silent().is_empty();
            if complete && now >= round_ends {
                if earlier.as_ref().is_some_and(|it| heard.repeats(it)) {
                    return heard.judge();
                }
                earlier = Some(heard);
                round_ends = now + ROUND;
                self.next_round();
                continue;
            }
            if now >= until {
                return heard.judge().and(Err(vec![Gap::Unsettled]));
            }
            let next = if complete { until.min(round_ends) } else { until };
            // Either way the loop looks again.
            let _ = timeout(next.since(now).into(), self.changed.notified()).await;
        }
    }

    fn next_round(&self) {
        let state = &mut *self.state.borrow_mut();
        state.rebuild = state.rebuild.again();
        state.links.values().for_each(|link| ask(link, state.rebuild.round()));
    }

    fn on_up(&self, connection: &Connection) -> LinkId {
        let state = &mut *self.state.borrow_mut();
        state.links_last += 1;
        let link = LinkId(state.links_last);
        state.links.insert(link, connection.clone());
        ask(connection, state.rebuild.round());
        link
    }

    fn on_down(&self, link: LinkId, member: Member, worker: WorkerId) {
        let state = &mut *self.state.borrow_mut();
        state.links.remove(&link);
        // One that was replaced by a newer one ends late.
        if !state.links.values().any(|it| speaker(it) == Some((member, worker))) {
            state.rebuild.on_gone(member, worker);
        }
        self.changed.notify_one();
    }

    fn on_message(
        &self,
        (member, worker): (Member, WorkerId),
        message: ToMeta,
    ) -> Result<(), CloseReason> {
        let rebuild = &mut self.state.borrow_mut().rebuild;
        match message {
            ToMeta::Testimony(testimony) => {
                let taken = rebuild.on_testimony(member, worker, *testimony);
                taken.map_err(CloseReason::Misbehaved)?;
            }
            ToMeta::Register(registration) if registration.server == member.server => {
                rebuild.on_stranger(registration);
            }
            ToMeta::Register(_) => {
                return Err(CloseReason::Misbehaved("registers another server"));
            }
            // Nobody decides anything here.
            ToMeta::Heartbeat { .. }
            | ToMeta::ProbeAnswer { .. }
            | ToMeta::RemovalConfirmed { .. }
            | ToMeta::Complaint { .. }
            | ToMeta::Change { .. }
            | ToMeta::Resigned { .. }
            | ToMeta::Leaving
            | ToMeta::Left
            | ToMeta::Space(_)
            | ToMeta::Depart { .. }
            | ToMeta::Quiet
            | ToMeta::Halted => return Ok(()),
        }
        self.changed.notify_one();
        Ok(())
    }
}

/// Who is at the other end of a link, by certificate and its own word.
fn speaker(connection: &Connection) -> Option<(Member, WorkerId)> {
    let hello = connection.hello();
    Some((hello.from?, hello.from_worker))
}

/// Asks a registered server; any other says by itself who it is.
fn ask(connection: &Connection, round: u64) {
    if speaker(connection).is_none_or(|(member, _)| member.incarnation == Incarnation(0)) {
        return;
    }
    let message = ToServer::Testify { round };
    let sent = connection
        .send(Lane::Control, |buffer, limits| wire::encode_to_server(buffer, limits, &message));
    if let Err(error) = sent {
        tracing::debug!("a question was not sent: {error}");
    }
}

impl Acceptor for Hearing {
    fn judge(&self, _: &Identity, hello: &Hello) -> Result<HelloAck, HelloRefusal> {
        if hello.from.is_none() {
            return Err(HelloRefusal::WrongPurpose { purpose: hello.purpose });
        }
        Local { cluster: Default::default(), member: None }.admit(hello)
    }

    fn on_connection(&self, connection: Connection) {
        let Some((member, worker)) = speaker(&connection) else { return };
        let hearing = self.clone();
        spawn_local(async move {
            let link = hearing.on_up(&connection);
            let speaker = Speaker { hearing: hearing.clone(), member, worker };
            let reason = connection.run(speaker).await;
            tracing::debug!(%member, "control link ended: {reason}");
            hearing.on_down(link, member, worker);
        });
    }
}

/// Reads what a server says.
struct Speaker {
    hearing: Hearing,
    member: Member,
    worker: WorkerId,
}

impl FrameHandler for Speaker {
    fn on_frame(&mut self, _: Lane, frame: Frame<'_>) -> Result<(), CloseReason> {
        let message = wire::decode_to_meta(frame).map_err(CloseReason::Wire)?;
        self.hearing.on_message((self.member, self.worker), message)
    }

    fn on_datagram(&mut self, frame: Frame<'_>) -> Result<(), CloseReason> {
        self.on_frame(Lane::Control, frame)
    }

    fn on_batch_end(&mut self) {}
}
