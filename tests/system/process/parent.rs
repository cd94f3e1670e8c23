//! The command line's parent.

use super::*;

/// Prints what `parent_pidfd` says, after the end of standard input if the argument is `later`.
#[test]
fn alone_print_parent() {
    let Some(when) = alone_argument() else { return };
    if when == "later" {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    match process::parent_pidfd() {
        Ok((fd, pid)) => {
            assert_eq!(process::identify_pidfd(fd, boot()).unwrap().id.pid, pid);
            println!("\nparent {pid}");
        }
        Err(e) => println!("\nrefused {e:?}"),
    }
}

#[test]
fn the_parent_of_a_command_is_the_shell_that_runs_it() {
    let text = run_alone(&["sh", "-c", "echo shell $$; \"$@\"; exit $?", "sh"], "parent::alone_print_parent", "now");
    let after = |word: &str| text.lines().find_map(|l| l.strip_prefix(word)).map(str::to_owned);
    assert!(after("shell ").is_some());
    assert_eq!(after("shell "), after("parent "), "{text}");
}

#[test]
fn a_parent_that_adopts_orphans_is_refused() {
    // As if it had called itself …
    let program = helper().to_str().unwrap();
    let shell = [program, "subreaper", "/bin/sh", "-c", "\"$@\"; exit $?", "sh"];
    let text = run_alone(&shell, "parent::alone_print_parent", "now");
    assert!(text.contains("refused AdoptsOrphans"), "{text}");

    // … and when the shell that called has ended, and left the command to it.
    let mut command = Command::new(program);
    let script = "sh -c 'exec 3<&0; \"$@\" <&3 &' sh \"$@\"; echo shell ended; exec sleep 1000 </dev/null";
    command.args(["subreaper", "/bin/sh", "-c", script, "sh"]).args(alone("parent::alone_print_parent", "later"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The test's own first words may be on the same line.
    assert!(lines.any(|line| line.ends_with("shell ended")));
    drop(child.stdin.take());
    let answer = lines.find(|line| line.starts_with("refused ") || line.starts_with("parent "));
    let expected = format!("refused AdoptsOrphans {{ pid: {} }}", child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer, Some(expected));
}

#[test]
fn pid_1_as_the_parent_is_refused() {
    if may_unshare() {
        let wrapper: Vec<&str> = NEW_PID_NAMESPACE.into_iter().chain(["sh", "-c", "\"$@\"; exit $?", "sh"]).collect();
        let text = run_alone(&wrapper, "parent::alone_print_parent", "now");
        assert!(text.contains("refused AdoptsOrphans { pid: 1 }"), "{text}");
        // A parent outside the namespace has no number in it.
        let text = run_alone(&NEW_PID_NAMESPACE, "parent::alone_print_parent", "now");
        assert!(text.contains("refused OutsidePidNamespace"), "{text}");
    }
}
