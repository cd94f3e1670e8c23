//! Consensus throughput and latency: three agents as three processes on embedded stores, and callers on their sockets.
//!
//! Callers work in a closed loop, each at the agent with its number modulo three (a single caller takes the agents in
//! turn). A put is put-if-absent of a fresh key with a 100-byte value, acknowledged when a majority has it on its
//! disk; a get is a quorum read of one of those keys. All share this machine: the ratios within one run mean something,
//! the absolute figures do not travel. `PAXOSKV_BENCH_SECONDS` sets the time of each row (3).

use paxoskv::client::{Client, GetOptions, PutOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["a", "b", "c"];
const CALLERS: [usize; 4] = [1, 16, 64, 256];
const CONNECTIONS_PER_AGENT: usize = 4;

struct Agents(Vec<Child>);

impl Drop for Agents {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(dir: &Path) -> Agents {
    let listeners: Vec<TcpListener> =
        NAMES.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let mut voters = String::new();
    for (id, (name, listener)) in (1..).zip(NAMES.iter().zip(&listeners)) {
        let address = listener.local_addr().expect("a bound port has an address");
        voters.push_str(&format!("[[voter]]\nname = \"{name}\"\nid = {id}\naddress = \"{address}\"\n"));
    }
    drop(listeners);
    let agent = |name: &&str| {
        let config = dir.join(format!("{name}.toml"));
        let (data, socket) = (dir.join(name), dir.join(format!("{name}.sock")));
        let text =
            format!("node = \"{name}\"\ncluster = \"bench\"\ndata_dir = {data:?}\nsocket = {socket:?}\n{voters}");
        std::fs::write(&config, text).expect("the folder is writable");
        let log = std::fs::File::create(dir.join(format!("{name}.log"))).expect("the folder is writable");
        Command::new(env!("CARGO_BIN_EXE_paxoskv"))
            .args(["agent", "--config"])
            .arg(config)
            .env_remove("PAXOSKV_SOCKET")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts")
    };
    Agents(NAMES.iter().map(agent).collect())
}

async fn connect(dir: &Path) -> Vec<Vec<Client>> {
    let mut all = Vec::new();
    for name in NAMES {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS_PER_AGENT {
            let began = Instant::now();
            let client = loop {
                match Client::connect(dir.join(format!("{name}.sock"))).await {
                    Ok(client) if client.quorum().await == Ok(true) => break client,
                    other => assert!(began.elapsed() < Duration::from_secs(60), "no quorum: {:?}", other.err()),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            clients.push(client);
        }
        all.push(clients);
    }
    all
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    Put,
    Get,
}

struct Row {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us: f64,
}

/// One row: `callers` closed loops for a time.
async fn measure(
    what: What,
    callers: usize,
    time: Duration,
    clients: &[Vec<Client>],
    keys: &Arc<AtomicU64>,
    pids: &[u32],
) -> Row {
    let stop = Arc::new(AtomicBool::new(false));
    let cpu = cpu_us(pids);
    let began = Instant::now();
    let existing = keys.load(Ordering::Relaxed);
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let mine: Vec<Client> = clients.iter().map(|c| c[caller / 3 % CONNECTIONS_PER_AGENT].clone()).collect();
            let (stop, keys) = (stop.clone(), keys.clone());
            tokio::spawn(async move {
                let value = "x".repeat(98);
                let mut took = Vec::new();
                let mut turn = caller;
                while !stop.load(Ordering::Relaxed) {
                    let client = &mine[turn % 3];
                    let began = Instant::now();
                    match what {
                        What::Put => {
                            let key = keys.fetch_add(1, Ordering::Relaxed);
                            let answer = client.put(key, &value, PutOptions::new()).await.expect("the agents are up");
                            assert!(answer.decided().expect("there is a quorum").created, "every key is fresh");
                        }
                        What::Get => {
                            let key = (turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % existing;
                            let answer = client.get(key, GetOptions::new()).await.expect("the agents are up");
                            assert!(answer.decided().expect("there is a quorum").is_some(), "every key is there");
                        }
                    }
                    took.push(began.elapsed().as_micros() as u64);
                    // A single caller takes the agents in turn; of many, each stays with one.
                    turn += if callers == 1 { 1 } else { 3 };
                }
                took
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("callers do not panic"));
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu_us(pids) - cpu;
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Row {
        per_second: took.len() as f64 / seconds,
        p50_us: at(0.5),
        p99_us: at(0.99),
        cpu_us: cpu as f64 / took.len() as f64,
    }
}

/// User and system time of the agents, in microseconds (`proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms).
fn cpu_us(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default().to_owned();
        let field = |n: usize| rest.split_whitespace().nth(n).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
        (field(11) + field(12)) * 10_000
    };
    pids.iter().map(of).sum()
}

/// What one append with fdatasync takes here, for scale: the median, in microseconds.
fn sync_us(dir: &Path) -> u64 {
    let mut file = std::fs::File::create(dir.join("sync")).expect("the folder is writable");
    let mut took: Vec<u64> = (0..300)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[1; 200]).and_then(|()| file.sync_data()).expect("the disk works");
            began.elapsed().as_micros() as u64
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

fn main() {
    let seconds = std::env::var("PAXOSKV_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sync = sync_us(dir.path());
    let agents = start(dir.path());
    let pids: Vec<u32> = agents.0.iter().map(Child::id).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clients = connect(dir.path()).await;
        let keys = Arc::new(AtomicU64::new(0));
        measure(What::Put, 16, Duration::from_secs(1), &clients, &keys, &pids).await;
        println!("Three agents, {seconds} s a row; one append with fdatasync takes {sync} us here.");
        println!("       callers   per second    p50 us    p99 us   agents' CPU us   against 1 caller   p50 in syncs");
        for (what, name) in [(What::Put, "put"), (What::Get, "get")] {
            let mut first = None;
            for callers in CALLERS {
                let row = measure(what, callers, time, &clients, &keys, &pids).await;
                let base = *first.get_or_insert(row.per_second);
                println!(
                    "  {name}  {callers:>7}   {:>10.0}   {:>7}   {:>7}   {:>14.0}   {:>14.1} x   {:>12.1}",
                    row.per_second,
                    row.p50_us,
                    row.p99_us,
                    row.cpu_us,
                    row.per_second / base,
                    row.p50_us as f64 / sync as f64
                );
            }
        }
    });
}
