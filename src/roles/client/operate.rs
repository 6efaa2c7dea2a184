//! The commands for people who run a cluster: `status`, `wait` and `admin`.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Context, Failure, Format, ReviveSets, report, status as words};
use crate::client::{AskError, block_on};
use crate::clock;
use crate::protocol::message::{MetaAnswer, MetaRefusal, MetaRequest};
use crate::protocol::meta::Status;
use crate::protocol::time::Span;
use crate::protocol::types::{KeySet, Member};
use crate::protocol::view::SetState;
use crate::roles::Exit;

/// Between two looks at the status.
pub(super) const POLL: Duration = Duration::from_millis(50);

pub(super) async fn ask(
    context: &Context,
    request: MetaRequest,
    within: Duration,
) -> Result<MetaAnswer, Failure> {
    let answer = context.client.ask(request, within).await.map_err(|error| {
        let exit = match error {
            AskError::Unanswered { .. } => Exit::Unavailable,
            AskError::Unknown { .. } => Exit::Unknown,
        };
        Failure { exit, words: error.to_string() }
    })?;
    match answer {
        MetaAnswer::Refused(refusal) => {
            let words = format!("the metaserver refuses: {}", refused(refusal));
            Err(Failure { exit: Exit::Refused, words })
        }
        answer => Ok(answer),
    }
}

fn refused(refusal: MetaRefusal) -> String {
    match refusal {
        MetaRefusal::NotAdministrator => {
            "only an administrator may change the cluster; use --as with an admin's name".to_owned()
        }
        MetaRefusal::NotLost(set) => {
            format!("key set {set} is not lost; there is nothing to revive")
        }
        MetaRefusal::NoServers => {
            "no server is registered that could hold it; start one first".to_owned()
        }
        MetaRefusal::UnknownMember(member) => {
            format!("it knows no incarnation {member}; `status` lists those that it knows")
        }
        MetaRefusal::NotMetaserver => {
            "the one that was asked is not the metaserver; check client_advertise".to_owned()
        }
        MetaRefusal::Unborn => {
            "the cluster is not created yet; it waits for its servers to register".to_owned()
        }
        MetaRefusal::Busy => "too many ask it at once; try again".to_owned(),
        MetaRefusal::WouldLoseAll => {
            "with engine = \"memory\" a cluster that is stopped has lost everything that it holds; \
             take a backup first, or say --accept-loss"
                .to_owned()
        }
        MetaRefusal::DiskFull => {
            "the disk of its state is full, so that nothing can be changed; make room (`status` \
             names the folder)"
                .to_owned()
        }
        MetaRefusal::Stopping => "the whole cluster is being stopped".to_owned(),
    }
}

pub(super) fn misfit<T>() -> Result<T, Failure> {
    let words = "the metaserver's answer does not fit the question".to_owned();
    Err(Failure { exit: Exit::Unknown, words })
}

pub(super) async fn ask_status(context: &Context, within: Duration) -> Result<Status, Failure> {
    match ask(context, MetaRequest::Status, within).await? {
        MetaAnswer::Status(status) => Ok(*status),
        _ => misfit(),
    }
}

/// An older metaserver does not know this question, and closes the link.
const OWN_SPACE: Duration = Duration::from_secs(1);

/// Status and space. A metaserver that knows nothing of space answers without.
pub(super) async fn ask_overview(
    context: &Context,
    within: Duration,
) -> Result<words::Overview, Failure> {
    let status = ask_status(context, within).await?;
    let spaces = match ask(context, MetaRequest::Space, within).await {
        Ok(MetaAnswer::Space(spaces)) => spaces,
        Ok(_) => return misfit(),
        Err(_) => Vec::new(),
    };
    let own = match ask(context, MetaRequest::OwnSpace, within.min(OWN_SPACE)).await {
        Ok(MetaAnswer::OwnSpace(own)) => Some(own),
        Ok(_) | Err(_) => None,
    };
    Ok(words::Overview { status, spaces, own })
}

pub(super) fn status(context: &Context, sets: bool) -> Result<Exit, Failure> {
    let overview = block_on(ask_overview(context, context.timeout))?;
    match context.format {
        Format::Json => report::print(&words::json(&overview))?,
        Format::People => print!("{}", words::table(&overview, sets)),
    }
    Ok(Exit::Done)
}

pub(super) fn wait_ready(context: &Context) -> Result<Exit, Failure> {
    let until = clock::now() + Span::from(context.timeout);
    let mut last = None;
    loop {
        let left = until.since(clock::now());
        if left == Span::ZERO {
            break;
        }
        match block_on(ask_status(context, left.into())) {
            Ok(status) if words::is_ready(&status) => {
                if context.format == Format::Json {
                    report::print(&json!({ "ready": true }))?;
                }
                return Ok(Exit::Done);
            }
            Ok(status) => last = Some(words::summary(&status)),
            Err(Failure { exit: Exit::Unavailable | Exit::Refused, words }) => last = Some(words),
            Err(failure) => return Err(failure),
        }
        thread::sleep(POLL.min(until.since(clock::now()).into()));
    }
    let words = format!(
        "the cluster is not ready in time: {}",
        last.unwrap_or_else(|| "the metaserver does not answer".to_owned())
    );
    Err(Failure { exit: Exit::Unavailable, words })
}

pub(super) fn revive(context: &Context, sets: ReviveSets) -> Result<Exit, Failure> {
    let sets: Vec<KeySet> = match sets {
        ReviveSets::One(set) => vec![set],
        ReviveSets::AllLost => {
            let status = block_on(ask_status(context, context.timeout))?;
            let lost = status.sets.iter().filter(|it| it.state == SetState::Lost);
            lost.map(|it| it.set).collect()
        }
    };
    let revived = if sets.is_empty() {
        Vec::new()
    } else {
        match block_on(ask(context, MetaRequest::Revive { sets }, context.timeout))? {
            MetaAnswer::Revived { sets } => sets,
            _ => return misfit(),
        }
    };
    match context.format {
        Format::Json => {
            let sets: Vec<u16> = revived.iter().map(|set| set.0).collect();
            report::print(&json!({ "revived": sets }))?;
        }
        Format::People if revived.is_empty() => println!("no key set is lost"),
        Format::People => println!("{} key sets reopened, empty", revived.len()),
    }
    Ok(Exit::Done)
}

pub(super) fn fence(context: &Context, member: Member) -> Result<Exit, Failure> {
    match block_on(ask(context, MetaRequest::Fence { member }, context.timeout))? {
        MetaAnswer::Fenced => {}
        _ => return misfit(),
    }
    match context.format {
        Format::Json => report::print(&json!({ "fenced": report::member(member) }))?,
        Format::People => println!("{member} counts as dead"),
    }
    Ok(Exit::Done)
}
