//! TCP between agents: one connection a direction and peer, many messages a frame.
//!
//! An agent dials every peer and keeps dialling, with pauses that double up to a second. Its requests go out on the
//! connection that it dialled, and their replies come back on it; so a reply always belongs to one life of either end.
//! Who says what in a handshake is judged by the agent's loop, not here: see [`Event`].
//!
//! Without certificates nobody is authenticated: then only loopback addresses are bound and dialled (`config` sees to
//! it).

pub mod framing;
mod peer;

use crate::codec::peer::{Frame, Packed, encode_frame};
use crate::kv::peer::{Hello, Stamp, Welcome};
use crate::limits::{HANDSHAKES, OUTBOX_BYTES, PEER_FRAME_FILL_BYTES, PEER_FRAME_MESSAGES};
use crate::paxos::NodeId;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Names one connection of this run of the agent.
pub type ConnectionId = u64;

/// What the transport tells the agent's loop.
#[derive(Debug)]
pub enum Event {
    /// A connection is to be dialled: what shall be said?
    HelloWanted(oneshot::Sender<Hello>),
    /// Somebody has connected and says who it is.
    Knocked {
        /// Its handshake.
        hello: Box<Hello>,
        /// The connection, if it is to be.
        connection: ConnectionId,
        /// Where to send replies. Dropping it closes the connection.
        outbox: Outbox,
        /// What to answer.
        answer: oneshot::Sender<Welcome>,
    },
    /// A peer that was dialled has let us in, and says who it is.
    Connected {
        /// Who was dialled.
        peer: NodeId,
        /// The nonce that its handshake must repeat.
        nonce: [u8; 16],
        /// Its handshake.
        hello: Box<Hello>,
        /// The connection.
        connection: ConnectionId,
        /// Where to send requests. Dropping it closes the connection.
        outbox: Outbox,
    },
    /// A frame has arrived.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        frame: Box<Frame>,
    },
    /// A connection is over.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: String,
    },
    /// A peer cannot be reached, or will not let us in.
    NotConnected {
        /// Who.
        peer: NodeId,
        /// Why.
        why: String,
    },
}

/// What waits to be sent on one connection.
#[derive(Debug)]
pub struct Outbox {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

/// The other end of an [`Outbox`].
pub(crate) struct Outgoing {
    frames: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

/// The peer does not read what it is sent, or is gone: the connection is to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

fn outbox() -> (Outbox, Outgoing) {
    let (tx, rx) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicUsize::new(0));
    (Outbox { frames: tx, queued: queued.clone() }, Outgoing { frames: rx, queued })
}

impl Outbox {
    /// Queues messages, in as few frames as their limits allow.
    ///
    /// # Errors
    /// [`Stuck`] if more than [`OUTBOX_BYTES`] would wait.
    pub fn send(&self, stamp: &Stamp, messages: &[Packed]) -> Result<(), Stuck> {
        let mut rest = messages;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(PEER_FRAME_MESSAGES).take_while(|m| {
                let fits = bytes == 0 || bytes + m.len() <= PEER_FRAME_FILL_BYTES;
                bytes += m.len();
                fits
            });
            let (now, later) = rest.split_at(fits.count());
            let frame = encode_frame(stamp, now);
            if self.queued.fetch_add(frame.len(), Ordering::Relaxed) > OUTBOX_BYTES {
                return Err(Stuck);
            }
            self.frames.send(frame).map_err(|_| Stuck)?;
            rest = later;
        }
        Ok(())
    }
}

impl Outgoing {
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.frames.recv().await.inspect(|frame| self.took(frame))
    }

    fn try_next(&mut self) -> Option<Vec<u8>> {
        self.frames.try_recv().ok().inspect(|frame| self.took(frame))
    }

    fn took(&self, frame: &[u8]) {
        self.queued.fetch_sub(frame.len(), Ordering::Relaxed);
    }
}

/// Draws connection ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids(Arc<AtomicUsize>);

impl Ids {
    fn draw(&self) -> ConnectionId {
        self.0.fetch_add(1, Ordering::Relaxed) as u64
    }
}

/// The running transport. Dropping it closes everything.
#[derive(Debug)]
pub struct Transport {
    tasks: tokio::task::JoinSet<()>,
}

impl Transport {
    /// Listens on `listen` and dials every peer; must be called within a tokio runtime.
    ///
    /// # Errors
    /// Whatever binding says.
    pub async fn start(
        listen: SocketAddr,
        peers: Vec<(NodeId, SocketAddr)>,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Transport> {
        let listener = TcpListener::bind(listen).await?;
        let ids = Ids::default();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(accept(listener, ids.clone(), events.clone()));
        for (peer, address) in peers {
            tasks.spawn(peer::dial(peer, address, ids.clone(), events.clone()));
        }
        Ok(Transport { tasks })
    }

    /// A transport of a cluster of one: nothing to do.
    pub fn none() -> Transport {
        Transport { tasks: tokio::task::JoinSet::new() }
    }

    /// Closes every connection and listens no more.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, ids: Ids, events: mpsc::Sender<Event>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    // The tasks of connections end with this one.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
                connections.spawn(peer::answer(stream, ids.draw(), events.clone(), permit));
            }
            // Out of descriptors, most likely: whoever is connected goes on, newcomers wait.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}
