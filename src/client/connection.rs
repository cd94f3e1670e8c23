//! One connection to the agent: frames out, some with a descriptor, and frames in.

use super::ClientError;
use crate::codec::client::{Reply, Request, Status, VERSION, decode_reply, encode_request};
use crate::limits::CLIENT_FRAME_BYTES;
use crate::process::send_with_fd;
use bytes::{Buf, BufMut, BytesMut};
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// How long to wait when the agent's queue of new connections is full: the kernel says so instead of waiting.
const BACKLOG_PAUSE: Duration = Duration::from_millis(20);

/// The id of the handshake; the requests after it have higher ones. 0 is the agent's, for what answers no request.
pub(super) const HELLO_ID: u64 = 1;

type Frames = FramedRead<OwnedReadHalf, LengthDelimitedCodec>;

/// A connection whose handshake is done.
pub(super) struct Connection {
    pub replies: Replies,
    pub sender: Sender,
}

impl Connection {
    /// Connects and shakes hands. While the agent is down, systemd may hold its socket: then this waits until there is
    /// an agent, or `timeout` is over.
    pub async fn open(path: &Path, timeout: Duration) -> Result<Connection, ClientError> {
        let handshake = async {
            let socket = connect(path).await.map_err(|e| ClientError::NotReachable(explain(path, &e)))?;
            shake_hands(socket).await
        };
        tokio::time::timeout(timeout, handshake).await.unwrap_or_else(|_| {
            let path = path.display();
            let why = format!("{path} does not answer within {} s", timeout.as_secs_f32());
            Err(ClientError::NotReachable(why))
        })
    }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(BACKLOG_PAUSE).await,
            result => return result,
        }
    }
}

fn explain(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {path}"),
        io::ErrorKind::ConnectionRefused => format!("nothing listens on {path}"),
        io::ErrorKind::PermissionDenied => format!("{path} is closed to this user"),
        _ => format!("{path}: {error}"),
    }
}

async fn shake_hands(socket: UnixStream) -> Result<Connection, ClientError> {
    let (read, write) = socket.into_split();
    let mut frames = LengthDelimitedCodec::builder();
    let frames = frames.max_frame_length(CLIENT_FRAME_BYTES).new_read(read);
    let mut connection = Connection {
        replies: Replies(tokio_serde::Framed::new(frames, ReplyCodec)),
        sender: Sender { socket: write, out: BytesMut::new(), fds: VecDeque::new(), queued: 0, written: 0 },
    };
    let hello =
        Request { id: HELLO_ID, op: "hello".to_owned(), versions: Some((VERSION, VERSION)), ..Request::default() };
    connection.sender.push(&hello, None);
    // An agent that refuses the connection has perhaps closed it already, and what it said can still be read.
    let sent = connection.sender.flush().await;
    let reply = match connection.replies.next().await {
        Ok(reply) => reply,
        Err(e) => return Err(ClientError::NotReachable(sent.err().unwrap_or(e).to_string())),
    };
    match ClientError::of(&reply) {
        Some(error) => Err(error),
        None if reply.status == Status::Ok && reply.id == HELLO_ID => Ok(connection),
        None => Err(ClientError::Agent("it answers the handshake with something else".to_owned())),
    }
}

/// Reads replies from frames.
struct ReplyCodec;

impl tokio_serde::Deserializer<Reply> for ReplyCodec {
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, frame: &BytesMut) -> Result<Reply, io::Error> {
        decode_reply(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
    }
}

/// The replies, as they come.
pub(super) struct Replies(tokio_serde::Framed<Frames, Reply, (), ReplyCodec>);

impl Replies {
    /// The next reply. Cancel safe: a frame that has come in part is kept.
    pub async fn next(&mut self) -> io::Result<Reply> {
        let closed = || Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent has closed the connection"));
        self.0.next().await.unwrap_or_else(closed)
    }
}

/// What is to be sent, in order.
pub(super) struct Sender {
    socket: OwnedWriteHalf,
    out: BytesMut,
    /// Descriptors, each with the place of the byte that it goes with, from the start of `out`.
    fds: VecDeque<(usize, Arc<OwnedFd>)>,
    /// How many bytes were ever pushed.
    queued: u64,
    /// How many of them the kernel has taken.
    written: u64,
}

impl Sender {
    /// Queues a request; answers how many bytes must have been [written](Sender::written) when it is out.
    pub fn push(&mut self, request: &Request, fd: Option<Arc<OwnedFd>>) -> u64 {
        let frame = encode_request(request);
        if let Some(fd) = fd {
            self.fds.push_back((self.out.len(), fd));
        }
        // Frames are far below 4 GiB: `ask` refuses what the protocol does.
        self.out.put_u32(frame.len() as u32);
        self.out.extend_from_slice(&frame);
        self.queued += 4 + frame.len() as u64;
        self.queued
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// How many bytes the kernel has taken.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Drops what is not sent yet: nobody reads at the other end.
    pub fn clear(&mut self) {
        self.out.clear();
        self.fds.clear();
    }

    /// Sends all that is queued. Cancel safe: what has been sent is accounted for before it waits again.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            self.socket.writable().await?;
            match self.try_send() {
                Ok(sent) => self.forget(sent),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends up to the byte that the next descriptor goes with; or from there, with it.
    fn try_send(&mut self) -> io::Result<usize> {
        match self.fds.front() {
            Some((0, fd)) => {
                let end = self.fds.get(1).map_or(self.out.len(), |(place, _)| *place);
                let socket: &UnixStream = self.socket.as_ref();
                let send = || send_with_fd(socket.as_fd(), &self.out[..end], fd.as_fd());
                let sent = socket.try_io(Interest::WRITABLE, send)?;
                if sent > 0 {
                    self.fds.pop_front();
                }
                Ok(sent)
            }
            next => {
                let end = next.map_or(self.out.len(), |(place, _)| *place);
                self.socket.try_write(&self.out[..end])
            }
        }
    }

    fn forget(&mut self, sent: usize) {
        self.out.advance(sent);
        self.written += sent as u64;
        for (place, _) in &mut self.fds {
            *place -= sent;
        }
    }
}
