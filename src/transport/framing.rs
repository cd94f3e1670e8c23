//! Frames on a stream: a length (u32, big endian), then that many bytes of CBOR.
//!
//! A frame, once begun, must arrive within [`FRAME_MS`], so that nobody can hold a buffer open a byte a second.

use crate::limits::FRAME_MS;
use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// How one side's frames are read and written: a pair of functions over `codec`, as `tokio-serde` wants them.
#[derive(Debug)]
pub struct Format<In, Out> {
    /// Bytes to a frame.
    pub read: fn(&[u8]) -> Result<In, crate::codec::CodecError>,
    /// A frame to bytes.
    pub write: fn(&Out) -> Vec<u8>,
}

impl<In, Out> Clone for Format<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<In, Out> Copy for Format<In, Out> {}

impl<In, Out> tokio_serde::Deserializer<In> for Format<In, Out> {
    type Error = io::Error;
    fn deserialize(self: Pin<&mut Self>, bytes: &BytesMut) -> io::Result<In> {
        (self.read)(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

impl<In, Out> tokio_serde::Serializer<Out> for Format<In, Out> {
    type Error = io::Error;
    fn serialize(self: Pin<&mut Self>, frame: &Out) -> io::Result<Bytes> {
        Ok((self.write)(frame).into())
    }
}

/// The reading half of a connection.
pub struct Reader<R, In, Out> {
    framed: tokio_serde::Framed<FramedRead<R, LengthDelimitedCodec>, In, Out, Format<In, Out>>,
}

/// The writing half of a connection.
pub struct Writer<W, In, Out> {
    framed: tokio_serde::Framed<FramedWrite<W, LengthDelimitedCodec>, In, Out, Format<In, Out>>,
}

impl<R: AsyncRead + Unpin, In, Out> Reader<R, In, Out> {
    /// Reads frames of at most `max_bytes`.
    pub fn new(stream: R, format: Format<In, Out>, max_bytes: usize) -> Self {
        Reader { framed: tokio_serde::Framed::new(FramedRead::new(stream, lengths(max_bytes)), format) }
    }

    /// The stream below.
    pub fn stream_mut(&mut self) -> &mut R {
        self.framed.get_mut().get_mut()
    }

    /// The next frame; none at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` for a frame that did not arrive whole in time, `InvalidData` for one that is too long or malformed,
    /// `UnexpectedEof` for half a one; whatever the stream says.
    pub async fn next(&mut self) -> io::Result<Option<In>>
    where
        In: Unpin,
        Out: Unpin,
    {
        let mut late: Option<Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(|context| {
            if let Poll::Ready(frame) = Pin::new(&mut self.framed).poll_next(context) {
                return Poll::Ready(frame.transpose());
            }
            if self.framed.get_ref().read_buffer().is_empty() {
                return Poll::Pending;
            }
            let sleep = || Box::pin(tokio::time::sleep(Duration::from_millis(FRAME_MS)));
            late.get_or_insert_with(sleep).as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    /// Reads and writes other frames from now on, on the same stream and without losing what was read ahead.
    pub fn with_format<In2, Out2>(self, format: Format<In2, Out2>, max_bytes: usize) -> Reader<R, In2, Out2> {
        let mut frames = self.framed.into_inner();
        frames.decoder_mut().set_max_frame_length(max_bytes);
        Reader { framed: tokio_serde::Framed::new(frames, format) }
    }
}

impl<W: AsyncWrite + Unpin, In: Unpin, Out: Unpin> Writer<W, In, Out> {
    /// Writes frames of at most `max_bytes`.
    pub fn new(stream: W, format: Format<In, Out>, max_bytes: usize) -> Self {
        Writer { framed: tokio_serde::Framed::new(FramedWrite::new(stream, lengths(max_bytes)), format) }
    }

    /// Queues a frame, waiting only if much is queued already.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub async fn feed(&mut self, frame: Out) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.framed).poll_ready(context)).await?;
        Pin::new(&mut self.framed).start_send(frame)
    }

    /// Writes out what is queued.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| Pin::new(&mut self.framed).poll_flush(context)).await
    }

    /// [`Writer::feed`], then [`Writer::flush`].
    ///
    /// # Errors
    /// Whatever the stream says.
    pub async fn send(&mut self, frame: Out) -> io::Result<()> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// As [`Reader::with_format`].
    pub fn with_format<In2, Out2>(self, format: Format<In2, Out2>, max_bytes: usize) -> Writer<W, In2, Out2> {
        let mut frames = self.framed.into_inner();
        frames.encoder_mut().set_max_frame_length(max_bytes);
        Writer { framed: tokio_serde::Framed::new(frames, format) }
    }
}

fn lengths(max_bytes: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().big_endian().length_field_length(4).max_frame_length(max_bytes).new_codec()
}
