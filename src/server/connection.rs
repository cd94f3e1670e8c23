//! One caller: frames in, frames out, and the end of both when the caller's process exits.

use super::stream::FdReader;
use super::translate::{self, Asked, Shape};
use crate::agent::{AgentHandle, Ask, ConnectorWatch, Event, Replier, Response};
use crate::codec::client::{PIPELINE, Reply, Request, Status, VERSION, decode_request, encode_reply};
use crate::limits::CLIENT_FRAME_BYTES;
use crate::process::{Caller, ProcessError, identify_peer};
use crate::transport::framing::{Format, Reader, Writer};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

const FORMAT: Format<Request, Reply> = Format { read: decode_request, write: encode_reply };

/// A reply on its way to the writing half, with its place in the pipeline.
type Out = (Reply, Option<OwnedSemaphorePermit>);

/// Serves one connection to its end.
pub(super) async fn run(
    stream: UnixStream,
    agent: AgentHandle,
    permit: Option<OwnedSemaphorePermit>,
    stopping: watch::Receiver<bool>,
) {
    if permit.is_none() {
        return refuse(stream, Status::Overloaded, "the agent has too many connections; try again later").await;
    }
    let caller = match identify_peer(&stream, agent.boot_id) {
        Ok(caller) => caller,
        // Whoever writes here now is not who connected.
        Err(ProcessError::Gone) => return,
        Err(e) => return refuse(stream, Status::Overloaded, &e.to_string()).await,
    };
    // The connector owns the connection: when it exits, whoever else holds the socket has nothing more to say.
    let watch = match &caller.process {
        Ok(process) => match agent.exits.watch_connector(process.pidfd.clone()) {
            Ok(watch) => Some(watch),
            Err(e) => {
                let why = format!("the caller cannot be watched: {e}");
                return refuse(stream, Status::Overloaded, &why).await;
            }
        },
        Err(_) => None,
    };
    let (r, w) = stream.into_split();
    let reader = Reader::new(FdReader::new(r), FORMAT, CLIENT_FRAME_BYTES);
    let writer = Writer::new(w, FORMAT, CLIENT_FRAME_BYTES);
    let (replies, outgoing) = mpsc::channel(PIPELINE + 1);
    let reading = read(reader, Session { agent, caller, replies, greeted: false }, stopping);
    tokio::select! {
        () = exit_of(watch) => {}
        // The writer ends when the reader and all replies under way have.
        ((), ()) = async { tokio::join!(reading, write(writer, outgoing)) } => {}
    }
}

async fn exit_of(watch: Option<ConnectorWatch>) {
    match watch {
        Some(mut watch) => {
            if (&mut watch.exited).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Says why a connection is not served. The client has a moment to read it; it is not waited for.
async fn refuse(mut stream: UnixStream, status: Status, why: &str) {
    let reply = encode_reply(&Reply { status, message: Some(why.to_owned()), ..Reply::default() });
    let mut frame = u32::try_from(reply.len()).unwrap_or(0).to_be_bytes().to_vec();
    frame.extend_from_slice(&reply);
    if stream.writable().await.is_ok() {
        let _ = stream.try_write(&frame);
    }
    let _ = stream.shutdown().await;
}

/// What the reading half knows.
struct Session {
    agent: AgentHandle,
    caller: Caller,
    replies: mpsc::Sender<Out>,
    greeted: bool,
}

async fn read(mut reader: Reader<FdReader, Request, Reply>, mut session: Session, mut stopping: watch::Receiver<bool>) {
    let pipeline = Arc::new(Semaphore::new(PIPELINE));
    loop {
        // A full pipeline is not read from: the client waits in its write.
        let Ok(permit) = pipeline.clone().acquire_owned().await else { return };
        let request = tokio::select! {
            request = reader.next() => request,
            _ = stopping.changed() => return,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(e) => {
                let reply = Reply { status: Status::BadRequest, message: Some(explain(&e)), ..Reply::default() };
                let _ = session.replies.send((reply, Some(permit))).await;
                return;
            }
        };
        let passed = translate::wants_fd(&request).then(|| reader.stream_mut().take_fd()).flatten();
        if !session.take(request, passed, permit).await {
            return;
        }
    }
}

fn explain(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::TimedOut => "a frame must arrive whole within 10 s of its first byte".into(),
        std::io::ErrorKind::UnexpectedEof => "the connection ended within a frame".into(),
        _ if e.to_string().contains("frame size too big") => {
            format!("a frame has at most {CLIENT_FRAME_BYTES} bytes, after a length of 4 bytes, big endian")
        }
        _ => e.to_string(),
    }
}

impl Session {
    /// Whether the connection goes on.
    async fn take(
        &mut self,
        request: Request,
        passed: Option<std::os::fd::OwnedFd>,
        permit: OwnedSemaphorePermit,
    ) -> bool {
        let id = request.id;
        if !self.greeted {
            let reply = translate::greet(&request);
            self.greeted = reply.status == Status::Ok;
            let _ = self.replies.send((reply, Some(permit))).await;
            return self.greeted;
        }
        if request.op == "hello" {
            let reply = Reply { id, version: Some(VERSION), ..Reply::default() };
            return self.replies.send((reply, Some(permit))).await.is_ok();
        }
        match translate::question(request, &self.caller, passed, self.agent.boot_id) {
            Err(refused) => self.replies.send((refused.reply(id), Some(permit))).await.is_ok(),
            Ok(Asked { question, shape }) => {
                let config = self.agent.config.clone();
                let reply = Pending { id, shape, permit: Some(permit), replies: self.replies.clone(), config };
                self.agent.events.send(Event::Ask(Ask { question, reply: Box::new(reply) })).await.is_ok()
            }
        }
    }
}

/// A question under way.
struct Pending {
    id: u64,
    shape: Shape,
    permit: Option<OwnedSemaphorePermit>,
    replies: mpsc::Sender<Out>,
    config: Arc<crate::config::Config>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({})", self.id)
    }
}

impl Replier for Pending {
    fn reply(self: Box<Self>, response: Response) {
        let reply = translate::reply(self.id, &self.shape, response, &self.config);
        // There is room: no more replies than permits, and one for the greeting. A connection that is over has no use
        // for it.
        let _ = self.replies.try_send((reply, self.permit));
    }
}

async fn write(
    mut writer: Writer<tokio::net::unix::OwnedWriteHalf, Request, Reply>,
    mut outgoing: mpsc::Receiver<Out>,
) {
    while let Some((reply, permit)) = outgoing.recv().await {
        let mut written = writer.feed(reply).await;
        let mut permits = vec![permit];
        while written.is_ok()
            && let Ok((reply, permit)) = outgoing.try_recv()
        {
            written = writer.feed(reply).await;
            permits.push(permit);
        }
        if written.and(writer.flush().await).is_err() {
            return;
        }
    }
}
