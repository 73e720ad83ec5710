//! A TCP proxy that fails on demand: a partition between two programs that know nothing of it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use crate::free_port;

/// How often a proxy that accepts connections looks whether it still should.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest that it may take to change.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a proxy does with connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Passes everything on.
    Pass,
    /// Resets what is open, and does not listen: new connections are refused.
    Refuse,
    /// Resets what is open, and every new connection once it is accepted.
    Reset,
    /// Passes nothing on and closes nothing; new connections are accepted and never answered. Nothing is lost: what
    /// was held back arrives with the next [`ProxyMode::Pass`], as after a network that dropped packets.
    BlackHole,
    /// Passes every piece on after this time, in each direction.
    Delay(Duration),
}

/// A proxy on a port of its own, before another port of this machine. It ends when this value is dropped.
///
/// It has threads of its own, so that a busy test does not slow it down.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicUsize,
}

#[derive(Debug)]
struct State {
    mode: ProxyMode,
    /// Gone through by [`Proxy::set`]; a finished connection leaves it.
    open: Vec<(usize, TcpStream)>,
    listening: bool,
    ended: bool,
}

impl Proxy {
    /// A proxy before a port of the loopback interface that passes everything on.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(target: u16) -> Self {
        let port = free_port();
        let state = State { mode: ProxyMode::Pass, open: Vec::new(), listening: false, ended: false };
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            state: Mutex::new(state),
            changed: Condvar::new(),
            accepted: AtomicUsize::new(0),
        });
        let listener = listen(port);
        let acceptor = Arc::clone(&shared);
        acceptor.state().listening = true;
        thread::spawn(move || acceptor.run(port, listener));
        Self { port, shared }
    }

    /// The port that it listens on, in every mode.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does, at once. Once this returns, no connection is accepted in the mode before.
    pub fn set(&self, mode: ProxyMode) {
        let mut state = self.shared.state();
        state.mode = mode;
        if matches!(mode, ProxyMode::Refuse | ProxyMode::Reset) {
            for (_, stream) in state.open.drain(..) {
                reset(&stream);
            }
        }
        self.shared.changed.notify_all();
        let wrong = |state: &mut State| state.listening == (mode == ProxyMode::Refuse);
        let (_state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, DEADLINE, wrong)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the proxy cannot listen on {} again", self.port);
    }

    /// Leads new connections to another port. Those that are open stay where they are.
    pub fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// What it does now.
    pub fn mode(&self) -> ProxyMode {
        self.shared.state().mode
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        for (_, stream) in state.open.drain(..) {
            reset(&stream);
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self: Arc<Self>, port: u16, first: TcpListener) {
        let mut listener = Some(first);
        loop {
            let mut state = self.state();
            while listener.is_none() && state.mode == ProxyMode::Refuse && !state.ended {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
            if state.mode == ProxyMode::Refuse {
                listener = None;
                state.listening = false;
                self.changed.notify_all();
                continue;
            }
            let listening = listener.get_or_insert_with(|| listen(port));
            state.listening = true;
            self.changed.notify_all();
            match listening.accept() {
                Ok((client, _)) => self.accept(&mut state, client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(state);
                    thread::sleep(PAUSE);
                }
                Err(_) => {}
            }
        }
    }

    fn accept(self: &Arc<Self>, state: &mut State, client: TcpStream) {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        if state.mode == ProxyMode::Reset {
            reset(&client);
            return;
        }
        let (Ok(()), Ok(())) = (client.set_nonblocking(false), client.set_nodelay(true)) else { return };
        let Ok(registered) = client.try_clone() else { return };
        state.open.push((number, registered));
        let shared = Arc::clone(self);
        thread::spawn(move || shared.connect(number, &client));
    }

    /// Joins a client to the target and passes on in both directions.
    fn connect(self: Arc<Self>, number: usize, client: &TcpStream) {
        if self.may_pass(number).is_some()
            && let Ok(target) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target.load(Ordering::Relaxed)))
            && target.set_nodelay(true).is_ok()
            && let Ok(registered) = target.try_clone()
            && self.register(number, registered)
        {
            thread::scope(|scope| {
                scope.spawn(|| self.pass(number, client, &target));
                self.pass(number, &target, client);
            });
        } else {
            reset(client);
        }
        self.state().open.retain(|(open, _)| *open != number);
    }

    /// False if the connection was reset meanwhile.
    fn register(&self, number: usize, stream: TcpStream) -> bool {
        let mut state = self.state();
        let open = state.open.iter().any(|(open, _)| *open == number);
        if open {
            state.open.push((number, stream));
        }
        open
    }

    /// Waits while nothing may pass; then how long to hold a piece back. `None`: the connection was reset.
    fn may_pass(&self, number: usize) -> Option<Duration> {
        let mut state = self.state();
        loop {
            if !state.open.iter().any(|(open, _)| *open == number) {
                return None;
            }
            match state.mode {
                ProxyMode::BlackHole => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                ProxyMode::Delay(time) => return Some(time),
                _ => return Some(Duration::ZERO),
            }
        }
    }

    /// Passes on in one direction until it ends.
    fn pass(&self, number: usize, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer);
            // The end of a stream is a piece as well.
            // A connection that was reset must not end by an orderly close.
            let Some(delay) = self.may_pass(number) else { return };
            thread::sleep(delay);
            let Ok(length @ 1..) = read else { break };
            if to.write_all(&buffer[..length]).is_err() {
                let _ = from.shutdown(Shutdown::Read);
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .unwrap_or_else(|error| panic!("the proxy cannot listen on {port}: {error}"));
    listener.set_nonblocking(true).unwrap_or_else(|error| panic!("the proxy cannot listen: {error}"));
    listener
}

/// Lets a connection end by a reset when its last handle is closed, and wakes the thread that reads from it.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}
