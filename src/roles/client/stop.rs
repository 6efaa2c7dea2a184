//! `admin stop-cluster`: ends every server and then the metaserver, and shows how far that is.
//!
//! The metaserver is asked again and again: asked again it asks for the same, and its answer tells
//! how far it is. Once it has said that all servers have ended, it is waited for itself.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::operate::{POLL, ask, misfit};
use super::{Context, Failure, Format, report};
use crate::client::block_on;
use crate::clock;
use crate::protocol::message::{MetaAnswer, MetaRequest, StopPhase, StopReport, StopState};
use crate::protocol::time::{Span, Time};
use crate::roles::Exit;

/// How long one question may go unanswered before the metaserver counts as silent.
const ANSWER: Duration = Duration::from_secs(2);

/// The metaserver has this long to end after its servers.
const META_END: Duration = Duration::from_secs(10);

pub(super) fn stop_cluster(context: &Context, accept_loss: bool) -> Result<Exit, Failure> {
    let until = clock::now() + Span::from(context.timeout);
    let (mut last, mut shown) = (None, String::new());
    let ended = loop {
        let asked = MetaRequest::StopCluster { accept_loss };
        let left = Duration::from(until.since(clock::now()));
        let report = match block_on(ask(context, asked, ANSWER.min(left))) {
            Ok(MetaAnswer::Stopping(report)) => report,
            Ok(_) => return misfit(),
            Err(failure) if failure.exit == Exit::Refused || clock::now() >= until => {
                return Err(in_the_midst(failure, last.as_ref()));
            }
            Err(_) => {
                thread::sleep(POLL);
                continue;
            }
        };
        let words = progress(&report);
        if context.format == Format::People && words != shown {
            eprintln!("{words}");
            shown = words;
        }
        if report.phase == StopPhase::Over {
            break report;
        }
        last = Some(report);
        if clock::now() >= until {
            return Err(Failure { exit: Exit::Unknown, words: out_of_time(&shown) });
        }
        thread::sleep(POLL);
    };
    until_metaserver_ends(context, clock::now() + Span::from(META_END))?;
    conclude(context, &ended)
}

/// A failure after the stop began leaves its outcome open.
fn in_the_midst(failure: Failure, last: Option<&StopReport>) -> Failure {
    let Some(last) = last else { return failure };
    let words = format!(
        "{}; it had begun to stop the cluster ({}); look which processes run before you go on",
        failure.words,
        progress(last)
    );
    Failure { exit: Exit::Unknown, words }
}

fn out_of_time(shown: &str) -> String {
    format!("the time is up, and the stop goes on ({shown}); the same command watches it further")
}

/// A metaserver that answers has not ended; a question that changes nothing tells.
fn until_metaserver_ends(context: &Context, until: Time) -> Result<(), Failure> {
    const SILENT: Duration = Duration::from_millis(300);
    while block_on(ask(context, MetaRequest::Space, SILENT)).is_ok() {
        if clock::now() >= until {
            let words = "the servers have ended, but a metaserver still answers: something may \
                         have started it again"
                .to_owned();
            return Err(Failure { exit: Exit::Unknown, words });
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn conclude(context: &Context, ended: &StopReport) -> Result<Exit, Failure> {
    let left: Vec<_> = ended.servers.iter().filter(|it| it.2 != StopState::Ended).collect();
    if context.format == Format::Json {
        let servers = ended.servers.iter().map(|(server, process, state)| {
            json!({ "server": server.0, "process": process, "state": name(*state) })
        });
        let servers: Vec<_> = servers.collect();
        report::print(&json!({ "stopped": left.is_empty(), "servers": servers }))?;
    }
    if left.is_empty() {
        if context.format == Format::People {
            println!("all is down: {} servers and the metaserver", ended.servers.len());
        }
        return Ok(Exit::Done);
    }
    let left = left.into_iter().map(|(server, process, state)| match state {
        StopState::Unreached => format!("server {} (process {process}) was not reached", server.0),
        _ => format!("server {} (process {process}) was told to end and has not", server.0),
    });
    let left: Vec<String> = left.collect();
    let words = format!("the metaserver has ended, but {}", left.join(", and "));
    Err(Failure { exit: Exit::Unknown, words })
}

fn progress(report: &StopReport) -> String {
    let count =
        |wanted: StopState| report.servers.iter().filter(|(_, _, state)| *state == wanted).count();
    let all = report.servers.len();
    let mut words = match report.phase {
        StopPhase::Quiescing => {
            format!("{} of {all} servers have finished what was under way", {
                all - count(StopState::Busy) - count(StopState::Unreached)
            })
        }
        StopPhase::Ending => format!("{} of {all} servers have ended", count(StopState::Ended)),
        StopPhase::Over => {
            format!("{} of {all} servers have ended; the metaserver ends", count(StopState::Ended))
        }
    };
    let unreached = count(StopState::Unreached);
    if unreached > 0 {
        words.push_str(&format!(", {unreached} not reached"));
    }
    words
}

fn name(state: StopState) -> &'static str {
    match state {
        StopState::Busy => "busy",
        StopState::Quiet => "quiet",
        StopState::Ended => "ended",
        StopState::Unreached => "unreached",
    }
}
