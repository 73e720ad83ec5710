use std::net::SocketAddr;

use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;

/// A small service with `/health`, for trying the registry out; runs until `stop`. It answers `/livez` as a node does,
/// so that the image's health check holds for it too.
///
/// # Errors
/// The address cannot be listened on.
pub async fn sample(
    address: SocketAddr,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/health", get(async || Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))))
        .route("/", get(async || "This is the registry's sample service.\n"));
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}
