//! Real processes that die or fail in mid-load.
//!
//! The test binary starts itself again: [`start`] runs one of the `child_…` functions below in a new process, by the
//! test harness's own name filter. Without the variable that names the directory they do nothing.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use paxoskv::storage::sled::Sled;
use paxoskv::storage::{Store, StoreError, Write};

use super::{Random, commit, delete, get, pattern, put, scan_all, scratch};

const DIRECTORY: &str = "PAXOSKV_TEST_DIRECTORY";
const ROUNDS: usize = 20;
const SLOTS: u64 = 8;

/// Starts `function` of this module in a process of its own, working on `directory`; `wrapper` is a command that it
/// runs under, or nothing.
fn start(function: &str, directory: &Path, wrapper: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let module = module_path!().split_once("::").expect("the module is inside the test crate").1;
    let binary = std::env::current_exe().expect("this binary has a path").into_os_string();
    let mut words = wrapper.iter().map(Into::into).chain([binary]);
    let mut command = Command::new(words.next().expect("there is a command"));
    command.args(words).arg(format!("{module}::{function}")).args(["--exact", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the child starts");
    let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    (child, output)
}

/// The words after `tell`'s mark, line by line; the harness's own lines are passed over.
fn told(output: BufReader<ChildStdout>) -> impl Iterator<Item = String> {
    output.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("child: ").map(str::to_owned))
}

/// Says something to the parent at once. It begins a line of its own, because the harness may have begun one.
fn tell(what: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("\nchild: {what}\n").as_bytes()).and_then(|()| output.flush()).expect("the parent reads");
}

/// The directory to work on, in a child; nothing elsewhere. A child ends by itself after a while, so that one that
/// hangs fails its test instead of stopping all of them.
fn child_directory() -> Option<PathBuf> {
    let directory = std::env::var_os(DIRECTORY).map(PathBuf::from)?;
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(60));
        std::process::exit(1)
    });
    Some(directory)
}

fn slot(number: u64) -> Vec<u8> {
    format!("slot/{number}").into_bytes()
}

/// The record of a slot in generation `n`: long ones and short ones take turns in every slot.
fn slot_record(n: u64, number: u64) -> Vec<u8> {
    let length = [10, 700, 5_000, 80 * 1024][usize::try_from((n + number) % 4).expect("it is small")];
    [&n.to_be_bytes()[..], &pattern(n * SLOTS + number, length)].concat()
}

/// Generation `n` rewrites every slot, adds one mark and removes the mark of three generations ago.
fn generation(n: u64) -> Vec<Write> {
    let mut batch: Vec<Write> = (0..SLOTS).map(|number| put(slot(number), slot_record(n, number))).collect();
    batch.push(put(format!("mark/{n:012}"), n.to_be_bytes()));
    batch.extend(n.checked_sub(3).map(|old| delete(format!("mark/{old:012}"))));
    batch
}

/// The generation that the store holds, after checking that it is there whole and nothing of any other is.
fn check_generation(store: &impl Store) -> u64 {
    let records = scan_all(store, 5);
    let Some(first) = get(store, slot(0)) else {
        assert_eq!(records, [], "no generation, hence no record");
        return 0;
    };
    let n = u64::from_be_bytes(*first.first_chunk().expect("a slot begins with its generation"));
    let mut expected: Vec<_> = (n.saturating_sub(2).max(1)..=n)
        .map(|mark| (format!("mark/{mark:012}").into_bytes(), mark.to_be_bytes().to_vec()))
        .collect();
    expected.extend((0..SLOTS).map(|number| (slot(number), slot_record(n, number))));
    assert!(records == expected, "generation {n} is not whole");
    n
}

#[test]
#[ignore = "runs as the child of the test below"]
fn child_writer() {
    let Some(directory) = child_directory() else { return };
    let mut store = Sled::open(&directory).expect("the store opens");
    let last = check_generation(&store);
    for n in last + 1.. {
        commit(&mut store, &generation(n));
        tell(&n.to_string());
    }
}

#[test]
fn sled_killed_in_mid_load_keeps_every_acknowledged_batch_whole() {
    let directory = scratch();
    let mut random = Random(20);
    let mut acknowledged = 0;
    let mut kept = 0;
    for round in 0..ROUNDS {
        let (mut child, output) = start("child_writer", directory.path(), &[]);
        let numbers = told(output);
        // Every fourth child is killed while it is still opening the store, the others while they write.
        let patience = Duration::from_micros(random.next() % if round % 4 == 3 { 60_000 } else { 400_000 });
        std::thread::sleep(patience);
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("it is reaped");
        let first = acknowledged;
        acknowledged = numbers.map(|n| n.parse().expect("a number")).last().unwrap_or(kept).max(kept);
        let store = Sled::open(directory.path()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        kept = check_generation(&store);
        // One more than acknowledged: committed, and killed before it could say so.
        assert!(kept == acknowledged || kept == acknowledged + 1, "round {round}: {kept}, told {acknowledged}");
        println!("round {round}: killed after {patience:?}, {} commits told, {kept} kept", acknowledged - first);
    }
    assert!(acknowledged > 0, "no child came as far as a commit");
}

#[test]
#[ignore = "runs as the child of the test below"]
fn child_opener() {
    let Some(directory) = child_directory() else { return };
    let opened = Sled::open(&directory);
    tell(if matches!(opened, Err(StoreError::Locked(_))) { "locked" } else { "not locked" });
}

#[test]
fn a_second_opener_in_another_process_is_refused_and_harmless() {
    let directory = scratch();
    let mut store = Sled::open(directory.path()).expect("the store opens");
    commit(&mut store, &[put("k", "1")]);
    let (mut child, output) = start("child_opener", directory.path(), &[]);
    assert_eq!(told(output).collect::<Vec<_>>(), ["locked"]);
    child.wait().expect("it is reaped");
    commit(&mut store, &[put("k", "2")]);
    drop(store);
    let store = Sled::open(directory.path()).expect("it opens again");
    assert_eq!(get(&store, "k").as_deref(), Some(&b"2"[..]));
}

#[test]
#[ignore = "runs as the child of the test below"]
fn child_that_runs_into_a_limit() {
    let Some(directory) = child_directory() else { return };
    let mut store = Sled::open(&directory).expect("the store opens");
    let data = directory.join("sled/db");
    for n in 1.. {
        match store.commit(&generation(n)) {
            Ok(()) => tell(&n.to_string()),
            Err(StoreError::Failed { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let before = std::fs::read(&data).expect("the data file is read");
    let error = store.commit(&[put("k", "late")]).expect_err("a stopped store stays stopped");
    assert!(error.to_string().ends_with("store stopped after an earlier failure"), "{error}");
    drop(store);
    std::thread::sleep(Duration::from_millis(100));
    assert!(std::fs::read(&data).expect("the data file is read") == before, "dropping a failed store wrote");
    tell("stopped");
}

/// A file size limit makes a write fail in mid-batch, as a full disk would.
#[test]
fn a_failed_write_stops_the_store_and_loses_nothing_acknowledged() {
    let directory = scratch();
    // 12 MiB in blocks of 512 bytes. The signal is ignored, and stays so in the child, so that the write fails.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 24576; exec \"$0\" \"$@\""];
    let (mut child, output) = start("child_that_runs_into_a_limit", directory.path(), &limited);
    let mut lines: Vec<String> = told(output).collect();
    assert!(child.wait().expect("it is reaped").success());
    assert_eq!(lines.pop().as_deref(), Some("stopped"));
    let acknowledged: u64 = lines.last().expect("some commits succeeded").parse().expect("a number");
    let store = Sled::open(directory.path()).expect("it opens without the limit");
    let kept = check_generation(&store);
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} kept, {acknowledged} told");
}
