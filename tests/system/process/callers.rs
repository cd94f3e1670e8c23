//! The process behind a connection.

use super::*;

struct Listening {
    _dir: tempfile::TempDir,
    path: String,
    listener: UnixListener,
}

fn listening() -> Listening {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s").to_str().unwrap().to_owned();
    let listener = UnixListener::bind(&path).unwrap();
    Listening { _dir: dir, path, listener }
}

#[test]
fn a_caller_is_identified_and_may_bind_its_own() {
    let here = listening();
    let child = Helped::of_kind("connect", &[&here.path]);
    let (stream, _) = here.listener.accept().unwrap();
    let caller = process::identify_peer(&stream, boot()).unwrap();
    let process = caller.process.as_ref().unwrap();
    assert_eq!(process.id, identified(child.child.id()).id);
    assert_eq!((caller.uid, caller.gid), (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()));
    assert!(caller.may_name_numbers());
    assert!(caller.may_bind(process) && caller.may_bind(&identified(std::process::id())));
}

#[test]
fn only_the_process_itself_its_uid_or_root_may_bind() {
    let child = Helped::waiting();
    let other = identified(std::process::id()).id;
    let mut target = identified(child.child.id());
    target.uid = 1000;
    assert!(process::may_bind(1000, None, &target));
    assert!(process::may_bind(1000, Some(&other), &target));
    assert!(process::may_bind(0, Some(&other), &target));
    assert!(process::may_bind(1001, Some(&target.id), &target));
    assert!(!process::may_bind(1001, Some(&other), &target));
    assert!(!process::may_bind(1001, None, &target));
}

#[test]
fn a_caller_that_was_reaped_before_it_was_asked_about_is_gone() {
    let here = listening();
    let mut child = Helped::of_kind("connect", &[&here.path]);
    child.kill_and_reap();
    let (stream, _) = here.listener.accept().unwrap();
    assert!(is_gone(process::identify_peer(&stream, boot())));
}

#[test]
fn a_connection_belongs_to_its_connector_and_not_to_the_child_that_holds_it() {
    let here = listening();
    let mut child = Helped::of_kind("connect-and-hand-on", &[&here.path]);
    assert_eq!(child.first_line, "child holds it");
    let (mut stream, _) = here.listener.accept().unwrap();
    let caller = process::identify_peer(&stream, boot()).unwrap();
    let process = caller.process.unwrap();
    assert_eq!(process.id.pid, child.child.id());
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();

    child.kill_and_reap();
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));
    assert!(is_gone(process::identify_peer(&stream, boot())));
    // The connection is open still: its end is not the process's, nor the other way round.
    drop(child.stdin.take());
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn a_caller_in_a_namespace_below_is_bound_and_names_no_numbers() {
    if !may_unshare() {
        return;
    }
    let here = listening();
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--kill-child"]).arg(helper()).args(["connect", &here.path]);
    let child = Helped::start(&mut command);
    assert_eq!(child.first_line, "connected");
    let (stream, _) = here.listener.accept().unwrap();
    let caller = process::identify_peer(&stream, boot()).unwrap();
    let process = caller.process.as_ref().unwrap();
    // It believes to be pid 1.
    assert!(process.id.pid > 1 && process.comm == "helper");
    assert!(!process.in_our_pid_namespace && !caller.may_name_numbers());
    assert_eq!(process::reopen(&process.id, boot()).unwrap().id, process.id);
    let (watch, reported) = exit_watch();
    watch.watch(1, Arc::clone(&process.pidfd)).unwrap();
    drop(child);
    assert_eq!(reported.recv_timeout(NEVER), Ok(1));
}

#[test]
fn a_caller_outside_our_namespace_is_served_and_not_bound() {
    if !may_unshare() {
        return;
    }
    // The agent is in the namespace, and this process, outside, connects.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let words = alone("callers::alone_serve_outsiders", path.to_str().unwrap());
    let mut command = Command::new(NEW_PID_NAMESPACE[0]);
    command.args(&NEW_PID_NAMESPACE[1..]).args(words).stdout(Stdio::piped());
    let mut agent = command.spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("listening")));
    let living = UnixStream::connect(&path).unwrap();
    let mut connector = Helped::of_kind("connect", &[path.to_str().unwrap()]);
    connector.kill_and_reap();
    (&living).write_all(b"now the second is reaped").unwrap();
    assert!(lines.any(|line| line.contains("1 passed")));
    assert!(agent.wait().unwrap().success());
}

#[test]
fn alone_serve_outsiders() {
    let Some(path) = alone_argument() else { return };
    let listener = UnixListener::bind(path).unwrap();
    println!("listening");
    let (mut living, _) = listener.accept().unwrap();
    living.read_exact(&mut [0]).unwrap();
    let (reaped, _) = listener.accept().unwrap();
    let caller = process::identify_peer(&living, boot()).unwrap();
    assert_eq!(caller.process.as_ref().unwrap_err(), &BindRefusal::OutsidePidNamespace);
    assert!(!caller.may_name_numbers());
    assert!(is_gone(process::identify_peer(&reaped, boot())));
}
