//! A service that registers itself: the sidecar as a library, in the service's own process.
//!
//! ```sh
//! SERVICE_NAME=echo SERVICE_HOST=127.0.0.1 SERVICE_PORT=8080 REGISTRY_URL=http://127.0.0.1:8888 in_process
//! ```
//!
//! Configured by the sidecar's variables, as `Config::from_env` reads them; `Config::new` takes the fields one by one.

use std::{convert::Infallible, error::Error, net::Ipv4Addr, process::ExitCode};

use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use registry_sidecar::{Config, run};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("in_process: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut config = Config::from_env()?;
    config.settings.metadata.insert("version", env!("CARGO_PKG_VERSION"))?;

    let mut terminated = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, config.port)).await?;

    // The sidecar asks /health over HTTP like any other, so it registers this process once it really answers.
    let (stop, stopped) = oneshot::channel::<()>();
    let mut sidecar = tokio::spawn(run(config, async move {
        // A sender that is gone means the same.
        let _ = stopped.await;
        "SIGTERM".to_owned()
    }));

    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
            _ = terminated.recv() => break,
            // Only a configuration that cannot be run ends it before it is told to.
            ended = &mut sidecar => return Ok(ended??),
        }
    }

    // First out of the registry, then the end: no reader is sent here any more. It takes DRAIN_SECONDS and 5 s at most.
    let _ = stop.send(());
    loop {
        tokio::select! {
            ended = &mut sidecar => return Ok(ended??),
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        }
    }
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/health" => (StatusCode::OK, r#"{"status":"ok"}"#),
        "/" => (StatusCode::OK, "Hello.\n"),
        _ => (StatusCode::NOT_FOUND, "There is no such path.\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    Ok(response)
}
