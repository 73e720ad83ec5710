//! Big answers that clients have not taken yet, bounded in bytes: who asks for lists and does not read them must not
//! fill the memory.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};

/// Smaller answers do not count: connections bound them.
const BIG: u64 = 64 << 10;

/// Bytes of big answers at a time. One that is larger is sent when there is no other.
const MOST: usize = 256 << 20;

/// The big answers on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending(Arc<AtomicUsize>);

/// The place of one answer, until its last byte is handed to the kernel or its connection ends.
#[derive(Debug)]
struct Place {
    sending: Sending,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sending.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Sending {
    fn place(&self, bytes: usize, most: usize) -> Option<Place> {
        let fits = |held: usize| (held == 0 || held + bytes <= most).then_some(held + bytes);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Place { sending: self.clone(), bytes })
    }

    /// Puts an answer on its way. `Err`: it is big, and there are too many of them.
    pub(super) fn send<B: Body<Data = Bytes>>(&self, answer: Response<B>) -> Result<Response<Sent<B>>, ()> {
        let place = match answer.body().size_hint().exact() {
            Some(bytes) if bytes > BIG => {
                Some(Arc::new(self.place(usize::try_from(bytes).unwrap_or(usize::MAX), MOST).ok_or(())?))
            }
            _ => None,
        };
        Ok(answer.map(|body| Sent { body, place }))
    }
}

/// An answer with its place. Every piece of it holds the place, because the server keeps pieces that are not written
/// yet when it is done with the body.
#[derive(Debug)]
pub struct Sent<B> {
    body: B,
    place: Option<Arc<Place>>,
}

impl<B> Sent<B> {
    /// One that needs no place.
    pub(super) const fn small(body: B) -> Self {
        Self { body, place: None }
    }
}

/// A piece and its place.
struct Piece(Bytes, #[expect(dead_code, reason = "held until it is dropped")] Arc<Place>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &self.place {
            None => frame,
            Some(place) => frame.map(|frame| {
                frame.map(|frame| {
                    frame.map(|frame| {
                        frame.map_data(|bytes| Bytes::from_owner(Piece(bytes, Arc::clone(place))))
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
