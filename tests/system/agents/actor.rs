//! Processes that hold keys and do what they are told: this test binary, started again with [`alone_actor`].

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Set, to the socket that it connects to, in a process that is to be an actor.
const ACTOR: &str = "PAXOSKV_TEST_ACTOR";

/// A child with a connection to an agent.
pub struct Actor {
    pub child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// An actor's life: a line in, a line out, until the end of its standard input.
#[test]
fn alone_actor() {
    let Some(socket) = std::env::var_os(ACTOR) else { return };
    let mut caller = until("the agent serves", || Caller::connect(&PathBuf::from(&socket)).ok());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let reply = match words[..] {
            // Bound to this process …
            ["hold", key] => caller.ask(Request { pid: Some(PidOption::Connector(true)), ..put(key, "held") }),
            // … or to another.
            ["hold", key, pid] => {
                let pid = PidOption::Number(pid.parse().unwrap());
                caller.ask(Request { pid: Some(pid), ..put(key, "held") })
            }
            // Many at once; the answers do not matter, but are read.
            ["flood", prefix, count] => {
                let mut answers = caller.stream.try_clone().unwrap();
                std::thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
                for i in 0..count.parse::<usize>().unwrap() {
                    let pid = Some(PidOption::Connector(true));
                    if caller.send(Request { pid, ..put(&format!("{prefix}{i}"), "held") }).is_err() {
                        break;
                    }
                }
                continue;
            }
            ["release", key] => caller.ask(release(key)),
            ["exec", program] => panic!("{}", Command::new(program).exec()),
            _ => panic!("{line}"),
        };
        // The test's own first words may be on the same line.
        println!("\n: {:?} {}", reply.status, reply.message.unwrap_or_default());
    }
}

impl Actor {
    pub fn start(socket: &Path) -> Actor {
        let me = std::env::current_exe().unwrap();
        Actor::start_by(Command::new(me), socket)
    }

    /// By a command to which the test's own arguments are added.
    pub fn start_by(mut command: Command, socket: &Path) -> Actor {
        command.args(["--exact", "agents::actor::alone_actor", "--nocapture", "--test-threads=1"]).env(ACTOR, socket);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        Actor { child, stdin, lines }
    }

    /// One that holds a key.
    pub fn holding(agent: &Agent, key: &str) -> Actor {
        let mut actor = Actor::start(&agent.socket);
        assert_eq!(actor.say(&format!("hold {key}")), "Ok ");
        actor
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do something; what came of it.
    pub fn say(&mut self, line: &str) -> String {
        self.tell(line);
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix(": ").map(str::to_owned)).expect("the actor answers")
    }

    /// Has it do something that is not answered.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Kills it and leaves a zombie: returns when the kernel has made it one, without reaping.
    pub fn kill_unreaped(&self) {
        self.signal(Signal::SIGKILL);
        waitid(Id::Pid(Pid::from_raw(self.pid() as i32)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }

    pub fn kill_and_reap(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
