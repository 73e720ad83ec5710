//! A lean generator of load: HTTP/1.1 on kept connections, one request at a time on each, open loop.
//!
//! Requests go out by a schedule that no answer moves, and a latency counts from the moment at which its request was
//! due: a server that stalls is charged for all that it held up. One thread and epoll, so that the generator takes
//! little of the machine that it shares with what it measures.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use tokio::time::Instant;

/// The shortest sleep: what becomes due meanwhile goes out in one go, and costs fewer wake-ups.
const NAP: Duration = Duration::from_micros(500);

/// After the last request was sent, answers are waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of an answer at once.
const CHUNK: usize = 16 << 10;

/// What to send, when and where.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Kept connections: as many requests may be under way.
    pub connections: usize,
    /// Requests a second.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests that were due.
    pub sent: u64,
    /// Answers of the 2xx kind.
    pub good: u64,
    /// All others: by status, 0 for none at all.
    pub bad: BTreeMap<u16, u64>,
    /// Of the good ones, in microseconds, from the moment at which the request was due.
    latencies: Vec<u32>,
}

impl Outcome {
    /// Requests that were answered otherwise, or not at all.
    pub fn errors(&self) -> u64 {
        self.bad.values().sum()
    }

    /// The latency that so many thousandths of the good answers did not exceed. Zero when there were none.
    pub fn latency(&self, per_mille: u64) -> Duration {
        let Some(last) = self.latencies.len().checked_sub(1) else { return Duration::ZERO };
        let place = usize::try_from(last as u64 * per_mille / 1000).unwrap_or(last);
        Duration::from_micros(self.latencies[place].into())
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.good += other.good;
        for (status, count) in other.bad {
            *self.bad.entry(status).or_default() += count;
        }
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self
    }

    fn good(&mut self, took: Duration) {
        self.good += 1;
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    fn bad(&mut self, status: u16) {
        *self.bad.entry(status).or_default() += 1;
    }
}

/// Sends what `request` writes for each number, from 0 on, until the time is over, and waits for the last answers.
/// Blocks; a thread of its own is the place for it.
///
/// # Errors
/// The server takes no connection, or the operating system gives no epoll.
pub fn run(plan: &Plan, mut request: impl FnMut(u64, &mut Vec<u8>)) -> io::Result<Outcome> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(plan.connections);
    for place in 0..plan.connections {
        connections.push(Connection::open(plan.address, &poll, place)?);
    }
    let mut free: VecDeque<usize> = (0..plan.connections).collect();
    let total = u64::try_from(u128::from(plan.rate) * plan.duration.as_millis() / 1000).unwrap_or(u64::MAX);
    let mut outcome = Outcome::default();
    let due = |number: u64| Duration::from_nanos(number * 1_000_000_000 / u64::from(plan.rate));
    let (mut bytes, mut chunk) = (Vec::with_capacity(1024), vec![0; CHUNK]);
    let mut events = Vec::with_capacity(plan.connections);
    let (begun, mut next, mut last) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let now = begun.elapsed();
        while next < total && due(next) <= now {
            let Some(place) = free.pop_front() else { break };
            bytes.clear();
            request(next, &mut bytes);
            let connection = &mut connections[place];
            outcome.sent += 1;
            connection.due = Some(due(next));
            (next, last) = (next + 1, now);
            if connection.send(&bytes).is_err() {
                connection.reopen(plan.address, &poll, place)?;
                outcome.bad(0);
                free.push_back(place);
            }
        }
        let idle = free.len() == connections.len();
        if next == total && (idle || now > last + PATIENCE) {
            break;
        }
        let wait =
            if next < total && !free.is_empty() { due(next).saturating_sub(now).max(NAP) } else { PATIENCE };
        let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        epoll::wait(&poll, spare_capacity(&mut events), Some(&wait))?;
        let now = begun.elapsed();
        for event in events.drain(..) {
            let Some((place, connection)) = usize::try_from(event.data.u64())
                .ok()
                .and_then(|place| Some((place, connections.get_mut(place)?)))
            else {
                continue;
            };
            match connection.receive(&mut chunk) {
                Ok(None) => {}
                Ok(Some(status)) => {
                    if let Some(due) = connection.due.take() {
                        if (200..300).contains(&status) {
                            outcome.good(now.saturating_sub(due));
                        } else {
                            outcome.bad(status);
                        }
                        free.push_back(place);
                    }
                }
                Err(_) => {
                    let asked = connection.due.is_some();
                    connection.reopen(plan.address, &poll, place)?;
                    // A connection that was closed while it was idle is no lost request.
                    if asked {
                        outcome.bad(0);
                        free.push_back(place);
                    }
                }
            }
        }
    }
    for _ in connections.iter().filter(|connection| connection.due.is_some()) {
        outcome.bad(0);
    }
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was due.
    due: Option<Duration>,
    /// Of its answer, what has come so far where it did not come at once.
    begun: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr, poll: impl AsFd, place: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(poll, &stream, data, epoll::EventFlags::IN | epoll::EventFlags::RDHUP)?;
        Ok(Self { stream, due: None, begun: Vec::new() })
    }

    fn reopen(&mut self, address: SocketAddr, poll: impl AsFd, place: usize) -> io::Result<()> {
        // Closing the old one takes it out of the poll.
        *self = Self::open(address, poll, place)?;
        Ok(())
    }

    /// A request is far smaller than what a socket takes at once; one that does not fit is a broken connection.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.stream.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// The status, once the answer is whole.
    fn receive(&mut self, chunk: &mut [u8]) -> io::Result<Option<u16>> {
        let read = match self.stream.read(chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.begun.is_empty() {
            // As a rule it comes whole, and is looked at where it lies.
            let status = whole(&chunk[..read])?;
            if status.is_none() {
                self.begun.extend_from_slice(&chunk[..read]);
            }
            return Ok(status);
        }
        self.begun.extend_from_slice(&chunk[..read]);
        let status = whole(&self.begun)?;
        if status.is_some() {
            self.begun.clear();
        }
        Ok(status)
    }
}

/// The status of an answer whose head and body are there. Only what has a length is understood.
fn whole(bytes: &[u8]) -> io::Result<Option<u16>> {
    let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|_| ErrorKind::InvalidData)?;
    let status: u16 = text.get(9..12).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    let body = match length {
        Some(length) => length,
        None if status == 204 => 0,
        None => return Err(ErrorKind::InvalidData.into()),
    };
    Ok((bytes.len() >= head + 4 + body).then_some(status))
}

#[cfg(test)]
mod tests;
