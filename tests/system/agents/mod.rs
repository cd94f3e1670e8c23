//! Whole agents: real child processes with real stores, sockets, callers and deaths.
//!
//! `cargo test` runs everything with few rounds. `PAXOSKV_ROUNDS` sets another number; one number means something else
//! in each file, so give it with one module. The full counts, with the figures that they print (lines that begin with
//! `measured:`):
//!
//! ```text
//! run() { PAXOSKV_ROUNDS=$1 cargo test --release --test system agents::$2 -- --nocapture --test-threads=1; }
//! run 100 agreement     # keys
//! run 200 holders       # holders killed
//! run 300 restarts      # keys kept, and a tenth as many holders killed behind the back of their agent
//! run 100 crashes       # agents killed or stopped under load
//! run 100 floods        # agents killed in the middle of bound puts
//! run 3000 locks        # turns at one lock while agents are killed
//! run 2000 hostile      # mutated frames
//! PAXOSKV_SEED=…        # of the crashes and the hostile bytes; the one in use is printed
//! ```
//!
//! Nothing here waits for a time to pass: what is waited for is a condition, asked again and again, and [`NEVER`] only
//! ends a run in which it does not come. No figure is asserted.

mod actor;
mod agreement;
mod asker;
mod caller;
mod cluster;
mod crashes;
mod disk;
mod floods;
mod holders;
mod hostile;
mod locks;
mod membership;
mod others;
mod quorum;
mod restarts;
mod reuse;

use actor::Actor;
use caller::Caller;
use cluster::{Agent, Cluster};
use paxoskv::codec::cbor::text;
use paxoskv::codec::client::{PidOption, Reply, Request, Status};
use serde_bytes::ByteBuf;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, on a slow machine with other work: a test that gets there has failed.
const NEVER: Duration = Duration::from_secs(120);

/// How often something is done, unless `PAXOSKV_ROUNDS` says otherwise.
fn rounds(few: usize) -> usize {
    std::env::var("PAXOSKV_ROUNDS").ok().map_or(few, |n| n.parse().expect("PAXOSKV_ROUNDS is a number"))
}

/// Asks until there is an answer.
fn until<T>(what: impl Display, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < NEVER, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Prints a figure of a test; on a line of its own, whatever the test runner has begun to print.
fn report(what: impl Display) {
    println!("\nmeasured: {what}");
}

/// Prints how long something took each time.
fn measured(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |t: &Duration| t.as_secs_f64() * 1000.0;
    let longest = match &times[..] {
        [] => return report(format!("{what}: none")),
        [one] => return report(format!("{what}: {:.1} ms", ms(one))),
        [.., longest] => longest,
    };
    let part = |percent: usize| ms(&times[(times.len() * percent).div_ceil(100).saturating_sub(1)]);
    let (count, most) = (times.len(), ms(longest));
    let [p50, p90, p99] = [50, 90, 99].map(part);
    report(format!("{what}: n {count}, p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, most {most:.2} ms"));
}

/// Random enough for tests, and the same again from the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    /// From `PAXOSKV_SEED`, or a new seed; printed.
    fn new(what: &str) -> Dice {
        let mut drawn = [0; 8];
        getrandom::fill(&mut drawn).unwrap();
        let given = std::env::var("PAXOSKV_SEED").ok().map(|n| n.parse().expect("PAXOSKV_SEED is a number"));
        let seed = given.unwrap_or(u64::from_be_bytes(drawn));
        println!("\n{what}: PAXOSKV_SEED={seed}");
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// 16 random bytes, new for each put.
fn request_id() -> ByteBuf {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    ByteBuf::from(id)
}

fn bytes(word: &str) -> Option<ByteBuf> {
    Some(ByteBuf::from(text(word)))
}

fn put(key: &str, value: &str) -> Request {
    Request {
        op: "put".into(),
        key: bytes(key),
        value: bytes(value),
        request: Some(request_id()),
        ..Request::default()
    }
}

fn get(key: &str) -> Request {
    Request { op: "get".into(), key: bytes(key), ..Request::default() }
}

fn release(key: &str) -> Request {
    Request { op: "release".into(), key: bytes(key), ..Request::default() }
}

/// An operation without arguments.
fn plain(op: &str) -> Request {
    Request { op: op.into(), ..Request::default() }
}

/// Whether a key is there: a quorum says so.
fn is_there(caller: &mut Caller, key: &str) -> bool {
    let reply = caller.ask(get(key));
    assert!(matches!(reply.status, Status::Ok | Status::NotFound), "get {key}: {reply:?}");
    reply.status == Status::Ok
}

fn await_gone(caller: &mut Caller, key: &str) {
    until(format!("{key} is gone"), || (!is_there(caller, key)).then_some(()));
}
