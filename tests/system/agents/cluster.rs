//! Agents as child processes, with a directory, an address and a socket each.

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// How an agent is started. The one place that knows the command line.
fn command_line(config: &Path) -> Vec<String> {
    let config = config.to_str().unwrap().to_owned();
    vec![env!("CARGO_BIN_EXE_paxoskv").to_owned(), "agent".into(), "--config".into(), config]
}

/// Some agents that form a cluster. All of them are killed with it.
pub struct Cluster {
    pub agents: Vec<Agent>,
    dir: TempDir,
}

/// One agent, running or not.
pub struct Agent {
    pub name: String,
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub data_dir: PathBuf,
    pub config: PathBuf,
    /// Set for the process when it is started.
    pub environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Configured, and not running.
    pub fn of(size: usize) -> Cluster {
        Cluster::named("test", size)
    }

    pub fn named(cluster: &str, size: usize) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let ip = free_ip(size);
        let names: Vec<String> = (0..size).map(|i| char::from(b'a' + i as u8).to_string()).collect();
        let address = |i: usize| SocketAddr::new(ip, port(i));
        let voters: String = names.iter().enumerate().map(|(i, name)| voter(name, i + 1, address(i))).collect();
        let agents = (0..size).map(|i| Agent::configure(dir.path(), cluster, &names[i], address(i), &voters)).collect();
        Cluster { agents, dir }
    }

    /// Running, and every agent reaches every other.
    pub fn start(size: usize) -> Cluster {
        let mut cluster = Cluster::of(size);
        cluster.start_all();
        cluster
    }

    pub fn start_all(&mut self) {
        self.agents.iter_mut().for_each(Agent::start);
        self.await_all_up();
    }

    pub fn await_all_up(&self) {
        self.agents.iter().for_each(|agent| agent.await_peers(self.agents.len()));
    }

    /// A connection to each agent.
    pub fn callers(&self) -> Vec<Caller> {
        self.agents.iter().map(Agent::connect).collect()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// One `[[voter]]` table.
pub fn voter(name: &str, id: usize, address: SocketAddr) -> String {
    format!("[[voter]]\nname = \"{name}\"\nid = {id}\naddress = \"{address}\"\n")
}

/// Below the range from which the kernel takes ports for connections: with one of those, a peer that dials an agent
/// which is down can be connected to itself, or hold the port when the agent comes back.
fn port(agent: usize) -> u16 {
    7401 + agent as u16
}

/// A loopback address on which nobody listens. Each cluster has one of its own, so that no cluster's agents, now dead
/// or not yet there, answer another's.
fn free_ip(agents: usize) -> IpAddr {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ips = std::iter::repeat_with(|| Ipv4Addr::new(127, high.max(1), low, LAST.fetch_add(1, Ordering::Relaxed)));
    let free = |ip: &Ipv4Addr| (0..agents).all(|i| TcpListener::bind((*ip, port(i))).is_ok());
    IpAddr::V4(ips.take(256).find(free).expect("a free loopback address"))
}

impl Agent {
    pub fn configure(dir: &Path, cluster: &str, name: &str, address: SocketAddr, voters: &str) -> Agent {
        let path = |extension: &str| dir.join(format!("{name}.{extension}"));
        let (socket, data_dir, config) = (path("sock"), path("data"), path("toml"));
        let text = format!(
            "node = \"{name}\"\ncluster = \"{cluster}\"\nsocket = {socket:?}\ndata_dir = {data_dir:?}\n{voters}"
        );
        fs::write(&config, text).unwrap();
        let (name, log, environment) = (name.to_owned(), path("log"), Vec::new());
        Agent { name, address, socket, data_dir, config, environment, log, child: None }
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let words = command_line(&self.config);
        let log: File = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.clone()).env_remove("PAXOSKV_SOCKET").env("RUST_LOG", "info");
        self.child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// As a crash ends it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As a supervisor ends it.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_exit()
    }

    pub fn await_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        child.wait().unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Everything that it has said on its standard error, in all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn await_log(&self, words: &str) {
        until(format!("{} says {words:?}", self.name), || self.log().contains(words).then_some(()));
    }

    /// A connection, as soon as it serves.
    pub fn connect(&self) -> Caller {
        until(format!("{} serves", self.name), || Caller::connect(&self.socket).ok())
    }

    /// Until it has a quorum; with a connection to it.
    pub fn await_quorum(&self) -> Caller {
        let mut caller = self.connect();
        let has_quorum = |caller: &mut Caller| (caller.ask(plain("quorum")).quorum == Some(true)).then_some(());
        until(format!("{} has a quorum", self.name), || has_quorum(&mut caller));
        caller
    }

    /// Until it reaches so many voters, itself included.
    pub fn await_peers(&self, count: usize) {
        let mut caller = self.connect();
        until(format!("{} reaches {count}", self.name), || {
            let nodes = caller.ask(plain("quorum")).nodes.unwrap();
            (nodes.iter().filter(|n| n.up).count() == count).then_some(())
        });
    }

    /// One of the lines of `status`.
    pub fn status(&self, name: &str) -> String {
        let lines = self.connect().ask(plain("status")).status_text.unwrap();
        lines.into_iter().find(|(n, _)| n == name).map(|(_, text)| text).unwrap()
    }

    /// Memory of its own, in KiB.
    pub fn rss_anon_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4000);
            eprintln!("--- the end of the log of {}:\n{}", self.name, log.get(from..).unwrap_or(&log));
        }
    }
}
