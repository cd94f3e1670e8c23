//! Keys that one process binds to another.

use super::*;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

/// A process that knows nothing of keys, and is killed with this.
struct Bystander(Child);

impl Bystander {
    fn start() -> Bystander {
        Bystander(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(rustix::process::Pid::from_child(&self.0), PidfdFlags::empty()).unwrap()
    }

    fn kill_and_reap(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn kill_unreaped(&mut self) {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        self.0.kill().unwrap();
        let id = Id::Pid(Pid::from_raw(self.0.id() as i32));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bound_to(key: &str, pid: PidOption) -> Request {
    Request { pid: Some(pid), ..put(key, "v") }
}

fn by_pidfd(caller: &mut Caller, key: &str, pidfd: &OwnedFd) -> Reply {
    let id = caller.send_with_fd(bound_to(key, PidOption::Passed("fd".into())), pidfd.as_fd()).unwrap();
    caller.reply_to(id).unwrap()
}

#[test]
fn a_key_that_is_bound_to_another_process_of_the_same_user_goes_with_that() {
    let cluster = Cluster::start(3);
    let (mut caller, mut other) = (cluster.agents[0].connect(), cluster.agents[1].connect());
    let (mut one, mut two) = (Bystander::start(), Bystander::start());
    caller.set(bound_to("number", PidOption::Number(one.0.id())));
    let reply = by_pidfd(&mut caller, "pidfd", &two.pidfd());
    assert_eq!((reply.status, reply.created), (Status::Ok, Some(true)), "{reply:?}");

    let found = other.ask(get("pidfd"));
    assert_eq!(found.bindings.unwrap()[0].pid, Some(two.0.id()));
    assert_eq!(found.holder.unwrap().pid, Some(std::process::id()), "the holder is who called");
    assert!(is_there(&mut other, "number"));
    one.kill_and_reap();
    await_gone(&mut other, "number");
    assert!(is_there(&mut other, "pidfd"));
    two.kill_unreaped();
    await_gone(&mut other, "pidfd");
}

#[test]
fn what_is_not_a_living_process_cannot_be_bound_to_and_nothing_is_stored() {
    let cluster = Cluster::start(3);
    let mut caller = cluster.agents[0].connect();
    let (mut reaped, mut unreaped) = (Bystander::start(), Bystander::start());
    let (reaped_fd, unreaped_fd) = (reaped.pidfd(), unreaped.pidfd());
    reaped.kill_and_reap();
    unreaped.kill_unreaped();
    let mut replies = vec![by_pidfd(&mut caller, "k", &reaped_fd), by_pidfd(&mut caller, "k", &unreaped_fd)];
    let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    replies.push(by_pidfd(&mut caller, "k", &file));
    for pid in [reaped.0.id(), unreaped.0.id(), 0, u32::MAX] {
        replies.push(caller.ask(bound_to("k", PidOption::Number(pid))));
    }
    for reply in replies {
        assert_eq!(reply.status, Status::InvalidValue, "{reply:?}");
        assert!(reply.message.is_some_and(|m| m.contains("pid")));
    }
    // The promise of a descriptor that does not come.
    let reply = caller.ask(bound_to("k", PidOption::Passed("fd".into())));
    assert_eq!(reply.status, Status::BadRequest, "{reply:?}");
    assert!(!is_there(&mut cluster.agents[1].connect(), "k"));
}

#[test]
fn only_root_binds_to_the_process_of_another_user_and_only_the_holder_releases() {
    let possible = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).output();
    if !possible.is_ok_and(|o| o.status.success()) {
        return println!("skipped: needs root and setpriv(1)");
    }
    let cluster = Cluster::start(3);
    // Another user reaches the test's directory, the socket and the program only by leave.
    let agent = &cluster.agents[0];
    let open = |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(cluster.dir());
    drop(agent.connect());
    open(&agent.socket);
    let program = cluster.dir().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).current_dir("/");
    let mut nobody = Actor::start_by(command, &agent.socket);

    let mine = Bystander::start();
    let refused = nobody.say(&format!("hold k {}", mine.0.id()));
    assert!(refused.starts_with("NotPermitted") && refused.contains("another user"), "{refused}");
    assert_eq!(nobody.say("hold its"), "Ok ");
    let mut root = agent.connect();
    assert!(!is_there(&mut root, "k"));
    let found = root.ask(get("its"));
    assert_eq!(found.holder.map(|h| (h.uid, h.pid)), Some((65534, Some(nobody.pid()))));

    root.set(put("mine", "v"));
    assert!(nobody.say("release mine").starts_with("NotPermitted"));
    assert!(is_there(&mut root, "mine"));
    // Root may, both.
    root.set(bound_to("of nobody", PidOption::Number(nobody.pid())));
    assert_eq!(root.ask(release("its")).status, Status::Ok);
    assert!(!is_there(&mut root, "its"));
    nobody.kill_and_reap();
    await_gone(&mut root, "of nobody");
}
