//! The lines of a history, read and written.
//!
//! Goal: what is written is read again, and a bad line is told with its number and a remedy.
//! Method: a generated history there and back, and one bad line a kind of mistake.

use tandem_history::generate::{Settings, generate};
use tandem_history::{History, line};

fn text(history: &History) -> String {
    history.operations.iter().map(|it| line::write_whole(it) + "\n").collect()
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let written = generate(&Settings { operations: 2_000, ..Settings::default() });
    let read = History::read(text(&written).as_bytes(), |_| ()).expect("a history");
    assert_eq!(read, written);
}

#[test]
fn a_bad_line_is_told_with_its_number_and_a_remedy() {
    let asked = r#"{"process":1,"op":"get","key":"k","arg":null,"invoke_ns":1"#;
    let answered = r#""result":null,"revision":null,"position":[0,1,0],"return_ns":2"#;
    let good = format!(r#"{asked},{answered},"outcome":"ok"}}"#);
    assert!(History::read(good.as_bytes(), |_| ()).is_ok(), "the sample is good");
    for (from, to, told) in [
        ("{", "", "expected"),
        ("\"get\"", "\"fetch\"", "unknown variant `fetch`"),
        ("\"key\":\"k\",", "", "`key` is missing"),
        ("\"invoke_ns\":1,", "", "`invoke_ns` is missing"),
        ("\"return_ns\":2", "\"return_ns\":null", "`return_ns` is missing"),
        ("\"return_ns\":2", "\"return_ns\":0", "before `invoke_ns`"),
        ("\"result\":null", "\"result\":7", "it has to be the value"),
        ("\"get\"", "\"incr\"", "`arg` is null, it has to be a number"),
        ("\"get\"", "\"cas\"", "\"expect\""),
        ("\"ok\"", "\"maybe\"", "unknown variant `maybe`"),
        ("\"process\":1", "\"process\":\"one\"", "invalid type"),
    ] {
        let bad = format!("{good}\n{}\n", good.replacen(from, to, 1));
        let error = History::read(bad.as_bytes(), |_| ()).expect_err("a bad line");
        let error = error.to_string();
        assert!(error.starts_with("line 2: ") && error.contains(told), "{to}: {error}");
    }
}

#[test]
fn a_client_has_one_operation_in_flight() {
    let line = |process: u64, invoke: u64, outcome: &str| {
        let times = format!(r#""invoke_ns":{invoke},"return_ns":{}"#, invoke + 10);
        let asked = format!(r#""process":{process},"op":"put","key":"k","arg":"v""#);
        format!(r#"{{{asked},"result":true,{times},"outcome":"{outcome}"}}"#)
    };
    let read = |lines: &[String]| History::read(lines.join("\n").as_bytes(), |_| ());
    assert!(read(&[line(1, 0, "ok"), line(1, 10, "ok"), line(2, 5, "ok")]).is_ok());
    let overlapping = read(&[line(1, 0, "ok"), line(1, 9, "ok")]).expect_err("overlapping");
    assert!(overlapping.to_string().contains("had not returned"), "{overlapping}");
    let retired = read(&[line(1, 0, "unknown"), line(1, 50, "ok")]).expect_err("retired");
    assert!(retired.to_string().contains("new process"), "{retired}");
}
