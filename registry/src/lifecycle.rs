//! From the first signal to the exit, step by step, each with a deadline.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// How long a node that was asked to stop goes on serving, so that balancers notice that it is not ready any more.
pub const LAME: Duration = Duration::from_millis(1500);

/// How long open requests may take once no connection is accepted any more.
pub const REQUESTS: Duration = Duration::from_secs(5);

/// How long the last beats may take to be written.
pub const FLUSH: Duration = Duration::from_secs(2);

/// How long the store may take to close.
pub const CLOSE: Duration = Duration::from_secs(1);

/// Waits for SIGTERM or SIGINT. As process 1 of a container too: the handlers are installed, so the kernel delivers
/// both. Call it again after the first for the second.
///
/// # Errors
/// A handler cannot be installed.
pub fn stop_signal() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
