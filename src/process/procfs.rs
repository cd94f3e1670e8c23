//! What `/proc` says about processes and pidfds, parsed.
//!
//! A file of `/proc` that cannot be read says nothing about its process: it may be hidden (`hidepid=`,
//! `ProtectProc=`) or the agent out of descriptors.

use super::ProcessError;
use rustix::fs::OFlags;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The command's name, without control characters.
    pub comm: String,
    /// Field 22: the start, in clock ticks since boot, as the reader's time namespace counts them.
    pub start_ticks: u64,
}

/// What `/proc/self/fdinfo/FD` says of a descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FdInfo {
    /// The process's number here; 0 if it has none, -1 if it was reaped. `None`: not a pidfd.
    pub pid: Option<i64>,
    /// In how many pid namespaces, from ours down to its own, it has a number.
    pub namespaces: usize,
    /// Whether it is a pidfd of one thread.
    pub of_thread: bool,
}

/// Reads a file of `/proc`.
pub(super) fn read(path: &str) -> Result<Vec<u8>, ProcessError> {
    std::fs::read(path).map_err(|e| ProcessError::cannot_tell("reading /proc", e))
}

pub(super) fn fdinfo(fd: BorrowedFd<'_>) -> Result<FdInfo, ProcessError> {
    Ok(parse_fdinfo(&read(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?))
}

pub(super) fn stat(pid: u32) -> Result<Stat, ProcessError> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| ProcessError::unexpected("/proc/PID/stat"))
}

pub(super) fn real_uid(pid: u32) -> Result<u32, ProcessError> {
    let text = read(&format!("/proc/{pid}/status"))?;
    parse_real_uid(&text).ok_or_else(|| ProcessError::unexpected("/proc/PID/status"))
}

/// Makes sure that the numbers in `/proc` are those of our own pid namespace. An agent that was put into a new one
/// without a `/proc` of its own would otherwise take the number of one process for another's.
pub(super) fn check_own_namespace() -> Result<(), ProcessError> {
    let text = read("/proc/self/status")?;
    // A kernel without pid namespaces has no such line.
    match field(&text, b"NSpid:") {
        Some(numbers) if words(numbers).count() != 1 => {
            Err(ProcessError::unexpected("/proc is that of another pid namespace"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The 16 bytes of a boot id, written as a UUID.
pub(super) fn parse_boot_id(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = text.trim_ascii().iter().filter(|c| **c != b'-').map(|c| char::from(*c).to_digit(16));
    let mut id = [0; 16];
    for byte in &mut id {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = (high << 4 | low) as u8;
    }
    digits.next().is_none().then_some(id)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name is the process's own choice and may hold spaces and parentheses: what follows it starts after the last.
    let open = text.iter().position(|c| *c == b'(')?;
    let close = text.iter().rposition(|c| *c == b')')?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    // The first word after the name is field 3.
    let start_ticks = number(words(text.get(close + 1..)?).nth(22 - 3)?)?;
    Some(Stat { comm, start_ticks })
}

fn parse_real_uid(text: &[u8]) -> Option<u32> {
    number(words(field(text, b"Uid:")?).next()?)
}

fn parse_fdinfo(text: &[u8]) -> FdInfo {
    // PIDFD_THREAD is kept as the file's O_EXCL flag; `flags:` is octal.
    let flags = field(text, b"flags:").and_then(|f| std::str::from_utf8(f).ok()).map(str::trim);
    let flags = flags.and_then(|f| u32::from_str_radix(f, 8).ok()).unwrap_or(0);
    FdInfo {
        pid: field(text, b"Pid:").and_then(|pid| number(words(pid).next()?)),
        // A kernel without pid namespaces has no such line.
        namespaces: field(text, b"NSpid:").map_or(1, |numbers| words(numbers).count()),
        of_thread: flags & OFlags::EXCL.bits() != 0,
    }
}

/// What follows `name` on the line that begins with it.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|c| *c == b'\n').find_map(|line| line.strip_prefix(name))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let numbers = (3..=52).map(|i| i.to_string()).collect::<Vec<_>>().join(" ");
        let stat = parse_stat(format!("7 (a) R 1 (\x1b[2J)) {numbers}\n").as_bytes()).unwrap();
        assert_eq!(stat, Stat { comm: "a) R 1 (\u{fffd}[2J)".into(), start_ticks: 22 });
    }

    #[test]
    fn a_name_that_is_not_utf8_is_read_lossily() {
        let mut text = b"7 (\xff) ".to_vec();
        text.extend_from_slice("1 ".repeat(20).as_bytes());
        assert_eq!(parse_stat(&text).unwrap().comm, "\u{fffd}");
    }

    #[test]
    fn texts_of_another_form_are_no_answer_and_no_panic() {
        for text in [&b""[..], b")(", b"7 (x", b"7 x) R", b"7 (x) R 1 2", b"()", b"\n\n"] {
            assert_eq!(parse_stat(text), None);
            assert_eq!(parse_real_uid(text), None);
            assert_eq!(parse_boot_id(text), None);
            assert_eq!(parse_fdinfo(text).pid, None);
        }
        assert_eq!(parse_boot_id(&[b'f'; 33]), None);
        assert_eq!(parse_boot_id(&[0xff; 32]), None);
    }

    #[test]
    fn a_boot_id_is_its_sixteen_bytes() {
        let id = parse_boot_id(b"00010203-0405-0607-0809-0a0b0c0dfeff\n").unwrap();
        assert_eq!(id, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xfe, 0xff]);
    }

    #[test]
    fn fdinfo_tells_processes_from_threads_and_namespaces_apart() {
        let info = |s: &str| parse_fdinfo(s.as_bytes());
        let plain = info("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1\nPid:\t42\nNSpid:\t42\n");
        assert_eq!(plain, FdInfo { pid: Some(42), namespaces: 1, of_thread: false });
        let nested = info("flags:\t02000202\nPid:\t42\nNSpid:\t42\t7\t1\n");
        assert_eq!(nested, FdInfo { pid: Some(42), namespaces: 3, of_thread: true });
        assert_eq!(info("flags:\t02\nPid:\t-1\nNSpid:\t-1\n").pid, Some(-1));
        assert_eq!(info("pos:\t0\nflags:\t02\n").pid, None);
    }
}
