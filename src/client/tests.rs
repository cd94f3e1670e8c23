//! The client against an agent of a few lines, which does what each test wants.
//!
//! Time is paused: it moves on when nobody has anything to do, so a time limit is reached at once. Both ends run in one
//! thread, so what one end has written is there before that.

mod answers;
mod repeats;

use super::*;
use crate::codec::client::{HolderInfo, Status as WireStatus, decode_request, encode_reply};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// An agent's socket.
struct Agent {
    listener: UnixListener,
    directory: TempDir,
}

impl Agent {
    fn listen() -> Agent {
        let directory = tempfile::tempdir().unwrap();
        Agent { listener: UnixListener::bind(directory.path().join("s")).unwrap(), directory }
    }

    /// A client that is connected, and the agent's end of it.
    async fn connected() -> (Agent, Client, Peer) {
        let agent = Agent::listen();
        let (client, peer) = tokio::join!(Client::connect(agent.path()), agent.accept());
        (agent, client.unwrap(), peer)
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("s")
    }

    /// The next connection, after its handshake.
    async fn accept(&self) -> Peer {
        let mut peer = Peer(self.listener.accept().await.unwrap().0);
        let hello = peer.request().await;
        assert_eq!((hello.op.as_str(), hello.versions), ("hello", Some((1, 1))));
        peer.reply(Reply { version: Some(1), ..to(&hello) }).await;
        peer
    }
}

/// The agent's end of a connection.
struct Peer(UnixStream);

impl Peer {
    async fn request(&mut self) -> Request {
        let length = self.0.read_u32().await.unwrap();
        let mut frame = vec![0; length as usize];
        self.0.read_exact(&mut frame).await.unwrap();
        decode_request(&frame).unwrap()
    }

    async fn reply(&mut self, reply: Reply) {
        let frame = encode_reply(&reply);
        self.0.write_u32(frame.len() as u32).await.unwrap();
        self.0.write_all(&frame).await.unwrap();
    }

    /// Reads a request and replies to it.
    async fn answer(&mut self, reply: impl FnOnce(&Request) -> Reply) -> Request {
        let request = self.request().await;
        self.reply(reply(&request)).await;
        request
    }
}

fn to(request: &Request) -> Reply {
    Reply { id: request.id, ..Reply::default() }
}

fn with_status(status: WireStatus) -> impl Fn(&Request) -> Reply {
    move |request| Reply { status, ..to(request) }
}

fn no_quorum(request: &Request) -> Reply {
    Reply { outcome: Some("not_sent".to_owned()), ..with_status(WireStatus::NoQuorum)(request) }
}

/// A live entry with this value and token.
fn entry(value: &'static str, token: u64) -> impl Fn(&Request) -> Reply {
    move |request| Reply {
        value: Some(ByteBuf::from(to_item(value).unwrap())),
        token: Some(token),
        holder: Some(HolderInfo { node: "a".to_owned(), ..HolderInfo::default() }),
        created: (request.op == "put").then_some(true),
        ..to(request)
    }
}
