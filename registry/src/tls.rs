//! TLS on the node's port: certificate, key and the clients' CA, read again when their files change.
//!
//! A leaf that knows no stage: `http` has it shake hands, `app` has it look at its files. rustls with ring; TLS 1.2 and
//! 1.3, HTTP/1.1.

mod pair;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{info, warn};

use self::pair::{Pair, PairFiles};
use crate::{
    clock,
    files::{self, Watched},
    metrics::TlsMetrics,
};

/// What is wrong with one of the files, in one line that names its setting. It holds nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// Where certificate and key lie, and whose clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate in PEM, and behind it those that lead to its CA.
    pub certificate: PathBuf,
    /// Its key in PEM, not encrypted.
    pub key: PathBuf,
    /// The CAs in PEM whose certificates clients must have; without it they need none.
    pub client_ca: Option<PathBuf>,
}

/// Shakes hands, by files that may change while it does. A connection keeps what it began with.
pub struct Tls {
    paths: TlsFiles,
    current: RwLock<Arc<Pair>>,
    files: Mutex<Watched<PairFiles>>,
    metrics: OnceLock<TlsMetrics>,
}

impl fmt::Debug for Tls {
    /// The paths alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.paths).finish()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used, or the key is another certificate's.
    pub fn open(paths: TlsFiles) -> Result<Self, TlsError> {
        let (pair, files) = Watched::open(PairFiles(paths.clone()))?;
        let (current, files) = (RwLock::new(Arc::new(pair)), Mutex::new(files));
        Ok(Self { paths, current, files, metrics: OnceLock::new() })
    }

    /// Where certificate and key lie.
    pub fn paths(&self) -> &TlsFiles {
        &self.paths
    }

    /// Whether the certificate in use is for this host name or address.
    pub fn is_for(&self, host: &str) -> bool {
        self.pair().is_for(host)
    }

    fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.current.read())
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// Shakes hands with a client. Has no deadline of its own.
    ///
    /// # Errors
    /// The client is gone, speaks no TLS that is spoken here, or lacks a certificate that it needs.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config()).accept(stream).await
    }

    /// Looks at the files for ever, as [`files::watch`] does, and shows in `metrics` what comes of it.
    ///
    /// # Errors
    /// No handler for SIGHUP can be installed.
    pub fn watch(
        self: Arc<Self>,
        metrics: TlsMetrics,
    ) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        self.announce("TLS is on", &self.pair());
        let metrics = self.metrics.get_or_init(|| metrics);
        metrics.read(self.pair().expires, true);
        files::watch(move |at_once| self.refresh(at_once))
    }

    /// Reads the files again; see [`Watched::changed`].
    pub fn refresh(&self, at_once: bool) {
        let mut files = self.files.lock();
        if let Some(pair) = files.changed(at_once) {
            let pair = Arc::new(pair);
            self.announce("the certificate of TLS was read again", &pair);
            *self.current.write() = pair;
        }
        if let Some(metrics) = self.metrics.get() {
            metrics.read(self.pair().expires, files.good());
        }
    }

    fn announce(&self, what: &'static str, pair: &Pair) {
        let client_certificates = self.paths.client_ca.is_some();
        info!(expires = %pair.expires_utc(), client_certificates, "{what}");
        for remark in pair.remarks(&self.paths, clock::unix_seconds()) {
            warn!("{remark}");
        }
    }
}
