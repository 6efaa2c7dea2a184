//! `status --watch`: the status again and again, until somebody interrupts it.
//!
//! On a terminal each picture takes the place of the last one; elsewhere they follow each other.
//! For programs every picture is one object on one line. A metaserver that does not answer is
//! part of the picture and ends nothing.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::operate::ask_overview;
use super::{Context, Failure, Format, status as words};
use crate::clock;
use crate::roles::Exit;

/// How long a picture may wait for the metaserver's answer before it says that there is none.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Goes to the upper left corner; clears the rest of the line, and of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// How pictures are shown.
#[derive(Clone, Copy, Debug)]
struct View {
    format: Format,
    sets: bool,
    every: Duration,
    terminal: bool,
}

/// Shows the status every so often; SIGINT and SIGTERM end it in order.
pub(super) fn run(context: &Context, sets: bool, every: Duration) -> Result<Exit, Failure> {
    let terminal = io::stdout().is_terminal();
    let view = View { format: context.format, sets, every, terminal };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            biased;
            _ = interrupted.recv() => Ok(Exit::Done),
            _ = terminated.recv() => Ok(Exit::Done),
            ended = show(context, view) => ended,
        }
    })
}

/// Shows pictures until nobody reads them any more.
async fn show(context: &Context, view: View) -> Result<Exit, Failure> {
    let mut turns = interval(view.every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let found = match ask_overview(context, ANSWER_MAX.min(context.timeout)).await {
            Ok(overview) => Ok(overview),
            Err(Failure { exit: Exit::Unavailable | Exit::Refused, words }) => Err(words),
            Err(failure) => return Err(failure),
        };
        let picture = view.picture(&found, &stamp(clock::wall_clock()));
        let mut out = io::stdout().lock();
        match out.write_all(picture.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Such as `head`, which has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A moment of UTC as RFC 3339 writes it, to the second.
fn stamp(at: OffsetDateTime) -> String {
    let (date, hour, minute, second) = (at.date(), at.hour(), at.minute(), at.second());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

impl View {
    /// What is written for one answer of the metaserver, or for the words why there is none.
    fn picture(&self, found: &Result<words::Overview, String>, at: &str) -> String {
        match self.format {
            Format::Json => {
                let mut object = match found {
                    Ok(overview) => words::json(overview),
                    Err(words) => json!({ "ready": false, "error": words }),
                };
                object["at"] = Value::from(at);
                format!("{object}\n")
            }
            Format::People => {
                let every = humantime::format_duration(self.every);
                let body = match found {
                    Ok(overview) => words::table(overview, self.sets),
                    Err(words) => format!("{words}\n"),
                };
                let text = format!("{at}, every {every}; Ctrl-C ends\n\n{body}\n");
                if !self.terminal {
                    return text;
                }
                let end = format!("{CLEAR_LINE}\n");
                format!("{HOME}{}{CLEAR_BELOW}", text.replace('\n', &end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a picture replaces the last one on a terminal and is one line for programs, with and
    //! without an answer of the metaserver.
    //! Method: pictures of an empty status, and of words why there is none.

    use super::*;

    fn picture(format: Format, terminal: bool, found: &Result<words::Overview, String>) -> String {
        let every = Duration::from_millis(500);
        View { format, sets: false, every, terminal }.picture(found, "12:00:00")
    }

    #[test]
    fn a_moment_has_fixed_places() {
        assert_eq!(stamp(OffsetDateTime::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn programs_get_one_object_a_line() {
        let away = Err("it is\naway".to_owned());
        for (found, ready) in [(Ok(words::Overview::default()), false), (away, false)] {
            let text = picture(Format::Json, true, &found);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            let object: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(object["ready"], ready);
            assert_eq!(object["at"], "12:00:00");
            assert_eq!(object["error"].is_string(), found.is_err());
        }
    }

    #[test]
    fn people_see_the_newest_picture_alone() {
        let away = Err("the metaserver does not answer".to_owned());
        let plain = picture(Format::People, false, &away);
        assert_eq!(
            plain,
            "12:00:00, every 500ms; Ctrl-C ends\n\nthe metaserver does not answer\n\n"
        );
        let drawn = picture(Format::People, true, &away);
        assert!(drawn.starts_with("\x1b[H12:00:00") && drawn.ends_with("\x1b[J"), "{drawn:?}");
        assert!(!drawn.replace("\x1b[K\n", "").contains('\n'), "every line is cleared: {drawn:?}");
    }
}
