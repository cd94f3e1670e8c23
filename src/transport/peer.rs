//! One connection's life: handshake, frames both ways, end.

use super::framing::{Format, Reader, Writer};
use super::{Event, Ids, Outgoing, outbox};
use crate::codec::peer::{Frame, decode_frame, decode_hello, decode_welcome, encode_hello, encode_welcome};
use crate::kv::peer::{Hello, Welcome};
use crate::limits::{HANDSHAKE_MS, PEER_FRAME_BYTES, PEER_SILENCE_US, RECONNECT_MAX_MS, RECONNECT_MIN_MS};
use crate::paxos::NodeId;
use crate::transport::ConnectionId;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

/// A handshake is small; what is longer is none.
const HANDSHAKE_BYTES: usize = 64 * 1024;

const ASKING: Format<Welcome, Hello> = Format { read: decode_welcome, write: encode_hello };
const ANSWERING: Format<Hello, Welcome> = Format { read: decode_hello, write: encode_welcome };
/// Frames are encoded when they are queued.
const FRAMES: Format<Frame, Vec<u8>> = Format { read: decode_frame, write: Vec::clone };

/// Dials a peer, again and again.
pub(super) async fn dial(peer: NodeId, address: SocketAddr, ids: Ids, events: mpsc::Sender<Event>) {
    let mut pause_ms = RECONNECT_MIN_MS;
    loop {
        let why = match dial_once(peer, address, ids.draw(), &events).await {
            Ok(talked) => {
                // A connection that was let in and dropped at once is not to be dialled fifty times a second.
                if talked {
                    pause_ms = RECONNECT_MIN_MS;
                }
                None
            }
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = why
            && events.send(Event::NotConnected { peer, why }).await.is_err()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(RECONNECT_MAX_MS);
    }
}

/// One connection from us to a peer: an error if it never came to be, else whether the peer ever said anything on it.
async fn dial_once(
    peer: NodeId,
    address: SocketAddr,
    connection: ConnectionId,
    events: &mpsc::Sender<Event>,
) -> io::Result<bool> {
    let (tx, rx) = oneshot::channel();
    let gone = || io::Error::other("the agent is stopping");
    events.send(Event::HelloWanted(tx)).await.map_err(|_| gone())?;
    let hello = rx.await.map_err(|_| gone())?;
    let nonce = hello.nonce;
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (r, w) = stream.into_split();
        let mut reader = Reader::new(r, ASKING, HANDSHAKE_BYTES);
        let mut writer = Writer::new(w, ASKING, HANDSHAKE_BYTES);
        writer.send(hello).await?;
        let welcome = reader.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok::<_, io::Error>((reader, writer, welcome))
    };
    let (reader, writer, welcome) = match timeout(Duration::from_millis(HANDSHAKE_MS), handshake).await {
        Ok(done) => done?,
        Err(_) => return Err(io::Error::other("no answer to the handshake in time")),
    };
    let hello = match welcome {
        Welcome::Accepted(hello) => hello,
        Welcome::Refused(why) => return Err(io::Error::other(format!("it refuses us: {why}"))),
    };
    let (outbox, outgoing) = outbox();
    events.send(Event::Connected { peer, nonce, hello, connection, outbox }).await.map_err(|_| gone())?;
    Ok(converse(reader.into_frames(), writer.into_frames(), connection, outgoing, events).await)
}

/// One connection from a peer to us.
pub(super) async fn answer(
    stream: TcpStream,
    connection: ConnectionId,
    events: mpsc::Sender<Event>,
    permit: OwnedSemaphorePermit,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (r, w) = stream.into_split();
    let mut reader = Reader::new(r, ANSWERING, HANDSHAKE_BYTES);
    let mut writer = Writer::new(w, ANSWERING, HANDSHAKE_BYTES);
    let deadline = Duration::from_millis(HANDSHAKE_MS);
    let hello = match timeout(deadline, reader.next()).await {
        Ok(Ok(Some(hello))) => Box::new(hello),
        // Not one of us; a peer that was cut off will come again.
        Ok(Ok(None) | Err(_)) | Err(_) => return,
    };
    let (outbox, outgoing) = outbox();
    let (tx, rx) = oneshot::channel();
    if events.send(Event::Knocked { hello, connection, outbox, answer: tx }).await.is_err() {
        return;
    }
    let Ok(welcome) = rx.await else { return };
    let accepted = matches!(welcome, Welcome::Accepted(_));
    let sent = matches!(timeout(deadline, writer.send(welcome)).await, Ok(Ok(())));
    drop(permit);
    if accepted && sent {
        converse(reader.into_frames(), writer.into_frames(), connection, outgoing, &events).await;
    } else if accepted {
        let why = "the handshake could not be sent".into();
        let _ = events.send(Event::Closed { connection, why }).await;
    }
}

/// Frames both ways, until either side has had enough. Whether any came.
async fn converse(
    mut reader: Reader<OwnedReadHalf, Frame, Vec<u8>>,
    mut writer: Writer<OwnedWriteHalf, Frame, Vec<u8>>,
    connection: ConnectionId,
    mut outgoing: Outgoing,
    events: &mpsc::Sender<Event>,
) -> bool {
    let mut received = false;
    let silence = Duration::from_micros(PEER_SILENCE_US);
    let reading = async {
        loop {
            // Heartbeats, and their replies, come more often than this.
            match timeout(silence, reader.next()).await {
                Ok(Ok(Some(frame))) => {
                    received = true;
                    if events.send(Event::Received { connection, frame: Box::new(frame) }).await.is_err() {
                        return "the agent is stopping".to_owned();
                    }
                }
                Ok(Ok(None)) => return "closed by the peer".into(),
                Ok(Err(e)) => return e.to_string(),
                Err(_) => return "the peer was silent".into(),
            }
        }
    };
    let writing = async {
        while let Some(frame) = outgoing.next().await {
            let mut written = writer.feed(frame).await;
            while written.is_ok()
                && let Some(frame) = outgoing.try_next()
            {
                written = writer.feed(frame).await;
            }
            if let Err(e) = written.and(writer.flush().await) {
                return e.to_string();
            }
        }
        "closed by this agent".to_owned()
    };
    let why = tokio::select! { why = reading => why, why = writing => why };
    let _ = events.send(Event::Closed { connection, why }).await;
    received
}

impl<In, Out> Reader<OwnedReadHalf, In, Out> {
    fn into_frames(self) -> Reader<OwnedReadHalf, Frame, Vec<u8>> {
        self.with_format(FRAMES, PEER_FRAME_BYTES)
    }
}

impl<In: Unpin, Out: Unpin> Writer<OwnedWriteHalf, In, Out> {
    fn into_frames(self) -> Writer<OwnedWriteHalf, Frame, Vec<u8>> {
        self.with_format(FRAMES, PEER_FRAME_BYTES)
    }
}
