//! The task behind a client: it owns the connection, makes it again when it breaks, and answers every request in time.
//!
//! What is repeated after a break: everything that waits for a reply. Reads change nothing; a put carries the random
//! id by which the agent recognises it, and says that it is a retry once its first frame may have been read; a release
//! names its token. A frame of which the kernel never took the last byte was not read by any agent, so its repetition
//! is not one: that matters, since an agent that does not remember a retried put creates nothing for it.

use super::ClientError;
use super::connection::{Connection, HELLO_ID};
use crate::codec::client::{PIPELINE, Reply, Request};
use crate::limits::{CLIENT_FRAME_BYTES, DEADLINE_MAX_MS};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// The pause before the second attempt to connect; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a repeated operation may take when its deadline is nearly over: it may have been answered long ago.
const REPEAT_DEADLINE_MIN: Duration = Duration::from_secs(1);
/// How long to sleep when nothing can expire.
const NOTHING_EXPIRES: Duration = Duration::from_secs(3600);
/// What a frame has beside the parts that its caller chooses the size of, at most, in bytes.
const FRAME_OVERHEAD_BYTES: usize = 4096;

/// A reply, and whether its request had been sent more than once.
#[derive(Debug)]
pub(super) struct Replied {
    pub reply: Reply,
    pub repeated: bool,
}

type Answered = Result<Replied, ClientError>;

/// Where requests go; the task ends with it.
#[derive(Debug)]
pub(super) struct Link {
    jobs: mpsc::UnboundedSender<Job>,
    /// As many as may be under way: they bound the queue, too.
    slots: Arc<Semaphore>,
    timeout: Duration,
}

impl Link {
    /// Starts the task, with or without a connection.
    pub fn start(path: PathBuf, connection: Option<Connection>, timeout: Duration) -> Link {
        let (jobs, received) = mpsc::unbounded_channel();
        let driver = Driver {
            path: path.into(),
            timeout,
            jobs: received,
            pending: BTreeMap::new(),
            last_id: HELLO_ID,
            trouble: "it was never connected".to_owned(),
            pause: Duration::ZERO,
        };
        tokio::spawn(driver.run(connection));
        Link { jobs, slots: Arc::new(Semaphore::new(PIPELINE)), timeout }
    }

    /// Asks the agent. `deadline` is how long the agent may take, if the operation has one.
    pub async fn ask(
        &self,
        request: Request,
        fd: Option<Arc<OwnedFd>>,
        deadline: Option<Duration>,
    ) -> Result<Replied, ClientError> {
        check_size(&request)?;
        let now = Instant::now();
        let deadline = deadline.map(|d| now + d.min(Duration::from_millis(DEADLINE_MAX_MS)));
        let expires = deadline.unwrap_or(now) + self.timeout;
        let Ok(Ok(slot)) = timeout_at(expires, self.slots.clone().acquire_owned()).await else {
            return Err(ClientError::NotReachable(format!("{PIPELINE} earlier requests are still unanswered")));
        };
        let (reply, answered) = oneshot::channel();
        let job = Job { request, fd, deadline, expires, frame_end: None, sent: false, reply, _slot: slot };
        let gone = || ClientError::NotReachable("the runtime that served this client has ended".to_owned());
        self.jobs.send(job).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Refuses what the agent would close the connection for, with everybody else's requests on it.
fn check_size(request: &Request) -> Result<(), ClientError> {
    let length = |bytes: &Option<serde_bytes::ByteBuf>| bytes.as_ref().map_or(0, |b| b.len());
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let parent = request.parent.as_ref().map_or(0, |p| p.key.len() + text(&p.bucket));
    let bytes = [length(&request.key), length(&request.value), length(&request.after), text(&request.bucket)];
    let sum = bytes.iter().sum::<usize>() + text(&request.node) + parent;
    if sum > CLIENT_FRAME_BYTES - FRAME_OVERHEAD_BYTES {
        let why =
            format!("the request has {sum} bytes; a frame may have {CLIENT_FRAME_BYTES}, a value 65536, a key 1024");
        return Err(ClientError::TooLarge(why));
    }
    Ok(())
}

/// One request, until it is answered.
#[derive(Debug)]
struct Job {
    request: Request,
    fd: Option<Arc<OwnedFd>>,
    deadline: Option<Instant>,
    /// When its caller is told that there is no answer.
    expires: Instant,
    /// How many bytes of the present connection must be out for it to be.
    frame_end: Option<u64>,
    /// An agent may have read it on an earlier connection.
    sent: bool,
    reply: oneshot::Sender<Answered>,
    _slot: OwnedSemaphorePermit,
}

impl Job {
    /// The request as it is to be sent now.
    fn frame(&mut self) -> &Request {
        if let Some(deadline) = self.deadline {
            let mut left = deadline.saturating_duration_since(Instant::now());
            if self.sent {
                left = left.max(REPEAT_DEADLINE_MIN);
            }
            self.request.deadline = Some((left.as_micros().div_ceil(1000) as u64).max(1));
        }
        self.request.retry = self.sent && self.request.op == "put";
        &self.request
    }

    fn is_write(&self) -> bool {
        matches!(self.request.op.as_str(), "put" | "release")
    }
}

/// Why serving a connection ended.
enum Ended {
    /// Nobody holds the client any more.
    Unused,
    /// It broke.
    Broken(String),
}

struct Driver {
    path: Arc<Path>,
    timeout: Duration,
    jobs: mpsc::UnboundedReceiver<Job>,
    pending: BTreeMap<u64, Job>,
    last_id: u64,
    /// Why there is no connection, for those who wait for one.
    trouble: String,
    /// The pause before the next attempt to connect.
    pause: Duration,
}

impl Driver {
    async fn run(mut self, mut connection: Option<Connection>) {
        loop {
            let connection = match connection.take() {
                Some(connection) => connection,
                None => match self.reconnect().await {
                    Some(connection) => connection,
                    None => return,
                },
            };
            match self.serve(connection).await {
                Ended::Unused => return,
                Ended::Broken(why) => self.trouble = why,
            }
        }
    }

    /// A new connection, or `None` when nobody needs one any more.
    async fn reconnect(&mut self) -> Option<Connection> {
        loop {
            // An agent that is away is left in peace while nobody asks for anything.
            while self.pending.is_empty() {
                let job = self.jobs.recv().await?;
                self.admit(job);
            }
            let pause = jittered(self.pause);
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            self.meanwhile(sleep(pause)).await?;
            self.pending.retain(|_, job| !job.reply.is_closed());
            if self.pending.is_empty() {
                continue;
            }
            let path = self.path.clone();
            match self.meanwhile(Connection::open(&path, self.timeout)).await? {
                Ok(connection) => return Some(connection),
                Err(ClientError::NotReachable(why)) => self.trouble = why,
                Err(other) => self.trouble = other.to_string(),
            }
        }
    }

    /// Does something that may take its time, while requests come in and expire. `None` when nobody holds the client
    /// any more.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                done = &mut work => return Some(done),
                job = self.jobs.recv() => {
                    self.admit(job?);
                }
                () = sleep_until(expiry) => {
                    self.expire();
                }
            }
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> Ended {
        // In the order in which they were asked.
        for job in self.pending.values_mut() {
            let fd = job.fd.clone();
            job.frame_end = Some(connection.sender.push(job.frame(), fd));
        }
        let mut heard = Instant::now();
        let why = loop {
            let expiry = self.next_expiry();
            tokio::select! {
                reply = connection.replies.next() => match reply {
                    // The last word of an agent that closes the connection.
                    Ok(reply) if reply.id == 0 => break reply.message.unwrap_or_else(|| "it closes".to_owned()),
                    Ok(reply) => {
                        heard = Instant::now();
                        self.settle(reply);
                    }
                    Err(e) => break e.to_string(),
                },
                sent = connection.sender.flush(), if !connection.sender.is_empty() => {
                    // What the agent said before it closed its end can still be read, and then comes the end.
                    if sent.is_err() {
                        connection.sender.clear();
                    }
                }
                job = self.jobs.recv() => {
                    let Some(job) = job else { return Ended::Unused };
                    let job = self.admit(job);
                    let fd = job.fd.clone();
                    job.frame_end = Some(connection.sender.push(job.frame(), fd));
                }
                () = sleep_until(expiry) => {
                    // One late answer may have its reasons; an agent that is silent altogether hangs.
                    if self.expire() && heard.elapsed() >= self.timeout {
                        break format!("it has been silent for {} s", heard.elapsed().as_secs());
                    }
                }
            }
        };
        let written = connection.sender.written();
        for job in self.pending.values_mut() {
            job.sent |= job.frame_end.take().is_some_and(|end| end <= written);
        }
        Ended::Broken(why)
    }

    fn admit(&mut self, mut job: Job) -> &mut Job {
        self.last_id += 1;
        job.request.id = self.last_id;
        self.pending.entry(self.last_id).or_insert(job)
    }

    fn settle(&mut self, reply: Reply) {
        // A reply to a request that has expired here finds nobody.
        if let Some(job) = self.pending.remove(&reply.id) {
            self.pause = Duration::ZERO;
            // A caller that has gone away does not want it.
            let _ = job.reply.send(Ok(Replied { reply, repeated: job.sent }));
        }
    }

    fn next_expiry(&self) -> Instant {
        let first = self.pending.values().map(|job| job.expires).min();
        first.unwrap_or_else(|| Instant::now() + NOTHING_EXPIRES)
    }

    /// Tells those whose time is over; whether there were any.
    fn expire(&mut self) -> bool {
        let now = Instant::now();
        let over: Vec<u64> = self.pending.iter().filter(|(_, job)| job.expires <= now).map(|(id, _)| *id).collect();
        for job in over.iter().filter_map(|id| self.pending.remove(id)) {
            let connected = job.frame_end.is_some();
            let why = if connected { "the connection stands".to_owned() } else { self.trouble.clone() };
            let error = match (job.sent || connected, job.is_write()) {
                (false, _) => ClientError::NotReachable(why),
                (true, false) => ClientError::TimedOut(why),
                (true, true) => ClientError::Unknown(format!("the agent did not answer in time: {why}")),
            };
            let _ = job.reply.send(Err(error));
        }
        !over.is_empty()
    }
}

/// Between half of a pause and all of it, so that the clients of one agent do not come back in step.
fn jittered(pause: Duration) -> Duration {
    // Without randomness they do; that is slower, not wrong.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
