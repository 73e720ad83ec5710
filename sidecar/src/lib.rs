//! Registers a service, keeps its lease, watches its health and leaves politely.
//!
//! In: a [`Config`], the service's health endpoint, the registry's answers.
//! Owns: the life of one registration.
//! Out: calls to the registry, lines of a log, a status page and metrics.
//!
//! The binary `sidecar` does this beside a service, configured by environment variables. A Rust service can run the
//! same in its own process:
//!
//! ```no_run
//! use registry_sidecar::{Config, Host};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let registry = "http://registry:8888".parse()?;
//!     let mut config = Config::new("echo".parse()?, Host::Named("echo-1".into()), 8080, vec![registry]);
//!     config.settings.metadata.insert("version", env!("CARGO_PKG_VERSION"))?;
//!
//!     let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//!     let sidecar = tokio::spawn(registry_sidecar::run(config, async move {
//!         let _ = stopped.await;
//!         "the service is shutting down".to_owned()
//!     }));
//!
//!     // … serve until it is time to stop …
//!
//!     let _ = stop.send(());
//!     sidecar.await??;
//!     Ok(())
//! }
//! ```

mod address;
mod advice;
pub mod backoff;
pub mod cli;
mod client;
mod clock;
mod config;
mod doctor;
mod http;
mod log;
pub mod machine;
mod probe;
pub mod reply;
mod run;
mod socket;
mod status;
mod tls;

pub use address::{Address, Host};
pub use config::{Config, ConfigError, DEFAULT_PORT, DEFAULT_REGISTRY_URL, Scheme, Source};
pub use probe::LIMIT as PROBE_LIMIT;
pub use run::{RunError, run};
pub use tls::TlsFiles;
