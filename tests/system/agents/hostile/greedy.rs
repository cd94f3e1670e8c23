//! Callers that take time, memory or descriptors.

use super::*;
use paxoskv::codec::client::{PIPELINE, encode_request};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

/// Far more than one caller's share, and far less than what it asks for.
const ENOUGH_KIB: u64 = 256 * 1024;

/// A byte a second, until the connection is closed; how long that took, and what came meanwhile.
fn drip(mut stream: impl Read + Write) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut heard = Vec::new();
    let bytes = [&1000_u32.to_be_bytes()[..], &[0xa1; 1000]].concat();
    for byte in bytes {
        if stream.write_all(&[byte]).is_err() {
            return (start.elapsed(), heard);
        }
        // The pause between two bytes: a read that times out after a second.
        let mut buffer = [0; 1000];
        match stream.read(&mut buffer) {
            Ok(0) => return (start.elapsed(), heard),
            Ok(count) => heard.extend(&buffer[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return (start.elapsed(), heard),
        }
        assert!(start.elapsed() < NEVER, "never closed");
    }
    unreachable!("it ends before");
}

#[test]
fn a_frame_that_comes_a_byte_a_second_ends_its_connection_and_nobody_else_waits() {
    const PAUSE: Option<Duration> = Some(Duration::from_secs(1));
    let mut target = Target::new();
    let silent = UnixStream::connect(&target.agent().socket).unwrap();
    let greeted = target.agent().connect().stream;
    let peer = TcpStream::connect(target.agent().address).unwrap();
    silent.set_read_timeout(PAUSE).unwrap();
    greeted.set_read_timeout(PAUSE).unwrap();
    peer.set_read_timeout(PAUSE).unwrap();
    let threads = [
        ("a caller before its hello", std::thread::spawn(|| drip(silent))),
        ("a caller", std::thread::spawn(|| drip(greeted))),
        ("a peer", std::thread::spawn(|| drip(peer))),
    ];
    while threads.iter().any(|(_, thread)| !thread.is_finished()) {
        target.serves();
    }
    for (who, thread) in threads {
        let (took, heard) = thread.join().unwrap();
        report(format!("a byte a second: {who} is cut off after {:.1} s", took.as_secs_f64()));
        let heard = String::from_utf8_lossy(&heard);
        assert_eq!(heard.contains("a frame must arrive whole"), who != "a peer", "{who}: {heard}");
    }
}

/// Sends requests without ever reading, until the agent takes no more; how many it took whole.
fn send_only(target: &mut Target, stream: &mut UnixStream, request: &Request) -> u64 {
    stream.set_nonblocking(true).unwrap();
    for sent in 0..100_000 {
        let bytes = caller::frame(&encode_request(&Request { id: sent + 2, ..request.clone() }));
        let (mut from, mut refusals) = (0, 0);
        while from < bytes.len() {
            match stream.write(&bytes[from..]) {
                Ok(count) => (from, refusals) = (from + count, 0),
                Err(e) if e.kind() == ErrorKind::WouldBlock => refusals += 1,
                Err(e) => panic!("{e}"),
            }
            if refusals > 0 {
                // While others are served it has had every occasion to read on.
                target.serves();
            }
            if refusals > 50 {
                return sent;
            }
        }
    }
    panic!("the agent took everything");
}

/// Callers of which each asks the same thing again and again, and never reads.
fn never_reading(request: &Request) {
    let mut target = Target::new();
    target.good.set(Request { value: Some(ByteBuf::from(text(&"x".repeat(60_000)))), ..put("big", "") });
    let long = "x".repeat(200);
    let many = (0..300).map(|i| Request { bucket: Some("many".into()), ..put(&format!("{long}{i}"), "v") });
    assert!(target.good.ask_all(many).iter().all(|reply| reply.created == Some(true)));

    let before = target.agent().rss_anon_kib();
    let mut one = target.agent().connect().stream;
    let taken = send_only(&mut target, &mut one, request);
    let grown = target.agent().rss_anon_kib().saturating_sub(before);
    report(format!("never reading {}: one caller: {taken} requests taken, {grown} KiB more", request.op));
    assert!(grown < ENOUGH_KIB, "{grown} KiB");
    let mut two = target.agent().connect().stream;
    send_only(&mut target, &mut two, request);
    let grown = target.agent().rss_anon_kib().saturating_sub(before);
    report(format!("never reading {}: two callers: {grown} KiB more", request.op));

    // When it reads, it is told everything that it asked for.
    one.set_nonblocking(false).unwrap();
    one.set_read_timeout(Some(NEVER)).unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    one.read_to_end(&mut heard).unwrap();
    let (mut rest, mut answered) = (&heard[..], 0);
    while let Some((length, more)) = rest.split_first_chunk() {
        let (reply, more) = more.split_at(u32::from_be_bytes(*length) as usize);
        // The last frame may have been sent in part; that is said under no id.
        answered += u64::from(paxoskv::codec::client::decode_reply(reply).unwrap().id != 0);
        rest = more;
    }
    assert_eq!(answered, taken);
    assert!(answered > PIPELINE as u64);
    target.serves();
}

#[test]
fn a_caller_that_never_reads_long_values_is_read_no_further_and_costs_bounded_memory() {
    never_reading(&get("big"));
}

#[test]
fn a_caller_that_never_reads_listings_is_read_no_further_and_costs_bounded_memory() {
    never_reading(&Request { bucket: Some("many".into()), ..plain("keys") });
}

#[test]
fn a_caller_that_never_reads_the_status_is_read_no_further_and_costs_bounded_memory() {
    never_reading(&plain("status"));
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let mut target = Target::new();
    let (files, memory) = (target.agent().open_files(), target.agent().rss_anon_kib());
    let start = Instant::now();
    let count = 2000;
    for i in 0..count {
        let socket = &target.agent().socket;
        match i % 4 {
            0 => drop(UnixStream::connect(socket).unwrap()),
            1 => drop(Caller::connect(socket).unwrap()),
            2 => drop(Caller::connect(socket).unwrap().send(put(&format!("left {i}"), "v")).unwrap()),
            _ => drop(TcpStream::connect(target.agent().address).unwrap()),
        }
        if i % 100 == 0 {
            target.serves();
        }
    }
    let took = start.elapsed();
    until("every descriptor is closed", || (target.agent().open_files() <= files).then_some(()));
    target.serves();
    let grown = target.agent().rss_anon_kib().saturating_sub(memory);
    report(format!("{count} connections that came and went in {:.2} s: {grown} KiB", took.as_secs_f64()));
    assert!(grown < ENOUGH_KIB, "{grown} KiB");
}

#[test]
fn an_agent_out_of_descriptors_serves_whoever_is_connected_and_newcomers_when_there_are_some() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut target = Target::new();
    let most = Some(target.agent().open_files() as u64 + 30);
    let pid = Pid::from_raw(target.agent().pid() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let crowd: Vec<UnixStream> = (0..100).map(|_| UnixStream::connect(&target.agent().socket).unwrap()).collect();
    until("it is out of descriptors", || target.agent().log().contains("cannot").then_some(()));
    target.serves();
    drop(crowd);
    let mut newcomer = target.agent().connect();
    newcomer.set(put("newcomer", "v"));
    target.serves();
    target.cluster.await_all_up();
}

#[test]
fn a_crowd_at_the_port_of_the_peers_does_not_keep_a_peer_away_for_good() {
    let mut target = Target::new();
    target.cluster.agents[1].kill();
    let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(target.agent().address).unwrap()).collect();
    let started = Instant::now();
    target.cluster.agents[1].start();
    target.serves();
    // The crowd stays: what lets the peer in is that a handshake has a deadline.
    target.cluster.await_all_up();
    measured("from the start of a peer until it is let in through a crowd", vec![started.elapsed()]);
    target.serves();
    drop(crowd);
}
