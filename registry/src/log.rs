//! Where log lines go: standard error, as text or as one JSON object a line.

use std::io;

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::Logging;

/// Starts logging. A second call changes nothing.
pub fn start(logging: &Logging) {
    let filter: Targets = logging.filter.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = if logging.json {
        registry.with(layer.json().flatten_event(true)).try_init()
    } else {
        registry.with(layer.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).try_init()
    };
    // Somebody has started it already, as a test does.
    drop(started);
}
