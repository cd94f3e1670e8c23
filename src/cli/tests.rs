use super::args::{AskCommand, Cli, Command, Globals};
use super::exit::{Exit, Failure};
use super::print::{Shown, key_line, time};
use super::values::{Deadline, PidArg, Question, Until};
use crate::client::{ClientError, Outcome};
use crate::codec::{cbor, to_item};
use clap::{CommandFactory, Parser};
use serde_json::json;
use std::time::Duration;

fn parse(words: &[&str]) -> Result<(Globals, Command), clap::error::ErrorKind> {
    let words = std::iter::once(&"paxoskv").chain(words);
    Cli::try_parse_from(words).map(|cli| (cli.globals, cli.command)).map_err(|e| e.kind())
}

fn put(words: &[&str]) -> super::args::PutArgs {
    match parse(words) {
        Ok((_, Command::Ask(AskCommand::Put(args)))) => args,
        other => panic!("{other:?}"),
    }
}

/// The question that a command line comes to.
fn question(words: &[&str]) -> Result<Question, Failure> {
    match parse(words) {
        Ok((globals, Command::Ask(command))) => Question::read(&globals, command),
        other => panic!("{other:?}"),
    }
}

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn pid_option_swallows_no_positional_argument() {
    assert_eq!(put(&["put", "k", "v", "--pid"]).pid, Some(PidArg::Caller));
    assert_eq!(put(&["put", "--pid", "k", "v"]).pid, Some(PidArg::Caller));
    assert_eq!(put(&["put", "--pid=12", "k", "v"]).pid, Some(PidArg::Number(12)));
    assert!(put(&["put", "k", "v"]).pid.is_none());
    assert!(parse(&["put", "k", "v", "--pid", "12"]).is_err());
    for wrong in ["--pid=0", "--pid=-1", "--pid=x", "--pid=99999999999"] {
        assert!(parse(&["put", "k", "v", wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    for words in [["--json", "--socket=/s", "--bucket=b", "now"], ["now", "--json", "--socket=/s", "--bucket=b"]] {
        let (globals, _) = parse(&words).unwrap();
        assert!(globals.json);
        assert_eq!(globals.socket_or_env().unwrap().to_str(), Some("/s"));
        assert_eq!(globals.bucket().as_deref(), Some("b"));
    }
    assert_eq!(Globals { bucket_name: Some(String::new()), ..Globals::default() }.bucket(), None);
}

#[test]
fn value_may_be_a_negative_number_or_a_dash() {
    assert_eq!(put(&["put", "k", "-5"]).value, "-5");
    assert_eq!(put(&["put", "k", "-"]).value, "-");
    assert_eq!(put(&["put", "k", "--", "-x"]).value, "-x");
}

#[test]
fn times_are_absolute_or_relative() {
    let until = |text: &str| text.parse::<Until>();
    assert_eq!(until("1795415638608"), Ok(Until::At(1_795_415_638_608)));
    let durations = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)];
    for (text, ms) in durations {
        assert_eq!(until(&format!("+{text}")), Ok(Until::In(Duration::from_millis(ms))));
        assert_eq!(text.parse(), Ok(Deadline(Duration::from_millis(ms))));
    }
    assert!(until("30s").unwrap_err().contains("+30s"));
    for wrong in
        ["", "+", "+30", "+s", "+1.5s", "+-1s", "++1s", "-5", "+99999999999999999999s", "+9999999999999999d", "+1µ"]
    {
        assert!(until(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "5", "0s", "2d", "86400001ms", "s", "é"] {
        assert!(wrong.parse::<Deadline>().is_err(), "{wrong}");
    }
}

#[test]
fn keys_and_values_are_text_or_json() {
    let Ok(Question::Put { key, value, .. }) = question(&["put", "5", "true"]) else { panic!() };
    assert_eq!((key, value), (cbor::text("5"), cbor::text("true")));
    let Ok(Question::Put { key, value, .. }) = question(&["--json", "put", "5", "[true]"]) else { panic!() };
    assert_eq!((key, value), (vec![5], vec![0x81, 0xf5]));
    let failure = question(&["--json", "get", "leader"]).err().unwrap();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.contains(r#"'"leader"'"#), "{failure}");
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert_eq!(question(&["--json", "get", &deep]).err().unwrap().exit, Exit::Usage);
}

#[test]
fn value_of_a_file_is_its_bytes_and_over_the_limit_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v");
    let at = format!("@{}", path.display());
    std::fs::write(&path, b"[1]").unwrap();
    let Ok(Question::Put { value, .. }) = question(&["put", "k", &at]) else { panic!() };
    assert_eq!(value, to_item(serde_bytes::Bytes::new(b"[1]")).unwrap());
    let Ok(Question::Put { value, .. }) = question(&["--json", "put", "1", &at]) else { panic!() };
    assert_eq!(value, [0x81, 1]);
    std::fs::write(&path, vec![0; 65_537]).unwrap();
    assert_eq!(question(&["put", "k", &at]).err().unwrap().exit, Exit::TooLarge);
    let absent = format!("@{}", directory.path().join("absent").display());
    assert_eq!(question(&["put", "k", &absent]).err().unwrap().exit, Exit::Usage);
}

#[test]
fn exit_statuses_are_distinct_and_stay_as_they_are() {
    let text = String::new;
    let cases = [
        (ClientError::InvalidValue(text()), 4),
        (ClientError::NotPermitted(text()), 5),
        (ClientError::NotReachable(text()), 6),
        (ClientError::TimedOut(text()), 6),
        (ClientError::NoQuorum { outcome: Outcome::Unknown }, 7),
        (ClientError::TooLarge(text()), 8),
        (ClientError::Unknown(text()), 9),
        (ClientError::Unsupported(text()), 10),
        (ClientError::BadRequest(text()), 10),
        (ClientError::Overloaded(text()), 10),
        (ClientError::WrongType(text()), 10),
        (ClientError::Agent(text()), 10),
    ];
    for (error, status) in cases {
        assert_eq!(Failure::from(error.clone()).exit as u8, status, "{error}");
    }
    assert_eq!([Exit::Ok as u8, Exit::NotFound as u8, Exit::Usage as u8, Exit::NoQuorum as u8], [0, 1, 2, 3]);
    assert_eq!([Exit::System as u8, Exit::StorageFailed as u8, Exit::Configuration as u8], [71, 74, 78]);
}

#[test]
fn value_is_printed_as_itself_and_with_json_as_one_line() {
    let out = |json: bool, item: &[u8]| Shown::of_item(json, json!({ "a": "b\nc" }), item).out;
    assert_eq!(out(false, &cbor::text("x")), b"x\n");
    assert_eq!(out(false, &[0x43, 0, b'\n', 255]), [0, b'\n', 255]);
    assert_eq!(out(false, &[0x82, 1, 2]), b"[1,2]\n");
    assert_eq!(out(true, &cbor::text("x")), b"{\"a\":\"b\\nc\"}\n");
}

#[test]
fn key_that_would_break_its_line_is_shown_as_json() {
    assert_eq!(key_line(&cbor::text("a b/é")), "a b/é");
    assert_eq!(key_line(&cbor::text("a\nb")), r#""a\nb""#);
    assert_eq!(key_line(&cbor::text("a\u{1b}[31m")), r#""a\u001b[31m""#);
    assert_eq!(key_line(&cbor::text("")), r#""""#);
    assert_eq!(key_line(&[0x82, 1, 2]), "[1,2]");
    assert_eq!(key_line(&[0x42, b'a', b'b']), r#"{"$bytes":"6162"}"#);
}

#[test]
fn times_are_shown_as_date_and_time() {
    let cases = [
        (0, "1970-01-01 00:00:00"),
        (951_782_400_000, "2000-02-29 00:00:00"),
        (1_709_251_199_999, "2024-02-29 23:59:59"),
        (1_735_689_600_000, "2025-01-01 00:00:00"),
        (4_107_542_400_000, "2100-03-01 00:00:00"),
    ];
    for (ms, text) in cases {
        assert_eq!(time(ms), format!("{text} UTC ({ms})"));
    }
    time(u64::MAX);
}
