//! The limit: an HTTP server that reads a request, writes an answer that it was given, and does nothing else.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use axum::{Router, body::Body, extract::State, response::IntoResponse, routing::any};
use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use registry::{config::Limits, http::Entrance, metrics::Metrics};
use tokio::{net::TcpListener, sync::watch};
use tower::ServiceExt;

/// Answers every call of these paths with the same bytes.
#[derive(Parser)]
struct Cli {
    /// Port of 127.0.0.1 to listen on
    #[arg(long)]
    port: u16,
    /// A file with status line, headers, an empty line, and a body
    #[arg(long)]
    answer: PathBuf,
}

/// Headers that the library writes by itself.
const LIBRARY: [&str; 3] = ["content-length", "date", "connection"];

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn parse(text: &str) -> bench::Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of the head")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?.parse()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or("no header")?;
            if !LIBRARY.contains(&name.to_ascii_lowercase().as_str()) {
                headers.append(http::HeaderName::try_from(name)?, value.parse()?);
            }
        }
        Ok(Self { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
    }
}

async fn handler(State(answer): State<Arc<Answer>>, body: Bytes) -> impl IntoResponse {
    std::hint::black_box(body);
    (answer.status, answer.headers.clone(), answer.body.clone())
}

/// The handler behind axum's router, as `axum::serve` calls it.
#[derive(Clone)]
struct Limit(Router);

impl registry::http::Answer for Limit {
    type Body = Body;

    async fn answer(&self, request: Request<Incoming>, _: IpAddr) -> Response<Body> {
        let answer = self.0.clone().oneshot(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> bench::Result<()> {
    let answer = Arc::new(Answer::parse(&std::fs::read_to_string(&cli.answer)?)?);
    let routes = Router::new()
        .route("/services/{service}", any(handler))
        .route("/services/{service}/instances/{instance}/heartbeat", any(handler))
        .route("/heartbeat", any(handler))
        .with_state(answer);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, cli.port))).await?;
        // Nobody says it: it is killed.
        let (_stop, stopped) = watch::channel(false);
        let entrance = Entrance::new(&Limits::NONE, &[], Arc::new(Metrics::new()?));
        let deadline = registry::lifecycle::REQUESTS;
        registry::http::serve_with(Limit(routes), entrance, listener, stopped, deadline).await;
        Ok(())
    })
}
