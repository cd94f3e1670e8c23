//! Numbers of processes that are used again. In a pid namespace of their own, where the next number can be chosen and
//! nobody else takes it: this test binary is started again there.

use super::*;
use std::process::{Child, Command, Stdio};

/// Set in the process in which [`alone_in_a_pid_namespace`] is to run.
const ALONE: &str = "PAXOSKV_TEST_REUSE";

#[test]
fn a_process_that_is_given_the_number_of_a_dead_holder_does_not_inherit_its_key() {
    let namespace = ["--fork", "--pid", "--mount-proc", "--kill-child"];
    if !Command::new("unshare").args(namespace).arg("true").output().is_ok_and(|o| o.status.success()) {
        return println!("skipped: needs root and unshare(1)");
    }
    let mut command = Command::new("unshare");
    command.args(namespace).arg(std::env::current_exe().unwrap()).env(ALONE, "yes");
    command.args(["--exact", "agents::reuse::alone_in_a_pid_namespace", "--nocapture", "--test-threads=1"]);
    let output = command.output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

#[test]
fn alone_in_a_pid_namespace() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let mut other = cluster.agents[1].connect();

    // Under the eyes of the agent …
    let holder = Actor::holding(&cluster.agents[0], "k");
    let number = holder.pid();
    holder.kill_and_reap();
    let heir = spawn_as(number);
    await_gone(&mut other, "k");

    // … and while it is down: there is only the number to find when it starts.
    drop(heir);
    let holder = Actor::holding(&cluster.agents[0], "l");
    let number = holder.pid();
    let token = other.ask(get("l")).token;
    cluster.agents[0].kill();
    holder.kill_and_reap();
    let heir = spawn_as(number);
    cluster.agents[0].start();
    await_gone(&mut other, "l");

    // The heir may hold the key in its own right.
    let mut caller = cluster.agents[0].await_quorum();
    let next = caller.set(Request { pid: Some(PidOption::Number(number)), ..put("l", "the heir's") });
    assert!(next.token > token);
    cluster.agents[0].kill();
    cluster.agents[0].start();
    cluster.agents[0].await_quorum();
    Actor::holding(&cluster.agents[0], "witness").kill_and_reap();
    await_gone(&mut other, "witness");
    assert_eq!(other.ask(get("l")).token, next.token, "it is found again after a restart");
    drop(heir);
    await_gone(&mut other, "l");
}

/// A process with this number. The threads of the agents take numbers too, hence again until it is the one.
fn spawn_as(number: u32) -> Heir {
    until(format!("a process with the number {number}"), || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
        let heir = Heir(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
        (heir.0.id() == number).then_some(heir)
    })
}

struct Heir(Child);

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
