//! `paxoskv dev`: three agents on this machine, to look at and to try out.
//!
//! They are what a cluster is made of: three processes, each with a store, a socket and a log of its own, in one
//! folder. Only their being on one machine is unlike a real one.

mod demo;

use crate::client::{Client, ClientError, ConnectOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// The agents' names; their ids are 1, 2 and 3.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// How long agents may take to start, and to find each other.
const START: Duration = Duration::from_secs(30);
/// How long an agent may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// The longest path that a Unix socket can have, in bytes (`unix(7)`).
const SOCKET_PATH_BYTES: usize = 107;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct DevArgs {
    /// The folder for configurations, stores, sockets and logs. Without one: `paxoskv-dev` in the current folder, or,
    /// for the demo, a temporary one.
    pub dir: Option<PathBuf>,
    /// Play the story, then stop.
    pub demo: bool,
}

/// Why it could not run, or what did not hold.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Something of the system.
    #[error("{0}: {1}")]
    System(String, io::Error),
    /// An agent did what it should not.
    #[error("{0}")]
    Agent(String),
    /// A step of the story did not hold.
    #[error("{0} steps of the demo did not hold")]
    Demo(usize),
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DevError {
    let what = what.into();
    move |e| DevError::System(what, e)
}

/// Runs three agents until Ctrl-C, or plays the demo on them.
///
/// # Errors
/// What failed, with the log to look at.
pub fn run(args: DevArgs) -> Result<(), DevError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the runtime"))?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        if args.demo {
            let (dir, temporary) = match args.dir {
                Some(dir) => (dir, false),
                None => (std::env::temp_dir().join(format!("paxoskv-demo-{}", std::process::id())), true),
            };
            let mut agents = Agents::prepare(&dir)?;
            let outcome = tokio::select! {
                outcome = demo::play(&mut agents) => outcome,
                () = stop.wait() => Err(DevError::Agent("interrupted".into())),
            };
            agents.stop().await;
            if temporary && outcome.is_ok() {
                let _ = fs::remove_dir_all(&dir);
            } else {
                println!("\nStores and logs are in {}.", dir.display());
            }
            outcome
        } else {
            let mut agents = Agents::prepare(&args.dir.unwrap_or_else(|| "paxoskv-dev".into()))?;
            let outcome = tokio::select! {
                outcome = watch_over(&mut agents) => outcome,
                () = stop.wait() => Ok(()),
            };
            println!("\nStopping.");
            agents.stop().await;
            outcome
        }
    })
}

/// Starts the agents, says what to try, and goes on until one of them ends.
async fn watch_over(agents: &mut Agents) -> Result<(), DevError> {
    println!("Three agents, each with its own store, in {}:", agents.dir.display());
    for at in 0..NAMES.len() {
        agents.start(at)?;
    }
    agents.wait_for_quorum().await?;
    for (at, name) in NAMES.iter().enumerate() {
        println!("  {name}  socket {}  log {}", agents.socket(at).display(), agents.log(at).display());
    }
    let (me, a, b) = (program(), agents.socket(0), agents.socket(1));
    let (me, a, b) = (me.display(), a.display(), b.display());
    println!(
        "\nThey have a quorum. In another terminal, try:\n
  export PAXOSKV_SOCKET={a}
  {me} put leader alice --pid           # bound to that shell
  {me} --socket {b} put leader bob      # first one wins, on every agent
  {me} holder leader                    # who has it
  exit                                  # ...and the key is gone on every agent
  {me} cluster                          # who is up\n
Ctrl-C stops all three; their stores stay, and the next start finds everything again."
    );
    let [a, b, c] = &mut agents.children;
    let ended = async |child: &mut Option<Child>| match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    };
    let (at, status) = tokio::select! {
        s = ended(a) => (0, s),
        s = ended(b) => (1, s),
        s = ended(c) => (2, s),
    };
    let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
    Err(DevError::Agent(format!("agent {} ended ({status}); see {}", NAMES[at], agents.log(at).display())))
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Stop, DevError> {
        let listen = |kind| signal(kind).map_err(system("cannot listen for signals"));
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "paxoskv".into())
}

/// Three agents as child processes.
struct Agents {
    dir: PathBuf,
    children: [Option<Child>; 3],
}

impl Agents {
    /// Makes the folder and the configurations, unless they are there.
    fn prepare(dir: &Path) -> Result<Agents, DevError> {
        fs::create_dir_all(dir).map_err(system(format!("cannot make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(system(format!("cannot use {}", dir.display())))?;
        let agents = Agents { dir, children: [const { None }; 3] };
        if agents.socket(0).as_os_str().len() > SOCKET_PATH_BYTES {
            return Err(DevError::Agent(format!(
                "{} is too long: the path of a socket has at most {SOCKET_PATH_BYTES} bytes; choose a shorter --dir",
                agents.dir.display()
            )));
        }
        if !agents.config(0).exists() {
            agents.configure()?;
        }
        Ok(agents)
    }

    fn configure(&self) -> Result<(), DevError> {
        // Held together, so that they differ; freed before the agents bind them.
        let ports = NAMES
            .iter()
            .map(|_| TcpListener::bind(("127.0.0.1", 0)).and_then(|l| Ok((l.local_addr()?.port(), l))))
            .collect::<io::Result<Vec<_>>>()
            .map_err(system("no free ports on 127.0.0.1"))?;
        let mut voters = String::new();
        for (id, (name, (port, _))) in (1..).zip(NAMES.iter().zip(&ports)) {
            voters.push_str(&format!("\n[[voter]]\nname = \"{name}\"\nid = {id}\naddress = \"127.0.0.1:{port}\"\n"));
        }
        for (at, name) in NAMES.iter().enumerate() {
            let text = format!(
                "node = \"{name}\"\ncluster = \"dev\"\ndata_dir = {:?}\nsocket = {:?}\n{voters}",
                self.dir.join(name),
                self.socket(at)
            );
            fs::write(self.config(at), text).map_err(system("cannot write a configuration"))?;
        }
        Ok(())
    }

    fn config(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.toml", NAMES[at]))
    }

    fn socket(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.sock", NAMES[at]))
    }

    fn log(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{}.log", NAMES[at]))
    }

    fn start(&mut self, at: usize) -> Result<(), DevError> {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(at))
            .map_err(system(format!("cannot write {}", self.log(at).display())))?;
        let child = Command::new(program())
            .arg("agent")
            .arg("--config")
            .arg(self.config(at))
            .arg("--with-parent")
            .env_remove("PAXOSKV_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for this process, which then stops them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(system("cannot start an agent"))?;
        self.children[at] = Some(child);
        Ok(())
    }

    /// Waits until every running agent reaches a majority.
    async fn wait_for_quorum(&mut self) -> Result<(), DevError> {
        let began = Instant::now();
        for (at, name) in NAMES.iter().enumerate() {
            if self.children[at].is_none() {
                continue;
            }
            loop {
                if let Ok(client) = self.client(at).await
                    && let Ok(cluster) = client.cluster().await
                    && cluster.quorum
                {
                    break;
                }
                let child = self.children[at].as_mut();
                if let Some(status) = child.and_then(|c| c.try_wait().ok().flatten()) {
                    let log = fs::read_to_string(self.log(at)).unwrap_or_default();
                    let last = log.lines().last().unwrap_or("it says nothing");
                    return Err(DevError::Agent(format!("agent {} ended ({status}): {last}", name)));
                }
                if began.elapsed() > START {
                    let log = self.log(at);
                    return Err(DevError::Agent(format!("agent {} finds no quorum; see {}", name, log.display())));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    async fn client(&self, at: usize) -> Result<Client, ClientError> {
        Client::connect_with(self.socket(at), ConnectOptions::default()).await
    }

    /// `kill -9`.
    async fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.children[at].take() {
            let _ = child.kill().await;
        }
    }

    /// Asks every agent to stop, and sees to it.
    async fn stop(&mut self) {
        for child in self.children.iter().flatten() {
            if let Some(pid) = child.id() {
                // One that has ended is not reaped yet: the number is still its own.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            }
        }
        for child in &mut self.children {
            if let Some(mut child) = child.take()
                && tokio::time::timeout(STOP, child.wait()).await.is_err()
            {
                let _ = child.kill().await;
            }
        }
    }
}
