//! A client of the socket that does what it is told and nothing else: no library, no retries, blocking.

use super::*;
use paxoskv::codec::client::{VERSION, decode_reply, encode_request};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub struct Caller {
    pub stream: UnixStream,
    last_id: u64,
    /// Replies that came while another was waited for.
    early: BTreeMap<u64, Reply>,
}

/// A frame: the length, then the bytes.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

impl Caller {
    /// Connects and says hello.
    pub fn connect(socket: &Path) -> io::Result<Caller> {
        Caller::connect_within(socket, NEVER)
    }

    /// Connects and says hello; no answer, to this or later, is waited for longer than this.
    pub fn connect_within(socket: &Path, patience: Duration) -> io::Result<Caller> {
        let mut caller = Caller::silent(socket)?;
        caller.stream.set_read_timeout(Some(patience))?;
        let hello = caller.try_ask(Request { versions: Some((VERSION, VERSION)), ..plain("hello") })?;
        if hello.status != Status::Ok {
            return Err(io::Error::other(format!("{hello:?}")));
        }
        Ok(caller)
    }

    /// Connects and says nothing.
    pub fn silent(socket: &Path) -> io::Result<Caller> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(NEVER))?;
        stream.set_write_timeout(Some(NEVER))?;
        Ok(Caller { stream, last_id: 0, early: BTreeMap::new() })
    }

    /// Sends a request under the next id, which is returned.
    pub fn send(&mut self, request: Request) -> io::Result<u64> {
        let (id, bytes) = self.encode(request);
        self.stream.write_all(&bytes)?;
        Ok(id)
    }

    /// Sends a request together with a descriptor.
    pub fn send_with_fd(&mut self, request: Request, fd: BorrowedFd<'_>) -> io::Result<u64> {
        let (id, bytes) = self.encode(request);
        let sent = paxoskv::process::send_with_fd(self.stream.as_fd(), &bytes, fd)?;
        self.stream.write_all(&bytes[sent..])?;
        Ok(id)
    }

    fn encode(&mut self, request: Request) -> (u64, Vec<u8>) {
        self.last_id += 1;
        (self.last_id, frame(&encode_request(&Request { id: self.last_id, ..request })))
    }

    /// The next reply, whichever request it is to.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes)?;
        decode_reply(&bytes).map_err(io::Error::other)
    }

    /// The reply to one request.
    pub fn reply_to(&mut self, id: u64) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.early.remove(&id) {
                return Ok(reply);
            }
            let reply = self.receive()?;
            self.early.insert(reply.id, reply);
        }
    }

    /// Sends a request and waits for its reply.
    pub fn try_ask(&mut self, request: Request) -> io::Result<Reply> {
        let id = self.send(request)?;
        self.reply_to(id)
    }

    /// As [`Caller::try_ask`], of an agent that is there.
    pub fn ask(&mut self, request: Request) -> Reply {
        self.try_ask(request).unwrap()
    }

    /// Asks many things, at most 200 at a time, and returns the replies in the order of the requests.
    pub fn ask_all(&mut self, requests: impl IntoIterator<Item = Request>) -> Vec<Reply> {
        let requests: Vec<Request> = requests.into_iter().collect();
        let mut replies = Vec::with_capacity(requests.len());
        for some in requests.chunks(200) {
            let ids: Vec<u64> = some.iter().map(|r| self.send(r.clone()).unwrap()).collect();
            replies.extend(ids.into_iter().map(|id| self.reply_to(id).unwrap()));
        }
        replies
    }

    /// Sets a key that nobody else sets.
    pub fn set(&mut self, request: Request) -> Reply {
        let reply = self.ask(request);
        assert_eq!((reply.status, reply.created), (Status::Ok, Some(true)), "{reply:?}");
        reply
    }
}
