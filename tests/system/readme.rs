//! What the README shows is what happens.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_paxoskv");

/// An agent without a configuration, as in the README.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The commands of the README's session, and what they print.
fn session() -> (Vec<String>, Vec<String>) {
    let readme = include_str!("../../README.md");
    let block = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.expect("the README has a session").lines();
    let (commands, output): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("$ "));
    let commands = commands.into_iter().map(|line| line[2..].to_owned()).collect();
    (commands, output.into_iter().map(str::to_owned).collect())
}

fn paxoskv(socket: &std::path::Path, arguments: &[&str]) -> Option<i32> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("PAXOSKV_SOCKET", socket).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program runs").code()
}

#[test]
fn the_first_session_of_the_readme_prints_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let mut agent = Command::new(PROGRAM);
    agent.arg("agent").arg("--data-dir").arg(dir.path().join("data")).arg("--socket").arg(&socket);
    let _agent = Agent(agent.env_remove("PAXOSKV_SOCKET").stderr(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while paxoskv(&socket, &["cluster"]) != Some(0) {
        assert!(began.elapsed() < Duration::from_secs(60), "the agent does not serve");
    }
    let (commands, expected) = session();
    assert!(commands.len() >= 3 && expected.len() >= 2, "the README shows a session: {commands:?}");

    let program = std::path::Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.env("PATH", path).env("PAXOSKV_SOCKET", &socket).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    for command in &commands {
        writeln!(stdin, "{command}").unwrap();
    }
    drop(stdin);
    let output = shell.wait_with_output().unwrap();
    let printed: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(printed, expected);

    // "...and the key is gone on every host": the shell has ended; the agent is told by the kernel.
    let began = Instant::now();
    while paxoskv(&socket, &["get", "leader"]) != Some(1) {
        assert!(began.elapsed() < Duration::from_secs(60), "the key outlives the shell it was bound to");
    }
}
