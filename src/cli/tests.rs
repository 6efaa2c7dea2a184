//! Goal: arguments mean what the help says, and what does not go together is refused.
//! Method: parse command lines and compare what they mean.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::arguments::{Arguments, Invocation};
use crate::protocol::message::Expect;
use crate::protocol::types::{Incarnation, LossEpoch, Member, Op, Revision, ServerId};
use crate::roles::client::{Action, ClientRequest, Format, Input};

fn parse(line: &str) -> Result<Invocation, String> {
    let words = std::iter::once("tandem").chain(line.split(' '));
    let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
    Invocation::new(arguments)
}

fn action(line: &str) -> Action {
    match parse(line) {
        Ok(Invocation::Client { request, .. }) => request.action,
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn roles_need_what_they_need() {
    let config = PathBuf::from("c.toml");
    let meta = Invocation::Meta { config: config.clone() };
    assert_eq!(parse("--role meta --config c.toml"), Ok(meta));
    let server = Invocation::Server { config, id: ServerId(2) };
    assert_eq!(parse("--role server --config c.toml --id 2"), Ok(server));
    assert!(parse("--role server").is_err_and(|it| it.contains("--id")));
    assert!(parse("--role server --id 0").is_err());
    assert!(parse("--role meta get a").is_err());
    assert!(parse("--role client").is_err_and(|it| it.contains("command")));
}

#[test]
fn a_rebuild_is_the_metaservers() {
    let config = PathBuf::from("c.toml");
    let (wait, format) = (Duration::from_secs(5), Format::Json);
    let expected = Ok(Invocation::Rebuild { config, wait, format });
    assert_eq!(parse("--role meta rebuild --config c.toml --wait 5s -o json"), expected);
    assert!(parse("rebuild").is_err_and(|it| it.contains("--role meta rebuild")));
    assert!(parse("--role server --id 1 rebuild").is_err());
}

#[test]
fn global_options_may_follow_the_command() {
    let request = ClientRequest {
        name: Some("app".to_owned()),
        timeout: Some(Duration::from_secs(2)),
        format: Format::Json,
        action: Action::Get { key: "a".into() },
    };
    let config = PathBuf::from("x.toml");
    let expected = Ok(Invocation::Client { config, request });
    let line = "--role client get a --as app --timeout 2s -o json --config x.toml";
    assert_eq!(parse(line), expected);
}

#[test]
fn values_come_from_the_line_a_file_or_standard_input() {
    let put = |value| Action::Put { key: "k".into(), value, lifetime: None };
    assert_eq!(action("put k v"), put(Input::Given("v".into())));
    assert_eq!(action("put k -"), put(Input::Standard));
    assert_eq!(action("put k --file f"), put(Input::File(PathBuf::from("f"))));
    assert!(parse("put k").is_err());
    assert!(parse("put k v --file f").is_err());
}

#[test]
fn a_cas_expects_one_thing_and_wishes_one_thing() {
    let given = |text: &'static str| Some(Input::Given(text.into()));
    let cas = |expect, value| Action::Cas { key: "k".into(), expect, value, lifetime: None };
    let revision = Revision { loss_epoch: LossEpoch(1), op: Op(17) };
    assert_eq!(action("cas k --absent v"), cas(Expect::Absent, given("v")));
    assert_eq!(action("cas k --expect a b"), cas(Expect::Value("a".into()), given("b")));
    assert_eq!(action("cas k --revision 1.17 --delete"), cas(Expect::Revision(revision), None));
    assert!(parse("cas k v").is_err());
    assert!(parse("cas k --absent").is_err());
    assert!(parse("cas k --absent --expect a v").is_err());
    assert!(parse("cas k --revision x v").is_err());
}

#[test]
fn the_status_is_watched_as_often_as_asked() {
    let status = |sets, watch| Action::Status { sets, watch };
    assert_eq!(action("status"), status(false, None));
    assert_eq!(action("status --watch"), status(false, Some(Duration::from_secs(1))));
    let often = Some(Duration::from_millis(500));
    assert_eq!(action("status --watch 500ms --sets"), status(true, often));
    assert!(parse("status --watch 1ms").is_err_and(|it| it.contains("at least 50ms")));
}

#[test]
fn numbers_may_be_negative() {
    assert_eq!(action("incr k"), Action::Incr { key: "k".into(), by: 1 });
    assert_eq!(action("incr k -5"), Action::Incr { key: "k".into(), by: -5 });
}

#[test]
fn what_destroys_needs_consent() {
    assert!(parse("admin revive 3").is_err_and(|it| it.contains("--accept-loss")));
    assert!(parse("admin revive --accept-loss").is_err());
    assert!(parse("admin revive --all --accept-loss").is_ok());
    let member = Member { server: ServerId(2), incarnation: Incarnation(7) };
    assert_eq!(action("admin fence s2.7"), Action::Fence { member });
    assert!(parse("admin fence s2").is_err());
    let stop = |accept_loss| Action::StopCluster { accept_loss };
    assert_eq!(action("admin stop-cluster"), stop(false));
    assert_eq!(action("admin stop-cluster --accept-loss"), stop(true));
}
