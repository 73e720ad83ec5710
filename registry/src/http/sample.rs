use std::net::Ipv4Addr;

use axum::{Json, Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;

/// A small service with `/health` on 127.0.0.1, for trying the registry out; runs until `stop`.
///
/// # Errors
/// The port cannot be listened on.
pub async fn sample(port: u16, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/health", get(async || Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))))
        .route("/", get(async || "This is the sample service of 'registry dev'.\n"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}
