//! Big answers that clients have not taken yet, bounded in bytes: who asks for lists and does not read them must not
//! fill the memory, nor leave nothing of it to others.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::guard::block;

/// Smaller answers do not count: connections bound them.
const BIG: u64 = 64 << 10;

/// Bytes of big answers at a time. One that is larger is sent when there is no other.
const MOST: usize = 256 << 20;

/// The part of them that one address may hold: a quarter, so that it takes several to leave nothing to others. One
/// that is larger is sent when its address has no other.
const SHARES: usize = 4;

/// Whose big answers are too many for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// Those of all.
    All,
    /// Those of its address.
    Address,
}

/// The bytes of big answers: pure. An address stands in it while it has one, so that it is as small as they are few.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Held {
    /// Takes bytes of `most`; `None`: for one whose answers are not counted by address.
    fn take(&mut self, address: Option<IpAddr>, bytes: usize, most: usize) -> Result<(), TooMany> {
        let fits = |held: usize, most: usize| held == 0 || held + bytes <= most;
        let own = address.and_then(|address| self.by_address.get(&address)).copied().unwrap_or_default();
        if !fits(own, most / SHARES) {
            return Err(TooMany::Address);
        }
        if !fits(self.all, most) {
            return Err(TooMany::All);
        }
        self.all += bytes;
        if let Some(address) = address {
            self.by_address.insert(address, own + bytes);
        }
        Ok(())
    }

    fn give_back(&mut self, address: Option<IpAddr>, bytes: usize) {
        self.all -= bytes;
        if let Some(address) = address
            && let Some(own) = self.by_address.get_mut(&address)
        {
            *own -= bytes;
            if *own == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// The big answers on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending(Arc<Mutex<Held>>);

/// The place of one answer, until its last byte is handed to the kernel or its connection ends.
#[derive(Debug)]
struct Place {
    sending: Sending,
    address: Option<IpAddr>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sending.0.lock().give_back(self.address, self.bytes);
    }
}

impl Sending {
    fn place(&self, address: Option<IpAddr>, bytes: usize, most: usize) -> Result<Place, TooMany> {
        let address = address.map(block);
        self.0.lock().take(address, bytes, most)?;
        Ok(Place { sending: self.clone(), address, bytes })
    }

    /// Puts an answer on its way to a client, whose address is asked for only if it is big. `Err`: it is, and there are
    /// too many of them.
    pub(super) fn send<B: Body<Data = Bytes>>(
        &self,
        answer: Response<B>,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Response<Sent<B>>, TooMany> {
        let place = match answer.body().size_hint().exact() {
            Some(bytes) if bytes > BIG => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                Some(Arc::new(self.place(client(), bytes, MOST)?))
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
