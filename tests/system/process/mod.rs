//! Who is calling and is it still alive, asked about real processes.
//!
//! Some cases must run in a process of their own (another descriptor limit, another pid namespace, another parent):
//! there this test binary is started again with one of the `alone_` tests below, which do nothing otherwise.

mod callers;
mod death;
mod exits;
mod fds;
mod identity;
mod parent;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use paxoskv::kv::ProcessId;
use paxoskv::process::{self, BindRefusal, ExitWatch, ProcessError, Received};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes: a test that gets there has failed.
const NEVER: Duration = Duration::from_secs(60);

/// Set, to the case's argument, in the processes in which an `alone_` test is to run.
const ALONE: &str = "PAXOSKV_TEST_ALONE";

/// The program of `helper.c`, compiled once a run; the processes that run an `alone_` test find it there.
fn helper() -> &'static PathBuf {
    static HELPER: LazyLock<PathBuf> = LazyLock::new(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let program = dir.join("helper");
        if alone_argument().is_none() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/process/helper.c");
            // Two runs at once may come here: each puts a whole program into place.
            let compiled = dir.join(format!("helper.{}", std::process::id()));
            let cc =
                Command::new("cc").args(["-pthread", "-Wall", "-Werror", "-o"]).arg(&compiled).arg(source).status();
            assert!(cc.unwrap().success());
            std::fs::rename(&compiled, &program).unwrap();
        }
        program
    });
    &HELPER
}

/// A child that says a line when it is ready and ends when its standard input does.
struct Helped {
    child: Child,
    stdin: Option<ChildStdin>,
    first_line: String,
}

impl Helped {
    fn start(command: &mut Command) -> Helped {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        let stdin = child.stdin.take();
        Helped { child, stdin, first_line: first_line.trim().to_owned() }
    }

    fn of_kind(kind: &str, args: &[&str]) -> Helped {
        let helped = Helped::start(Command::new(helper()).arg(kind).args(args));
        assert_ne!(helped.first_line, "", "{kind} did not get ready");
        helped
    }

    fn waiting() -> Helped {
        Helped::of_kind("wait", &[])
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Kills it and leaves a zombie: returns when the kernel has made it one, without reaping.
    fn kill_unreaped(&mut self) {
        self.signal(Signal::SIGKILL);
        let id = nix::sys::wait::Id::Pid(Pid::from_raw(self.child.id() as i32));
        nix::sys::wait::waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }

    fn kill_and_reap(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state_in_proc(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
}

fn boot() -> [u8; 16] {
    process::boot_id().unwrap()
}

fn identified(pid: u32) -> process::Identified {
    process::identify_number(pid, boot()).unwrap()
}

fn is_gone<T: std::fmt::Debug>(answer: Result<T, ProcessError>) -> bool {
    match answer {
        Err(ProcessError::Gone) => true,
        other => panic!("expected Gone, got {other:?}"),
    }
}

/// A watch with the keys that it reported.
fn exit_watch() -> (ExitWatch, mpsc::Receiver<u64>) {
    let (report, reported) = mpsc::channel();
    (ExitWatch::start(move |key| _ = report.send(key)).unwrap(), reported)
}

/// Everything reported by a watch that then ends: nothing can come after.
fn all_reported(watch: ExitWatch, reported: mpsc::Receiver<u64>) -> Vec<u64> {
    drop(watch);
    reported.iter().collect()
}

/// This binary, to run one `alone_` test, and only that.
fn alone(test: &str, argument: &str) -> Vec<String> {
    helper();
    let me = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let path = format!("process::{test}");
    let words = ["env", &format!("{ALONE}={argument}"), &me, "--exact", &path, "--nocapture", "--test-threads=1"];
    words.map(str::to_owned).to_vec()
}

/// Runs a command that ends in an `alone_` test, and returns what that printed.
fn run_alone(wrapper: &[&str], test: &str, argument: &str) -> String {
    let words: Vec<String> = wrapper.iter().map(|w| w.to_string()).chain(alone(test, argument)).collect();
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{words:?}: {text}\n{errors}");
    text.into_owned()
}

fn alone_argument() -> Option<String> {
    std::env::var(ALONE).ok()
}

/// Whether this test may make namespaces. Prints why not.
fn may_unshare() -> bool {
    let possible = Command::new("unshare").args(["--fork", "--pid", "--mount-proc", "true"]).output();
    let possible = possible.is_ok_and(|o| o.status.success());
    if !possible {
        println!("skipped: needs root and unshare(1)");
    }
    possible
}

const NEW_PID_NAMESPACE: [&str; 5] = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"];
