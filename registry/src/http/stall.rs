//! A connection whose client must go on taking what it asked for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// What each byte that is taken adds to the time for all: a second for 64 KiB.
///
/// Progress alone is not enough: who takes a few bytes every few seconds makes progress for as long as they like, and
/// holds what all big answers share meanwhile (`sending.rs`). Half a megabit a second is less than any line has on
/// which lists of megabytes are worth asking for, and at this rate one of 8 MiB is out of the way in 138 s.
const BYTE: Duration = Duration::from_nanos(1_000_000_000 / (64 << 10));

/// The error of a write that made no progress, or too little, in time.
#[derive(Debug, thiserror::Error)]
#[error("the client took too little of its answer for too long")]
pub(super) struct Stalled;

/// A stream whose writes must make progress before a deadline, and come to their end before one that is as much later
/// as bytes were taken. A timer is made only where a write has to wait.
#[derive(Debug)]
pub(super) struct Unstalled<S> {
    stream: S,
    deadline: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    /// When all must be written, from the first write that had to wait until it is: when nothing is left, the stream
    /// is flushed to its end.
    due: Option<Instant>,
}

impl<S> Unstalled<S> {
    pub(super) const fn new(stream: S, deadline: Duration) -> Self {
        Self { stream, deadline, waiting: None, due: None }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let (Some(due), Poll::Ready(Ok(bytes))) = (&mut self.due, &written) {
            *due += BYTE * u32::try_from(*bytes).unwrap_or(u32::MAX);
        }
        self.in_time(context, written)
    }

    fn flushed(&mut self, context: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            self.due = None;
        }
        self.in_time(context, flushed)
    }

    fn in_time<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let (deadline, due) = (self.deadline, &mut self.due);
        let waiting = self.waiting.get_or_insert_with(|| {
            let progress = Instant::now() + deadline;
            Box::pin(sleep_until(progress.min(*due.get_or_insert(progress))))
        });
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Stalled)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.flushed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.flushed(context, shut)
    }
}

#[cfg(test)]
mod tests;
