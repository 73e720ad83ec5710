use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

/// A TCP proxy before a node, which can cut it off, and which notes when each connection came.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    connected: watch::Sender<bool>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that drops every connection until [`Proxy::connect`].
    pub(crate) async fn start(node: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connected, state) = watch::channel(false);
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&arrivals);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let mut arrivals = noted.lock().unwrap_or_else(PoisonError::into_inner);
                arrivals.push(Instant::now());
                if *state.borrow() {
                    tokio::spawn(forward(client, node, state.clone()));
                }
            }
        });
        Self { port, connected, arrivals, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets connections through from now on. How many came before, and were not let through.
    pub(crate) fn connect(&self) -> usize {
        let arrivals = self.arrivals();
        self.connected.send_replace(true);
        arrivals.len()
    }

    /// Ends every connection, and drops each that comes from now on. How many came before.
    pub(crate) fn cut(&self) -> usize {
        let arrivals = self.arrivals();
        self.connected.send_replace(false);
        arrivals.len()
    }

    /// How many connections came.
    pub(crate) fn count(&self) -> usize {
        self.arrivals().len()
    }

    /// The times between the connections after the first `skipped`.
    pub(crate) fn gaps(&self, skipped: usize) -> Vec<Duration> {
        self.arrivals()[skipped..].windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(mut client: TcpStream, node: u16, mut connected: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", node)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = connected.wait_for(|connected| !connected) => {}
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
