//! What a durable commit costs, per backend and batch size.
//!
//! `cargo bench --bench storage`. Every figure is also given relative to sled's commits of one record in the same run:
//! a shared machine changes from minute to minute, the ratios hardly do. The first line is the floor: one page appended
//! to a file and synced, which no durable commit can be faster than.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use paxoskv::storage::memory::Memory;
use paxoskv::storage::sled::Sled;
use paxoskv::storage::{Store, Write};

const RUN: Duration = Duration::from_millis(1500);
const BATCHES: [usize; 4] = [1, 8, 64, 512];
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 150;

struct Line {
    name: &'static str,
    batch: usize,
    /// Of each commit, in ascending order.
    times: Vec<Duration>,
    elapsed: Duration,
}

impl Line {
    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile_us(&self, percent: usize) -> f64 {
        let at = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
        self.times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

/// Repeats `step` for [`RUN`] and measures each.
fn measure(name: &'static str, batch: usize, mut step: impl FnMut(u64)) -> Line {
    let mut times = Vec::new();
    let start = Instant::now();
    for turn in 0.. {
        let before = Instant::now();
        step(turn);
        times.push(before.elapsed());
        if start.elapsed() >= RUN {
            break;
        }
    }
    let elapsed = start.elapsed();
    times.sort_unstable();
    Line { name, batch, times, elapsed }
}

/// Registers spread over the key space, a different value each time; keys of 40 bytes, distinct within a batch.
fn batch_of(size: usize, turn: u64) -> Vec<Write> {
    let record = |number: u64| {
        let register = number.wrapping_mul(7919) % KEYS;
        (format!("{register:040}").into_bytes(), Some(vec![(turn % 251) as u8; VALUE_BYTES]))
    };
    (0..size as u64).map(|number| record(turn * size as u64 + number)).collect()
}

fn measure_store(store: &mut impl Store, lines: &mut Vec<Line>) {
    for batch in BATCHES {
        let name = store.name();
        let line = measure(name, batch, |turn| store.commit(&batch_of(batch, turn)).expect("the commit succeeds"));
        lines.push(line);
    }
}

fn print(lines: &[Line]) {
    let sled = lines.iter().find(|line| line.name == "sled" && line.batch == 1);
    let reference = sled.map_or(f64::NAN, Line::per_second);
    println!("keys of 40 bytes, values of {VALUE_BYTES} bytes, {KEYS} registers, {RUN:?} a line\n");
    println!("store     batch  commits/s  p50 us  p99 us  records/s  commits vs sled/1  records vs sled/1");
    for line in lines {
        let commits = line.per_second();
        let records = commits * line.batch as f64;
        println!(
            "{:<8} {:>6} {commits:>10.0} {:>7.0} {:>7.0} {records:>10.0} {:>18.2} {:>18.2}",
            line.name,
            line.batch,
            line.percentile_us(50),
            line.percentile_us(99),
            commits / reference,
            records / reference,
        );
    }
}

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let mut file = File::create(directory.path().join("floor")).expect("a scratch file");
    let mut lines = vec![measure("a file", 1, |_| {
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("the disk takes a page");
    })];
    measure_store(&mut Memory::new(), &mut lines);
    let mut store = Sled::open(&directory.path().join("store")).expect("the store opens");
    measure_store(&mut store, &mut lines);
    print(&lines);
    println!("\nsled's files at the end: {:.1} MiB", store.disk_bytes() as f64 / 1024.0 / 1024.0);
}
